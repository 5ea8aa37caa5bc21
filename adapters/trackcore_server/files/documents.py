"""JSON documents in files, and the requests that they would be.

A file has one document on each line, or a single one over any number of lines.  It is read line by line, so its size
does not matter.  Only if the first line is not a whole document by itself, more is read, to see whether it is the
beginning of a longer one.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import attrs
import msgspec

from trackcore import Call, InvalidRequest, Limits
from trackcore.support import MEBIBYTE
from trackcore.text import BYTE_ORDER_MARK, clean_text, parse, raw_fields, raw_value
from trackcore.wire import Request, parse_request

DOCUMENT_BYTES = 256 * MEBIBYTE
"""How much is read to find the end of a document that spans several lines."""

_raw_array = msgspec.json.Decoder(list[msgspec.Raw])


@attrs.frozen(kw_only=True)
class Document:
    """One JSON text of a file, valid or not.

    `line` is where it starts, counted from 1; `is_only` is set if the file contains nothing else.
    """

    line: int
    text: bytes
    is_only: bool = False


def read_documents(stream: BinaryIO) -> Iterator[Document]:
    """Yield the documents of a file, skipping blank lines."""
    lines = _not_blank(stream, 1)
    first = next(lines, None)
    if first is None:
        return
    if _goes_on(first.text):
        rest = stream.read(DOCUMENT_BYTES) + stream.readline()
        whole = first.text + b"\n" + rest.rstrip()
        if _is_json(whole):
            yield Document(line=first.line, text=whole, is_only=True)
            return
        lines = _not_blank(chain(io.BytesIO(rest), stream), first.line + 1)
    second = next(lines, None)
    yield attrs.evolve(first, is_only=second is None)
    if second is not None:
        yield second
        yield from lines


@attrs.frozen(kw_only=True)
class DocumentRequest:
    """A document as a request: a batch, a single message, else an array of messages.

    `limits` are those for its messages.
    """

    request: Request
    limits: Limits
    is_batch: bool = False
    is_single: bool = False


def read_request(
    document: Document, call: Call | None, limits: Limits, single: Limits | None = None
) -> DocumentRequest:
    """Read a batch (an object with `batch`), an array of messages that is a whole file, or a single message.

    Args:
        document: the JSON text.
        call: the call of single messages and of those in an array; without it each must contain its `type`.
        limits: those in force; an array is not a request, so it may be of any size.
        single: those for reading a single message, if others than `limits`.

    Raises `InvalidRequest` if it is none of these.
    """
    text = document.text.removeprefix(BYTE_ORDER_MARK)
    if document.is_only and text.startswith(b"["):
        parse(_raw_array, clean_text(text))  # so that an error has the position in the array, not in the batch below
        limits = attrs.evolve(limits, request_bytes=sys.maxsize, batch_messages=sys.maxsize)
        request = parse_request(b'{"batch":%s}' % text, "batch", limits)
        return DocumentRequest(request=msgspec.structs.replace(request, call=call), limits=limits)
    if _is_batch(document.text):
        return DocumentRequest(request=parse_request(document.text, "batch", limits), limits=limits, is_batch=True)
    request = parse_request(document.text, call or "track", single or limits)
    return DocumentRequest(request=msgspec.structs.replace(request, call=call), limits=limits, is_single=True)


def _is_batch(text: bytes) -> bool:
    if b'"batch"' not in text:
        return False
    try:
        return "batch" in parse(raw_fields, clean_text(text))[0]
    except msgspec.ValidationError:  # not an object
        return False


def _not_blank(stream: Iterator[bytes] | BinaryIO, first_line: int) -> Iterator[Document]:
    for line, text in enumerate(stream, first_line):
        if stripped := text.strip():
            yield Document(line=line, text=stripped)


def _goes_on(text: bytes) -> bool:
    """Return whether a line is the beginning of JSON: the only mistake in it is that it ends."""
    try:
        parse(raw_value, clean_text(text))
    except InvalidRequest as error:
        return error.position is not None and error.position >= len(text)
    return False


def _is_json(text: bytes) -> bool:
    try:
        parse(raw_value, clean_text(text))
    except InvalidRequest:
        return False
    return True
