"""The six kinds of message, and the batch, as frozen attrs classes, with the only description of their fields.

The classes are for constructing, matching and type-checking messages; they have Python names, not wire names.
Free-form parts (`context`, `integrations`, `properties`, `traits`) stay plain JSON objects.  Fields that the
documentation does not know are kept in `extra` under their wire names and are encoded again.  `None` means that the
field is absent on the wire.

Field meanings: https://segment.com/docs/connections/spec/common/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

import attrs

from trackcore.errors import Reason
from trackcore.fields import Field, Kind, described, fields_of, optional
from trackcore.timestamps import format_timestamp, truncate_to_milliseconds
from trackcore.typing import Call, JSONObject, WriteKey


def _as_text(time: str | datetime | None) -> str | None:
    """Return an aware datetime as text.  Text is returned unchanged, so that a client's time stays verbatim."""
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone; use datetime.now(UTC) or another aware datetime")
    try:
        return format_timestamp(truncate_to_milliseconds(time))
    except OverflowError:
        raise ValueError(f"{time!r} lies outside the years 1 to 9999 in UTC") from None


# The fields that more than one class has

_PROPERTIES = described(Kind.PROPERTIES, "Facts about the action, the page or the screen.")
_TRAITS = described(Kind.TRAITS, "Facts about the user or the group.")
_NAME = described(Kind.TEXT, "The name of the page or screen.")
_CATEGORY = described(Kind.TEXT, "The category of the page or screen.")


@attrs.frozen(kw_only=True)
class _Common:
    """The fields that every message has."""

    user_id: str | None = optional(
        Kind.USER_ID,
        "The user's id in your own database; each message needs it or an anonymousId. A number is kept as text.",
    )
    anonymous_id: str | None = optional(
        Kind.USER_ID, "Identifies a user whose userId is not known. A number is kept as text."
    )
    message_id: str | None = optional(
        Kind.MESSAGE_ID, "The id by which duplicates are found; made by the server when absent."
    )
    timestamp: str | None = attrs.field(
        default=None,
        converter=_as_text,
        metadata=described(Kind.TIME, "When it happened, in ISO 8601; the time of reception when absent."),
    )
    original_timestamp: str | None = attrs.field(
        default=None,
        converter=_as_text,
        metadata=described(
            Kind.TIME,
            "The `timestamp` of the client, before the server corrected it; used where there is no `timestamp`.",
        ),
    )
    sent_at: str | None = attrs.field(
        default=None,
        converter=_as_text,
        metadata=described(
            Kind.TIME, "When the client sent it, in ISO 8601, by the client's clock. Clock skew is corrected with it."
        ),
    )
    received_at: str | None = attrs.field(
        default=None,
        converter=_as_text,
        metadata=described(Kind.TIME, "Always set by the server, which overwrites the client's value."),
    )
    context: JSONObject | None = optional(
        Kind.CONTEXT, "The circumstances of the message: ip, locale, library and so on."
    )
    integrations: JSONObject | None = optional(
        Kind.INTEGRATIONS, "Which destinations get the message: names, and `All` for those not named, case sensitive."
    )
    extra: JSONObject = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Identify(_Common):
    """The identity of a user: https://segment.com/docs/connections/spec/identify/"""

    traits: JSONObject | None = attrs.field(default=None, metadata=_TRAITS)


@attrs.frozen(kw_only=True)
class Track(_Common):
    """An action of a user: https://segment.com/docs/connections/spec/track/

    >>> from trackcore import decode_message, encode_message
    >>> message = Track(user_id="42", event="Paid", properties={"revenue": 14.99})
    >>> encode_message(message)
    b'{"type":"track","event":"Paid","userId":"42","properties":{"revenue":14.99}}'
    >>> decode_message(encode_message(message)) == message
    True
    """

    event: str = attrs.field(metadata=described(Kind.TEXT, "The name of the action.", Reason.EVENT_NOT_DEFINED))
    properties: JSONObject | None = attrs.field(default=None, metadata=_PROPERTIES)


@attrs.frozen(kw_only=True)
class Page(_Common):
    """A view of a web page: https://segment.com/docs/connections/spec/page/"""

    name: str | None = attrs.field(default=None, metadata=_NAME)
    category: str | None = attrs.field(default=None, metadata=_CATEGORY)
    properties: JSONObject | None = attrs.field(default=None, metadata=_PROPERTIES)


@attrs.frozen(kw_only=True)
class Screen(_Common):
    """A view of a screen in an app: https://segment.com/docs/connections/spec/screen/"""

    name: str | None = attrs.field(default=None, metadata=_NAME)
    category: str | None = attrs.field(default=None, metadata=_CATEGORY)
    properties: JSONObject | None = attrs.field(default=None, metadata=_PROPERTIES)


@attrs.frozen(kw_only=True)
class Group(_Common):
    """The company or account that a user belongs to: https://segment.com/docs/connections/spec/group/"""

    group_id: str = attrs.field(
        metadata=described(Kind.ID, "The id of the company or account. A number is kept as text.", Reason.NO_GROUP_ID)
    )
    traits: JSONObject | None = attrs.field(default=None, metadata=_TRAITS)


@attrs.frozen(kw_only=True)
class Alias(_Common):
    """An earlier identity of a user: https://segment.com/docs/connections/spec/alias/"""

    previous_id: str = attrs.field(
        metadata=described(Kind.ID, "The user's earlier id. A number is kept as text.", Reason.NO_PREVIOUS_ID)
    )


Message: TypeAlias = Identify | Track | Page | Screen | Group | Alias

MESSAGE_TYPES: Mapping[Call, type[Message]] = {
    "identify": Identify,
    "track": Track,
    "page": Page,
    "screen": Screen,
    "group": Group,
    "alias": Alias,
}
FIELDS: Mapping[Call, tuple[Field, ...]] = {call: fields_of(kind) for call, kind in MESSAGE_TYPES.items()}
"""The fields of a message of each call, without `extra`."""


def _as_messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    return tuple(messages)


@attrs.frozen(kw_only=True)
class Batch:
    """Many messages sent as one request, with the fields that they share.

    `trackcore.merge_batch` merges `context` and `integrations` into those of each message; the message wins.  `sent_at`
    is for each message that has none.
    """

    messages: tuple[Message, ...] = attrs.field(converter=_as_messages)
    context: JSONObject | None = optional(Kind.CONTEXT, "Merged into the `context` of each message; the message wins.")
    integrations: JSONObject | None = optional(
        Kind.INTEGRATIONS, "Merged into the `integrations` of each message; the message wins."
    )
    sent_at: str | None = attrs.field(
        default=None,
        converter=_as_text,
        metadata=described(Kind.TIME, "When the client sent it, for each message that does not have its own `sentAt`."),
    )
    write_key: WriteKey | None = optional(Kind.WRITE_KEY, "The write key, where it is not in the Authorization header.")


BATCH_FIELDS: tuple[Field, ...] = fields_of(Batch)
"""The fields of a batch that its messages share."""
