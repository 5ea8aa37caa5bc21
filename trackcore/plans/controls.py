"""The treatment of messages that violate their plan: Segment's source settings, with their names and meanings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import attrs

from trackcore.plans.documents import RuleType
from trackcore.plans.locations import Location, value_at, without
from trackcore.plans.schemas import LISTED_ITEMS
from trackcore.plans.violations import MISSING_FIELD, Violation, ViolationKind
from trackcore.typing import JSONObject


class OnCommonViolation(StrEnum):
    """The treatment of a message that violates the common rule: `commonEventOnViolations`."""

    ALLOW = "ALLOW"
    OMIT_PROPERTIES = "OMIT_PROPERTIES"
    OMIT_TRAITS = "OMIT_TRAITS"
    BLOCK = "BLOCK"


@attrs.frozen(kw_only=True)
class TrackControls:
    """The controls of `track`; those of `page`, `screen` and `alias` too, where they apply."""

    allow_unplanned_events: bool = True
    allow_unplanned_event_properties: bool = True
    allow_event_on_violations: bool = True
    allow_properties_on_violations: bool = True
    common_event_on_violations: OnCommonViolation = OnCommonViolation.ALLOW


@attrs.frozen(kw_only=True)
class TraitControls:
    """The controls of `identify`, or of `group`."""

    allow_unplanned_traits: bool = True
    allow_traits_on_violations: bool = True
    common_event_on_violations: OnCommonViolation = OnCommonViolation.ALLOW


@attrs.frozen(kw_only=True)
class Controls:
    """The treatment of messages that violate a plan; by default they pass.

    `forwarding_violations_to` names the source that gets a `Violation Generated` for each violation,
    `forwarding_blocked_events_to` the one that gets the blocked messages.  With `violation_errors` a message lists its
    violations in its `context.violationErrors` too, as RudderStack does.
    """

    track: TrackControls = TrackControls()
    identify: TraitControls = TraitControls()
    group: TraitControls = TraitControls()
    forwarding_violations_to: str | None = None
    forwarding_blocked_events_to: str | None = None
    violation_errors: bool = False

    @property
    def forwards(self) -> tuple[str | None, str | None]:
        """The sources that get the violations and the blocked messages."""
        return self.forwarding_violations_to, self.forwarding_blocked_events_to


class Action(StrEnum):
    """The fate of a message."""

    PASS = "pass"  # noqa: S105 - not a password
    OMIT = "omit"
    BLOCK = "block"


@attrs.frozen(kw_only=True)
class Treatment:
    """The treatment of one message, and the reasons.

    `message` is the message as it goes on: without the values at the locations `omitted`.  If the action is to block,
    it is the message as it was.
    """

    action: Action
    message: JSONObject
    omitted: tuple[Location, ...] = ()
    violations: tuple[Violation, ...] = ()


def treat(
    message: JSONObject, violations: tuple[Violation, ...], controls: Controls, steps: int | None = None
) -> Treatment:
    """Return what happens to a message with some violations under some controls.

    It omits the value of a violation; with `steps` the value that is so many steps inside of the properties
    or traits: 1 for a whole property, 0 for all of them.
    """
    rules = _Rules.of(message, controls)
    if any(map(rules.blocks, violations)):
        return Treatment(action=Action.BLOCK, message=message, violations=violations)
    omitted = tuple(dict.fromkeys(_omitted(message, violations, rules, steps)))
    return Treatment(
        action=Action.OMIT if omitted else Action.PASS,
        message=without(message, omitted),
        omitted=omitted,
        violations=violations,
    )


@attrs.frozen(kw_only=True)
class _Rules:
    """The controls of one kind of message, in the words of `TrackControls`."""

    controls: TrackControls

    @classmethod
    def of(cls, message: JSONObject, controls: Controls) -> _Rules:
        """Return the controls for a message."""
        call = message.get("type")
        if call not in {RuleType.IDENTIFY.lower(), RuleType.GROUP.lower()}:
            return cls(controls=controls.track)
        traits = controls.identify if call == RuleType.IDENTIFY.lower() else controls.group
        return cls(
            controls=TrackControls(
                allow_unplanned_event_properties=traits.allow_unplanned_traits,
                allow_properties_on_violations=traits.allow_traits_on_violations,
                common_event_on_violations=traits.common_event_on_violations,
            )
        )

    def blocks(self, violation: Violation) -> bool:
        """Return whether a message with this violation is blocked."""
        if violation.kind is ViolationKind.UNPLANNED_EVENT:
            return not self.controls.allow_unplanned_events
        if violation.kind is ViolationKind.COMMON_RULE:
            return self.controls.common_event_on_violations is OnCommonViolation.BLOCK
        return violation.kind is not ViolationKind.UNPLANNED_PROPERTY and not self.controls.allow_event_on_violations

    def omits(self, violation: Violation) -> bool:
        """Return whether the value with this violation is omitted."""
        if violation.kind is ViolationKind.COMMON_RULE:
            return self.controls.common_event_on_violations in _OMITTING
        if violation.kind is ViolationKind.UNPLANNED_PROPERTY:
            return not self.controls.allow_unplanned_event_properties
        return violation.kind in _ABOUT_A_VALUE and not self.controls.allow_properties_on_violations


_OMITTING = frozenset({OnCommonViolation.OMIT_PROPERTIES, OnCommonViolation.OMIT_TRAITS})
_ABOUT_A_VALUE = frozenset({ViolationKind.WRONG_TYPE, ViolationKind.WRONG_VALUE})
_FREE_FORM: frozenset[Location] = frozenset({("properties",), ("traits",)})


def _omitted(
    message: JSONObject, violations: Sequence[Violation], rules: _Rules, steps: int | None
) -> Iterator[Location]:
    for violation in violations:
        if rules.omits(violation) and violation.keyword not in MISSING_FIELD:
            yield from _field_of(violation.location, message, steps)


def _field_of(location: Location, message: JSONObject, steps: int | None) -> Iterator[Location]:
    """Yield the field to omit for a location: a property or trait, or one inside of it, never a place in an array.

    An array of which only the beginning was searched is omitted as a whole.  Nothing else of a message is ever omitted:
    without its ids or its event it would not be a message.
    """
    long_array = (end for end in range(len(location)) if _is_long_array(value_at(message, location[:end])))
    location = location[: next(long_array, len(location))]
    while location and isinstance(location[-1], int):
        location = location[:-1]
    outside = 2 if location[:1] == ("context",) else 1
    if location[outside - 1 : outside] in _FREE_FORM and len(location) > outside:
        yield location if steps is None else location[: outside + steps]


def _is_long_array(value: Any) -> bool:
    return isinstance(value, list) and len(value) > LISTED_ITEMS
