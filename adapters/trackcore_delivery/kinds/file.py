"""`file`: JSON Lines, one message a line, in files of a folder.

    NAME-2026-01-31-000001.jsonl.gz     closed: compressed, and never touched again
    NAME-2026-01-31-000002.jsonl        open: the newest

A new file is begun when the day (UTC) changes or the open file would grow beyond `rotate_bytes`.  A batch counts as
delivered when it is on disk (fsync).  After a crash the open file is cut back to its last whole line, and what was
being compressed is compressed again; so a half-written line or file is never left behind.  One process writes a folder:
the owner of delivery.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import attrs
from attrs import validators

from trackcore import Clock
from trackcore_delivery.destination import ByteCount, DeliveredDestination
from trackcore_delivery.sending import Batch, Refusal, Surroundings, TryLater

_GZIP_LEVEL = 6
_BLOCK_BYTES = 1 << 16
_NAME = re.compile(r"(?P<stem>.+)-(?P<day>\d{4}-\d\d-\d\d)-(?P<number>\d{6,})\.jsonl(?P<closed>\.gz)?", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_positive: Any = validators.gt(0)


@attrs.frozen(kw_only=True)
class FileDestination(DeliveredDestination):
    """Files in `folder`, which is relative to that of the log.  `gzip` compresses a file once it is closed."""

    kind: ClassVar[str] = "file"

    folder: Path
    rotate_bytes: ByteCount = attrs.field(default=ByteCount(128 << 20), validator=_positive)
    gzip: bool = True

    def make_sender(self, surroundings: Surroundings) -> FileSender:
        """See `DeliveredDestination.make_sender`."""
        return FileSender(
            folder=surroundings.folder / self.folder,
            stem=_UNSAFE.sub("_", self.name),
            rotate_bytes=self.rotate_bytes,
            compress=self.gzip,
            clock=surroundings.clock,
        )


@attrs.frozen(kw_only=True)
class _OpenFile:
    """The file that is being written.  What is behind `size` is not there yet."""

    path: Path
    day: str
    number: int
    stream: BinaryIO
    size: int


@attrs.define(kw_only=True)
class FileSender:
    """Appends batches to the newest file of a folder."""

    folder: Path
    stem: str
    rotate_bytes: int
    compress: bool
    clock: Clock
    _open: _OpenFile | None = attrs.field(init=False, default=None)

    def send(self, batch: Batch) -> Sequence[Refusal]:
        """See `Sender.send`."""
        text = b"".join([message.payload + b"\n" for message in batch.messages])
        try:
            self._append(text)
        except OSError as error:
            self._undo()
            raise TryLater(detail=f"{self.folder}: {error.strerror or error}") from error
        return ()

    def close(self) -> None:
        """See `Sender.close`.  The newest file stays open for the next start, which goes on with it."""
        if self._open is not None:
            with suppress(OSError):
                self._open.stream.close()
            self._open = None

    def _undo(self) -> None:
        """Cut off what was written of a batch that failed.  The next one opens the file anew."""
        file = self._open
        self.close()
        if file is not None:
            with suppress(OSError):
                os.truncate(file.path, file.size)

    def _append(self, text: bytes) -> None:
        file = self._file_for(len(text))
        file.stream.write(text)
        file.stream.flush()
        os.fsync(file.stream.fileno())
        self._open = attrs.evolve(file, size=file.size + len(text))

    def _file_for(self, length: int) -> _OpenFile:
        """Give the file that takes so many bytes more: the open one, or the next."""
        day = _day(self.clock())
        if self._open is None:
            self._open = self._recover()
        file = self._open
        if file is None:
            return self._create(day, 1)
        if file.day == day and (file.size + length <= self.rotate_bytes or not file.size):
            return file
        self._finish(file)
        return self._create(day, file.number + 1 if file.day == day else 1)

    def _recover(self) -> _OpenFile | None:
        """Put right what a crash has left, and go on with the newest file."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.glob(f"{self.stem}-*.jsonl.gz.part"):
            path.unlink()
        unfinished = []
        for path in sorted(self.folder.glob(f"{self.stem}-*.jsonl")):
            match = _NAME.fullmatch(path.name)
            if match is None or match["stem"] != self.stem:
                continue
            if path.with_name(f"{path.name}.gz").exists():  # compressed already, but not yet deleted
                path.unlink()
            else:
                unfinished.append((path, match["day"], int(match["number"])))
        if not unfinished:
            return self._behind_last_closed()
        for older in unfinished[:-1] if self.compress else ():
            self._finish(_reopen(*older))
        return _reopen(*unfinished[-1])

    def _behind_last_closed(self) -> _OpenFile | None:
        """Begin behind the last closed file: a name is never used twice."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob(f"{self.stem}-*.jsonl.gz"))
        closed = [(match["day"], int(match["number"])) for match in names if match and match["stem"] == self.stem]
        day = _day(self.clock())
        last = max((number for of_day, number in closed if of_day == day), default=0)
        return self._create(day, last + 1) if last else None

    def _create(self, day: str, number: int) -> _OpenFile:
        path = self.folder / f"{self.stem}-{day}-{number:06d}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        stream = os.fdopen(descriptor, "wb")
        _sync_folder(self.folder)
        self._open = _OpenFile(path=path, day=day, number=number, stream=stream, size=0)
        return self._open

    def _finish(self, file: _OpenFile) -> None:
        """Close a file for good.  The compressed one takes its place at once and whole."""
        file.stream.close()
        self._open = None
        if not self.compress:
            return
        part = file.path.with_name(f"{file.path.name}.gz.part")
        with file.path.open("rb") as plain, part.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=_GZIP_LEVEL, mtime=0) as packed:
                shutil.copyfileobj(plain, packed, _BLOCK_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(part.with_suffix(""))
        _sync_folder(self.folder)
        file.path.unlink()


def _reopen(path: Path, day: str, number: int) -> _OpenFile:
    """Open a file to go on with it, cut back to its last whole line."""
    stream = path.open("r+b")
    size = _end_of_last_line(stream)
    stream.truncate(size)
    os.fsync(stream.fileno())
    stream.seek(size)
    return _OpenFile(path=path, day=day, number=number, stream=stream, size=size)


def _end_of_last_line(stream: BinaryIO) -> int:
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK_BYTES)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
