"""The size of the write-ahead log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from adapter_helpers import at_once, envelope, is_sound
from patience import wait_for
from trackcore_sqlite import SqliteLog, SqliteSink
from trackcore_sqlitefile import WAL_BYTES

from trackcore import Envelope, Outcome

LARGE_BYTES = 512 << 10


def large(message_id: str) -> Envelope:
    return envelope(message_id, payload=b'{"padding":"%s"}' % (b"x" * LARGE_BYTES))


def wal_bytes(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold a snapshot of the log for the duration of the block."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM messages").fetchone()
        yield connection
    finally:
        connection.close()


class TestWriteAheadLog:
    """It grows while a reader holds a snapshot, and a commit truncates it once no reader needs it."""

    @pytest.mark.parametrize("writers", [1, 2])
    def test_it_shrinks_when_the_reader_has_gone(self, writers: int, log_path: Path, log: SqliteLog) -> None:
        sinks = [SqliteSink(log_path) for _ in range(writers)]
        sinks[0].store([envelope("first")])
        with snapshot(log_path) as reader:
            count = 0
            while wal_bytes(log_path) <= WAL_BYTES + LARGE_BYTES:
                for sink in sinks:
                    assert sink.store([large(f"{count}")]) == [Outcome.STORED], "nobody waits for the reader"
                    count += 1
            assert reader.execute("SELECT count(*) FROM messages").fetchone() == (1,), "its snapshot is not cut"

        def is_short_after_a_commit() -> bool:
            nonlocal count
            ids = range(count, count + writers)
            at_once(*(partial(sink.store, [envelope(f"{n}")]) for n, sink in zip(ids, sinks, strict=True)))
            count += writers
            return wal_bytes(log_path) <= WAL_BYTES

        wait_for(is_short_after_a_commit)
        assert len(list(log.messages())) == 1 + count
        for sink in sinks:
            sink.close()
        assert is_sound(log_path)

    def test_a_reader_that_goes_through_the_log_slowly_holds_no_snapshot(self, log_path: Path, log: SqliteLog) -> None:
        """Iteration reads page by page, and holds nothing from one page to the next."""
        sink = SqliteSink(log_path)
        sink.store([envelope(f"first-{n}") for n in range(2)])
        readers = [log.messages(), log.payloads(after=0, last=2), log.tail().read()]
        for reader in readers:
            next(reader)
        for count in range(2 * WAL_BYTES // LARGE_BYTES):
            sink.store([large(f"{count}")])
        assert wal_bytes(log_path) <= WAL_BYTES
        for reader in readers:
            next(reader)
        sink.close()
