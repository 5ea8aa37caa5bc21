"""Removing texts from the bytes of a SQLite file.

Deleted content is overwritten where `secure_delete` is on.  Space that was freed before was not, and the write-ahead
log has pages from before: it is copied into the file and cut.  Then the bytes of the files are searched, and the file
is rewritten (`VACUUM`) if they have a text that no record has any more.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_LEAST_BYTES = 4
"""A shorter text is in any file by chance."""


def clean_file(
    connection: sqlite3.Connection, path: Path, texts: Iterable[bytes], is_in_records: Callable[[bytes], bool]
) -> str:
    """Remove texts from the bytes of a file, and return how that was done, as a phrase.

    A text that records still have is not removed.  Raises `sqlite3.OperationalError` if others do not let go of the
    write-ahead log in time.
    """
    texts = [text for text in texts if len(text) >= _LEAST_BYTES]
    _cut_write_ahead_log(connection)
    if not _is_in_bytes(path, texts):
        return "overwritten"
    if any(map(is_in_records, texts)):
        return "overwritten; records of others have the id in their text"
    connection.execute("VACUUM")
    _cut_write_ahead_log(connection)
    return "overwritten, and the file rewritten"


def _cut_write_ahead_log(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("the write-ahead log is in use")
        time.sleep(_PAUSE_SECONDS)


def _is_in_bytes(path: Path, texts: list[bytes]) -> bool:
    """Return whether the bytes of the files have one of some texts.

    Another process reads them: SQLite would lose its locks in this one when a file is closed
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    if not texts:
        return False
    files = [str(file) for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()]
    asked = "\n".join(text.hex() for text in texts).encode()
    found = subprocess.run([sys.executable, "-I", "-c", _SEARCH, *files], input=asked, check=False)  # noqa: S603
    return found.returncode == _FOUND


_FOUND = 3
_SEARCH = f"""
import sys
texts = [bytes.fromhex(line) for line in sys.stdin.read().split()]
longest = max(map(len, texts))
for name in sys.argv[1:]:
    tail = b""
    with open(name, "rb") as file:
        while block := file.read(1 << 20):
            tail = tail[-longest:] + block
            if any(text in tail for text in texts):
                sys.exit({_FOUND})
"""
