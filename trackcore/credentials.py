"""Sources and their write keys: reading a key from a request, and finding its source.

A write key sits in web pages and apps, so it identifies rather than protects; still it is looked up by its digest and
compared in constant time, and shown only masked.
Source: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#authentication
"""

from __future__ import annotations

import binascii
import hmac
import re
import unicodedata
from collections.abc import Iterable, Mapping
from hashlib import sha256

import attrs

from trackcore.typing import WriteKey


def _as_write_keys(keys: Iterable[str]) -> tuple[WriteKey, ...]:
    if isinstance(keys, str):  # an iterable of text as well: each of its letters would be a write key
        raise TypeError("write_keys is a list of write keys, not one write key")
    return tuple(map(WriteKey, keys))


def write_key_fault(key: object) -> str | None:
    """Return the reason why no request can carry a write key, without quoting it; None if one can."""
    if not isinstance(key, str):
        return "a write key is a string"
    faults = {
        "a write key cannot be empty": not key,
        "a write key cannot have white space around it": key != key.strip(),
        "a write key cannot have a colon: Basic authentication ends it there": ":" in key,
        "'***' is how SDKs mask a write key, so it cannot be one": key == _MASK,
        "a write key cannot have characters that do not show": any(unicodedata.category(c) in _NOT_SHOWN for c in key),
    }
    return next((fault for fault, holds in faults.items() if holds), None)


def _check_write_keys(_: object, __: object, keys: tuple[WriteKey, ...]) -> None:
    for place, key in enumerate(keys):
        if (fault := write_key_fault(key)) is not None:
            raise ValueError(f"write_keys[{place}]: {fault}")


def mask_write_key(key: WriteKey) -> str:
    """Return enough of a write key to recognize one's own, and not enough to use it."""
    return f"{key[:_SHOWN]}…" if len(key) >= 3 * _SHOWN else "…"


def _masked(keys: Iterable[WriteKey]) -> str:
    return repr(tuple(map(mask_write_key, keys)))


@attrs.frozen(kw_only=True)
class Source:
    """An origin of messages: a site, an app, a server.

    `destinations` names those that may receive its messages, None means all.  A strict source answers a rejected
    message with 400 and is meant for tests.  One without write keys accepts messages made in process only.  Each
    message of a source that is not `enabled` is rejected.
    Raises `ValueError` for a write key of a form that no request can carry.
    """

    name: str
    write_keys: tuple[WriteKey, ...] = attrs.field(
        default=(), converter=_as_write_keys, validator=_check_write_keys, repr=_masked
    )
    strict: bool = False
    destinations: tuple[str, ...] | None = None
    enabled: bool = True


def _as_sources(sources: Iterable[Source]) -> tuple[Source, ...]:
    return tuple(sources)


@attrs.frozen
class SourceRegistry:
    """All sources, found by write key."""

    sources: tuple[Source, ...] = attrs.field(converter=_as_sources)
    _by_digest: Mapping[bytes, tuple[bytes, Source]] = attrs.field(init=False, repr=False)

    @_by_digest.default
    def _index(self) -> Mapping[bytes, tuple[bytes, Source]]:
        index: dict[bytes, tuple[bytes, Source]] = {}
        names = set()
        for source in self.sources:
            if source.name in names:
                raise ValueError(f"two sources are named {source.name!r}")
            names.add(source.name)
            for key in map(_key_bytes, source.write_keys):
                digest = sha256(key).digest()
                if digest in index:
                    raise ValueError(f"a write key of {source.name!r} already belongs to {index[digest][1].name!r}")
                index[digest] = key, source
        return index

    def find(self, write_key: WriteKey | None) -> Source | None:
        """Return the source of a write key.  Timing can leak only the digest, not the key."""
        if write_key is None:
            return None
        given = _key_bytes(write_key)
        key, source = self._by_digest.get(sha256(given).digest(), (b"", None))
        return source if hmac.compare_digest(given, key) else None

    def by_name(self, name: str) -> Source | None:
        """Return the source of that name."""
        return next((source for source in self.sources if source.name == name), None)


def write_key_from_authorization(header: str | None) -> WriteKey | None:
    """Read the user name of HTTP Basic authentication, where SDKs put the write key.

    Accepts the forms that clients send: `key:` and the bare `key` (Segment's own page showed both), base64 without
    padding or in its URL-safe alphabet, any case of "Basic", extra spaces.  None for anything else, Bearer included.
    """
    scheme, _, encoded = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    encoded = encoded.strip().rstrip("=").translate(_STANDARD_ALPHABET)
    try:
        decoded = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return write_key(decoded.partition(":")[0])


def write_key(value: object) -> WriteKey | None:
    """Return a value from a header, a query or a body as a write key, stripped; None when it cannot be one."""
    if not isinstance(value, str):
        return None
    key = value.strip()  # `echo KEY | base64` and files of secrets add a line break
    return WriteKey(key) if key and key.rpartition(":")[2] != _MASK else None


def key_in_broken_body(body: bytes) -> WriteKey | None:
    """Return the write key in a body that may not even be JSON, such as one with NaN from a Python SDK.

    The last one counts, as in JSON; in a batch it is that of the envelope or of the last message.
    """
    found = _WRITE_KEY.findall(body)
    return write_key(found[-1].decode("utf-8", "replace")) if found else None


_WRITE_KEY = re.compile(rb'"writeKey"\s*:\s*"([^"\\]{1,200})"')
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_MASK = "***"  # Jitsu writes `***` or `id:***` into the body; the key itself is in a header
_SHOWN = 4
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


def _key_bytes(key: WriteKey) -> bytes:
    return key.encode("utf-8", "surrogatepass")
