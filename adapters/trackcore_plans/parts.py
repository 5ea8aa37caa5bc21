"""Values in the file of a plan, each with its path, so that every mistake is reported with its place."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import Location, PlanMistake, location_text

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a text",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


@attrs.frozen
class Part:
    """A value in the file of a plan, its path, and the mistakes, to which it adds its own."""

    value: Any
    location: Location = ()
    mistakes: dict[PlanMistake, None] = attrs.field(factory=dict)

    @property
    def path(self) -> str:
        """The path, as in a message: `rules[3].jsonSchema`."""
        return location_text(self.location)

    def mistake(self, detail: str) -> None:
        """Add a mistake at this place, once."""
        self.mistakes.setdefault(PlanMistake(path=self.path, detail=detail))

    def has(self, name: str) -> bool:
        """Return whether an object has a field that is not null."""
        return isinstance(self.value, dict) and self.value.get(name) is not None

    def field(self, name: str) -> Part:
        """Return a field of an object; its value is None if it is missing."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        return Part(value, (*self.location, name), self.mistakes)

    def fields(self) -> Iterator[tuple[str, Part]]:
        """Yield the fields of an object."""
        if self._is(dict):
            yield from ((name, self.field(name)) for name in self.value)

    def items(self) -> Iterator[Part]:
        """Yield the items of an array."""
        if self._is(list):
            yield from (Part(item, (*self.location, at), self.mistakes) for at, item in enumerate(self.value))

    def object(self) -> JSONObject:
        """Return the object, an empty one with a mistake if it is something else."""
        return self.value if self._is(dict) else {}

    def text(self, default: str = "") -> str:
        """Return the text, a default if it is missing, and that with a mistake if it is something else."""
        return self.value if self.value is not None and self._is(str) else default

    def flag(self, *, default: bool) -> bool:
        """Return the boolean, a default if it is missing, and that with a mistake if it is something else."""
        return self.value if self.value is not None and self._is(bool) else default

    def number(self, default: int) -> int:
        """Return the whole number, a default if it is missing, and that with a mistake if it is something else."""
        if isinstance(self.value, float) and self.value.is_integer():
            return int(self.value)
        return self.value if self.value is not None and self._is(int) else default

    def allow(self, names: Collection[str]) -> None:
        """Add a mistake for each field of an object that has none of these names."""
        for name, part in self.fields():
            if name not in names:
                near = get_close_matches(name, names, n=1)
                part.mistake(f"unknown{f'; did you mean {near[0]!r}?' if near else f'; known are {_listed(names)}'}")

    def _is(self, kind: type) -> bool:
        if type(self.value) is kind:
            return True
        found = "nothing" if self.value is None else _KINDS.get(type(self.value), "something else")
        self.mistake(f"expected {_KINDS[kind]}, found {found}")
        return False


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
