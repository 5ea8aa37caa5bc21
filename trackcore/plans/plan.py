"""A tracking plan that checks messages: what a message does that the plan does not allow.

The semantics are those of Segment's Protocols.  The name of an event must be exactly that of a rule.  Of several
versions of a rule a message chooses one by `context.protocols.event_version`, an integer; without it, or if there is no
such version, the oldest one counts.  The common rule applies to all messages, in addition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Self

import attrs

from trackcore.plans.controls import Action, Controls, Treatment, treat
from trackcore.plans.documents import DRAFT_07, InvalidPlan, PlanDocument, PlanMistake, Rule, RuleType, subschemas
from trackcore.plans.locations import Location, location_text, value_at
from trackcore.plans.names import NameIndex
from trackcore.plans.planned import names_at, planned_names
from trackcore.plans.reading import fields_read, reader_of
from trackcore.plans.schemas import InvalidSchema, SchemaCompiler, SchemaError, SchemaValidator, check_cost
from trackcore.plans.violations import (
    MISSING_FIELD,
    Violation,
    missing_field,
    of_common_rule,
    unplanned_event,
    unplanned_name,
    wrong_value,
)
from trackcore.typing import JSONObject

MAX_RULES = 2_000
"""How many rules a plan may have, as at Segment."""

MAX_VIOLATIONS = 100
"""How many violations of one message are listed."""

_FURTHER_TREATMENTS = (None, 1)
"""In a long list, or behind an omitted value, there may be more to omit: once more as precisely, then whole properties,
then all of them (see `treat`).  So a message is checked a few times at most, whatever it contains."""

_OTHER_NAMES = frozenset({"additionalProperties", "unevaluatedProperties"})
_SECTIONS = {
    "track": ("context", "properties"),
    "page": ("context", "properties"),
    "screen": ("context", "properties"),
    "identify": ("context", "traits"),
    "group": ("context", "traits"),
}
_CONTEXT = ("context",)
VERSION = ("context", "protocols", "event_version")
"""Where a message names the version of its rule."""


@attrs.frozen(kw_only=True)
class Plan:
    """A plan whose rules are ready to check messages.  `Plan.compile` makes it."""

    document: PlanDocument
    _rules: Mapping[tuple[str, str | None], _Versions]
    _events: NameIndex
    _read: Callable[[bytes], JSONObject]

    @classmethod
    def compile(cls, document: PlanDocument, compile_schema: SchemaCompiler) -> Self:
        """Make the rules of a plan ready.  Raises `InvalidPlan` with every mistake in them."""
        compiled, invalid = _compiled_rules(document, compile_schema)
        if mistakes := [*_mistakes(document), *invalid]:
            raise InvalidPlan(mistakes=tuple(mistakes))
        rules: dict[tuple[str, str | None], _Versions] = {}
        for at, rule in enumerate(document.rules):
            rules.setdefault((rule.type.lower(), rule.key), {})[rule.version] = compiled[at]
        return cls(
            document=document,
            rules=rules,
            events=NameIndex([rule.key for rule in document.rules if rule.key is not None]),
            read=reader_of(_fields_read(compiled.values(), rules.values())),
        )

    def check(self, message: JSONObject) -> tuple[Violation, ...]:
        """Return what a message does that the plan does not allow, at most `MAX_VIOLATIONS`.

        `message` is a wire object that intake has accepted.
        """
        return () if self.accepts(message) else tuple(islice(self._violations(message), MAX_VIOLATIONS))

    def accepts(self, message: JSONObject) -> bool:
        """Return whether a message has no violation: most have none, and this is the fast way to know it."""
        rule = self._rule_of(message)
        if rule is None or rule.guard is None:
            return next(self._violations(message), None) is None
        return rule.guard.is_valid(_with_sections(message, rule.sections))

    def accepts_text(self, message: bytes) -> bool:
        """Return whether a message, as its text is stored, has no violation.  It decodes what the rules are about."""
        return self.accepts(self._read(message))

    def apply(self, message: JSONObject, controls: Controls) -> Treatment:
        """Check a message, and return its treatment under some controls.

        It lists the violations of the message as it came; a message that goes on is free of those that omit values.
        """
        violations = tuple(self._violations(message))
        treatment = treat(message, violations, controls)
        omitted = treatment.omitted
        for steps in chain(_FURTHER_TREATMENTS, repeat(0)):
            if not treatment.omitted:
                break
            further = tuple(self._violations(treatment.message))
            treatment = treat(treatment.message, further, controls, steps)
            omitted += treatment.omitted
        if treatment.action is Action.BLOCK:
            return Treatment(action=Action.BLOCK, message=message, violations=violations[:MAX_VIOLATIONS])
        return Treatment(
            action=Action.OMIT if omitted else Action.PASS,
            message=treatment.message,
            omitted=_outermost(omitted),
            violations=violations[:MAX_VIOLATIONS],
        )

    def rule_of(self, message: JSONObject) -> Rule | None:
        """Return the rule that is about a message, the common one aside."""
        compiled = self._rule_of(message)
        return None if compiled is None else compiled.rule

    def _rule_of(self, message: JSONObject) -> _CompiledRule | None:
        call = message.get("type")
        key = message.get("event") if call == "track" else None
        return _version_of(message, self._rules.get((str(call), key)))

    def _violations(self, message: JSONObject) -> Iterator[Violation]:
        rule = self._rule_of(message)
        if rule is not None:
            yield from rule.violations(message)
        elif message.get("type") == "track":
            name = message.get("event")
            yield unplanned_event(name, self._events.nearest(str(name)))
        common = _version_of(message, self._rules.get(("common", None)))
        if common is not None:
            yield from map(of_common_rule, common.violations(message))


@attrs.frozen(kw_only=True)
class _CompiledRule:
    """A rule, the validator of its schema, and that of its names.

    The `guard` checks all of that at once, and the common rule; None if they cannot be put into one schema.  `fields`
    are those of a message that these schemas read, None if all, and `sections` those of them that may be absent.
    """

    rule: Rule
    _validate: SchemaValidator
    _names: JSONObject
    _check_names: SchemaValidator | None
    guard: SchemaValidator | None
    fields: frozenset[str] | None
    sections: tuple[str, ...]
    _indexes: dict[tuple[str, ...], NameIndex] = attrs.field(init=False, factory=dict)  # one for each place of the plan

    def violations(self, message: JSONObject) -> Iterator[Violation]:
        """Yield the violations of a message that the rule is about."""
        message = _with_sections(message, _SECTIONS.get(str(message.get("type")), _CONTEXT))
        present = _PresentNames(message, self._names)
        for error in self._validate(message):
            yield from self._of_error(error, message, present)
        if self._check_names is not None:
            for error in self._check_names(message):
                yield from self._unplanned(error)

    def _of_error(self, error: SchemaError, message: JSONObject, present: _PresentNames) -> Iterator[Violation]:
        if error.keyword in MISSING_FIELD and error.names:
            for name in error.names:
                instead = present.nearest(error.location, name)
                yield missing_field((*error.location, name), error, self.rule.label, instead)
        elif error.keyword in _OTHER_NAMES and error.names:
            yield from self._unplanned(error)
        else:
            found = value_at(message, error.location)
            yield wrong_value(error, found, self.rule.label)

    def _unplanned(self, error: SchemaError) -> Iterator[Violation]:
        index = self._index(error.location)
        for name in error.names:
            yield unplanned_name((*error.location, name), error, self.rule.label, index.nearest(name))

    def _index(self, location: Location) -> NameIndex:
        names = names_at(self._names, location)
        if names not in self._indexes:
            self._indexes[names] = NameIndex(names)
        return self._indexes[names]


@attrs.define
class _PresentNames:
    """The names in a message that are not planned, to find those that were sent in place of missing ones."""

    _message: JSONObject
    _planned: JSONObject
    _indexes: dict[Location, NameIndex] = attrs.field(init=False, factory=dict)

    def nearest(self, location: Location, name: str) -> str | None:
        """Return the name at a location that was probably sent for another one."""
        if location not in self._indexes:
            present, planned = value_at(self._message, location), names_at(self._planned, location)
            names = islice(present, MAX_VIOLATIONS) if isinstance(present, dict) else ()
            self._indexes[location] = NameIndex(found for found in names if found not in planned)
        return self._indexes[location].nearest(name)


_Versions = dict[int, _CompiledRule]


def _compiled_rules(
    document: PlanDocument, compile_schema: SchemaCompiler
) -> tuple[dict[int, _CompiledRule], list[PlanMistake]]:
    """Return the rules by their place in a plan, and the mistakes in their schemas.

    The common rules come first, as the others contain them; one with a mistake is reported once, and left out.
    """
    compiled: dict[int, _CompiledRule] = {}
    mistakes: dict[int, PlanMistake] = {}
    common: dict[int, Rule] = {}
    for at, rule in sorted(enumerate(document.rules), key=lambda item: item[1].type is not RuleType.COMMON):
        is_common = rule.type is RuleType.COMMON
        shared = [] if is_common else [common[version] for version in sorted(common)]
        try:
            compiled[at] = _compiled(rule, shared, compile_schema)
        except InvalidSchema as error:
            path = location_text(("rules", at, "schema", *error.steps))
            mistakes[at] = PlanMistake(path=path, detail=f"{rule.label}: {error.detail}")
            continue
        if is_common:
            common[rule.version] = rule
    return compiled, [mistakes[at] for at in sorted(mistakes)]


def _compiled(rule: Rule, common: Sequence[Rule], compile_schema: SchemaCompiler) -> _CompiledRule:
    check_cost(rule.schema)
    validate = compile_schema(rule.schema)
    names = {} if rule.type is RuleType.COMMON else planned_names(rule, common[0] if common else None)
    whole = _in_one([rule.schema, names, *(other.schema for other in common)])
    sections = _SECTIONS.get(rule.type.lower(), _CONTEXT)
    fields = fields_read([rule.schema, *(other.schema for other in common)])
    return _CompiledRule(
        rule=rule,
        validate=validate,
        names=names,
        check_names=compile_schema(names) if names else None,
        guard=compile_schema(whole) if whole is not None and len(common) <= 1 else None,
        fields=fields,
        sections=sections if fields is None else tuple(name for name in sections if name in fields),
    )


def _in_one(schemas: Sequence[JSONObject]) -> JSONObject | None:
    """Return one schema that is valid where all are; None if one refers to places in itself, or has another dialect."""
    dialects = {str(schema.get("$schema", DRAFT_07)).rstrip("#") for schema in schemas}
    if dialects != {DRAFT_07.rstrip("#")} or any(map(_refers, schemas)):
        return None
    parts = [schema for schema in schemas if schema]
    return {"$schema": DRAFT_07, **({"allOf": parts} if parts else {})}


def _fields_read(rules: Iterable[_CompiledRule], versions: Iterable[_Versions]) -> frozenset[str] | None:
    """Return the fields of a message that rules read, and those by which it finds its rule; None for all."""
    has_versions = any(len(found) > 1 for found in versions)
    fields = {"type", "event", *(VERSION[:1] if has_versions else ())}
    for rule in rules:
        if rule.fields is None:
            return None
        fields |= rule.fields
    return frozenset(fields)


def _refers(schema: JSONObject) -> bool:
    return bool({"$ref", "$id", "id"} & schema.keys()) or any(_refers(inner) for _, inner in subschemas(schema))


def _with_sections(message: JSONObject, sections: Iterable[str]) -> JSONObject:
    """Return a message in which absent properties, traits and context are empty, as intake takes them."""
    absent = [name for name in sections if name not in message]
    return {**message, **{name: {} for name in absent}} if absent else message


def _outermost(locations: Sequence[Location]) -> tuple[Location, ...]:
    """Return locations without those inside of others."""
    known = frozenset(locations)
    return tuple(found for found in locations if not any(found[:end] in known for end in range(1, len(found))))


def _version_of(message: JSONObject, versions: _Versions | None) -> _CompiledRule | None:
    """Return the version that a message names, else the oldest."""
    if not versions:
        return None
    if len(versions) == 1:
        (only,) = versions.values()
        return only
    wanted = value_at(message, VERSION)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted in versions:
        return versions[wanted]
    return versions[min(versions)]


def _mistakes(document: PlanDocument) -> Iterator[PlanMistake]:
    if len(document.rules) > MAX_RULES:
        detail = f"a plan has at most {MAX_RULES} rules, found {len(document.rules)}"
        yield PlanMistake(path="rules", detail=detail)
    seen: dict[tuple[RuleType, str | None, int], int] = {}
    for at, rule in enumerate(document.rules):
        identity = (rule.type, rule.key, rule.version)
        if identity in seen:
            detail = f"{rule.label} is already rules[{seen[identity]}]; give it another version"
            yield PlanMistake(path=f"rules[{at}]", detail=detail)
        seen.setdefault(identity, at)
