"""`file`: JSON Lines, one message a line, in files of a folder (see `archive_names`).

A new file is started when the day (UTC) changes or the open file would grow beyond `rotate_bytes`.  A batch counts as
delivered when it is on disk (fsync).  A closed file is compressed and never touched again, unless a person is to be
forgotten (see `file_erasure`).

Three rules keep everything that was delivered, whatever the clock does and whenever a crash happens:

- A name is never used twice.  A new file gets the number after the highest of its day, and is created only if its name
  does not exist; a compressed file as well.  While the clock shows the day before the open file's, as after a step back
  over midnight, that file stays open, so that the names still sort in the order in which the messages came.
- A file is deleted only when a compressed one with all of its content is on disk.
- A file that another process is writing is left alone.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import shutil
import zlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO, ClassVar

import attrs

from trackcore import Clock
from trackcore_delivery.archive_names import ArchiveNames, Slot, archive_names, place_of
from trackcore_delivery.destination import ByteCount, DeliveredDestination, positive
from trackcore_delivery.durable_folders import make_folder, sync_folder
from trackcore_delivery.erasures import NOT_SUPPORTED, ErasureRequest
from trackcore_delivery.kinds.file_erasure import forget_in_files
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, PermanentError, RetryLater, SenderContext

_GZIP_LEVEL = 6
_BLOCK_BYTES = 1 << 16
_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})


@attrs.frozen(kw_only=True)
class FileDestination(DeliveredDestination):
    """Files in `folder`, relative to the folder of the log.  `gzip` compresses a file once it is closed."""

    kind: ClassVar[str] = "file"

    folder: Path
    rotate_bytes: ByteCount = attrs.field(default=ByteCount(128 << 20), validator=positive)
    gzip: bool = True

    def make_sender(self, context: SenderContext) -> FileSender:
        """See `DeliveredDestination.make_sender`."""
        return FileSender(
            folder=context.folder / self.folder,
            names=archive_names(self.name),
            rotate_bytes=self.rotate_bytes,
            compress=self.gzip,
            clock=context.clock,
        )

    def place(self, context: SenderContext) -> Hashable:
        """See `DeliveredDestination.place`."""
        return place_of(context.folder / self.folder, archive_names(self.name))


@attrs.frozen(kw_only=True)
class _OpenFile:
    """The file being written, locked while it is open.  Bytes after `size` are not part of it yet."""

    path: Path
    slot: Slot
    stream: BinaryIO
    size: int


@attrs.define(kw_only=True)
class FileSender:
    """Appends batches to the newest file of a folder."""

    folder: Path
    names: ArchiveNames
    rotate_bytes: int
    compress: bool
    clock: Clock
    _open: _OpenFile | None = attrs.field(init=False, default=None)

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        text = b"".join([message.payload + b"\n" for message in batch.messages])
        try:
            self._append(text)
        except OSError as error:
            self._undo()
            detail = f"{self.folder}: {error.strerror or type(error).__name__}"
            raise RetryLater(detail=detail, of_destination=True) from error
        return ()

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`: files that have a message of the persons are rewritten, under their names."""
        if request.source is not None:  # a line does not have the source of its message
            raise PermanentError(detail=NOT_SUPPORTED, divisible=False)
        self.close()
        try:
            if self.folder.exists():
                forget_in_files(self.folder, [path for _, path in sorted(self._own())], request)
        except OSError as error:
            detail = f"{self.folder}: {error.strerror or type(error).__name__}"
            raise RetryLater(detail=detail, of_destination=True) from error

    def close(self) -> None:
        """See `Sender.close`.  The newest file is not compressed: the next start continues it."""
        if self._open is not None:
            with suppress(OSError):
                self._open.stream.close()
            self._open = None

    def _undo(self) -> None:
        """Cut off the written part of a batch that failed.  The next batch opens the file again."""
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
        """Return the file to append so many bytes to: the open one, or a new one."""
        today = self.clock().date()
        if self._open is None or not _is_in_place(self._open.path, self._open.stream):
            self.close()
            self._open = self._recover(today)
        file = self._open
        if file is None:
            return self._create(today)
        is_current = _is_current(file.slot, today)
        if is_current and (file.size + length <= self.rotate_bytes or not file.size):
            return file
        self._finish(file)
        return self._create(file.slot.day if is_current else today)

    def _recover(self, today: date) -> _OpenFile | None:
        """Finish the files that a crash left unfinished, and return the file to continue, if there is one."""
        make_folder(self.folder)
        unfinished = sorted((slot, path) for slot, path in self._own() if self.names.is_open(path.name))
        current = [slot for slot, _ in unfinished if _is_current(slot, today) and not self._is_closed(slot)]
        newest = None
        for slot, path in unfinished:
            if slot in current[-1:]:
                newest = _reopen(path, slot)
            elif self.compress and (file := _reopen(path, slot)) is not None:
                self._finish(file)
        return newest

    def _own(self) -> Iterator[tuple[Slot, Path]]:
        """Yield every file of the destination, open or closed."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if (slot := self.names.slot(entry.name)) is not None:
                    yield slot, self.folder / entry.name

    def _is_closed(self, slot: Slot) -> bool:
        return (self.folder / self.names.closed_name(slot)).exists()

    def _free_slot(self, day: date) -> Slot:
        return Slot(day, 1 + max((slot.number for slot, _ in self._own() if slot.day == day), default=0))

    def _create(self, day: date) -> _OpenFile:
        slot = self._free_slot(day)
        while (stream := _create_new(path := self.folder / self.names.open_name(slot))) is None:
            slot = Slot(day, slot.number + 1)
        sync_folder(self.folder)
        self._open = _OpenFile(path=path, slot=slot, stream=stream, size=0)
        return self._open

    def _finish(self, file: _OpenFile) -> None:
        """Close a file permanently.  The compressed file appears complete, and only then the plain one is deleted."""
        self._open = None
        with closing(file.stream):  # closing it unlocks it
            if not self.compress:
                return
            archive = self.folder / self.names.closed_name(file.slot)
            part = file.path.with_name(f"{file.path.name}.gz.part")
            if not (archive.exists() and _holds(archive, file.stream)):
                _compress(file.stream, part)
                self._publish(part, file.slot)
                sync_folder(self.folder)
            part.unlink(missing_ok=True)
            file.path.unlink()

    def _publish(self, part: Path, slot: Slot) -> None:
        """Rename a compressed file to its final name, or if that exists, to the next one of its day."""
        while True:
            try:
                _rename_to_new(part, self.folder / self.names.closed_name(slot))
            except FileExistsError:
                slot = max(Slot(slot.day, slot.number + 1), self._free_slot(slot.day))
            else:
                return


def _is_current(slot: Slot, today: date) -> bool:
    """Report whether a file is of today, or of tomorrow: then the clock was set back over midnight."""
    return timedelta() <= slot.day - today <= timedelta(days=1)


def _create_new(path: Path) -> BinaryIO | None:
    """Create a file; None if another process, or the file system, has a file of that name."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        return None
    with ExitStack() as opened:
        stream = opened.enter_context(os.fdopen(descriptor, "r+b"))
        if not (_lock(descriptor) and _is_in_place(path, stream)):
            return None
        opened.pop_all()  # it stays open
        return stream


def _reopen(path: Path, slot: Slot) -> _OpenFile | None:
    """Open a file to continue it, cut back to its last complete line; None if another process is writing it."""
    with ExitStack() as opened:
        try:
            stream = opened.enter_context(path.open("r+b"))
        except FileNotFoundError:
            return None
        if not (_lock(stream.fileno()) and _is_in_place(path, stream)):
            return None
        size = _end_of_last_line(stream)
        stream.truncate(size)
        os.fsync(stream.fileno())
        stream.seek(size)
        opened.pop_all()  # it stays open
        return _OpenFile(path=path, slot=slot, stream=stream, size=size)


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process has locked it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks; other processes cannot be detected there.
        return error.errno not in {errno.EACCES, errno.EAGAIN}
    return True


def _is_in_place(path: Path, stream: BinaryIO) -> bool:
    """Report whether the path still leads to the open file, which may have been deleted or replaced."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


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


def _compress(plain: BinaryIO, part: Path) -> None:
    plain.seek(0)
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=_GZIP_LEVEL, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, _BLOCK_BYTES)
        stream.flush()
        os.fsync(stream.fileno())


def _holds(archive: Path, plain: BinaryIO) -> bool:
    """Report whether a compressed file has exactly the content of a plain one."""
    plain.seek(0)
    try:
        with gzip.open(archive) as unpacked:
            while block := plain.read(_BLOCK_BYTES):
                if unpacked.read(len(block)) != block:
                    return False
            return not unpacked.read(1)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False


def _rename_to_new(old: Path, new: Path) -> None:
    """Rename a file without replacing another one.  Raises `FileExistsError`."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links the name is reserved by an empty file, and only that is replaced.
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        old.replace(new)
