"""A folder as a store.  A file is written under another name and is on disk (fsync) before it gets its own."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import attrs
from trackcore_delivery import make_folder, sync_folder

from trackcore_objects.store import StoredFile, StoreUnavailable

_PART = ".part"
_BLOCK_BYTES = 1 << 20
_NO_LINKS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})


@attrs.frozen
class FolderStore:
    """See `trackcore_objects.store.ObjectStore`."""

    _root: Path

    def names(self, folder: str) -> Sequence[str]:
        """See `ObjectStore.names`.  Unfinished files of a crashed process are deleted."""
        with self._reported():
            found = self._entries(folder, os.DirEntry.is_file)
            for name in found:
                if _is_part(name):
                    (self._root / folder / name).unlink(missing_ok=True)
            return [name for name in found if not name.startswith(".")]

    def folders(self, folder: str) -> Sequence[str]:
        """See `ObjectStore.folders`."""
        with self._reported():
            return self._entries(folder, os.DirEntry.is_dir)

    def files_below(self, folder: str) -> Sequence[StoredFile]:
        """See `ObjectStore.files_below`."""
        with self._reported():
            return sorted(self._files(self._root / folder))

    def put_new(self, key: str, content: Path | bytes) -> bool:
        """See `ObjectStore.put_new`."""
        path = self._root / key
        with self._reported():
            if path.exists():
                return False
            part = _write_part(path, content)
            try:
                _rename_to_new(part, path)
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
            sync_folder(path.parent)
        return True

    def replace(self, key: str, content: Path) -> None:
        """See `ObjectStore.replace`."""
        path = self._root / key
        with self._reported():
            _write_part(path, content).replace(path)
            sync_folder(path.parent)

    def copy(self, key: str, target: str) -> None:
        """See `ObjectStore.copy`.  It is a link: a file is never changed, only replaced by another one."""
        path = self._root / target
        with self._reported():
            part = _link_part(path, self._root / key)
            part.replace(path)
            part.unlink(missing_ok=True)  # it stays if both are one file already
            sync_folder(path.parent)

    def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        with self._reported():
            try:
                return (self._root / key).read_bytes()
            except FileNotFoundError:
                return None

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        """See `ObjectStore.read_range`."""
        with self._reported():
            try:
                with (self._root / key).open("rb") as stream:
                    stream.seek(start)
                    return stream.read(end - start)
            except FileNotFoundError:
                return None

    def fetch(self, key: str, target: Path) -> bool:
        """See `ObjectStore.fetch`."""
        with self._reported():
            try:
                shutil.copyfile(self._root / key, target)
            except FileNotFoundError:
                return False
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        changed: set[Path] = set()
        with self._reported():
            for path in (self._root / key for key in keys):
                with suppress(FileNotFoundError):
                    path.unlink()
                    changed.add(path.parent)
            for folder in changed:
                sync_folder(folder)

    def prune(self, folder: str) -> None:
        """See `ObjectStore.prune`."""
        with self._reported():
            for path, _, _ in os.walk(self._root / folder, topdown=False, onerror=_raise_unless_missing):
                with suppress(OSError):
                    Path(path).rmdir()

    def _files(self, folder: Path) -> Iterator[StoredFile]:
        for path, _, names in os.walk(folder, onerror=_raise_unless_missing):
            for file in (Path(path, name) for name in names):
                with suppress(FileNotFoundError):
                    yield StoredFile(file.relative_to(self._root).as_posix(), file.stat().st_size)

    def _entries(self, folder: str, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return sorted(entry.name for entry in entries if is_wanted(entry))
        except FileNotFoundError:
            return []

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(detail=f"{self._root}: {error.strerror or type(error).__name__}") from error


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PART)


def _write_part(path: Path, content: Path | bytes) -> Path:
    """Write a file under a name that no reader looks at, durably."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}{_PART}")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
            _copy(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        part.unlink(missing_ok=True)  # a full disk must not keep half a file
        raise
    return part


def _link_part(path: Path, file: Path) -> Path:
    """Link a file under a name that no reader looks at, or copy it where there are no links."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}{_PART}")
    part.unlink(missing_ok=True)
    try:
        os.link(file, part)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _write_part(path, file)
    return part


def _copy(content: Path | bytes, target: BinaryIO) -> None:
    if isinstance(content, bytes):
        target.write(content)
        return
    with content.open("rb") as source:
        shutil.copyfileobj(source, target, _BLOCK_BYTES)


def _rename_to_new(old: Path, new: Path) -> None:
    """Rename a file without replacing another one.  Raises `FileExistsError`."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links another process could take the name in between; only one delivers to a place.
        if new.exists():
            raise FileExistsError from None
        old.replace(new)
