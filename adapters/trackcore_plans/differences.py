"""The differences of two plans, and which of them break: a message of the old plan may violate the new one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import PlanDocument, Rule, RuleType, location_text
from trackcore_plans.essence import essence

_Steps = tuple[str, ...]


@attrs.frozen(kw_only=True)
class Difference:
    """A difference in one rule.  `path` is a wire path, empty for the rule as a whole."""

    rule: str
    path: str = ""
    sentence: str
    breaks: bool


def differences(old: PlanDocument, new: PlanDocument) -> tuple[Difference, ...]:
    """Return the differences, rule by rule; none for equal plans, however they are written."""
    before, after = old.by_messages(), new.by_messages()
    found: list[Difference] = []
    for key in dict.fromkeys((*before, *after)):
        found += _of_messages(before.get(key, ()), after.get(key, ()))
    return tuple(found)


def _of_messages(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[Difference]:
    """Yield the differences of the rules for the same messages."""
    before, after = ({rule.version: rule for rule in rules} for rules in (old, new))
    for version in sorted(before.keys() | after.keys()):
        was, is_now = before.get(version), after.get(version)
        if was is not None and is_now is not None:
            yield from _of_rules(was, is_now)
        elif was is not None:
            yield _removed(was, new)
        elif is_now is not None:
            yield from _added(is_now, old)


def _removed(rule: Rule, others: Sequence[Rule]) -> Difference:
    if others:
        return Difference(
            rule=rule.label, sentence="this version is no longer planned; the oldest applies", breaks=True
        )
    if rule.type is RuleType.TRACK:
        return Difference(rule=rule.label, sentence="this event is no longer planned", breaks=True)
    breaks = any(found.breaks for found in _of_rules(rule, attrs.evolve(rule, schema={})))
    return Difference(rule=rule.label, sentence="there is no such rule any more", breaks=breaks)


def _added(rule: Rule, others: Sequence[Rule]) -> Iterator[Difference]:
    if others and rule.version < others[0].version:
        breaks = any(found.breaks for found in _of_rules(others[0], rule))
        sentence = "is new, and the oldest: it applies to messages that name no version"
        yield Difference(rule=rule.label, sentence=sentence, breaks=breaks)
    elif rule.type is RuleType.TRACK or others:
        yield Difference(rule=rule.label, sentence="is new", breaks=False)
    else:
        yield Difference(rule=rule.label, sentence="is new", breaks=False)
        yield from _of_rules(attrs.evolve(rule, schema={}), rule)


def _of_rules(old: Rule, new: Rule) -> Iterator[Difference]:
    for steps, sentence, breaks in _compare(essence(old.schema), essence(new.schema), ()):
        path = location_text(steps).replace('["[]"]', "[]")
        is_lost_name = new.type is RuleType.COMMON and sentence == _UNLISTED and _is_about_a_name(steps)
        yield Difference(rule=new.label, path=path, sentence=sentence, breaks=breaks or is_lost_name)


def _is_about_a_name(steps: _Steps) -> bool:
    """Return whether steps lead to a property or a trait: one of the common rule is planned for every event."""
    inside = steps[1:] if steps[0] == "context" else steps
    return inside[:1] in (("properties",), ("traits",)) and len(inside) > 1


_UNLISTED = "is no longer listed"
_Found = tuple[_Steps, str, bool]


def _compare(old: Any, new: Any, steps: _Steps) -> Iterator[_Found]:
    """Yield the differences of two schemas: their place, a sentence, and whether they break."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield steps, "changed", new is not True
        return
    yield from _types(old, new, steps)
    yield from _values(old, new, steps)
    yield from _names(old, new, steps)
    yield from _bounds(old, new, steps)
    if "items" in old or "items" in new:
        yield from _compare(old.get("items", {}), new.get("items", {}), (*steps, "[]"))
    yield from _others(old, new, steps)


def _types(old: JSONObject, new: JSONObject, steps: _Steps) -> Iterator[_Found]:
    before, after = _type_names(old), _type_names(new)
    if before == after:
        return
    narrower = after is not None and (before is None or not before <= _with_integers(after))
    yield steps, f"its type was {_listed(before)} and is {_listed(after)}", narrower


def _type_names(schema: JSONObject) -> frozenset[str] | None:
    """Return the types that a schema allows, None for any."""
    types = schema.get("type")
    return None if types is None else frozenset([types] if isinstance(types, str) else types)


def _with_integers(types: frozenset[str]) -> frozenset[str]:
    return types | {"integer"} if "number" in types else types


def _listed(types: frozenset[str] | None) -> str:
    return "any" if types is None else " or ".join(sorted(types))


def _values(old: JSONObject, new: JSONObject, steps: _Steps) -> Iterator[_Found]:
    before, after = _allowed(old), _allowed(new)
    if after is not None and before is None:
        yield steps, "only some values are planned now", True
    elif before is not None and after is None:
        yield steps, "any value is planned now", False
    elif before is not None and after is not None:
        for value in before:
            if not _is_in(value, after):
                yield steps, f"the value {value!r} is no longer planned", True
        for value in after:
            if not _is_in(value, before):
                yield steps, f"the value {value!r} is new", False


def _is_in(value: Any, values: list[Any]) -> bool:
    """Return whether JSON Schema finds a value among others: 1 is 1.0, but not true."""
    return any(isinstance(value, bool) is isinstance(other, bool) and value == other for other in values)


def _allowed(schema: JSONObject) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _names(old: JSONObject, new: JSONObject, steps: _Steps) -> Iterator[_Found]:
    before, after = old.get("properties", {}), new.get("properties", {})
    was_other, is_other = _other_names(old, steps), _other_names(new, steps)
    if was_other != is_other:
        yield steps, _OTHERS[_kind(is_other)], is_other is not True
    for name in dict.fromkeys((*before, *after)):
        here = (*steps, name)
        if name in before and name in after:
            yield from _compare(before[name], after[name], here)
        elif name in before:
            yield here, _UNLISTED, is_other is False
            yield from _compare(before[name], {} if is_other is True else is_other, here) if is_other else ()
        else:
            yield here, "is new", False
            if was_other is not False or _MORE_NAMES & old.keys():  # so there could be such a field
                yield from _compare(was_other if isinstance(was_other, dict) else {}, after[name], here)
    yield from _required(old, new, steps)


def _other_names(schema: JSONObject, steps: _Steps) -> bool | JSONObject:
    """Return whether an object may have names that its schema does not list, or the schema for their values.

    A message itself may, and its context, except for the traits there.
    """
    others = schema.get("additionalProperties")
    if others is not None:
        return True if others == {} else others
    is_outside = not steps or (steps[0] == "context" and steps[1:2] != ("traits",))
    return is_outside or not schema.get("properties")


def _kind(others: bool | JSONObject) -> str:
    return "some" if isinstance(others, dict) else str(others)


_OTHERS = {
    "True": "any other name is planned now",
    "False": "only the names that are listed are planned now",
    "some": "names that are not listed have another rule now",
}
_MORE_NAMES = frozenset(
    {"allOf", "anyOf", "oneOf", "if", "then", "else", "$ref", "patternProperties", "dependentSchemas"}
)
"""Keywords behind which there may be further names."""


def _required(old: JSONObject, new: JSONObject, steps: _Steps) -> Iterator[_Found]:
    before, after = old.get("required", []), new.get("required", [])
    yield from (((*steps, name), "is now required", True) for name in after if name not in before)
    yield from (((*steps, name), "is no longer required", False) for name in before if name not in after)


_LOWEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_HIGHEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def _bounds(old: JSONObject, new: JSONObject, steps: _Steps) -> Iterator[_Found]:
    for keywords, sign in ((_LOWEST, 1), (_HIGHEST, -1)):
        for keyword in keywords:
            before, after = old.get(keyword), new.get(keyword)
            if before != after:
                narrower = after is not None and (before is None or sign * after > sign * before)
                yield steps, f"`{keyword}` was {_shown(before)} and is {_shown(after)}", narrower


def _others(old: JSONObject, new: JSONObject, steps: _Steps) -> Iterator[_Found]:
    for keyword in dict.fromkeys((*old, *new)):
        if keyword in _COMPARED or old.get(keyword) == new.get(keyword):
            continue
        if keyword not in new:
            yield steps, f"`{keyword}` is no longer asked for", keyword not in _VALUES
        elif keyword in _TEXTS:
            yield steps, f"`{keyword}` was {_shown(old.get(keyword))} and is {_shown(new[keyword])}", True
        else:
            yield steps, f"`{keyword}` changed", True


def _shown(value: Any) -> str:
    return "not there" if value is None else str(value)


_VALUES = frozenset({"pattern", "format", "multipleOf", "uniqueItems", "contains", "not"})
"""Keywords that only exclude values."""

_TEXTS = frozenset({"pattern", "format", "multipleOf"})
_DESCRIBING = frozenset({"description", "examples", "default", "x-seen", "$defs", "definitions"})
_COMPARED: frozenset[str] = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", *_LOWEST, *_HIGHEST}
)
_COMPARED |= _DESCRIBING
