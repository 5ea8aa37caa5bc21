"""Files of JSON documents, opened for reading: plain or compressed by gzip, and in no other encoding than UTF-8."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

import attrs

from trackcore.text import foreign_encoding
from trackcore_server.files.documents import Document, read_documents

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_Binary: TypeAlias = "io.BufferedReader[io.RawIOBase] | gzip.GzipFile"

STDIN = "-"
_GZIP_START = b"\x1f\x8b"
_CHUNK = 1 << 16
_HEAD = 4


@attrs.define
class ForeignEncoding(Exception):
    """A file is in another encoding than UTF-8."""

    encoding: str

    def __str__(self) -> str:
        return (
            f"the file is {self.encoding}, and JSON is UTF-8; convert it: "
            f"iconv -f {self.encoding} -t UTF-8 FILE > NEW (Windows PowerShell: Out-File -Encoding utf8)"
        )


@attrs.define
class OpenFile:
    """A file that is being read.  `size` is 0 if it is not known; `position` is how much of it has been read."""

    size: int
    position: Callable[[], int]
    _lines: _WholeLines
    _stream: BinaryIO

    def documents(self) -> Iterator[Document]:
        """Yield the documents, up to the end of the file or to the place where it is damaged."""
        return read_documents(self._stream)

    @property
    def fault(self) -> str | None:
        """Describe the damage at which reading the file had to end; None if there is none."""
        return self._lines.fault


@contextmanager
def opened(name: str) -> Iterator[OpenFile]:
    """Open a file, or standard input for `-`.  Compression is detected by the first bytes, not by the name.

    Raises:
        OSError: it cannot be opened.
        ForeignEncoding: it is UTF-16 or UTF-32.
    """
    with ExitStack() as stack:
        if name == STDIN:
            size, plain = 0, io.BufferedReader(cast("io.RawIOBase", sys.stdin.buffer))
            stack.callback(plain.detach)
        else:
            size, plain = Path(name).stat().st_size, io.BufferedReader(io.FileIO(name))
            stack.enter_context(plain)
        inner: _Binary = plain
        if plain.peek(len(_GZIP_START)).startswith(_GZIP_START):
            inner = stack.enter_context(gzip.GzipFile(fileobj=plain, mode="rb"))
        lines = _WholeLines(inner)
        stream = io.BufferedReader(lines, _CHUNK)
        encoding = foreign_encoding(stream.peek(_HEAD)[:_HEAD])
        if encoding is not None:
            raise ForeignEncoding(encoding)
        yield OpenFile(size, plain.tell, lines, cast("BinaryIO", stream))


class _WholeLines(io.RawIOBase):
    """Reads another stream, and ends where that cannot be read any further.

    The last line before a damage is dropped, so that half a message does not count as a bad one.
    """

    def __init__(self, stream: _Binary) -> None:
        self.fault: str | None = None
        self._stream = stream
        self._ready = b""
        self._rest: list[bytes] = []
        self._is_done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._ready and not self._is_done:
            self._fill()
        view = memoryview(buffer)
        part, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(part)] = part
        return len(part)

    def _fill(self) -> None:
        try:
            data = self._stream.read1(_CHUNK)
        except EOFError:
            self.fault = "the file is truncated: its gzip stream ends too early"
        except (gzip.BadGzipFile, zlib.error) as error:
            self.fault = f"the file is damaged: {error}"
        else:
            self._take(data)
            return
        self._is_done = True

    def _take(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1 if data else 0
        if end or not data:
            self._ready = b"".join(self._rest) + data[:end]
            self._rest = []
            self._is_done = not data
        self._rest.append(data[end:])
