"""What the log and the state of delivery have in common: opening, migrating, and forks."""

from trackcore_sqlitefile.connection import SharedConnection, used_once
from trackcore_sqlitefile.forks import held_off, know_process, renew_in_forks
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
    "held_off",
    "know_process",
    "make_private_file",
    "primary_code",
    "renew_in_forks",
    "shorten_write_ahead_log",
    "use_write_ahead_log",
    "used_once",
]
