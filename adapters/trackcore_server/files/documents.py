"""JSON documents in files: one on each line, or a single one over as many lines as it likes.

A file is read line by line, so its size does not matter.  Only when the first line is no whole document by itself is
more read, to see whether it is the beginning of a longer one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import attrs

from trackcore import InvalidRequest
from trackcore.text.jsontext import clean_text, parse, raw_value

DOCUMENT_BYTES = 256 << 20
"""How much is read to find the end of a document that goes over several lines."""


@attrs.frozen(kw_only=True)
class Document:
    """One JSON text of a file, right or wrong.

    `line` is where it starts, counted from 1; `is_only` says that the file holds nothing else.
    """

    line: int
    text: bytes
    is_only: bool = False


def read_documents(stream: BinaryIO) -> Iterator[Document]:
    """Give the documents of a file, skipping blank lines."""
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


def _not_blank(stream: Iterator[bytes] | BinaryIO, first_line: int) -> Iterator[Document]:
    for line, text in enumerate(stream, first_line):
        if stripped := text.strip():
            yield Document(line=line, text=stripped)


def _goes_on(text: bytes) -> bool:
    """Tell whether a line is the beginning of JSON: nothing is wrong with it but that it ends."""
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
