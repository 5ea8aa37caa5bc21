"""A configuration without its mistakes, in which the checks across settings can find more of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from trackcore import JSONObject

_PLACE = re.compile(r"\w+(?:\[\d+\])?")
"""The table in which a setting is, or the item of an array of tables: `server`, `sources[0]`."""


def without_mistakes(document: JSONObject, paths: Sequence[str]) -> JSONObject:
    """Return a document without the tables that the paths lead into.

    An item of an array stays with nothing but its name, so that others may refer to it, and keep their numbers.
    """
    places = {_place_of(path) for path in paths}
    sound = {name: _sound_items(name, value, places) for name, value in document.items() if name not in places}
    if "destinations" in places and "sources" in sound:
        sound["sources"] = [{**source, "destinations": []} for source in sound["sources"]]
    return sound


def is_within(path: str, places: Sequence[str]) -> bool:
    """Return whether a path leads into the table, or the item of an array, of one of the others."""
    return _place_of(path) in {_place_of(place) for place in places}


def _sound_items(name: str, value: Any, places: AbstractSet[str]) -> Any:
    if not isinstance(value, list):
        return value
    return [{"name": _name_of(item)} if f"{name}[{index}]" in places else item for index, item in enumerate(value)]


def _place_of(path: str) -> str:
    match = _PLACE.match(path)
    return "" if match is None else match[0]


def _name_of(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else ""
