"""Violations: the faults of a message in the eyes of its plan, each with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import attrs

from trackcore.plans.locations import Location, location_text
from trackcore.plans.schemas import SchemaError
from trackcore.text.jsontext import encode_json, kind_of

MISSING_FIELD = frozenset({"required", "dependentRequired", "dependencies"})
"""The keywords about a field that is missing."""

_QUOTED_CHARS = 60
_LISTED_VALUES = 8


class ViolationKind(StrEnum):
    """The kinds of violations; the values are codes, as of rejections and warnings."""

    UNPLANNED_EVENT = "plan_unplanned_event"
    UNPLANNED_PROPERTY = "plan_unplanned_property"
    REQUIRED_MISSING = "plan_required_missing"
    WRONG_TYPE = "plan_wrong_type"
    WRONG_VALUE = "plan_wrong_value"
    COMMON_RULE = "plan_common_rule"


@attrs.frozen(kw_only=True)
class Violation:
    """One thing in a message that its plan does not allow.

    `location` is that of the value, or of the field that is missing; `keyword` is the rule of JSON Schema that is
    broken, such as `required` or `enum`, empty for an event or a name that is not planned.  A violation of a common
    rule always has the kind `COMMON_RULE`.  `rule` is the `label` of a `Rule`, empty for an event without one, and
    `schema_location` the place in its schema.  `expected` and `found` are short texts.
    """

    kind: ViolationKind
    location: Location
    keyword: str = ""
    expected: str = ""
    found: str = ""
    rule: str = ""
    schema_location: Location = ()
    sentence: str

    @property
    def path(self) -> str:
        """The wire path: `properties.products[0].price`."""
        return location_text(self.location)


def unplanned_event(name: object, nearest: str | None) -> Violation:
    """Return the violation of an event that no rule is about."""
    hint = "" if nearest is None else f"; did you mean {quoted(nearest)}?"
    return Violation(
        kind=ViolationKind.UNPLANNED_EVENT,
        location=("event",),
        expected="a planned event",
        found=shown(name),
        sentence=f"{quoted(str(name))} is not planned{hint}",
    )


def unplanned_name(location: Location, error: SchemaError, rule: str, nearest: str | None) -> Violation:
    """Return the violation of a property or trait that a rule does not list."""
    hint = "" if nearest is None else f"; {quoted(nearest)} is"
    return Violation(
        kind=ViolationKind.UNPLANNED_PROPERTY,
        location=location,
        expected="a planned name",
        found=shown(location[-1]),
        rule=rule,
        schema_location=error.schema_location,
        sentence=f"{quoted(str(location[-1]))} is not planned{hint}",
    )


def missing_field(location: Location, error: SchemaError, rule: str, found_instead: str | None) -> Violation:
    """Return the violation of a field that is required and missing."""
    hint = "" if found_instead is None else f"; found {quoted(found_instead)}"
    return Violation(
        kind=ViolationKind.REQUIRED_MISSING,
        location=location,
        keyword=error.keyword,
        expected="a value",
        found="nothing",
        rule=rule,
        schema_location=error.schema_location,
        sentence=f"{quoted(location_text(location))} is required and missing{hint}",
    )


def wrong_value(error: SchemaError, found: Any, rule: str) -> Violation:
    """Return the violation of a value of another type, or outside what a rule allows."""
    wanted = _WANTED.get(error.keyword, _by_keyword(error.keyword))(error.expected)
    is_type = error.keyword == "type"
    value = f"{kind_of(found)}: {shown(found)}" if is_type and found is not None else shown(found)
    return Violation(
        kind=ViolationKind.WRONG_TYPE if is_type else ViolationKind.WRONG_VALUE,
        location=error.location,
        keyword=error.keyword,
        expected=wanted,
        found=value,
        rule=rule,
        schema_location=error.schema_location,
        sentence=f"{quoted(location_text(error.location) or 'the message')} must be {wanted}, found {value}",
    )


def of_common_rule(violation: Violation) -> Violation:
    """Return a violation as that of a common rule."""
    return attrs.evolve(
        violation, kind=ViolationKind.COMMON_RULE, sentence=f"{violation.sentence} (rule for all messages)"
    )


def quoted(name: str) -> str:
    """Return a name between backquotes, cut if it is long."""
    return f"`{_cut(name)}`"


def shown(value: Any) -> str:
    """Return a value as JSON, cut if it is long."""
    return _cut(encode_json(value).decode("utf-8", "replace"))


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTED_CHARS else f"{text[: _QUOTED_CHARS - 1]}…"


# The expected value in words, by the keyword


def _types(types: Any) -> str:
    names = [types] if isinstance(types, str) else list(types)
    return _either([_TYPES.get(name, str(name)) for name in names])


def _values(values: Any) -> str:
    named = [shown(value) for value in values[:_LISTED_VALUES]]
    rest = len(values) - len(named)
    return f"one of {', '.join(named)}{f' and {rest} more' if rest else ''}"


def _either(names: Iterable[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} or {last}" if some else last


def _filled(text: str) -> Callable[[Any], str]:
    return lambda expected: text.format(shown(expected))


def _by_keyword(keyword: str) -> Callable[[Any], str]:
    return lambda _: f"as `{keyword}` of the plan allows"


_TYPES: Mapping[str, str] = {
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_WANTED: Mapping[str, Callable[[Any], str]] = {
    "type": _types,
    "enum": _values,
    "const": shown,
    "pattern": lambda pattern: f"a text that matches {'the pattern' if pattern is None else _cut(str(pattern))}",
    "format": lambda name: f"a text of the format {_cut(str(name))}",
    "minimum": _filled("{} or more"),
    "maximum": _filled("{} or less"),
    "exclusiveMinimum": _filled("more than {}"),
    "exclusiveMaximum": _filled("less than {}"),
    "multipleOf": _filled("a multiple of {}"),
    "minLength": _filled("of {} characters or more"),
    "maxLength": _filled("of {} characters or less"),
    "minItems": _filled("an array of {} values or more"),
    "maxItems": _filled("an array of {} values or less"),
    "minProperties": _filled("an object of {} fields or more"),
    "maxProperties": _filled("an object of {} fields or less"),
    "uniqueItems": lambda _: "an array without a value twice",
    "falseSchema": lambda _: "absent",
    "additionalItems": lambda _: "an array without further values",
    "propertyNames": lambda _: "an object whose names are as planned",
    "contains": lambda _: "an array with a value that is planned for it",
    "anyOf": lambda _: "one of the planned alternatives",
    "oneOf": lambda _: "exactly one of the planned alternatives",
    "not": lambda _: "a value that the plan does not exclude",
}
