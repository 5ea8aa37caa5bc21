"""Persons: whose message it is, whose messages are not kept, and a message without them.

A person is known by a user id or an anonymous id.  A message is theirs if it has the id, or if it is an alias from it:
`previousId` may be either kind of id.  Of a rejected body only the messages of the person are theirs; one that is not
JSON is theirs as a whole if it has the id as a string.

A list of suppressed persons has no ids, only their keyed digests: nobody is to be remembered for being forgotten.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, get_args

import attrs
import msgspec

from trackcore.text.jsontext import encode_json, replace_surrogates
from trackcore.typing import JSONObject

SubjectKind: TypeAlias = Literal["user", "anonymous"]
SUBJECT_KINDS: tuple[SubjectKind, ...] = get_args(SubjectKind)

_KINDS_OF_FIELDS: dict[str, tuple[SubjectKind, ...]] = {
    "userId": ("user",),
    "user_id": ("user",),
    "anonymousId": ("anonymous",),
    "anonymous_id": ("anonymous",),
    "previousId": SUBJECT_KINDS,
    "previous_id": SUBJECT_KINDS,
}
_DIGEST_BYTES = 16
_PSEUDONYM_DIGITS = 32
_LEAST_SALT = 16

_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)


@attrs.frozen
class Subject:
    """A person, by one id.

    >>> Subject("user", "42").is_in({"type": "track", "userId": "42", "event": "Paid"})
    True
    """

    kind: SubjectKind = attrs.field(validator=attrs.validators.in_(SUBJECT_KINDS))
    id: str = attrs.field(validator=attrs.validators.min_len(1))

    def is_in(self, message: JSONObject) -> bool:
        """Return whether a message is of this person."""
        return self in subjects_of(message)

    def pseudonym(self, key: bytes) -> str:
        """Return the text that replaces the id where events are kept."""
        digest = hmac.digest(key, f"{self.kind}\0{self.id}".encode("utf-8", "surrogatepass"), "sha256")
        return f"forgotten-{digest.hex()[:_PSEUDONYM_DIGITS]}"


def subjects_of(message: JSONObject) -> Iterator[Subject]:
    """Yield the persons of a message, also of one that was rejected."""
    is_alias = message.get("type") in (None, "alias")
    for name, kinds in _KINDS_OF_FIELDS.items():
        value = message.get(name) if is_alias or kinds is not SUBJECT_KINDS else None
        if value.__class__ is int or value.__class__ is msgspec.Raw:
            value = bytes(value).decode() if value.__class__ is msgspec.Raw else str(value)
        if value.__class__ is str and value:
            yield from (Subject(kind, value) for kind in kinds)


@attrs.frozen(kw_only=True)
class Suppressions:
    """The persons whose messages are not kept, of all sources or of one: digests with a salt of at least 16 bytes."""

    salt: bytes = attrs.field(default=b"", repr=False)
    digests: frozenset[bytes] = frozenset()
    scopes: frozenset[str] = frozenset({""})
    """The sources for which somebody is suppressed; the empty name is all of them."""

    def __bool__(self) -> bool:
        return bool(self.digests)

    def covers(self, source: str | None, subjects: Iterable[Subject]) -> bool:
        """Return whether messages of one of these persons, from this source, are not kept."""
        if not self.digests:
            return False
        scopes = [scope for scope in self.scopes if scope in ("", source)]
        return any(digest_of(self.salt, subject, scope) in self.digests for subject in subjects for scope in scopes)


def digest_of(salt: bytes, subject: Subject, scope: str = "") -> bytes:
    """Return the digest of a person, for all sources or for one."""
    assert len(salt) >= _LEAST_SALT, "a digest without a salt could be found by trying ids"
    text = f"{scope}\0{subject.kind}\0{subject.id}".encode("utf-8", "surrogatepass")
    return blake2b(text, key=salt, digest_size=_DIGEST_BYTES).digest()


def without_messages(text: bytes, is_theirs: Callable[[Iterator[Subject]], bool]) -> bytes | None:
    """Return a body, or a message as received, without the messages of some persons; None if nothing is left.

    A text that has none of their messages is returned as it is.  One that is not JSON cannot be taken apart: see
    `quoted_in`.  Raises `ValueError` for it.
    """
    value = _parsed(text)
    left = _without(value, is_theirs)
    if left is _NOTHING:
        return None
    return text if left == value else encode_json(left)


def subjects_in_text(text: bytes) -> Iterator[Subject]:
    """Yield the persons of a text that is not JSON, by the names of its fields."""
    for name, value in _ID_FIELD.findall(text):
        try:
            found = msgspec.json.decode(b'"%b"' % value, type=str)
        except (msgspec.MsgspecError, UnicodeError):
            continue
        if found:
            yield from (Subject(kind, found) for kind in _KINDS_OF_FIELDS[name.decode()])


def quoted_in(text: bytes, subjects: Iterable[Subject]) -> bool:
    """Return whether one of the ids is in a text, as it is or as JSON escapes it."""
    return any(form in text for subject in subjects for form in id_forms(subject.id))


def id_forms(text: str) -> frozenset[bytes]:
    """Return the ways in which SDKs write an id: as it is, and as JSON escapes it, in ASCII alone or not."""
    utf8 = text.encode("utf-8", "replace")
    plain = encode_json(utf8.decode("utf-8"))[1:-1]
    ascii_only = "".join(
        character if character.isascii() else "".join(f"\\u{unit:04x}" for unit in _utf16(character))
        for character in plain.decode()
    ).encode()
    return frozenset({utf8, plain, ascii_only, ascii_only.replace(b"/", rb"\/")})


def pseudonymized(message: JSONObject, names: dict[Subject, str]) -> JSONObject:
    """Return a message in which the ids of persons are replaced, without traits and address.

    Each text that is such an id is replaced, wherever it is.
    """
    texts = {subject.id: name for subject, name in names.items()}
    kept: JSONObject = {name: value for name, value in message.items() if name != "traits"}
    context = kept.get("context")
    if context.__class__ is dict:
        kept["context"] = {name: value for name, value in context.items() if name not in ("ip", "traits")}
    replaced: JSONObject = _replaced(kept, texts)
    return replaced


def _parsed(text: bytes) -> Any:
    for candidate in (text, replace_surrogates(text)):
        try:
            return _digits_kept.decode(candidate)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
            continue
    raise ValueError("not JSON")


def _without(value: Any, is_theirs: Callable[[Iterator[Subject]], bool]) -> Any:
    if value.__class__ is list:
        items = [item for item in (_without(one, is_theirs) for one in value) if item is not _NOTHING]
        return items if items or not value else _NOTHING
    if value.__class__ is not dict:
        return value
    if is_theirs(subjects_of(value)):
        return _NOTHING
    batch = value.get("batch")
    if batch.__class__ not in (list, dict):
        return value
    left = _without(batch, is_theirs)
    return _NOTHING if left is _NOTHING else value | {"batch": left}


def _replaced(value: Any, texts: dict[str, str]) -> Any:
    if value.__class__ is dict:
        return {name: _replaced(inner, texts) for name, inner in value.items()}
    if value.__class__ is list:
        return [_replaced(item, texts) for item in value]
    return texts.get(value, value) if value.__class__ is str else value


def _utf16(character: str) -> Iterator[int]:
    units = character.encode("utf-16-be", "surrogatepass")
    yield from (int.from_bytes(units[place : place + 2]) for place in range(0, len(units), 2))


_ID_FIELD = re.compile(rb'"(%b)"\s*+:\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"' % "|".join(_KINDS_OF_FIELDS).encode())
_NOTHING = object()
