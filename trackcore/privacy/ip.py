"""The rule for addresses of a source: kept, truncated, hashed or dropped, before anything is stored.

It holds for the address of the connection, and for the `context.ip` that a client sends itself.  An IPv4 address that
is mapped into IPv6 is treated as IPv4, and a zone is stripped.  In the forms other than "keep", a value that is not an
address is dropped: it may be one in a form that is not known here.

A hash is keyed, and its salt is the number of the period in which the message was received.  So equal addresses have
equal hashes within a period and not beyond; without the key no hash can be found again by trying all addresses.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, MutableSequence, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from ipaddress import IPv6Address
from typing import Any, Protocol

import attrs
import msgspec
from attrs import validators

from trackcore.text.addresses import canonical_address
from trackcore.text.jsontext import encode_json, raw_fields
from trackcore.text.timetext import EPOCH
from trackcore.typing import JSONObject

KEEP = "keep"
TRUNCATE = "truncate"
HASH = "hash"
DROP = "drop"
IP_MODES = (KEEP, TRUNCATE, HASH, DROP)
"""From the one that keeps the most to the one that keeps nothing."""

_V4_BITS = 32
_V6_BITS = 128
_SIX_TO_FOUR_BITS = 16
_HASH_DIGITS = 32
_HASHED = re.compile(rf"ip-[0-9a-f]{{{_HASH_DIGITS}}}")


def _check_mode(_: object, __: object, mode: str) -> None:
    if mode not in IP_MODES:
        raise ValueError(f"expected one of {', '.join(map(repr, IP_MODES))}")


class _HasContext(Protocol):
    """A message whose context is JSON text."""

    context: msgspec.Raw


@attrs.frozen(kw_only=True)
class IpRule:
    """The part of an address that is kept.

    "truncate" keeps the first `ipv4_bits` or `ipv6_bits`.  "hash" needs a `key`, and its salt changes after each
    `rotate`.  Raises `ValueError` for "hash" without a key.
    """

    mode: str = attrs.field(default=KEEP, validator=_check_mode)
    ipv4_bits: int = attrs.field(default=24, validator=[validators.ge(0), validators.le(_V4_BITS)])
    ipv6_bits: int = attrs.field(default=48, validator=[validators.ge(0), validators.le(_V6_BITS)])
    rotate: timedelta = attrs.field(default=timedelta(days=1), validator=validators.gt(timedelta()))
    key: bytes = attrs.field(default=b"", repr=False)
    _stored: Callable[[str, bytes], str | None] = attrs.field(init=False, repr=False, eq=False)
    _changes: Callable[[bytes], Callable[[str], tuple[bytes, bytes]]] = attrs.field(init=False, repr=False, eq=False)

    @key.validator
    def _check_key(self, _: object, key: bytes) -> None:
        if self.mode == HASH and not key:
            raise ValueError("a hash needs a key")

    @_stored.default
    def _with_cache(self) -> Callable[[str, bytes], str | None]:
        return lru_cache(maxsize=_CACHED)(self._compute)

    @_changes.default
    def _changes_with_cache(self) -> Callable[[bytes], Callable[[str], tuple[bytes, bytes]]]:
        def of_salt(salt: bytes) -> Callable[[str], tuple[bytes, bytes]]:
            return lru_cache(maxsize=_CACHED)(partial(self._compute_change, salt=salt))

        return lru_cache(maxsize=_SALTS_CACHED)(of_salt)  # a cache with one argument is faster than one with two

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is changed."""
        return self.mode == KEEP

    def salt_at(self, received_at: datetime) -> bytes:
        """Return the salt for messages received at a time; empty unless addresses are hashed."""
        return b"%d" % ((received_at - EPOCH) // self.rotate) if self.mode == HASH else b""

    def apply(self, address: str | None, salt: bytes) -> str | None:
        """Return what is kept of an address, None if nothing is.  A result of the rule stays as it is."""
        if address is None or self.mode == KEEP:
            return address
        return None if self.mode == DROP else self._stored(address, salt)

    def apply_to_contexts(
        self, messages: Sequence[_HasContext], contexts: MutableSequence[JSONObject | None], salt: bytes
    ) -> None:
        """Apply the rule to the `ip` in each of the contexts, which are those of the messages, decoded."""
        change_of = self._changes(salt)
        for row, context in enumerate(contexts):
            if not context or "ip" not in context:
                continue
            message, address = messages[row], context["ip"]
            text = bytes(message.context)
            if address.__class__ is str and text.count(_NAME) == 1:
                # Usually the name is in the text once, so its value is behind it.
                before, after = change_of(address)
                changed = text.replace(before, after)
                if changed is not text:
                    message.context = msgspec.Raw(changed)
                    if not after:
                        contexts[row] = _without_ip(context)
                    continue
            text, contexts[row] = self.apply_in_context(text, context, salt)
            message.context = msgspec.Raw(text)

    def apply_in_context(self, text: bytes, context: JSONObject, salt: bytes) -> tuple[bytes, JSONObject]:
        """Return a context, which has an `ip`, with what is kept of it, as text and decoded."""
        kept = self.value_of(context["ip"], salt)
        fields = raw_fields.decode(text)
        if kept is None:
            del fields["ip"]
            return encode_json(fields), _without_ip(context)
        fields["ip"] = msgspec.Raw(encode_json(kept))
        return encode_json(fields), context

    def value_of(self, value: Any, salt: bytes) -> str | None:
        """Return what is kept of the value of an `ip`, None if nothing is."""
        return self.apply(value, salt) if value.__class__ is str else None

    def _compute_change(self, address: str, salt: bytes) -> tuple[bytes, bytes]:
        """Return the field of an address as JSON text, before and after; behind another field if nothing is kept."""
        kept = self.apply(address, salt)
        field = b'"ip":%b' % encode_json(address)
        return (b"," + field, b"") if kept is None else (field, b'"ip":%b' % encode_json(kept))

    def _compute(self, text: str, salt: bytes) -> str | None:
        if self.mode == TRUNCATE and (match := _PLAIN_IPV4.fullmatch(text)):
            return _cut_ipv4(match, self.ipv4_bits)
        if _HASHED.fullmatch(text):
            return text if self.mode == HASH else None
        address = canonical_address(text)
        if address is None:
            return None
        if self.mode == HASH:
            return f"ip-{hmac.digest(self.key, salt + b' ' + address.encode(), 'sha256').hex()[:_HASH_DIGITS]}"
        return self._truncated(address)

    def _truncated(self, text: str) -> str:
        match = _PLAIN_IPV4.fullmatch(text)
        if match is not None:
            return _cut_ipv4(match, self.ipv4_bits)
        address = IPv6Address(text)
        # An address of 6to4 has an IPv4 address behind its first 16 bits.
        most = _V6_BITS if address.sixtofour is None else _SIX_TO_FOUR_BITS + self.ipv4_bits
        dropped = _V6_BITS - min(self.ipv6_bits, most)
        return str(IPv6Address(int(address) >> dropped << dropped))


def _cut_ipv4(match: re.Match[str], bits: int) -> str:
    first, second, third, fourth = map(int, match.groups())
    dropped = _V4_BITS - bits
    kept = (first << 24 | second << 16 | third << 8 | fourth) >> dropped << dropped
    return f"{kept >> 24}.{kept >> 16 & 255}.{kept >> 8 & 255}.{kept & 255}"


def _without_ip(context: JSONObject) -> JSONObject:
    return {name: value for name, value in context.items() if name != "ip"}


def replace_addresses(text: bytes, replace: Callable[[str], str | None]) -> bytes:
    """Replace each part of a text that is written like an address; where the result is None, nothing is left of it."""
    return _LIKE_ADDRESS.sub(lambda match: (replace(match[0].decode()) or "").encode(), text)


_NAME = b'"ip"'
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_PLAIN_IPV4 = re.compile(rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}", re.ASCII)
_CACHED = 16_384
_SALTS_CACHED = 2
_GROUPS = rb"[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4}){0,6}"
_LIKE_ADDRESS = re.compile(
    rb"(?:::ffff:|::FFFF:)?(?<![0-9])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9])"
    rb"|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}"
    rb"|%b::(?:%b)?|::%b" % (_GROUPS, _GROUPS, _GROUPS)
)
