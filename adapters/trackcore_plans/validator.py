"""JSON Schema by `jsonschema-rs`, within a bounded time for any message.

Three things would take long otherwise, and each has a bound:

- A pattern.  An engine without backtracking takes time by the product of the text and the size of the pattern.  So a
  large pattern is tried only on texts of up to `COSTLY_PATTERN_CHARS`, and a longer text violates it.  The same holds
  for a pattern with look-around or back-references, which needs an engine with backtracking.
- The list of errors.  A message may have thousands of them, so only the first `LISTED_ITEMS` values of each array are
  searched for errors, and of each object as many fields that the schema does not name.  They are fewer if there could
  still be more than `MAX_ERRORS` errors (see `error_counts`).
- References within a schema: see `trackcore.plans.check_cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs
import jsonschema_rs as rs

from trackcore import JSONObject
from trackcore.plans import LISTED_ITEMS, InvalidSchema, Location, SchemaError, subschemas, value_at
from trackcore_plans.error_counts import ErrorCount, most_errors

CHEAP_PATTERN_BYTES = 4 * 1024
"""The size of a compiled pattern up to which it is tried on texts of any length."""

MAX_PATTERN_BYTES = 512 * 1024
"""The size of a compiled pattern that can be used at all; `.{1,255}` takes as much."""

COSTLY_PATTERN_CHARS = 500
"""The longest text for a pattern that is larger, or needs look-around: its time can be the square of that."""

MAX_BACKTRACKS = 20_000
"""How often look-around may go back, before the text counts as one that does not match."""

MAX_ERRORS = 1_000
"""How many errors of a message are listed, if the parts that can be left out suffice for that."""

_LIMITS = (LISTED_ITEMS, 10, 3, 1)
_CACHE_BYTES = 1 << 20
_CHEAP = rs.RegexOptions(size_limit=CHEAP_PATTERN_BYTES, dfa_size_limit=_CACHE_BYTES)
_LINEAR = rs.RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=_CACHE_BYTES)
_BACKTRACKING = rs.FancyRegexOptions(
    backtrack_limit=MAX_BACKTRACKS, size_limit=MAX_PATTERN_BYTES, dfa_size_limit=_CACHE_BYTES
)
_VALIDATORS = {
    "http://json-schema.org/draft-04/schema": rs.Draft4Validator,
    "http://json-schema.org/draft-06/schema": rs.Draft7Validator,  # the same, and conditions
    "http://json-schema.org/draft-07/schema": rs.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": rs.Draft201909Validator,
    "https://json-schema.org/draft/2020-12/schema": rs.Draft202012Validator,
}
_DEFAULT = rs.Draft7Validator


def compile_schema(schema: JSONObject) -> CompiledSchema:
    """Return the validator of a schema, of draft 7 if it names no other.  Raises `InvalidSchema`."""
    validator = _validator_class(schema)
    bounded = _Bounds(has_conditions=validator is not rs.Draft4Validator)
    schema = bounded.of(schema, ())
    options = _BACKTRACKING if bounded.needs_look_around else _LINEAR
    try:
        compiled = validator(schema, validate_formats=True, pattern_options=options, offline=True)
    except rs.ValidationError as error:
        raise InvalidSchema(detail=error.message, steps=tuple(map(str, error.instance_path))) from None
    except (rs.ReferencingError, ValueError) as error:
        raise InvalidSchema(detail=str(error)) from None
    others = frozenset(bounded.names) if bounded.has_rules_for_others else None
    return CompiledSchema(compiled, most_errors(schema), others)


@attrs.frozen
class CompiledSchema:
    """The validator of one schema, and the most errors of one value.

    `names` are those in the schema, if it has rules for fields of any other name; else None.
    """

    _validator: Any
    _most_errors: ErrorCount
    _names: frozenset[str] | None
    is_valid: Callable[[JSONObject], bool] = attrs.field(init=False)
    """Return whether a message has no error."""

    @is_valid.default
    def _(self) -> Callable[[JSONObject], bool]:
        valid: Callable[[JSONObject], bool] = self._validator.is_valid  # intake calls it for each message
        return valid

    def __call__(self, message: JSONObject) -> Iterator[SchemaError]:
        """Yield the errors of a message, or some of very many; nothing if it is valid."""
        if self.is_valid(message):
            return
        shortened, limit = self._bounded(message)
        search = _Search(message, shortened, limit)
        is_listed = False
        for found in self._validator.iter_errors(shortened):
            error = _schema_error(found, message)
            if search.is_real(error):
                is_listed = True
                yield error
        if not is_listed:
            yield self._first(message)

    def _first(self, message: JSONObject) -> SchemaError:
        try:
            self._validator.validate(message)
        except rs.ValidationError as error:
            return _schema_error(error, message)
        raise AssertionError("the message is invalid")

    def _bounded(self, message: JSONObject) -> tuple[JSONObject, int]:
        """Return the part of a message that is searched for errors, and how many values of each array are in it."""
        for limit in _LIMITS:
            shortened = self._shortened(message, limit)
            if self._most_errors.of(shortened) <= MAX_ERRORS:
                break
        return shortened, limit

    def _shortened(self, value: Any, limit: int) -> Any:
        if isinstance(value, list):
            return [self._shortened(item, limit) for item in value[:limit]]
        if isinstance(value, dict):
            return {name: self._shortened(item, limit) for name, item in self._fields(value, limit)}
        return value

    def _fields(self, value: JSONObject, limit: int) -> Iterator[tuple[str, Any]]:
        """Yield the fields of an object, except the many that the schema does not name but has rules for."""
        if self._names is None:
            yield from value.items()
            return
        others = 0
        for name, item in value.items():
            others += name not in self._names
            if others <= limit or name in self._names:
                yield name, item


@attrs.define
class _Search:
    """A search for the errors of a message in its shortened copy."""

    _message: JSONObject
    _shortened: JSONObject
    _limit: int
    _is_whole: dict[Location, bool] = attrs.field(init=False, factory=dict)

    def is_real(self, error: SchemaError) -> bool:
        """Return whether an error is one of the message itself, and not of its shortened copy.

        The validator also reports a required field that is present as missing, if the schema allows no such field.
        """
        found = value_at(self._message, error.location)
        if error.keyword == "required" and isinstance(found, dict):
            return error.names[0] not in found
        if error.keyword in _ABOUT_ALL:
            return self._is_searched(error.location)
        return not (error.keyword in _COUNTING and isinstance(found, list | dict) and len(found) > self._limit)

    def _is_searched(self, location: Location) -> bool:
        """Return whether the copy has all of the value at a location."""
        if location not in self._is_whole:
            searched, found = (value_at(value, location) for value in (self._shortened, self._message))
            self._is_whole[location] = searched == found
        return self._is_whole[location]


_ABOUT_ALL = frozenset({"anyOf", "oneOf", "not"})
"""Keywords that may allow a value and refuse its shortened copy, whatever the value is."""

_COUNTING = frozenset({"minItems", "minProperties", "contains", "minContains"})


def _schema_error(error: rs.ValidationError, message: JSONObject) -> SchemaError:
    details = error.kind.as_dict()
    keyword = "pattern" if error.kind.name in _NOT_DECIDED else error.kind.name
    location, schema_location = _location(error.instance_path, message), tuple(error.schema_path)
    names: Sequence[str] = ()
    if keyword == "required":
        names = (details["property"],)
    elif keyword in {"additionalProperties", "unevaluatedProperties"}:
        names = details["unexpected"]
    elif keyword == "falseSchema" and schema_location[-1:] == ("additionalProperties",):
        keyword, names = "additionalProperties", tuple(value_at(message, location))
    elif keyword == "falseSchema" and location and isinstance(location[-1], str):  # a property whose schema is false
        keyword, names, location = "additionalProperties", (location[-1],), location[:-1]
    return SchemaError(
        keyword=keyword,
        location=location,
        expected=None if names else _expected(error.kind.name, details),
        names=tuple(names),
        schema_location=schema_location,
    )


def _location(steps: Iterable[str | int], message: JSONObject) -> Location:
    """Return the location of a value.  The validator writes a name like `0` as a number."""
    location: list[str | int] = []
    for step in steps:
        within = value_at(message, location)
        location.append(_name(within, step) if isinstance(within, dict) else step)
    return tuple(location)


def _name(fields: JSONObject, step: str | int) -> str:
    """Return the name of a field; a number may have been written as `007`."""
    if isinstance(step, str) or str(step) in fields:
        return str(step)
    return next((name for name in fields if name.isdecimal() and int(name) == step), str(step))


def _expected(name: str, details: dict[str, Any]) -> Any:
    if name in {"anyOf", "oneOf", *_NOT_DECIDED}:
        return None
    return next(iter(details.values()), None)


_NOT_DECIDED = frozenset({"backtrackLimitExceeded", "regexEngineFailure"})


def _validator_class(schema: JSONObject) -> Any:
    dialect = schema.get("$schema")
    if dialect is None:
        return _DEFAULT
    name = str(dialect).rstrip("#").replace("https://json-schema.org/draft-0", "http://json-schema.org/draft-0")
    if name not in _VALIDATORS:
        known = "draft-04, draft-06, draft-07, 2019-09, 2020-12"
        raise InvalidSchema(detail=f"expected JSON Schema of one of {known}, found {dialect!r}", steps=("$schema",))
    return _VALIDATORS[name]


@attrs.define(kw_only=True)
class _Bounds:
    """Rewrites a schema so that its patterns take bounded time, and collects the names that it mentions."""

    _has_conditions: bool
    needs_look_around: bool = attrs.field(init=False, default=False)
    has_rules_for_others: bool = attrs.field(init=False, default=False)
    names: set[str] = attrs.field(init=False, factory=set)

    def of(self, schema: JSONObject, steps: tuple[str, ...]) -> JSONObject:
        """Return the rewritten schema.  Raises `InvalidSchema` for a pattern that cannot be used."""
        self.names.update(_names_in(schema))
        self.has_rules_for_others |= any(_objects(schema, "patternProperties").values())
        self.has_rules_for_others |= any(isinstance(schema.get(keyword), dict) for keyword in _ABOUT_OTHERS)
        for names in _objects(schema, "patternProperties"):
            if not _compiles(names, _CHEAP):
                raise InvalidSchema(detail=_cannot(names), steps=(*steps, "patternProperties"))
        bounded = dict(schema)
        for inner_steps, inner in subschemas(schema):
            bounded = _replaced(bounded, inner_steps, self.of(inner, steps + inner_steps))
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not _compiles(pattern, _CHEAP):
            self._check_costly(pattern, (*steps, "pattern"))
            del bounded["pattern"]
            bounded["allOf"] = [*bounded.get("allOf", ()), _if_short({"pattern": pattern})]
        return bounded

    def _check_costly(self, pattern: str, steps: tuple[str, ...]) -> None:
        if not self._has_conditions:
            raise InvalidSchema(detail=f"{_cannot(pattern)} in draft-04; newer drafts allow larger ones", steps=steps)
        if not _compiles(pattern, _LINEAR):
            if not _compiles(pattern, _BACKTRACKING):
                raise InvalidSchema(detail=_cannot(pattern), steps=steps)
            self.needs_look_around = True


_ABOUT_OTHERS = ("additionalProperties", "unevaluatedProperties", "propertyNames")


def _names_in(schema: JSONObject) -> Iterator[str]:
    yield from _objects(schema, "properties")
    required = schema.get("required")
    if isinstance(required, list):
        yield from filter(lambda name: isinstance(name, str), required)
    for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
        for name, needed in _objects(schema, keyword).items():
            yield name
            yield from needed if isinstance(needed, list) else ()


def _objects(schema: JSONObject, keyword: str) -> JSONObject:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _if_short(schema: JSONObject) -> JSONObject:
    limit = {"maxLength": COSTLY_PATTERN_CHARS}
    return {"if": limit, "then": schema, "else": limit}


def _replaced(schema: JSONObject, steps: tuple[str, ...], inner: JSONObject) -> JSONObject:
    keyword, *rest = steps
    value: Any = inner
    if rest:
        value = schema[keyword].copy()
        value[int(rest[0]) if isinstance(value, list) else rest[0]] = inner
    return {**schema, keyword: value}


def _compiles(pattern: str, options: Any) -> bool:
    try:
        rs.validator_for({"pattern": pattern}, pattern_options=options)
    except (rs.ValidationError, ValueError):
        return False
    return True


def _cannot(pattern: str) -> str:
    return f"the pattern {pattern[:60]!r} is not a regular expression, or too large"
