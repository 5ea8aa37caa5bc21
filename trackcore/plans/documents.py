"""A tracking plan as data: its rules, each with a JSON Schema of the whole message.

Theory.  Segment's Public API has the form that all others are read into: a list of rules, each for one kind of call, or
for one event of `track`, and each with a JSON Schema of the *whole message*.  Forms with a schema of the properties
alone are wrapped (`whole_message`).  The other fields of a form are kept in `extra`, so that it can be written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

import attrs

from trackcore.errors import TrackcoreError
from trackcore.typing import JSONObject

DRAFT_07 = "http://json-schema.org/draft-07/schema#"


class RuleType(StrEnum):
    """The messages that a rule is about, in the words of Segment's Public API."""

    COMMON = "COMMON"
    TRACK = "TRACK"
    IDENTIFY = "IDENTIFY"
    GROUP = "GROUP"
    PAGE = "PAGE"
    SCREEN = "SCREEN"

    @property
    def section(self) -> str:
        """The field that holds the planned values: `traits` or `properties`."""
        return "traits" if self in {RuleType.IDENTIFY, RuleType.GROUP} else "properties"


@attrs.frozen(kw_only=True)
class Rule:
    """A rule: which messages it is about, and the JSON Schema of such a message.

    `key` is the name of the event of a `TRACK` rule, None for the others.  Of several rules for the same messages a
    message chooses one by its `context.protocols.event_version`.  `extra` has the other fields of the rule as its form
    wrote them, such as `createdAt`.
    """

    type: RuleType
    key: str | None = None
    version: int = 1
    schema: JSONObject
    extra: JSONObject = attrs.field(factory=dict)

    @property
    def label(self) -> str:
        """The rule in a sentence: `track "Order Completed" version 2`, `common`."""
        name = "" if self.key is None else f' "{self.key}"'
        return f"{self.type.lower()}{name}{'' if self.version == 1 else f' version {self.version}'}"

    @property
    def description(self) -> str:
        """The description in its schema, empty if there is none."""
        text = self.schema.get("description")
        return text if isinstance(text, str) else ""


@attrs.frozen(kw_only=True)
class PlanDocument:
    """A plan as it is written: its name and its rules.  `extra` has the other fields as its form wrote them."""

    name: str = ""
    description: str = ""
    rules: tuple[Rule, ...] = ()
    extra: JSONObject = attrs.field(factory=dict)

    def by_messages(self) -> Mapping[tuple[RuleType, str | None], tuple[Rule, ...]]:
        """Return the rules for the same messages together, oldest version first."""
        found: dict[tuple[RuleType, str | None], list[Rule]] = {}
        for rule in self.rules:
            found.setdefault((rule.type, rule.key), []).append(rule)
        return {key: tuple(sorted(rules, key=lambda rule: rule.version)) for key, rules in found.items()}


@attrs.frozen(kw_only=True)
class PlanMistake:
    """A mistake in a plan: where it is, as a path in the plan or as a line of the file, and what is wrong."""

    path: str = ""
    detail: str
    line: int | None = None

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}"
        return ": ".join(filter(None, (where, self.path, self.detail)))


@attrs.define(kw_only=True, eq=False)
class InvalidPlan(TrackcoreError):
    """A plan cannot be used as it is; all its mistakes are listed."""

    file: str = ""
    mistakes: tuple[PlanMistake, ...]

    def __str__(self) -> str:
        """Write a line for each mistake."""
        return "\n".join(": ".join(filter(None, (self.file, str(mistake)))) for mistake in self.mistakes)


def whole_message(rule_type: RuleType, section: JSONObject) -> JSONObject:
    """Return the schema of a whole message from that of its properties or traits.

    The dialect, the description and the labels of the section belong to the message.
    """
    outer = {name: section[name] for name in _OF_THE_MESSAGE if name in section}
    inner = {name: value for name, value in section.items() if name not in _OF_THE_MESSAGE}
    schema: JSONObject = {
        "$schema": DRAFT_07,
        **outer,
        "type": "object",
        "properties": {"context": {}, "traits": {}, "properties": {}, rule_type.section: inner},
    }
    if inner.get("required"):
        schema["required"] = [rule_type.section]
    return schema


def section_of(schema: JSONObject, rule_type: RuleType) -> JSONObject:
    """Return the schema of the properties or traits in that of a whole message, empty if it has none."""
    properties = schema.get("properties")
    section = properties.get(rule_type.section) if isinstance(properties, dict) else None
    return section if isinstance(section, dict) else {}


_OF_THE_MESSAGE = ("$schema", "$id", "description", "labels", "definitions", "$defs")


def subschemas(schema: JSONObject) -> Iterator[tuple[tuple[str, ...], JSONObject]]:
    """Yield the schemas directly in a schema, each with the steps to it.  Booleans are not yielded."""
    for keyword in _ONE:
        if isinstance(inner := schema.get(keyword), dict):
            yield (keyword,), inner
    for keyword in (*_MANY, "items"):
        if isinstance(many := schema.get(keyword), list):
            yield from (((keyword, str(at)), inner) for at, inner in enumerate(many) if isinstance(inner, dict))
    for keyword in _NAMED:
        if isinstance(named := schema.get(keyword), dict):
            yield from (((keyword, name), inner) for name, inner in named.items() if isinstance(inner, dict))


_ONE: tuple[str, ...] = (
    "additionalProperties",
    "additionalItems",
    "items",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)
_ONE += ("unevaluatedProperties", "unevaluatedItems")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "dependencies", "definitions", "$defs")
