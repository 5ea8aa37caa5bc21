"""SQLite files, as the log and the state of delivery use them: opening, migrating, sharing a connection."""

from trackcore_sqlitefile.cleaning import clean_file
from trackcore_sqlitefile.connection import SharedConnection, used_once
from trackcore_sqlitefile.opening import (
    WAL_BYTES,
    Format,
    UnusableFile,
    make_private_file,
    primary_code,
    shorten_write_ahead_log,
    use_write_ahead_log,
)

__all__ = [
    "WAL_BYTES",
    "Format",
    "SharedConnection",
    "UnusableFile",
    "clean_file",
    "make_private_file",
    "primary_code",
    "shorten_write_ahead_log",
    "use_write_ahead_log",
    "used_once",
]
