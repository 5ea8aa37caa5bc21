r"""Strict JSON, read with bounds: bytes in, Python values out, or `InvalidRequest` / `InvalidMessage`.

Theory.  msgspec does the parsing and refuses what RFC 8259 refuses (NaN, Infinity, trailing data).  Four things are
left to us, because real clients send them, or because a parser may answer them with something else than its own error:

- one byte order mark is dropped, and the whole text must be UTF-8: msgspec does not look inside the text it skips;
- a *lone surrogate escape* (`"\ud800"`, sent by the Python and Node SDKs) is no character.  It is replaced by the
  escape of U+FFFD, which has the same length, so that sizes and positions stay those of the client's text;
- nesting: a parser recurses, so what nests deeper than it can follow is blanked out, again at the same length, and
  depth itself is measured by passes over the brackets;
- numbers beyond what Python will read (over 4,300 digits, or a float beyond 1.8e308) are our error.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from trackcore.errors import InvalidMessage, InvalidRequest, Reason

T = TypeVar("T")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PARSER_DEPTH = 200
"""Levels that are left for the parser to recurse into: above any depth limit, far below Python's 1,000 frames."""

_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u"  # after escaped backslashes, which begin no escape
    rb"(?:([dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # a surrogate pair: left alone
    rb"|[dD][89a-fA-F][0-9a-fA-F]{2})"  # a lone surrogate
)
_REPLACEMENT = rb"\ufffd"

# The closing quote is optional, so that an unterminated string is one match to the end and the scan stays linear.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STRING_OR_BRACKETS = re.compile(_STRING.pattern + rb"|[\[{]+|[\]}]+", re.DOTALL)
_STEPS = bytes.maketrans(b"[]{}", bytes([1, 255, 1, 255]))  # as signed bytes: 1 and -1
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_POSITION = re.compile(r" \(byte (\d+)\)$")

_KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}

_PIECE_BYTES = 4_096

_any_decoder = msgspec.json.Decoder()
encode_json = msgspec.json.Encoder().encode
"""Give the JSON text of plain JSON values: UTF-8, no spaces."""


def foreign_encoding(start: bytes) -> str | None:
    """Name the encoding of a JSON text that is not UTF-8, by its first four bytes; None for UTF-8, or what none shows.

    JSON begins with a character of ASCII, so where its zeros are shows the width and the order (RFC 4627, section 3).
    """
    zeros = tuple(byte == 0 for byte in start[:4])
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or zeros.count(True) == 3:  # noqa: PLR2004
        return "UTF-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or zeros[:2] in ((True, False), (False, True)):
        return "UTF-16"
    return None


def clean_text(body: bytes) -> bytes:
    """Return `body` with a byte order mark blanked out, or raise `InvalidRequest` when it is not UTF-8."""
    if body.isascii():
        return body
    _check_utf8(body)
    return body.replace(BYTE_ORDER_MARK, b"   ", 1) if body.startswith(BYTE_ORDER_MARK) else body


def _check_utf8(text: bytes) -> None:
    """Decode a text and forget it, a piece at a time: the pieces stay in the processor's cache, and cost a fourth."""
    pieces = memoryview(text)
    start, end = 0, len(text)
    while start < end:
        is_last = start + _PIECE_BYTES >= end
        try:
            start += codecs.utf_8_decode(pieces[start : start + _PIECE_BYTES], "strict", is_last)[1]
        except UnicodeDecodeError as error:
            detail = f"the text is not UTF-8{_said_of_encoding(text)}"
            raise _invalid_json(detail, start + error.start) from None


def _said_of_encoding(text: bytes) -> str:
    encoding = foreign_encoding(text)
    return "" if encoding is None else f", it looks like {encoding}; send UTF-8"


def parse(decoder: msgspec.json.Decoder[T], text: bytes) -> tuple[T, bytes]:
    """Parse a whole request with `decoder`.

    Returns the value, and the text that it was parsed from: `text`, or as long a text with what had to be mended in it.
    Raises `InvalidRequest`.  `msgspec.ValidationError` passes: only the caller knows what its decoder expects.
    """
    mended = text
    mends = {RecursionError: _blank_deep, msgspec.DecodeError: replace_surrogates}
    while True:
        try:
            return decoder.decode(mended), mended
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, RecursionError) as error:
            mend = mends.pop(type(error), None)
            if mend is None:
                raise _not_json(str(error), text) from None
            mended = mend(mended)


def _not_json(detail: str, text: bytes) -> InvalidRequest:
    found = _POSITION.search(detail)
    position = int(found[1]) if found else len(text)
    if "trailing characters" in detail:
        position -= 1  # msgspec has stepped over the first of them
    return _invalid_json(_POSITION.sub("", detail) + _said_of_encoding(text), position)


def parse_value(text: bytes | msgspec.Raw) -> Any:
    """Parse text that is known to be well-formed.  Raises `InvalidMessage` for a number out of bounds."""
    try:
        return _any_decoder.decode(text)
    except msgspec.ValidationError:
        raise _number_out_of_range() from None


def _number_out_of_range() -> InvalidMessage:
    return InvalidMessage(reason=Reason.NUMBER_OUT_OF_RANGE, detail="a number is too large or has too many digits")


def is_deeper(text: bytes, levels: int) -> bool:
    """Tell whether well-formed JSON nests more than `levels` brackets.

    Most text has not even that many opening brackets, so the usual answer costs two counts.  Else the brackets outside
    of strings are kept as steps of one level up or down, and added up.
    """
    if text.count(b"{") + text.count(b"[") <= levels:
        return False
    steps = array("b", _STRING.sub(b"", text).translate(_STEPS, _NOT_BRACKETS))
    return max(accumulate(steps), default=0) > levels


def replace_surrogates(text: bytes) -> bytes:
    """Return JSON text with each lone surrogate escape replaced by that of U+FFFD, which has the same length."""
    return _SURROGATE.sub(lambda match: match[0] if match[2] else match[1] + _REPLACEMENT, text)


def has_surrogate(text: bytes) -> bool:
    """Tell whether JSON text holds the escape of a lone surrogate."""
    return any(not match[2] for match in _SURROGATE.finditer(text))


def kind_of(value: object) -> str:
    """Name the JSON type of a value, with its article."""
    return _KINDS.get(value.__class__, "something else")


def _blank_deep(text: bytes, levels: int = _PARSER_DEPTH) -> bytes:
    """Return JSON text in which what nests deeper than `levels` is a number and spaces, at the same length."""
    blanked = bytearray(text)
    depth = start = 0
    for token in _STRING_OR_BRACKETS.finditer(text):
        first = text[token.start()]
        length = token.end() - token.start()
        if first in b"[{":
            if depth <= levels < depth + length:
                start = token.start() + levels - depth
            depth += length
        elif first in b"]}":
            if depth - length <= levels < depth:
                end = token.start() + depth - levels
                blanked[start:end] = b"0".ljust(end - start)
            depth -= length
    if depth > levels:
        blanked[start:] = b"0".ljust(len(text) - start)
    return bytes(blanked)


def _invalid_json(detail: str, position: int) -> InvalidRequest:
    return InvalidRequest(reason=Reason.INVALID_JSON, detail=f"{detail}, at byte {position}", position=position)
