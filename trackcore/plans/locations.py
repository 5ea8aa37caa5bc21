"""The place of a value in a message: as steps, as the text of a wire path, and a message without some of its places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, TypeAlias

from trackcore.text.jsontext import encode_json
from trackcore.typing import JSONObject

Location: TypeAlias = tuple[str | int, ...]
"""The names of fields and the indexes of arrays, from the outside to the inside."""

_PLAIN = re.compile(r"[^.\[\]\"\x00-\x1f]+")
_MISSING = object()
_ALL: Any = object()
_Tree: TypeAlias = dict[str | int, Any]


def location_text(location: Iterable[str | int]) -> str:
    """Return a location as a wire path: `properties.products[0].price`, `properties["a.b"]`."""
    return "".join(map(_step, location)).removeprefix(".")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN.fullmatch(step) else f"[{encode_json(step).decode()}]"


def has_value(value: Any, location: Sequence[str | int]) -> bool:
    """Return whether there is a value at a location."""
    return _at(value, location) is not _MISSING


def value_at(value: Any, location: Sequence[str | int]) -> Any:
    """Return the value at a location, None if there is none."""
    found = _at(value, location)
    return None if found is _MISSING else found


def without(message: JSONObject, locations: Iterable[Location]) -> JSONObject:
    """Return a message without the values at some locations.  The message itself does not change."""
    tree: _Tree = {}
    for location in locations:
        *outer, last = location
        node = reduce(lambda node, step: node if node is _ALL else node.setdefault(step, {}), outer, tree)
        if node is not _ALL:
            node[last] = _ALL
    found: JSONObject = _without(message, tree)
    return found


def _at(value: Any, location: Iterable[str | int]) -> Any:
    for step in location:
        is_there = step in value if isinstance(value, dict) else isinstance(value, list) and _is_index(step, value)
        if not is_there:
            return _MISSING
        value = value[step]
    return value


def _is_index(step: str | int, items: list[Any]) -> bool:
    return isinstance(step, int) and 0 <= step < len(items)


def _without(value: Any, tree: _Tree) -> Any:
    """Return a value without what a tree of steps leads to, whose ends are `_ALL`."""
    if isinstance(value, dict):
        return {name: _kept(item, tree.get(name)) for name, item in value.items() if tree.get(name) is not _ALL}
    if isinstance(value, list):
        return [_kept(item, tree.get(at)) for at, item in enumerate(value) if tree.get(at) is not _ALL]
    return value


def _kept(value: Any, tree: _Tree | None) -> Any:
    return value if tree is None else _without(value, tree)
