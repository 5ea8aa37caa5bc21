"""The integrations resolver: which destinations a message goes to, and why.

Theory.  `integrations` names destinations.  `All` is the default for those that it does not name (true when absent);
a boolean decides; an object enables and carries options for that destination.  One object can exclude by itself:
`"Warehouses": {"all": false}`, whose `all` and `warehouseIds` Segment defines.  `Warehouses` names all destinations
that are warehouses, and its `warehouseIds` are their names; their own names override it.
Names are case sensitive, `All` included (https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#selecting-destinations).
Any other value is ignored with a warning.  An unknown name is not worth a warning: names of destinations that do not
exist here are normal (`Segment.io` comes with every browser message).

A destination whose default is "off" is selected by its name only: `All` does not count for it.
Consent is examined first (`trackcore.consent`): nothing in `integrations` selects a destination that it removes.

A resolution depends on the `integrations` object, the stated consent and the destinations only, so it can be made once
and used for every message with equal ones.  The age, which differs from message to message, is applied to it
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

import attrs

from trackcore.caching import cached_by_text
from trackcore.consent import Consent, ConsentRule, Refusal, consent_in, read_consent
from trackcore.errors import MessageWarning, WarningCode
from trackcore.merge import copied
from trackcore.text.jsontext import any_value, encode_json, kind_of
from trackcore.timestamps import MILLISECOND
from trackcore.typing import JSONObject

ALL = "All"
WAREHOUSES = "Warehouses"
"""The name whose object selects warehouses: by `all`, a boolean, or `warehouseIds`, an array."""

_NO: tuple[tuple[str, bool], ...] = (
    *((option, False) for option in ("all", "All", "enabled", "enable", "active", "send")),
    *((option, True) for option in ("disabled", "disable", "exclude")),
)
"""Options that people expect to exclude a destination, but which no documentation defines."""

_MAX_WARNINGS = 5
"""How many warnings one object can cause.  Each is stored with every message of a batch, so that their number times
2,500 messages must not exceed what a batch may share otherwise (`Limits.shared_bytes`)."""


ON = "on"
OFF = "off"


def _check_default(_: object, __: object, default: str) -> None:
    if default not in (ON, OFF):
        raise ValueError(f"expected {ON!r} or {OFF!r}")


@attrs.frozen(kw_only=True)
class Destination:
    """A place that messages can be sent to.

    One with a `max_age` refuses messages that were older when received.  With `consent` it gets only messages of users
    who have consented to its categories.  If `default` is "off" it gets only messages whose `integrations` name it.
    """

    name: str
    is_warehouse: ClassVar[bool] = False
    """Whether `Warehouses` in `integrations` names it too.  It is a fact about a kind, so a subclass states it."""

    max_age: timedelta | None = None
    consent: ConsentRule | None = None
    default: str = attrs.field(default=ON, validator=_check_default)


def as_destinations(destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    """Convert any iterable, so that a list may be passed for a tuple."""
    return tuple(destinations)


class DecisionReason(StrEnum):
    """Why a destination was chosen or not."""

    BY_NAME = "by_name"  # integrations[name] is a boolean
    BY_OPTIONS = "by_options"  # integrations[name] is an object: it selects, except `Warehouses` with `all: false`
    BY_WAREHOUSES = "by_warehouses"  # a warehouse that is not named itself: integrations["Warehouses"] decides
    BY_ALL = "by_all"  # not named, and `All` is a boolean
    BY_DEFAULT = "by_default"  # not named, and there is no `All`
    OPT_IN = "opt_in"  # not named, and off by default, whatever `All` is
    NO_CONSENT = "no_consent"  # the user has not consented, so `integrations` does not matter
    CONSENT_UNKNOWN = "consent_unknown"  # the message states no consent, and the destination needs it stated
    TOO_OLD = "too_old"  # selected, but the destination refuses messages of that age


@attrs.frozen(kw_only=True)
class Decision:
    """Whether one destination gets the message, the reason, the options meant for it, and the refusal of consent."""

    destination: Destination
    chosen: bool
    because: DecisionReason
    options: JSONObject | None = None
    refusal: Refusal | None = None


@attrs.frozen(kw_only=True)
class Resolution:
    """The destinations that one `integrations` object selects under one consent, in their order.

    `selected` are their names; beyond the age `max_age` (None: never) not all of them accept a message.
    """

    decisions: tuple[Decision, ...]
    warnings: tuple[MessageWarning, ...] = ()
    selected: tuple[str, ...] = attrs.field(init=False)
    max_age: timedelta | None = attrs.field(init=False)

    @selected.default
    def _selected(self) -> tuple[str, ...]:
        return tuple(decision.destination.name for decision in self.decisions if decision.chosen)

    @max_age.default
    def _find_max_age(self) -> timedelta | None:
        max_ages = [decision.destination.max_age for decision in self.decisions if decision.chosen]
        return min((max_age for max_age in max_ages if max_age is not None), default=None)

    def names_at_age(self, age: timedelta) -> tuple[str, ...]:
        """Return the names of the destinations that get a message of this age (receivedAt minus timestamp)."""
        if self.max_age is None or _to_the_millisecond(age) <= self.max_age:
            return self.selected
        return tuple(decision.destination.name for decision in self.at_age(age) if decision.chosen)

    def at_age(self, age: timedelta) -> tuple[Decision, ...]:
        """Return the decisions for a message of this age."""
        return tuple(_at_age(decision, age) for decision in self.decisions)


@attrs.define
class Resolver:
    """Resolves against fixed destinations, with a cache, since most messages of a client have equal `integrations`.

    `reads_consent` is whether any destination needs consent: only then the context of a message matters.
    """

    destinations: tuple[Destination, ...] = attrs.field(converter=as_destinations)
    reads_consent: bool = attrs.field(init=False)
    _resolve: Callable[[bytes, bytes], Resolution] = attrs.field(init=False, repr=False, eq=False)

    @reads_consent.default
    def _find_rules(self) -> bool:
        return any(destination.consent is not None for destination in self.destinations)

    @_resolve.default
    def _with_cache(self) -> Callable[[bytes, bytes], Resolution]:
        destinations = self.destinations
        return cached_by_text(
            lambda flags, context: resolve_destinations(
                any_value.decode(flags), destinations, any_value.decode(context) if context else None
            )
        )

    def resolve(self, integrations: JSONObject | None, context: JSONObject | None = None) -> Resolution:
        """Return the result of `resolve_destinations`."""
        consent = consent_in(context) if self.reads_consent else None
        return self._resolve(encode_json(integrations or None), encode_json(consent) if consent else b"")


def resolve_destinations(
    integrations: JSONObject | None, destinations: Sequence[Destination], context: JSONObject | None = None
) -> Resolution:
    """Decide for each destination whether it is selected.  Never raises; an unusable value becomes a warning.

    `context` is that of the message, which states the consent of the user.
    """
    flags, ignored = _usable_flags(integrations or {})
    warnings = [*ignored, *_case_warnings(flags, destinations), *_no_warnings(flags, destinations)]
    if len(warnings) > _MAX_WARNINGS:
        rest = len(warnings) - _MAX_WARNINGS
        more = MessageWarning(code=warnings[-1].code, message=f"and {rest} more like these", path="integrations")
        warnings[_MAX_WARNINGS:] = [more]
    consent = read_consent(context, beside_integrations=bool(integrations))
    decisions = tuple(_decide(flags, consent, destination) for destination in destinations)
    return Resolution(decisions=decisions, warnings=tuple(warnings))


def _usable_flags(integrations: JSONObject) -> tuple[JSONObject, list[MessageWarning]]:
    flags: JSONObject = {}
    ignored = []
    for name, value in integrations.items():
        if value.__class__ is bool or (value.__class__ is dict and name != ALL):
            flags[name] = value
        else:
            expected = "a boolean" if name == ALL else "a boolean or an object"
            text = f"expected {expected}, found {kind_of(value)}"
            ignored.append(_warning(WarningCode.INTEGRATION_IGNORED, name, text))
    return flags, ignored


def _decide(flags: JSONObject, consent: Consent, destination: Destination) -> Decision:
    refusal = None if destination.consent is None else consent.refusal(destination.consent)
    if refusal is None:
        return _decide_by_flags(flags, destination)
    because = DecisionReason.CONSENT_UNKNOWN if refusal.is_unknown else DecisionReason.NO_CONSENT
    return Decision(destination=destination, chosen=False, because=because, refusal=refusal)


def _decide_by_flags(flags: JSONObject, destination: Destination) -> Decision:
    value = flags.get(destination.name)
    if value is None and destination.is_warehouse:
        decided = _decide_by_warehouses(flags.get(WAREHOUSES), destination)
        if decided is not None:
            return decided
    if value is None and destination.default == OFF:
        return Decision(destination=destination, chosen=False, because=DecisionReason.OPT_IN)
    if value is None:
        because = DecisionReason.BY_ALL if ALL in flags else DecisionReason.BY_DEFAULT
        return Decision(destination=destination, chosen=flags.get(ALL, True), because=because)
    if value.__class__ is bool:
        return Decision(destination=destination, chosen=value, because=DecisionReason.BY_NAME)
    # The object of the warehouses may exclude them all, but warehouses that it names override `all`.
    if destination.name == WAREHOUSES and value.get("all") is False and not value.get("warehouseIds"):
        return Decision(destination=destination, chosen=False, because=DecisionReason.BY_OPTIONS)
    return Decision(destination=destination, chosen=True, because=DecisionReason.BY_OPTIONS, options=copied(value))


def _decide_by_warehouses(value: object, destination: Destination) -> Decision | None:
    """Decide for a warehouse that is not named itself, by what `Warehouses` says of all of them or of some.

    None if it says nothing of this one: only its name in `warehouseIds` selects a destination that is off by default.
    """
    if value is None:
        return None
    is_chosen, is_named = value is True, False
    if isinstance(value, dict):
        ids = value.get("warehouseIds")
        is_named = isinstance(ids, list) and destination.name in ids
        is_chosen = is_named or value.get("all", not ids) is not False
    if is_chosen and not is_named and destination.default == OFF:
        return None
    options = copied(value) if is_chosen and isinstance(value, dict) else None
    return Decision(destination=destination, chosen=is_chosen, because=DecisionReason.BY_WAREHOUSES, options=options)


def _no_warnings(flags: JSONObject, destinations: Sequence[Destination]) -> list[MessageWarning]:
    """Warn of objects that seem meant to exclude their destination, and select it all the same."""
    warnings = []
    for name in (destination.name for destination in destinations):
        value = flags.get(name)
        if value.__class__ is dict and name != WAREHOUSES:
            option = next((option for option, no in _NO if value.get(option) is no), None)
            if option is not None:
                text = f"the object selects {name!r} although its `{option}` seems to exclude it; send false instead"
                warnings.append(_warning(WarningCode.INTEGRATION_SAYS_NO, name, text))
    return warnings


def _case_warnings(flags: JSONObject, destinations: Sequence[Destination]) -> list[MessageWarning]:
    exact = [ALL, *(destination.name for destination in destinations)]
    if WAREHOUSES not in exact and any(destination.is_warehouse for destination in destinations):
        exact.append(WAREHOUSES)
    folded = {name.casefold(): name for name in reversed(exact)}
    return [
        _warning(WarningCode.INTEGRATION_CASE, name, f"names are case sensitive; did you mean {meant!r}?")
        for name in flags
        if name not in exact and (meant := folded.get(name.casefold())) is not None
    ]


def _warning(code: WarningCode, name: str, message: str) -> MessageWarning:
    return MessageWarning(code=code, message=message, path=f"integrations.{name}")


def _at_age(decision: Decision, age: timedelta) -> Decision:
    max_age = decision.destination.max_age
    if not decision.chosen or max_age is None or _to_the_millisecond(age) <= max_age:
        return decision
    return attrs.evolve(decision, chosen=False, because=DecisionReason.TOO_OLD)


def _to_the_millisecond(age: timedelta) -> timedelta:
    """Return the age of the stored message, whose timestamp is cut to milliseconds, so that both agree."""
    return -(-age // MILLISECOND) * MILLISECOND
