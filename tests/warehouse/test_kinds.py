"""PostgreSQL, Parquet and DuckDB hold equal rows for one log, which are those that the rules say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from postgres_cluster import Database
from warehouse_helpers import SOURCE, api_examples, generated, payload_of, received, sdk_requests
from warehouse_kinds import KINDS, Place, as_fed
from warehouse_oracle import Stored


def mixed_log(count: int) -> list[Stored]:
    """Return a log of the examples of the API, the recorded requests of SDKs, and generated messages."""
    requests = [one.payload for one in received([*api_examples(), *sdk_requests()])]
    made = [payload_of(one) for one in generated(count, first=10)]
    return [Stored(seq, SOURCE, payload) for seq, payload in enumerate([*requests, *made], 1)]


def with_types(tables: dict[str, Any]) -> dict[str, Any]:
    """Return rows whose values are compared by their types too: `1`, `1.0` and `true` are equal in Python."""
    return {
        table: {key: {name: (type(one), one) for name, one in row.items()} for key, row in rows.items()}
        for table, rows in tables.items()
    }


def test_all_kinds_hold_equal_rows(database: Database, tmp_path: Path, is_long: bool) -> None:
    count, size = (100_000, 10_000) if is_long else (800, 300)
    log = mixed_log(count)
    messages = as_fed(log)
    places = [Place(kind, tmp_path, database) for kind in KINDS]
    for place in places:
        place.fill(messages, size)
    places[0].check(log)
    first, *others = (with_types(place.tables()) for place in places)
    assert first["_discards"]
    for found in others:
        assert found.keys() == first.keys()
        for table, rows in first.items():
            assert found[table] == rows, table
