"""The validator of JSON Schemas, which the application passes in; and the bound on the cost of a schema.

Theory.  Messages come from strangers, so the time that a schema takes must have a bound.  A schema that refers to
itself can take time that doubles with each level of a message; so can references that branch.  Hence a reference must
lead to a place within the schema, never back to itself, and the schema may have at most `MAX_SUBSCHEMAS` parts when
every reference is replaced with its target.  The bound of a pattern is the concern of the compiler.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

import attrs

from trackcore.errors import TrackcoreError
from trackcore.plans.documents import subschemas
from trackcore.plans.locations import Location
from trackcore.typing import JSONObject

MAX_SUBSCHEMAS = 10_000
"""How many parts a schema may have, after references are resolved."""

LISTED_ITEMS = 50
"""How many values of an array are searched for errors, if any of them has one."""

_MAX_DEPTH = 100
"""How deeply schemas may be nested: a message is less deep."""


@attrs.frozen(kw_only=True)
class SchemaError:
    """One rule of a schema that a message breaks.

    `keyword` is that of JSON Schema, `location` that of the value, `expected` the value of the keyword.  `names` are
    the fields that are missing, or that may not be there.  `schema_location` is the place of the keyword in the schema.
    """

    keyword: str
    location: Location
    expected: Any = None
    names: tuple[str, ...] = ()
    schema_location: Location = ()


class SchemaValidator(Protocol):
    """Checks messages against one schema."""

    def __call__(self, message: JSONObject, /) -> Iterable[SchemaError]:
        """Return the errors of a message, nothing if it is valid.

        Of an invalid message there is at least one error.  Behind the first `LISTED_ITEMS` values of an array, and
        behind as many fields of an object that the schema does not name, errors need not be listed.
        """

    def is_valid(self, message: JSONObject, /) -> bool:
        """Return whether a message has no error, which may be faster than listing them."""


class SchemaCompiler(Protocol):
    """Makes the validator of a schema.  The time that a validator takes must have a bound, whatever the message."""

    def __call__(self, schema: JSONObject, /) -> SchemaValidator:
        """Return the validator of a schema.  Raises `InvalidSchema`."""


@attrs.define(kw_only=True, eq=False)
class InvalidSchema(TrackcoreError):
    """A JSON Schema cannot be used.  `steps` lead to the place in it."""

    detail: str
    steps: tuple[str, ...] = ()


def check_cost(schema: JSONObject) -> None:
    """Raise `InvalidSchema` if the time that a schema takes has no bound."""
    _Cost(schema).count(schema, (), frozenset())


def resolve(reference: object, root: JSONObject) -> JSONObject | None:
    """Return the schema that a `$ref` within `root` leads to, None if there is none."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    found: Any = root
    for step in reference.split("/")[1:]:
        found = _inside(found, unquote(step).replace("~1", "/").replace("~0", "~"))
    return found if isinstance(found, dict) else None


def applied_with(schema: JSONObject, root: JSONObject) -> Iterator[JSONObject]:
    """Yield a schema and all others that may apply to the same value: alternatives, conditions, references."""
    yield schema
    inner = [part for steps, part in subschemas(schema) if steps[0] in _SAME_VALUE]
    if (target := resolve(schema.get("$ref"), root)) is not None:
        inner.append(target)
    for part in inner:
        yield from applied_with(part, root)


_SAME_VALUE = frozenset({"allOf", "anyOf", "oneOf", "if", "then", "else", "dependencies", "dependentSchemas"})
_DYNAMIC = ("$dynamicRef", "$recursiveRef")
_DEFINITIONS = frozenset({"definitions", "$defs"})


def _inside(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return None


@attrs.define
class _Cost:
    """Counts the parts of a schema, those behind references as often as they are referred to."""

    _root: JSONObject
    _parts: int = attrs.field(init=False, default=0)

    def count(self, schema: JSONObject, steps: tuple[str, ...], within: frozenset[int]) -> None:
        """Count a schema and what is in it; `within` identifies the schemas around it."""
        self._parts += 1
        if id(schema) in within:
            raise InvalidSchema(detail="the schema refers to itself, so its cost has no bound", steps=steps)
        if self._parts > MAX_SUBSCHEMAS or len(within) > _MAX_DEPTH:
            raise InvalidSchema(
                detail=f"the schema has more than {MAX_SUBSCHEMAS} parts with its references resolved, "
                f"or more than {_MAX_DEPTH} levels",
                steps=steps,
            )
        inside = within | {id(schema)}
        for inner_steps, inner in subschemas(schema):
            if inner_steps[0] not in _DEFINITIONS:
                self.count(inner, steps + inner_steps, inside)
        self._count_reference(schema, steps, inside)

    def _count_reference(self, schema: JSONObject, steps: tuple[str, ...], within: frozenset[int]) -> None:
        for keyword in _DYNAMIC:
            if keyword in schema:
                raise InvalidSchema(detail=f"`{keyword}` is not supported", steps=(*steps, keyword))
        if "$ref" not in schema:
            return
        target = resolve(schema["$ref"], self._root)
        if target is None:
            detail = (
                f"there is no schema at {schema['$ref']!r}; only places within the schema (#/...) can be referred to"
            )
            raise InvalidSchema(detail=detail, steps=(*steps, "$ref"))
        self.count(target, (*steps, "$ref"), within)
