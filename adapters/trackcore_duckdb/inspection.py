"""The parts that the readers of files and of databases share: their failures, and the table of discards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import duckdb

from trackcore import StoredMessage, TrackcoreError
from trackcore.warehouse import Discard, DiscardReason, storable
from trackcore_duckdb.engine import NEWLINE, Engine


@attrs.define(kw_only=True, eq=False)
class WarehouseUnreadable(TrackcoreError):
    """The database or the files cannot be read now."""

    detail: str


@contextmanager
def reported() -> Iterator[None]:
    """Report failures of DuckDB and of files in a sentence, as those of a store are."""
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseUnreadable(detail=f"DuckDB: {str(error).partition(NEWLINE)[0]}") from error
    except OSError as error:
        raise WarehouseUnreadable(detail=f"{error.filename or 'temporary files'}: {error.strerror}") from error


def discards_in(engine: Engine, relation: str, message: StoredMessage) -> list[tuple[str, Discard]]:
    """Return the discards of a message, each with its table.  Raises `duckdb.Error`."""
    query = (
        f"SELECT DISTINCT table_name, number, column_name, column_value, reason FROM {relation} "
        "WHERE message_id = ? ORDER BY table_name, number"
    )
    found = engine.query(query, [storable(str(message.message["messageId"]))])
    return [(table, Discard(column, value, DiscardReason(reason))) for table, _, column, value, reason in found]


def discard_counts(engine: Engine, relation: str) -> dict[str, int]:
    """Return the number of discards of each table.  Raises `duckdb.Error`."""
    return dict(engine.query(f"SELECT table_name, count(*) FROM {relation} GROUP BY 1"))
