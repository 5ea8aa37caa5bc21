"""Connections to PostgreSQL, and what they need before a batch is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import Connection, conninfo

from trackcore_postgres.catalog import has_table
from trackcore_postgres.errors import UnusableUrl
from trackcore_postgres.statements import BOOKKEEPING, create_bookkeeping

_DEFAULTS: Mapping[str, Any] = {
    "application_name": "trackcore",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
}
_SETTINGS = b"SET timezone = 'UTC'; SET lock_timeout = '10s'; SET datestyle = 'ISO'"


def connect(settings: Mapping[str, Any]) -> Connection[Any]:
    """Connect.  Raises `psycopg.Error`."""
    connection: Connection[Any] = psycopg.connect(**{**_DEFAULTS, **settings}, autocommit=True)
    try:
        connection.execute(_SETTINGS)
    except psycopg.Error:
        connection.close()
        raise
    return connection


def make_bookkeeping(connection: Connection[Any]) -> None:
    """Make the tables of bookkeeping if they are missing.  Raises `psycopg.Error`."""
    if not has_table(connection, BOOKKEEPING, "sources"):
        with connection.transaction():
            connection.execute(b"SELECT pg_advisory_xact_lock(%s)", [lock_number(BOOKKEEPING, "")])
            run(connection, create_bookkeeping())


def run(connection: Connection[Any], statements: Iterable[str]) -> None:
    """Execute statements."""
    for statement in statements:
        connection.execute(statement.encode())


def connection_settings(url: str) -> dict[str, Any]:
    """Return the settings in a URL.  Raises `UnusableUrl`."""
    try:
        return dict(conninfo.conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        raise UnusableUrl(detail="expected a URL such as 'postgresql://user@host/database'") from None


def sentence_of(error: psycopg.Error) -> str:
    """Return an error of the database on one line, without a password: libpq shows none."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    state = f" ({error.sqlstate})" if error.sqlstate else ""
    return " ".join(text.split()) + state


def lock_number(destination: str, lane: str) -> int:
    """Return the number of a lock: locks of all programs share one space of them."""
    digest = hashlib.sha256(f"trackcore\0{destination}\0{lane}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
