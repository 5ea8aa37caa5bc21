"""Masks: named fields of a message that are dropped, hashed or truncated.

A field is named by its path, as in `traits.email`: `*` is any one name, `**` any number of names, also none.  Arrays
have no level of their own: `properties.products.price` is the price of each product.

A mask changes the free-form parts and the fields that the API does not know.  The fields that trackcore reads stay:
ids, times, type and name of a message, `integrations`, and the consent in the context.  Otherwise a masked message
could lose its user, or be routed to a destination that the message excludes.  So no mask adds a field or a destination.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import attrs
import msgspec
from attrs import validators

from trackcore.messages import FIELDS
from trackcore.text.jsontext import encode_json
from trackcore.typing import JSONObject

DROP_FIELD = "drop"
HASH_FIELD = "hash"
TRUNCATE_FIELD = "truncate"
MASK_ACTIONS = (DROP_FIELD, HASH_FIELD, TRUNCATE_FIELD)

_FREE_FORM = frozenset({"context", "properties", "traits"})
_READ = frozenset(field.wire_name for fields in FIELDS.values() for field in fields) | {"type", "writeKey", "batch"}
PROTECTED = frozenset({(name,) for name in _READ} - {(name,) for name in _FREE_FORM}) | {
    ("context", "consent"),
    ("context", "consentManagement"),
}
"""The paths that no mask changes, nor anything below them."""

_LONGEST_PROTECTED = 2
_ANY = "*"
_ANY_DEPTH = "**"
_HASHED = re.compile(r"hmac-sha256:[0-9a-f]{64}")
_DROPPED = object()

_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)

Pattern: TypeAlias = tuple[str, ...]


def _as_fields(fields: Iterable[str]) -> tuple[str, ...]:
    if isinstance(fields, str):  # an iterable of text as well: each of its letters would be a field
        raise TypeError("fields is a list of paths, not one path")
    return tuple(fields)


def _check_fields(_: object, __: object, fields: tuple[str, ...]) -> None:
    if not fields:
        raise ValueError("expected at least one path")
    for field in fields:
        names = tuple(field.split("."))
        if not all(names):
            raise ValueError(f"{field!r} is not a path, such as 'traits.email' or '**.password'")
        for protected in PROTECTED:
            if names[: len(protected)] == protected:
                raise ValueError(f"{field!r} cannot be masked: trackcore reads `{'.'.join(protected)}` itself")


def _check_action(_: object, __: object, action: str) -> None:
    if action not in MASK_ACTIONS:
        raise ValueError(f"expected one of {', '.join(map(repr, MASK_ACTIONS))}")


@attrs.frozen(kw_only=True)
class FieldMask:
    """The treatment of some fields.

    "drop" removes them.  "hash" replaces each text, number and boolean in them by a keyed HMAC-SHA-256, and "truncate"
    leaves the first `length` characters of each text and removes other values.  Null stays null.
    Raises `ValueError` for a path that cannot be masked, and for "hash" without a key.
    """

    fields: tuple[str, ...] = attrs.field(converter=_as_fields, validator=_check_fields)
    action: str = attrs.field(validator=_check_action)
    length: int = attrs.field(default=1, validator=validators.ge(0))
    key: bytes = attrs.field(default=b"", repr=False)
    _patterns: tuple[Pattern, ...] = attrs.field(init=False, repr=False, eq=False)
    _needles: tuple[bytes, ...] = attrs.field(init=False, repr=False, eq=False)

    @key.validator
    def _check_key(self, _: object, key: bytes) -> None:
        if self.action == HASH_FIELD and not key:
            raise ValueError("a hash needs a key")

    @_patterns.default
    def _split(self) -> tuple[Pattern, ...]:
        return tuple(tuple(field.split(".")) for field in self.fields)

    @_needles.default
    def _last_names(self) -> tuple[bytes, ...]:
        last = [pattern[-1] for pattern in self._patterns]
        return () if {_ANY, _ANY_DEPTH} & set(last) else tuple(map(encode_json, last))

    def may_be_in(self, text: bytes) -> bool:
        """Return whether a message, as JSON text without needless escapes, may have one of the fields."""
        return not self._needles or any(needle in text for needle in self._needles)

    def apply(self, message: JSONObject) -> JSONObject:
        """Return a message without what is masked.  The argument is not changed."""
        masked: JSONObject = self._within(message, (), self._patterns)
        return masked

    def _within(self, value: Any, path: Pattern, patterns: Sequence[Pattern]) -> Any:
        """Mask the fields of a value; `patterns` are what is left of those that lead to it."""
        if value.__class__ is list:
            return [self._within(item, path, patterns) for item in value]
        if value.__class__ is not dict:
            return value
        fields = {}
        for name, inner in value.items():
            here = (*path, name) if len(path) < _LONGEST_PROTECTED else path
            left = _after(patterns, name)
            if not left or (here in PROTECTED and len(path) < _LONGEST_PROTECTED):
                fields[name] = inner
                continue
            # Nothing is left of a pattern that leads to this field itself.
            masked = self._masked(inner) if () in left else self._within(inner, here, left)
            if masked is not _DROPPED:
                fields[name] = masked
        return fields

    def _masked(self, value: Any) -> Any:
        if self.action == DROP_FIELD:
            return _DROPPED
        if value.__class__ is list:
            return [item for item in map(self._masked, value) if item is not _DROPPED]
        if value.__class__ is dict:
            masked = {name: self._masked(inner) for name, inner in value.items()}
            return {name: inner for name, inner in masked.items() if inner is not _DROPPED}
        if value is None:
            return None
        if self.action == HASH_FIELD:
            return self._hash(value)
        return value[: self.length] if value.__class__ is str else _DROPPED

    def _hash(self, value: Any) -> str:
        """Return the hash of a value; that of a text which is a hash already is itself."""
        if value.__class__ is str and _HASHED.fullmatch(value):
            return str(value)
        text = value.encode() if value.__class__ is str else encode_json(value)
        return f"hmac-sha256:{hmac.digest(self.key, text, 'sha256').hex()}"


def _after(patterns: Iterable[Pattern], name: str) -> list[Pattern]:
    """Return what is left of the patterns behind a field of this name; none of one that does not lead there."""
    left: list[Pattern] = []
    for pattern in patterns:
        first, rest = pattern[0], pattern[1:]
        if first == _ANY_DEPTH:
            left += [pattern] if rest else [()]
            if rest:
                left += _after([rest], name)
        elif first in (_ANY, name):
            left.append(rest)
    return left


def apply_masks(masks: Sequence[FieldMask], payload: bytes) -> bytes:
    """Return a stored message without what is masked; one that has none of the fields is returned as it is."""
    needed = [mask for mask in masks if mask.may_be_in(payload)]
    if not needed:
        return payload
    before = message = _digits_kept.decode(payload)
    for mask in needed:
        message = mask.apply(message)
    return payload if message == before else encode_json(message)
