"""The address of a client as proxies write it, and as it is stored."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

_MAX_CHARS = 200  # longer text cannot be an address and is not cached

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;]*)', re.IGNORECASE)
_V4 = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?")
_V6 = re.compile(r"\[([0-9A-Fa-f:.]+)(?:%[^\[\]]*)?\](?::[0-9]{1,5})?")
_BARE_V6 = re.compile(r"([0-9A-Fa-f:.]+)(?:%.*)?")


def canonical_address(text: str | None) -> str | None:
    """Return an address as RFC 5952 writes it; None for text without an address.

    A port, brackets, a zone, quotes and `for=` are dropped, and an IPv4 address that is mapped into IPv6 is unwrapped.
    The result is None for `unknown`, for obfuscated names, and for leading zeros, which systems interpret differently.
    """
    return _canonical(text) if text and len(text) <= _MAX_CHARS else None


@lru_cache(maxsize=1_024)
def _canonical(text: str) -> str | None:
    named = _FOR.search(text)  # the syntax of the Forwarded header
    text = (text if named is None else named[1]).strip().strip('"').strip()
    if match := _V4.fullmatch(text):
        return _text_of(IPv4Address, match[1])
    if match := _V6.fullmatch(text) or _BARE_V6.fullmatch(text):
        return _text_of(IPv6Address, match[1])
    return None


def _text_of(kind: type[IPv4Address | IPv6Address], text: str) -> str | None:
    try:
        address = kind(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
