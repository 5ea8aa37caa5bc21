"""Opening and migrating a SQLite file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from trackcore_sqlitefile import Format, UnusableFile, primary_code


class TestFormat:
    """Every statement of a migration runs, or it fails; the version is never raised without them."""

    def test_a_last_statement_without_its_semicolon_is_not_dropped(self, tmp_path: Path) -> None:
        found = Format(application_id=1, migrations=("CREATE TABLE a (x);\nCREATE TABLE b (x)",), error=UnusableFile)
        with closing(sqlite3.connect(tmp_path / "file.db", isolation_level=None)) as connection:
            found.migrate(connection, tmp_path / "file.db")
            names = connection.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()
            assert (names, found.version(connection, tmp_path)) == ([("a",), ("b",)], 1)

    def test_an_error_that_is_not_of_sqlite_has_no_code(self) -> None:
        assert primary_code(ValueError()) == 0
