"""Temporary folders of senders, which have messages in them: none is left, not even by a process that was killed.

The process that uses a folder holds a lock of a file in it.  So a folder whose lock is free is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "trackcore-"
_LOCK = "in-use"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for a block.  Raises `OSError`."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        # It gets its name once it is locked, so nobody finds it free.
        with (folder / f"{_LOCK}.new").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / f"{_LOCK}.new").rename(folder / _LOCK)
            yield folder


def delete_leftovers() -> None:
    """Delete the folders of killed processes, those of this user.  Raises `OSError`."""
    with os.scandir(tempfile.gettempdir()) as entries:
        found = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX) and _is_own(entry)]
    for folder in found:
        with suppress(FileNotFoundError, BlockingIOError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


def _is_own(entry: os.DirEntry[str]) -> bool:
    with suppress(FileNotFoundError):
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    return False
