r"""Strict JSON, parsed with bounds: bytes in, Python values out, or `InvalidRequest` / `InvalidMessage`.

Theory.  msgspec parses, and refuses what RFC 8259 refuses (NaN, Infinity, trailing data).  This module handles four
things itself, because real clients send them, or because the parser may fail on them with another error than its own:

- one byte order mark is dropped, and the whole text must be UTF-8: msgspec does not validate the text that it skips;
- an *unpaired surrogate escape* (`"\ud800"`, sent by the Python and Node SDKs) is replaced with the escape of U+FFFD,
  which has the same length, so that sizes and positions stay those of the client's text;
- nesting: the parser recurses, so a value that nests too deeply for it is overwritten, again at the same length, and
  the depth itself is measured by passes over the brackets;
- numbers that Python cannot read (over 4,300 digits, or a float beyond 1.8e308) raise `InvalidMessage`.
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
    rb"|[dD][89a-fA-F][0-9a-fA-F]{2})"  # an unpaired surrogate
)
_REPLACEMENT = rb"\ufffd"

# The closing quote is optional, so that an unterminated string is one match to the end and the scan stays linear.
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_STRING_OR_BRACKETS = re.compile(STRING.pattern + rb"|[\[{]+|[\]}]+", re.DOTALL)
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

_BRACE, _BACKSLASH, _LINE_FEED, _CARRIAGE_RETURN = b"{\\\n\r"
_END_OF_NAME = b'":'
_SPACES = (b" ", b"\t")

any_value = msgspec.json.Decoder()

raw_value = msgspec.json.Decoder(msgspec.Raw)
"""Checks a JSON text and leaves it as text."""

raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Decodes the names of an object and leaves the values as text."""

_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)

encode_json = msgspec.json.Encoder().encode
"""Return the JSON text of plain JSON values: UTF-8, no spaces."""


class Text(msgspec.Struct, frozen=True, gc=False):
    """The text of a request, before and after the repair that parsing needed.  Both have the same length."""

    original: bytes
    repaired: bytes

    @property
    def is_repaired(self) -> bool:
        """Whether the two differ."""
        return self.repaired is not self.original

    def as_received(self, part: bytes | msgspec.Raw, start: int = 0) -> bytes:
        """Return the original text of a part of the repaired text, searching it from position `start`."""
        position = self.find(part, start)
        return self.original[position : position + len(bytes(part))]

    def find(self, part: bytes | msgspec.Raw, start: int = 0) -> int:
        """Return the position of a part in both texts."""
        return self.repaired.index(bytes(part), start)


def foreign_encoding(start: bytes) -> str | None:
    """Return the encoding of a JSON text that is not UTF-8, by its first four bytes; None for UTF-8 or an unknown one.

    JSON begins with an ASCII character, so the places of the zeros show width and byte order (RFC 4627, section 3).
    """
    zeros = tuple(byte == 0 for byte in start[:4])
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or zeros.count(True) == 3:  # noqa: PLR2004
        return "UTF-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or zeros[:2] in ((True, False), (False, True)):
        return "UTF-16"
    return None


def clean_text(body: bytes) -> bytes:
    """Return `body` with spaces in place of a byte order mark.  Raises `InvalidRequest` when it is not UTF-8."""
    if body.isascii():
        return body
    _check_utf8(body)
    return body.replace(BYTE_ORDER_MARK, b"   ", 1) if body.startswith(BYTE_ORDER_MARK) else body


def _check_utf8(text: bytes) -> None:
    """Decode a text in pieces and drop the result: pieces stay in the processor's cache, and cost a fourth."""
    pieces = memoryview(text)
    start = 0
    while start < len(text):
        is_last = start + _PIECE_BYTES >= len(text)
        try:
            start += codecs.utf_8_decode(pieces[start : start + _PIECE_BYTES], "strict", is_last)[1]
        except UnicodeDecodeError as error:
            detail = f"the text is not UTF-8{_encoding_hint(text)}"
            raise _invalid_json(detail, start + error.start) from None


def _encoding_hint(text: bytes) -> str:
    encoding = foreign_encoding(text)
    return "" if encoding is None else f", it looks like {encoding}; send UTF-8"


def parse(decoder: msgspec.json.Decoder[T], text: bytes) -> tuple[T, Text]:
    """Parse a whole request with `decoder`, repairing its text if necessary, and return the value and the text.

    Raises `InvalidRequest`.  `msgspec.ValidationError` passes: only the caller knows the types of its decoder.
    """
    repaired = text
    while True:
        try:
            return decoder.decode(repaired), Text(text, repaired)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, RecursionError) as error:
            # Both repairs after either error: how deep the decoder comes depends on the stack of the caller.
            broken, repaired = repaired, _blank_deep(replace_surrogates(repaired))
            if repaired == broken:
                raise _not_json(str(error), text) from None


def _not_json(detail: str, text: bytes) -> InvalidRequest:
    found = _POSITION.search(detail)
    position = int(found[1]) if found else len(text)
    if "trailing characters" in detail:
        position -= 1  # msgspec has stepped over the first of them
    return _invalid_json(_POSITION.sub("", detail) + _encoding_hint(text), position)


def parse_value(text: bytes | msgspec.Raw) -> Any:
    """Parse well-formed JSON.  Raises `InvalidMessage` for a number out of range."""
    try:
        return any_value.decode(text)
    except msgspec.ValidationError:
        detail = "a number is too large or has too many digits"
        raise InvalidMessage(reason=Reason.NUMBER_OUT_OF_RANGE, detail=detail) from None


def is_compact(text: bytes) -> bool:
    """Return whether JSON text is on one line and has no white space behind names.

    The first name counts for all, since a writer puts white space behind all names or behind none.
    """
    place = text.find(_END_OF_NAME) + 2
    return text[place : place + 1] not in _SPACES and _LINE_FEED not in text and _CARRIAGE_RETURN not in text


def compacted(text: bytes) -> bytes:
    """Return well-formed JSON text without the white space between its tokens, unless it is compact."""
    return text if is_compact(text) else msgspec.json.format(text, indent=-1)


def has_escape(text: bytes) -> bool:
    """Return whether JSON text holds an escape."""
    return _BACKSLASH in text


def without_escapes(text: bytes) -> bytes:
    r"""Return well-formed JSON text without the escapes that JSON does not require, such as `\u00e9` and `\/`.

    Numbers keep their digits; of a name that an object has twice, the last is kept.
    """
    return encode_json(_digits_kept.decode(text)) if has_escape(text) else text


def is_object(text: bytes | msgspec.Raw) -> bool:
    """Return whether the well-formed JSON text of a value is an object."""
    return bytes(text)[0] == _BRACE


def is_deeper(text: bytes, levels: int) -> bool:
    """Return whether well-formed JSON nests more than `levels` brackets.

    Most texts have fewer opening brackets than that, so two counts suffice.
    """
    return text.count(b"{") + text.count(b"[") > levels and depth_of(text) > levels


def depth_of(text: bytes) -> int:
    """Return how deep brackets nest: those outside of strings become steps of one level, up or down, to be added up."""
    return max(accumulate(array("b", STRING.sub(b"", text).translate(_STEPS, _NOT_BRACKETS))), default=0)


def replace_surrogates(text: bytes) -> bytes:
    """Return JSON text with the escape of U+FFFD in place of each unpaired surrogate escape, at the same length."""
    return _SURROGATE.sub(lambda match: match[0] if match[2] else match[1] + _REPLACEMENT, text)


def has_surrogate(text: bytes) -> bool:
    """Return whether JSON text holds the escape of an unpaired surrogate."""
    return any(not match[2] for match in _SURROGATE.finditer(text))


def kind_of(value: object) -> str:
    """Return the name of the JSON type of a value, with its article."""
    return _KINDS.get(value.__class__, "something else")


def _blank_deep(text: bytes, levels: int = _PARSER_DEPTH) -> bytes:
    """Return JSON text with a number and spaces in place of values nested deeper than `levels`, at the same length."""
    if not is_deeper(text, levels):
        return text
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
