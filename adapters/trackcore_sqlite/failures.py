"""Failures of the file of a log, and the error that a caller gets for each."""

from __future__ import annotations

import errno
import sqlite3

from trackcore_sqlitefile import primary_code

from trackcore import Cause, SinkUnavailable
from trackcore_sqlite.tables import UnusableLog, is_damage


def is_busy(error: BaseException) -> bool:
    """Return whether another connection holds the lock that was asked for."""
    return primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_fault_of_log(error: BaseException) -> bool:
    """Return whether an error concerns the file, and not a value that SQLite cannot store."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
        return False
    return isinstance(error, sqlite3.DatabaseError | OSError | UnusableLog)


def unavailable(error: BaseException) -> SinkUnavailable:
    """Build the error that states why the log cannot be written now."""
    is_full = primary_code(error) == sqlite3.SQLITE_FULL
    if is_full or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return SinkUnavailable(cause=Cause.FULL, detail="the disk is full", retry_after=30)
    if is_busy(error):
        detail = "another process holds the log"
        return SinkUnavailable(cause=Cause.UNAVAILABLE, detail=detail, reason="locked", retry_after=1)
    reason = "damaged" if getattr(error, "is_damaged", False) or is_damage(error) else "unwritable"
    return SinkUnavailable(cause=Cause.UNAVAILABLE, detail=f"the log cannot be written ({error})", reason=reason)
