"""The text of a plan as JSON values: from JSON, TOML or YAML, with the line of a mistake in the syntax."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trackcore.plans import InvalidPlan, PlanMistake

MAX_BYTES = 15 * 1024 * 1024
"""The largest file of a plan."""

MAX_VALUES = 1_000_000
"""How many values a YAML file may have, with its references to anchors resolved."""

YAML_SUFFIXES = frozenset({".yaml", ".yml"})


def parse_text(text: str, name: str = "") -> list[Any]:
    """Return the documents in a text: one, but any number in YAML.  The end of the name tells TOML and YAML.

    Raises `InvalidPlan`.
    """
    suffix = Path(name).suffix.lower()
    try:
        if suffix == ".toml":
            return [_plain(tomllib.loads(text))]
        if suffix in YAML_SUFFIXES or not text.lstrip().startswith(("{", "[")):
            return [document for document in _yaml_documents(text) if document is not None]
        return [json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)]
    except json.JSONDecodeError as error:
        raise _invalid(name, f"is not JSON, at column {error.colno}: {error.msg}", error.lineno) from None
    except tomllib.TOMLDecodeError as error:
        raise _invalid(name, f"is not TOML: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _invalid(name, f"is not YAML: {error.problem}", None if mark is None else mark.line + 1) from None
    except (yaml.YAMLError, KeyError, ValueError, RecursionError) as error:
        raise _invalid(name, f"cannot be read: {error}") from None


def read_text(path: Path) -> str:
    """Return the text of a file.  Raises `InvalidPlan` if it is too large or not UTF-8, and `OSError`."""
    if path.stat().st_size > MAX_BYTES:
        raise _invalid(str(path), f"is larger than {MAX_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(str(path), f"is not UTF-8, at byte {error.start}") from None


def _invalid(name: str, detail: str, line: int | None = None) -> InvalidPlan:
    return InvalidPlan(file=name, mistakes=(PlanMistake(detail=detail, line=line),))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object.  A name that it has twice is a mistake that JSON would hide."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} is in one object twice")
        found[name] = value
    return found


def _plain(value: Any) -> Any:
    """Return a value of TOML as one of JSON: a date as its text."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _finite(str(value))
    return value if isinstance(value, str | int) else value.isoformat()


def _finite(text: str) -> float:
    """Return a number.  JSON has no infinite ones."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number of JSON")
    return number


def _yaml_documents(text: str) -> Iterator[Any]:
    loader = _Loader(text)
    while loader.check_node():
        node = loader.get_node()
        assert node is not None, "the loader has one more"
        _size(node, {})
        _check_names(node, set())
        yield loader.construct_document(node)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values there are in a value.  References to anchors can multiply a few lines into billions."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES  # so that a value that is in itself is too large
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        values = (value for item in inner for value in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(_size(value, known) for value in values)
    if known[id(node)] >= MAX_VALUES:
        raise yaml.MarkedYAMLError(problem="its references multiply too many values", problem_mark=node.start_mark)
    return known[id(node)]


def _check_names(node: yaml.Node, known: set[int]) -> None:
    """Raise `MarkedYAMLError` for a name that is in one object twice, or is not a text.

    A name of the object itself may be one of an object that is merged into it (`<<`): it counts.
    """
    if id(node) in known or not isinstance(node, yaml.CollectionNode):
        return
    known.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a name is not a text", problem_mark=key.start_mark)
            if key.value in names:
                detail = f"the name {key.value!r} is in one object twice"
                raise yaml.MarkedYAMLError(problem=detail, problem_mark=key.start_mark)
            names.add(key.value)
            _check_names(value, known)
        return
    for item in node.value:
        _check_names(item, known)


class _Loader(yaml.SafeLoader):
    """YAML with the values of JSON alone: dates and times are texts, `on` and `no` are texts, names are texts."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002
        """Build an object."""
        del deep
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}


_KEPT = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
_OF_JSON = ("null", "bool", "int", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, *(f"tag:yaml.org,2002:{name}" for name in _OF_JSON))
}
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: _finite(node.value))
