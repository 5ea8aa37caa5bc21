"""The server SDKs of the matrix, and how each differs from the others: data, not code."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trackcore import JSONObject

IDS = frozenset({"userId", "anonymousId", "groupId", "previousId"})


@attrs.frozen(kw_only=True)
class Habits:
    """The changes that an SDK makes to a call before it sends it.

    Attributes:
        library: `context.library.name`.
        library_version: `context.library.version`, if it is not the version of the package.
        takes_message_id: it sends a given messageId; else it always makes one.
        takes_numbers: it accepts ids that are numbers; else it rejects the call.
        numeric_ids: the ids that it then sends as numbers; it sends the others as text.
        adds: top-level fields that it adds to a call.
        category_in_properties: it copies the category of a page into the page's properties.
        traits_in_context: it copies the traits of an identify into `context.traits`.
        moves_traits: it then removes them from their place.
        names_all: it sends empty `integrations` as `{"All": true}`.
        sends_sent_at: its requests have `sentAt`.
        first_alone: it sends its first message at once and alone.
    """

    library: str
    library_version: str | None = None
    takes_message_id: bool = True
    takes_numbers: bool = True
    numeric_ids: frozenset[str] = frozenset()
    adds: frozenset[str]
    category_in_properties: bool = False
    traits_in_context: bool = False
    moves_traits: bool = False
    names_all: bool = False
    sends_sent_at: bool = True
    first_alone: bool = False


@attrs.frozen(kw_only=True)
class Patience:
    """The behaviour of an SDK when the server rejects a request.

    Attributes:
        keeps_order: batches of one user arrive in the order of their calls, also after a rejection.
        least_waits: the minimum seconds between the attempts at one batch that got a 503 with Retry-After 1.
        least_waits_limited: the same with 429.
        counts_retries: X-Retry-Count has the number of the attempt.
    """

    keeps_order: bool
    least_waits: tuple[float, ...]
    least_waits_limited: tuple[float, ...]
    counts_retries: bool = False


@attrs.frozen(kw_only=True)
class Sdk:
    """One SDK in one version and set-up."""

    package: str
    version: str
    language: str
    environment: str
    driven_as: str
    habits: Habits
    patience: Patience
    variant: str = ""
    batch_setting: str | None = None
    settings: Mapping[str, object] = attrs.field(factory=dict)
    authorization: bool = True
    content_type: str = "application/json"
    content_encoding: str | None = None

    @property
    def name(self) -> str:
        """The name of the SDK in test ids."""
        return " ".join(filter(None, (self.package, self.version, self.variant)))

    @property
    def is_main_variant(self) -> bool:
        """Whether this set-up is tested on bad days, which is once for each version."""
        return not (self.language == "Python" and self.variant == "gzip")

    def options(self, *, batch_size: int, installed: str) -> JSONObject:
        """Return the options of the client script."""
        settings = {**self.settings, **({self.batch_setting: batch_size} if self.batch_setting else {})}
        if self.language == "Python":
            return {"module": self.driven_as, "settings": settings}
        return {"kind": self.driven_as, "package": self.package, "environment": installed, "settings": settings}


_PYTHON = Habits(
    library="analytics-python",
    numeric_ids=frozenset({"groupId", "previousId"}),
    adds=frozenset({"integrations", "context"}),
)
_RUDDER_PYTHON = attrs.evolve(
    _PYTHON, adds=_PYTHON.adds | {"channel"}, traits_in_context=True, moves_traits=True, names_all=True
)
_NODE = Habits(
    library="@segment/analytics-node",
    takes_numbers=False,
    adds=frozenset({"integrations", "context", "_metadata"}),
    category_in_properties=True,
)
_LEGACY_NODE = Habits(
    library="analytics-node",
    numeric_ids=frozenset({"groupId", "previousId"}),
    adds=frozenset({"context", "_metadata"}),
    first_alone=True,
)
_RUDDER_NODE = attrs.evolve(_LEGACY_NODE, adds=_LEGACY_NODE.adds | {"channel"}, traits_in_context=True)

# `backoff.expo` with full jitter: a wait may be almost zero.
_JITTERED = Patience(keeps_order=True, least_waits=(0, 0), least_waits_limited=(0, 0))
# 2.4 waits as long as Retry-After demands, for any status.  It puts the batch back at the end of its queue, behind
# newer ones, and resets the count of attempts, so X-Retry-Count is absent.
_RETRY_AFTER = Patience(keeps_order=False, least_waits=(1, 1), least_waits_limited=(1, 1))
# Batches are sent side by side, each retried by itself.
_SIDE_BY_SIDE = Patience(keeps_order=False, least_waits=(0.05, 0.1), least_waits_limited=(0.05, 0.1))
_AXIOS = Patience(keeps_order=False, least_waits=(0.2, 0.4), least_waits_limited=(0.2, 0.4))
_NODE_3 = Patience(keeps_order=False, least_waits=(1, 2), least_waits_limited=(1, 1), counts_retries=True)


def _python(
    version: str, *, package: str, module: str, patience: Patience, authorization: bool, habits: Habits = _PYTHON
) -> tuple[Sdk, Sdk]:
    plain = Sdk(
        package=package,
        version=version,
        language="Python",
        environment=f"{package}-{version}",
        driven_as=module,
        habits=habits,
        patience=patience,
        variant="plain",
        batch_setting="upload_size",
        settings={"upload_interval": 10, "gzip": False},
        authorization=authorization,
    )
    zipped = attrs.evolve(plain, variant="gzip", settings={**plain.settings, "gzip": True}, content_encoding="gzip")
    return plain, zipped


def _node(version: str, *, patience: Patience, authorization: bool, habits: Habits = _NODE) -> Sdk:
    return Sdk(
        package="@segment/analytics-node",
        version=version,
        language="Node",
        environment=f"analytics-node-{version}",
        driven_as="segment",
        habits=habits,
        patience=patience,
        batch_setting="flushAt",
        authorization=authorization,
    )


SERVER_SDKS: tuple[Sdk, ...] = (
    *_python(
        "2.4.0",
        package="segment-analytics-python",
        module="segment.analytics.client",
        patience=_RETRY_AFTER,
        authorization=True,
    ),
    *_python(
        "2.3.5",
        package="segment-analytics-python",
        module="segment.analytics.client",
        patience=_JITTERED,
        authorization=False,
    ),
    *_python(
        "2.2.3",
        package="segment-analytics-python",
        module="segment.analytics.client",
        patience=_JITTERED,
        authorization=True,
    ),
    *_python(
        "1.4.post1",
        package="analytics-python",
        module="analytics.client",
        patience=_JITTERED,
        authorization=True,
    ),
    *_python(
        "2.1.9",
        package="rudder-sdk-python",
        module="rudderstack.analytics.client",
        patience=_JITTERED,
        authorization=True,
        habits=_RUDDER_PYTHON,
    ),
    *_python(
        "0.0.4",
        package="events-sdk-python",
        module="hightouch.htevents.client",
        patience=_JITTERED,
        authorization=False,
        habits=attrs.evolve(_PYTHON, library="events-sdk-python"),
    ),
    _node("3.1.0", patience=_NODE_3, authorization=True),
    _node("2.3.0", patience=_SIDE_BY_SIDE, authorization=False),
    _node("1.3.0", patience=_SIDE_BY_SIDE, authorization=True, habits=attrs.evolve(_NODE, takes_message_id=False)),
    Sdk(
        package="analytics-node",
        version="6.2.0",
        language="Node",
        environment="analytics-node-legacy-6.2.0",
        driven_as="legacy",
        habits=_LEGACY_NODE,
        patience=_AXIOS,
        batch_setting="flushAt",
    ),
    Sdk(
        package="@rudderstack/rudder-sdk-node",
        version="3.0.13",
        language="Node",
        environment="rudder-sdk-node-3.0.13",
        driven_as="legacy",
        habits=_RUDDER_NODE,
        patience=_AXIOS,
        variant="gzip",
        batch_setting="flushAt",
        settings={"logLevel": "none"},
        content_type="application/x-www-form-urlencoded",
        content_encoding="gzip",
    ),
    Sdk(
        package="@customerio/cdp-analytics-node",
        version="0.5.9",
        language="Node",
        environment="cdp-analytics-node-0.5.9",
        driven_as="segment",
        habits=attrs.evolve(
            _NODE, library="@customerio/cdp-analytics-node", library_version="1.0.0-beta.22", sends_sent_at=False
        ),
        patience=_SIDE_BY_SIDE,
        batch_setting="maxEventsInBatch",
    ),
)

# Neither Segment's SDK nor a fork: a request for each call, on different paths, and no retries.
JITSU = Sdk(
    package="@jitsu/js",
    version="1.11.0",
    language="Node",
    environment="jitsu-js-1.11.0",
    driven_as="jitsu",
    habits=Habits(library="@jitsu/js", adds=frozenset({"anonymousId", "context"})),
    patience=Patience(keeps_order=True, least_waits=(), least_waits_limited=()),
    authorization=False,
)
