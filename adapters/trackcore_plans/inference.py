"""A plan from messages: which events there are, with which properties, of which types, and how often.

The plan accepts every message that it was made from.  A property is required if each of at least `REQUIRED_FROM`
messages has it.  Values are never kept, since they are data of people; the counts are, as `x-seen` in the schemas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import DRAFT_07, MAX_RULES, PlanDocument, Rule, RuleType

REQUIRED_FROM = 10
"""How many messages there must be before what all of them have is required."""

MAX_NAMES = 200
"""How many names an object may have; one with more has ids or the like as names, and is left open."""

_TYPES = {t.lower(): t for t in RuleType if t is not RuleType.COMMON}


@attrs.define
class Inference:
    """Collects the shapes of messages.  `dropped` counts those of events beyond the number that a plan may have."""

    messages: int = attrs.field(init=False, default=0)
    dropped: int = attrs.field(init=False, default=0)
    _shapes: dict[tuple[RuleType, str | None], _Shape] = attrs.field(init=False, factory=dict)

    def add(self, message: JSONObject) -> None:
        """Add a wire object that intake has accepted.  No rule can be about an `alias`."""
        rule_type = _TYPES.get(str(message.get("type")))
        if rule_type is None:
            return
        key = (rule_type, str(message.get("event")) if rule_type is RuleType.TRACK else None)
        if key not in self._shapes and len(self._shapes) >= MAX_RULES:
            self.dropped += 1
            return
        self.messages += 1
        section = message.get(rule_type.section)
        self._shapes.setdefault(key, _Shape()).add(section if isinstance(section, dict) else {})

    def document(self, name: str) -> PlanDocument:
        """Return the plan."""
        return PlanDocument(name=name, rules=tuple(self._rules()))

    def _rules(self) -> Iterator[Rule]:
        for (rule_type, key), shape in sorted(self._shapes.items(), key=lambda item: (item[0][0], item[0][1] or "")):
            schema = {
                "$schema": DRAFT_07,
                "description": f"Seen {shape.count:,} {'time' if shape.count == 1 else 'times'}.",
                "type": "object",
                "properties": {rule_type.section: {"type": "object", **shape.names_schema()}},
            }
            yield Rule(type=rule_type, key=key, schema=schema)


@attrs.define
class _Shape:
    """The values that were seen at one place."""

    count: int = attrs.field(init=False, default=0)
    _types: Counter[str] = attrs.field(init=False, factory=Counter)
    _names: dict[str, _Shape] = attrs.field(init=False, factory=dict)
    _is_open: bool = attrs.field(init=False, default=False)
    _items: _Shape | None = attrs.field(init=False, default=None)

    def add(self, value: Any) -> None:
        self.count += 1
        self._types[_type_of(value)] += 1
        if isinstance(value, dict):
            self._add_names(value)
        elif isinstance(value, list):
            self._items = self._items or _Shape()
            for item in value:
                self._items.add(item)

    def schema(self) -> JSONObject:
        """Return the schema of the values, with their counts."""
        seen = {"count": self.count, "types": dict(self._types.most_common())}
        types = sorted(self._types)
        if "integer" in types and "number" in types:
            types.remove("integer")
        schema: JSONObject = {"x-seen": seen}
        if types != ["null"]:  # null alone says nothing of the type
            schema["type"] = types[0] if len(types) == 1 else types
        if self._items is not None and self._items.count:
            schema["items"] = self._items.schema()
        return {**schema, **self.names_schema()}

    def names_schema(self) -> JSONObject:
        """Return what a schema has to say about the fields of objects."""
        if self._is_open or not self._names:
            return {}
        objects = self._types["object"]
        required = [name for name, shape in self._names.items() if shape.count == objects >= REQUIRED_FROM]
        schema: JSONObject = {"properties": {name: shape.schema() for name, shape in self._names.items()}}
        return {**schema, "required": required} if required else schema

    def _add_names(self, value: JSONObject) -> None:
        if self._is_open:
            return
        for name, inner in value.items():
            self._names.setdefault(name, _Shape()).add(inner)
        if len(self._names) > MAX_NAMES:
            self._is_open = True
            self._names.clear()


def _type_of(value: Any) -> str:
    return _NAMES.get(type(value), "number")


_NAMES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    str: "string",
    list: "array",
    dict: "object",
}
