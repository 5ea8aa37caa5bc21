"""Matching of a message with what a test expects, value by value.

An expected value is a value that must be equal; or a type, a compiled pattern or a callable that must accept the value;
or `...` for any value that is present; or None for one that is null or absent.  Objects match if the expected keys do,
at any depth; with `exactly` there must not be other keys.  The elements of an array match one by one.

As in JSON, `true` is not 1, and a whole number counts as a `float`: JavaScript writes 10.0 as 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from trackcore import Call, JSONObject, StoredMessage
from trackcore_testing.texts import ABSENT, as_text


@attrs.frozen
class Comparison:
    """The comparison of one value: its path in the message, both values as text, and whether they match."""

    path: str
    expected: str
    received: str
    matches: bool


@attrs.frozen(kw_only=True)
class Expectation:
    """The messages that a test looks for: those of a call whose fields match.

    Attributes:
        call: their call; None for any.
        fields: the expected values, by the names of fields on the wire.
        exactly: objects must not have other keys than the expected ones.
    """

    call: Call | None = None
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    exactly: bool = False

    def matches(self, message: JSONObject) -> bool:
        """Return whether a message matches."""
        return self.call in (None, message["type"]) and all(found.matches for found in self.compare(message))

    def compare(self, message: JSONObject) -> Iterator[Comparison]:
        """Yield the comparison of each value, in the order in which they are expected."""
        for name, expected in self.fields.items():
            yield from _compare(expected, message.get(name, ABSENT), name, exactly=self.exactly)


def matching(expectation: Expectation, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
    """Return the messages that match."""
    return [stored for stored in messages if expectation.matches(stored.message)]


def _compare(expected: Any, received: Any, path: str, *, exactly: bool) -> Iterator[Comparison]:
    if isinstance(expected, Mapping) and isinstance(received, dict):
        for name, value in expected.items():
            yield from _compare(value, received.get(name, ABSENT), f"{path}.{name}", exactly=exactly)
        for name in received.keys() - expected.keys() if exactly else ():
            yield Comparison(f"{path}.{name}", as_text(ABSENT), as_text(received[name]), matches=False)
    elif _is_array(expected) and isinstance(received, list) and len(expected) == len(received):
        for index, (value, found) in enumerate(zip(expected, received, strict=True)):
            yield from _compare(value, found, f"{path}[{index}]", exactly=exactly)
    else:
        failure = _mismatch(expected, received)
        yield Comparison(path, expected_text(expected), as_text(received) + (failure or ""), matches=failure is None)


def _mismatch(expected: Any, received: Any) -> str | None:
    """Return None if a value matches; else what there is to add about the received value, which may be nothing."""
    if expected is None:
        matches = received is None or received is ABSENT
    elif received is ABSENT or expected is ...:
        matches = received is not ABSENT
    elif isinstance(expected, bool | int | float):
        matches = isinstance(expected, bool) == isinstance(received, bool) and expected == received
    elif expected == received:
        matches = True
    elif isinstance(expected, re.Pattern):
        matches = isinstance(received, str) and expected.search(received) is not None
    elif isinstance(expected, type):
        matches = _is_instance(received, expected)
    else:
        return _refusal(expected, received) if callable(expected) else ""
    return None if matches else ""


def _is_instance(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind in (bool, object)
    return isinstance(value, kind) or (kind is float and isinstance(value, int))


def _refusal(accepts: Callable[[Any], object], value: Any) -> str | None:
    """Ask a callable; one that raises does not accept the value, since it may come from an unrelated message."""
    try:
        return None if accepts(value) else ""
    except Exception as error:  # noqa: BLE001 - the report names it
        return f"  ({type(error).__name__}: {error})"


def _is_array(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def expected_text(expected: Any) -> str:
    """Return an expected value as text."""
    if expected is ...:
        return "any value"
    if isinstance(expected, re.Pattern):
        return f"text that matches {expected.pattern!r}"
    if isinstance(expected, type):
        return _TYPES.get(expected, f"a value of type {expected.__name__}")
    if callable(expected):
        return f"a value that {getattr(expected, '__name__', repr(expected))} accepts"
    return as_text(expected)


_TYPES: Final[Mapping[type, str]] = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "an array",
    str: "a string",
}
