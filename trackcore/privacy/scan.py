"""The search for likely personal data in messages, by the names of fields and by their values: counts, never values.

The names are those of Segment's Privacy Portal: a name counts if it has one of them as a word, or is similar to it
(Dice coefficient of their pairs of letters above 0.7).  Fields that trackcore reads itself are examined by value alone,
as are those in `context` outside of its traits and its `ip`, whose names the specification defines.
Source: https://segment.com/docs/privacy/portal/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import attrs

from trackcore.messages import FIELDS
from trackcore.text.addresses import canonical_address
from trackcore.typing import JSONObject

RED = "red"
YELLOW = "yellow"

_RED_NAMES = ("ssn", "password", "visa", "veteran", "disability", "credit card", "passport", "token")
_YELLOW_NAMES = (
    *("race", "birthdate", "phone", "address", "gender", "ethnicity", "citizenship", "name", "street", "city"),
    *("zipcode", "email", "certificate", "license", "identification", "serial", "ip", "photo", "salary", "religion"),
    *("mac", "sex", "sexual orientation", "medication", "allergy", "condition", "diagnosis", "procedure"),
)
_LEVELS = dict.fromkeys(_RED_NAMES, RED) | dict.fromkeys(_YELLOW_NAMES, YELLOW)
_LEVELS_OF_VALUES = {"email": YELLOW, "card": RED, "iban": RED, "ip": YELLOW, "token": RED}

_SIMILAR = 0.7
_SHORT = 4
"""A name of so few letters is found as a word only: too many words are similar to it."""

_MOST_PATHS = 10_000
_MOST_CHARS = 1_000
"""How much of a text is examined."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}")
_TOKEN = re.compile(
    r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*|\b(?:sk|pk|rk)_(?:live|test)_\w{10,}|\bgh[pousr]_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bxox[abprs]-[\w-]{10,}|\b[Bb]earer +[\w.~+/-]{16,}"
)
_CARD = re.compile(r"[3-6]\d{3}(?:[ -]?\d){8,15}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_NAMES_READ = frozenset(field.wire_name for fields in FIELDS.values() for field in fields) | {"type"}
_NO_VALUES = frozenset({"messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt", "type"})


@attrs.frozen(kw_only=True)
class Finding:
    """A field that likely has personal data: by its "name" or its "value", and in how many places it was found.

    `level` is that of the Privacy Portal.  The path has no indexes of arrays.
    """

    path: str
    kind: str
    level: str
    by: str
    count: int


@attrs.define
class PiiScan:
    """The findings in the messages that were added.  Memory is bounded: of very many paths, later ones count as `*`."""

    messages: int = attrs.field(init=False, default=0)
    _counts: Counter[tuple[str, str, str, str]] = attrs.field(init=False, factory=Counter)

    def add(self, message: JSONObject) -> None:
        """Examine a message."""
        self.messages += 1
        for path, name, value in _fields(message, ""):
            if _is_named_freely(path) and value not in (None, "") and (kind := kind_of_name(name)) is not None:
                self._count(path, kind, _LEVELS[kind], "name")
            if path not in _NO_VALUES and (kind := kind_of_value(name, value)) is not None:
                self._count(path, kind, _LEVELS_OF_VALUES[kind], "value")

    def findings(self) -> list[Finding]:
        """Return what was found, red before yellow, the most frequent first."""
        found = [
            Finding(path=path, kind=kind, level=level, by=by, count=count)
            for (path, kind, level, by), count in self._counts.items()
        ]
        return sorted(found, key=lambda one: (one.level != RED, -one.count, one.path, one.by))

    def _count(self, path: str, *others: str) -> None:
        key = (path, *others)
        if key not in self._counts and len(self._counts) >= _MOST_PATHS:
            key = ("*", *others)
        self._counts[key] += 1  # type: ignore[index]


def kind_of_name(name: str) -> str | None:
    """Return which kind of personal data a field of this name likely has."""
    return _kind_of_name(name) if len(name) <= _MOST_CHARS else None


@lru_cache(maxsize=10_000)
def _kind_of_name(name: str) -> str | None:
    words = [word.lower() for word in _WORDS.findall(name)]
    text = "".join(words)
    for kind in _LEVELS:
        folded = kind.replace(" ", "")
        if folded in words or folded == text or (len(folded) > _SHORT and _dice(text, folded) > _SIMILAR):
            return kind
    return None


def kind_of_value(name: str, value: Any) -> str | None:
    """Return which kind of personal data a value likely is."""
    if value.__class__ is int:
        value = str(value)
    if value.__class__ is not str:
        return None
    text = value[:_MOST_CHARS].strip()
    if "@" in text and _EMAIL.search(text):
        return "email"
    if _CARD.fullmatch(text) and _passes_luhn(re.sub(r"\D", "", text)):
        return "card"
    if _IBAN.fullmatch(text) and _passes_mod_97(text.replace(" ", "")):
        return "iban"
    if _TOKEN.search(text):
        return "token"
    return "ip" if "version" not in name.lower() and canonical_address(text) is not None else None


def _fields(value: Any, path: str, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the path, the name and the value of each field that is not an object or an array."""
    if value.__class__ is dict:
        for key, inner in value.items():
            yield from _fields(inner, f"{path}.{key}" if path else key, key)
    elif value.__class__ is list:
        for item in value:
            yield from _fields(item, path, name)
    else:
        yield path, name, value


def _is_named_freely(path: str) -> bool:
    if path.startswith("context."):
        return path == "context.ip" or path.startswith("context.traits.")
    return path not in _NAMES_READ


def _dice(one: str, other: str) -> float:
    pairs, others = (Counter(text[place : place + 2] for place in range(len(text) - 1)) for text in (one, other))
    total = pairs.total() + others.total()
    return 2 * (pairs & others).total() / total if total else 0.0


def _passes_luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0  # noqa: PLR2004 - the digits of a number


def _passes_mod_97(iban: str) -> bool:
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1
