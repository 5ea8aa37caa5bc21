"""Masking: write keys removed from a text that is shown.

A rejected body is shown as it was received, and may not be JSON at all: cut, encoded twice, or printed by Python.  So
keys are looked for as text: behind `writeKey`, and behind each name that is almost that, since a client that writes
`write_key` sends its real key there (`trackcore.wire.rules.is_near_miss`; a test holds the two together).
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from trackcore.credentials import mask_write_key
from trackcore.text.jsontext import encode_json
from trackcore.typing import WriteKey


def mask_write_keys(text: bytes) -> bytes:
    """Mask each write key in a text, which may not even be JSON."""
    for pattern in _patterns():
        text = pattern.sub(_masked, text)
    return text


def masked_halves(text: bytes, position: int) -> tuple[bytes, bytes]:
    """Return the text before and after a position, write keys masked.

    A position within a key, or between it and its name, is moved behind it: neither half alone shows that it is a key.
    """
    for pattern in _patterns():
        within = (match for match in pattern.finditer(text) if match.start() < position < match.end())
        position = max((match.end() for match in within), default=position)
    return mask_write_keys(text[:position]), mask_write_keys(text[position:])


def _one_of(characters: str) -> bytes:
    """Return the pattern of one of some characters, as it is, or escaped as in JSON, once or several times."""
    plain = [re.escape(character.encode()) for character in characters if not character.isascii()]
    single = re.escape("".join(filter(str.isascii, characters)).encode())
    codes = b"|".join(b"%04x" % ord(character) for character in characters)
    short = b"".join(_SHORT_ESCAPES[character] for character in characters if character in _SHORT_ESCAPES)
    escape = rb"\\++(?:u(?i:%b)%b)" % (codes, b"|[%b]" % short if short else b"")
    return b"(?:%b)" % b"|".join([b"[%b]" % single, escape, *plain])


_SHORT_ESCAPES = {"\t": b"t", "\n": b"n", "\r": b"r", "\f": b"f"}
_APART = "_-\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_KELVIN = "\u212a"  # its lower case is `k`
_BETWEEN = _one_of(_APART) + b"*+"
_NAME = b"".join(_BETWEEN + _one_of(letter + letter.upper() + _KELVIN * (letter == "k")) for letter in "writekey")
_NAME = rb"(?=[wW\\\x80-\xff\s\x1c-\x1f_-])%b%b" % (_NAME, _BETWEEN)  # most names fail at their first character

_WRITE_KEY = rb'("%b"\s*+:\s*+")([^"\\]*+(?:\\.[^"\\]*+)*+)' % _NAME

_OTHERWISE_QUOTED = rb"""(["']%b(?:\\++["']|')\s*+:\s*+\\*+["'])([^"'\\]*+)""" % _NAME
"""In JSON that was encoded twice, and in a Python dict that was sent as it prints."""


@cache
def _patterns() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Compile the patterns, in the order of their use, when a text is masked: an import has no time for it."""
    return re.compile(_OTHERWISE_QUOTED), re.compile(_WRITE_KEY, re.DOTALL)


def _masked(match: re.Match[bytes]) -> bytes:
    return match[1] + encode_json(mask_write_key(WriteKey(_unescaped(match[2]))))[1:-1]


def _unescaped(text: bytes) -> str:
    try:
        return msgspec.json.decode(b'"%b"' % text, type=str)
    except (msgspec.MsgspecError, UnicodeError):
        return text.partition(b"\\")[0].decode("utf-8", "replace")
