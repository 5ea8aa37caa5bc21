"""The embedded log during failures: full disk, locked, unreadable or damaged file, killed process."""

from __future__ import annotations

import errno
import json
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import (
    NOON,
    Workers,
    child_environment,
    commits_held,
    envelope,
    interrupting,
    is_sound,
    python_command,
    quarantined_request,
    rejected_record,
    run_python,
    write_lock,
)
from patience import PATIENCE, wait_for
from trackcore_sqlite import SqliteLog, SqliteSink, UnusableLog, prune, rebuild_ids, tables, writer
from trackcore_sqlite.tables import open_for_writing
from trackcore_sqlite.writer import LogWriter

from trackcore import Cause, Envelope, Outcome, SinkUnavailable


def _ids(log: SqliteLog) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages()]


def _large(message_id: str, size: int) -> Envelope:
    return envelope(message_id, payload=json.dumps({"messageId": message_id, "pad": "x" * size}).encode())


class TestAllOrNothing:
    """Store everything or nothing."""

    BROKEN = envelope("broken", user_id="\ud800")

    def test_a_broken_message_takes_its_whole_call_with_it(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        with pytest.raises(UnicodeEncodeError):
            sqlite_sink.store(
                [envelope("a"), envelope("b", source="new"), self.BROKEN],
                rejected=[rejected_record()],
                quarantined=[quarantined_request()],
            )
        totals = log.totals()
        assert (totals.messages, totals.rejected, totals.quarantined) == (0, 0, 0)

    def test_the_next_call_works(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        """Among others, the sink discards its cached number of a source that was rolled back."""
        with pytest.raises(UnicodeEncodeError):
            sqlite_sink.store([envelope("a", source="new"), self.BROKEN])
        sqlite_sink.store([envelope("b", source="other")])
        sqlite_sink.store([envelope("a", source="new")])
        assert [(stored.source, stored.seq) for stored in log.messages()] == [("other", 1), ("new", 2)]

    @pytest.mark.parametrize(
        "broken",
        [
            BROKEN,
            envelope("broken", destinations=(object(),)),  # type: ignore[arg-type]
            envelope("broken", call=None),  # type: ignore[arg-type]
            envelope("broken", user_id=2**70),  # type: ignore[arg-type]
            envelope("broken", user_id=object()),  # type: ignore[arg-type]
        ],
        ids=["no-utf8", "no-json", "null", "integer-of-71-bits", "no-sql-type"],
    )
    def test_a_fault_of_one_call_is_not_that_of_those_beside_it(
        self, sqlite_sink: SqliteSink, log: SqliteLog, broken: Envelope
    ) -> None:
        """A fault of one request must not fail the others."""
        sqlite_sink.store([envelope("first")])
        with commits_held(sqlite_sink):
            good = [Workers([partial(sqlite_sink.store, [envelope("a")])])]
            wait_for(lambda: len(sqlite_sink._committer._queue) == 1)
            bad = Workers([partial(sqlite_sink.store, [envelope("x"), broken])])
            wait_for(lambda: len(sqlite_sink._committer._queue) == 2)
            good.append(Workers([partial(sqlite_sink.store, [envelope("b")])]))
            wait_for(lambda: len(sqlite_sink._committer._queue) == 3)
        bad.finish()
        for workers in good:
            assert workers.finish() == [[Outcome.STORED]], workers.errors
        assert _ids(log) == ["first", "a", "b"]

    def test_an_interrupt_is_no_acknowledgement(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        """When the thread that commits for all is interrupted, no call returns as if its messages were stored."""
        sqlite_sink.store([envelope("first")])
        with commits_held(sqlite_sink):
            calls = {}
            for number, message_id in enumerate(("a", "interrupted", "b"), 1):
                envelopes = interrupting() if message_id == "interrupted" else [envelope(message_id)]
                calls[message_id] = Workers([partial(sqlite_sink.store, envelopes)])
                wait_for(lambda number=number: len(sqlite_sink._committer._queue) == number)  # type: ignore[misc]
        for call in calls.values():
            call.finish()
        assert {message_id for message_id, call in calls.items() if call.errors == [None]} <= set(_ids(log))

    def test_after_an_interrupt(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        """Nothing of the interrupted call is stored, and the next one works."""
        sqlite_sink.store([envelope("first")])
        with pytest.raises(KeyboardInterrupt):
            sqlite_sink.store(interrupting())
        assert sqlite_sink.store([envelope("next")]) == [Outcome.STORED]
        assert _ids(log) == ["first", "next"]

    def test_an_interrupt_while_another_process_writes(
        self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path
    ) -> None:
        """Nothing was begun yet; no call waits for the interrupted one."""
        sqlite_sink.store([envelope("first")])
        with write_lock(log_path), _interrupted_when(lambda: sqlite_sink._writer._file.is_busy):
            sqlite_sink.store([envelope("interrupted")])
        assert Workers([partial(sqlite_sink.store, [envelope("next")])]).finish() == [[Outcome.STORED]]
        assert _ids(log) == ["first", "next"]

    def test_an_interrupt_while_another_call_commits(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        """The next call leads instead of the interrupted one, whose messages are not stored."""
        sqlite_sink.store([envelope("first")])
        queue = sqlite_sink._committer._queue
        with commits_held(sqlite_sink):
            leading = Workers([partial(sqlite_sink.store, [envelope("a")])])
            wait_for(lambda: len(queue) == 1)
            with _interrupted_when(lambda: len(queue) == 2):
                sqlite_sink.store([envelope("interrupted")])
            following = Workers([partial(sqlite_sink.store, [envelope("b")])])
            wait_for(lambda: len(queue) == 2)
        assert leading.finish() == following.finish() == [[Outcome.STORED]]
        assert _ids(log) == ["first", "a", "b"]
        assert sqlite_sink._committer._queued_bytes == 0


@contextmanager
def _interrupted_when(condition: Callable[[], object]) -> Iterator[None]:
    """Interrupt the main thread once, as Ctrl-C does, and expect the interrupt.

    A signal that comes just before a thread begins to wait does not wake it, so it is sent until it was handled.
    """
    main = threading.main_thread().ident
    assert main is not None
    handled = threading.Event()

    def handle(_: int, __: object) -> None:
        if not handled.is_set():
            handled.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        wait_for(condition)
        while not handled.wait(0.01):
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handle)
    try:
        interrupting = Workers([interrupt])
        with pytest.raises(KeyboardInterrupt):
            yield
        interrupting.finish()
    finally:
        signal.signal(signal.SIGINT, before)


class TestFull:
    """It refuses cleanly when the disk is full and recovers by itself."""

    @pytest.fixture(name="pages")
    def _pages(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
        """The number of pages that the file may have, which acts as a small disk."""
        room = {"pages": 40}

        def open_with_little_room(path: Path, busy_timeout: float) -> sqlite3.Connection:
            connection = open_for_writing(path, busy_timeout)
            connection.execute(f"PRAGMA max_page_count = {room['pages']}")
            return connection

        monkeypatch.setattr(writer, "open_for_writing", open_with_little_room)
        return room

    def _fill(self, sink: SqliteSink) -> tuple[list[str], SinkUnavailable]:
        stored: list[str] = []
        for n in range(200):
            try:
                sink.store([_large(f"{n}-{k}", 2000) for k in range(3)], rejected=[rejected_record(b"%d" % n)])
            except SinkUnavailable as error:
                return stored, error
            stored += [f"{n}-{k}" for k in range(3)]
        raise AssertionError("the disk was never full")

    @pytest.mark.usefixtures("pages")
    def test_nothing_is_half_written(self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path) -> None:
        stored, error = self._fill(sqlite_sink)
        assert error.cause is Cause.FULL
        assert 1 <= error.retry_after <= 300
        assert _ids(log) == stored
        assert log.totals().rejected == len(stored) // 3
        assert is_sound(log_path)

    @pytest.mark.usefixtures("pages")
    def test_it_says_so_as_long_as_there_is_no_room(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        stored, _ = self._fill(sqlite_sink)
        for _ in range(3):
            with pytest.raises(SinkUnavailable) as caught:
                sqlite_sink.store([_large("large", 20_000)])
            assert caught.value.cause is Cause.FULL
        assert _ids(log) == stored

    def test_it_works_again_when_there_is_room(
        self, sqlite_sink: SqliteSink, log: SqliteLog, pages: dict[str, int]
    ) -> None:
        stored, _ = self._fill(sqlite_sink)
        pages["pages"] = 4000
        assert sqlite_sink.store([_large("large", 20_000), envelope("0-0")]) == [Outcome.STORED, Outcome.DUPLICATE]
        assert _ids(log) == [*stored, "large"]
        assert [entry.seq for entry in log.messages()] == list(range(1, len(stored) + 2))

    @pytest.mark.usefixtures("pages")
    def test_all_that_were_committed_together_hear_of_it(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        stored, _ = self._fill(sqlite_sink)
        with commits_held(sqlite_sink):
            workers = Workers(partial(sqlite_sink.store, [_large(f"w{n}", 20_000)]) for n in range(3))
            wait_for(lambda: len(sqlite_sink._committer._queue) == 3)
        workers.finish()
        assert [error.cause for error in workers.errors if isinstance(error, SinkUnavailable)] == [Cause.FULL] * 3
        assert _ids(log) == stored

    def test_also_while_the_file_is_made(
        self, sqlite_sink: SqliteSink, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = tables._connect

        def connect_with_little_room(uri: str, path: Path, busy_timeout: float) -> sqlite3.Connection:
            connection = connect(uri, path, busy_timeout)
            connection.execute("PRAGMA max_page_count = 3")
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(tables, "_connect", connect_with_little_room)
            with pytest.raises(SinkUnavailable) as caught:
                sqlite_sink.store([envelope("a")])
        assert caught.value.cause is Cause.FULL
        sqlite_sink.store([envelope("a")])
        assert _ids(log) == ["a"]

    def test_also_when_the_operating_system_says_it(
        self, sqlite_sink: SqliteSink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> sqlite3.Connection:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(writer, "open_for_writing", fail)
            with pytest.raises(SinkUnavailable) as caught:
                sqlite_sink.check_ready()
        assert caught.value.cause is Cause.FULL
        sqlite_sink.check_ready()

    def test_readiness(self, sqlite_sink: SqliteSink, pages: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
        """`check_ready` tests by storing; a success holds for a while, and a failure is never cached."""
        sqlite_sink.check_ready()
        sqlite_sink.close()
        pages["pages"] = 1

        def refuse(*_: object) -> sqlite3.Connection:
            raise OSError(errno.ENOSPC, "No space left on device")

        sqlite_sink.check_ready()  # known
        sqlite_sink._ready_at -= 10
        with monkeypatch.context() as patch:
            patch.setattr(writer, "open_for_writing", refuse)
            for _ in range(2):
                with pytest.raises(SinkUnavailable):
                    sqlite_sink.check_ready()
        sqlite_sink.check_ready()

    def test_a_failure_to_store_ends_what_was_known(self, sqlite_sink: SqliteSink, pages: dict[str, int]) -> None:
        sqlite_sink.check_ready()
        sqlite_sink.close()
        pages["pages"] = 1
        sqlite_sink.check_ready()  # known
        with pytest.raises(SinkUnavailable):
            sqlite_sink.store([_large("large", 20_000)])
        assert sqlite_sink._ready_at < 0


class TestLocked:
    """A sink waits for another process that writes; too long a wait is an error, and nothing is lost."""

    def test_a_lock_that_is_held_too_long(self, log_path: Path, log: SqliteLog) -> None:
        sink = SqliteSink(log_path, busy_timeout=0.02)
        sink.store([envelope("a")])
        with write_lock(log_path):
            with pytest.raises(SinkUnavailable, match="another process") as caught:
                sink.store([envelope("b")])
            assert caught.value.cause is Cause.UNAVAILABLE
            assert 1 <= caught.value.retry_after <= 300
            assert _ids(log) == ["a"]
        assert sink.store([envelope("b")]) == [Outcome.STORED]
        assert _ids(log) == ["a", "b"]
        sink.close()

    def test_a_lock_that_is_let_go_in_time(self, log_path: Path, log: SqliteLog) -> None:
        sink = SqliteSink(log_path, busy_timeout=PATIENCE)
        sink.store([envelope("a")])
        with write_lock(log_path):
            writer = Workers([partial(sink.store, [envelope("b")])])
            wait_for(lambda: sink._writer._file.is_busy)
        assert writer.finish() == [[Outcome.STORED]]
        assert _ids(log) == ["a", "b"]
        sink.close()

    def test_what_another_process_stored_meanwhile_is_a_duplicate(self, log_path: Path, log: SqliteLog) -> None:
        first, second = SqliteSink(log_path), SqliteSink(log_path)
        first.store([envelope("a")])
        assert second.store([envelope("a"), envelope("b")]) == [Outcome.DUPLICATE, Outcome.STORED]
        assert first.store([envelope("b"), envelope("c", source="new")]) == [Outcome.DUPLICATE, Outcome.STORED]
        assert second.store([envelope("c", source="new")]) == [Outcome.DUPLICATE]
        assert _ids(log) == ["a", "b", "c"]
        first.close()
        second.close()


class TestGone:
    """Nothing is acknowledged that is stored in a file that was removed."""

    def test_a_log_that_was_deleted(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        """No new one is created either: others may still use the -wal and -shm files of the old one."""
        sqlite_sink.store([envelope("a")])
        log_path.unlink()
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="deleted, moved or replaced"):
                sqlite_sink.store([envelope("b")])
        with pytest.raises(SinkUnavailable, match="restart the server"):
            sqlite_sink.check_ready()
        assert not log_path.exists()

    def test_a_log_that_was_moved_away_and_is_put_back(
        self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path
    ) -> None:
        sqlite_sink.store([envelope("a")])
        aside = log_path.rename(log_path.with_name("aside"))
        with pytest.raises(SinkUnavailable):
            sqlite_sink.store([envelope("b")])
        aside.rename(log_path)
        assert sqlite_sink.store([envelope("a"), envelope("b")]) == [Outcome.DUPLICATE, Outcome.STORED]
        assert _ids(log) == ["a", "b"]

    def test_a_log_that_was_replaced(self, sqlite_sink: SqliteSink, log_path: Path, tmp_path: Path) -> None:
        sqlite_sink.store([envelope("a")])
        other = SqliteSink(tmp_path / "other.db")
        other.store([envelope("other")])
        other.close()
        (tmp_path / "other.db").rename(log_path)
        with pytest.raises(SinkUnavailable):
            sqlite_sink.store([envelope("b")])

    @pytest.mark.parametrize("tidy", [rebuild_ids, lambda path: list(prune(path, NOON))], ids=["rebuild", "prune"])
    def test_nobody_makes_a_log_but_who_stores(self, tidy: Callable[[Path], object], log_path: Path) -> None:
        with pytest.raises(UnusableLog, match="there is no log here"):
            tidy(log_path)
        assert not log_path.exists()


class TestOverload:
    """When too much waits to be stored, further requests are rejected as an overload."""

    @pytest.fixture(name="sink")
    def _sink(self, log_path: Path) -> Iterator[SqliteSink]:
        sink = SqliteSink(log_path, waiting_bytes=1000)
        yield sink
        sink.close()

    def test_what_is_too_much_is_refused(self, sink: SqliteSink, log: SqliteLog) -> None:
        with commits_held(sink):
            waiting = Workers([partial(sink.store, [_large("a", 800)])])
            wait_for(lambda: sink._committer._queued_bytes)
            with pytest.raises(SinkUnavailable) as caught:
                sink.store([_large("b", 800)])
            assert caught.value.cause is Cause.OVERLOADED
            assert 1 <= caught.value.retry_after <= 300
            small = Workers([partial(sink.store, [envelope("c")])])
            wait_for(lambda: len(sink._committer._queue) == 2)
        assert waiting.finish() == small.finish() == [[Outcome.STORED]]
        assert sink.store([_large("b", 800)]) == [Outcome.STORED]
        assert sorted(_ids(log)) == ["a", "b", "c"]
        assert sink._committer._queued_bytes == 0

    @pytest.mark.parametrize("part", ["rejected", "quarantined"])
    def test_everything_that_waits_counts(self, sink: SqliteSink, part: str) -> None:
        records = {"rejected": [rejected_record(b"x" * 900)], "quarantined": [quarantined_request(b"x" * 900)]}
        with commits_held(sink):
            waiting = Workers([partial(sink.store, **{part: records[part]})])  # type: ignore[arg-type]
            wait_for(lambda: sink._committer._queue)
            with pytest.raises(SinkUnavailable):
                sink.store([_large("b", 800)])
        waiting.finish()

    def test_one_that_is_larger_than_may_wait_is_stored_when_it_is_alone(
        self, sink: SqliteSink, log: SqliteLog
    ) -> None:
        assert sink.store([_large("huge", 5000)]) == [Outcome.STORED]
        assert _ids(log) == ["huge"]

    def test_failures_do_not_leave_it_overloaded(self, sink: SqliteSink) -> None:
        for _ in range(5):
            with pytest.raises(UnicodeEncodeError):
                sink.store([_large("a", 800), envelope("b", user_id="\ud800")])
        assert sink.store([_large("a", 800)]) == [Outcome.STORED]


class TestUnusableFiles:
    """A file of another program is rejected and left unchanged."""

    @staticmethod
    def _overwritten(path: Path) -> bytes:
        """Damage everything after the first two pages."""
        sink = SqliteSink(path)
        sink.store([_large(f"m{n}", 500) for n in range(200)])
        sink.close()
        whole = path.read_bytes()
        return whole[:8192] + b"\x5a" * (len(whole) - 8192)

    @pytest.fixture(
        name="unusable",
        params=["text", "zeros", "broken header", "damaged inside", "another program's"],
    )
    def _unusable(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        path = tmp_path / "log.db"
        if request.param == "another program's":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE messages (of_another_program TEXT)")
                connection.execute("CREATE TABLE counters (of_another_program TEXT)")
                connection.commit()
            return path
        content = {
            "text": b"these are my notes, " * 1000,
            "zeros": bytes(8192),
            "broken header": b"SQLite format 3\x00" + b"\xff" * 8000,
            "damaged inside": self._overwritten(tmp_path / "whole.db") if request.param == "damaged inside" else b"",
        }
        path.write_bytes(content[request.param])
        return path

    def test_storing(self, unusable: Path) -> None:
        before = unusable.read_bytes()
        sink = SqliteSink(unusable)
        for _ in range(2):
            with pytest.raises(SinkUnavailable) as caught:
                sink.store([envelope("a")])
            assert caught.value.cause is Cause.UNAVAILABLE
        with pytest.raises(SinkUnavailable):
            sink.store(rejected=[rejected_record()])
        sink.close()
        assert unusable.read_bytes() == before

    def test_reading(self, unusable: Path) -> None:
        before = unusable.read_bytes()
        log = SqliteLog(unusable)
        with pytest.raises(UnusableLog) as caught:
            list(log.messages())
        assert str(caught.value).startswith(f"{unusable}: ")
        with pytest.raises(UnusableLog):
            log.totals()
        assert unusable.read_bytes() == before

    def test_an_empty_file_becomes_a_log(self, tmp_path: Path) -> None:
        """SQLite makes the file empty and then fills it."""
        path = tmp_path / "log.db"
        path.touch()
        sink = SqliteSink(path)
        sink.store([envelope("a")])
        sink.close()
        assert _ids(SqliteLog(path)) == ["a"]

    def test_an_empty_file_is_no_log_to_read(self, tmp_path: Path) -> None:
        """A reader may come just after a writer has made the file, and before it has filled it."""
        path = tmp_path / "log.db"
        path.touch()
        with pytest.raises(UnusableLog):
            list(SqliteLog(path).messages())

    def test_a_missing_file(self, log_path: Path) -> None:
        log = SqliteLog(log_path)
        for read in (lambda: list(log.messages()), lambda: list(log.rejected()), lambda: list(log.quarantined())):
            with pytest.raises(UnusableLog, match="there is no log here; `trackcore serve` creates one") as caught:
                read()
            assert caught.value.path == log_path
        with pytest.raises(UnusableLog):
            log.totals()
        assert not log_path.parent.exists()

    def test_a_folder_in_its_place(self, log_path: Path) -> None:
        log_path.mkdir(parents=True)
        sink = SqliteSink(log_path)
        with pytest.raises(SinkUnavailable):
            sink.store([envelope("a")])
        log_path.rmdir()
        assert sink.store([envelope("a")]) == [Outcome.STORED]
        sink.close()

    def test_a_file_where_its_folder_should_be(self, log_path: Path) -> None:
        log_path.parent.write_text("notes")
        with pytest.raises(SinkUnavailable):
            SqliteSink(log_path).store([envelope("a")])
        assert log_path.parent.read_text() == "notes"

    def test_a_file_or_folder_that_is_read_only(self) -> None:
        """By an unprivileged user; the superuser becomes one for this."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sink = SqliteSink(folder / "log.db")
            sink.store([envelope("a")])
            sink.close()
            (folder / "log.db").chmod(0o444)
            folder.chmod(0o555)
            before = (folder / "log.db").read_bytes()
            try:
                printed = run_python(READ_ONLY, folder)
            finally:
                folder.chmod(0o755)
            assert (folder / "log.db").read_bytes() == before
        assert printed.split() == ["unavailable"] * 3

    def test_a_log_that_one_may_not_read(self) -> None:
        """The folder is private, so any other user gets this: a sentence, not a traceback."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "data"
            sink = SqliteSink(folder / "log.db")
            sink.store([envelope("a")])
            sink.close()
            Path(name).chmod(0o755)
            (folder / "log.db").chmod(0)
            folder.chmod(0o755)
            try:
                unreadable_file = run_python(NOT_TO_READ, folder / "log.db")
                folder.chmod(0)
                unreadable_folder = run_python(NOT_TO_READ, folder / "log.db")
            finally:
                folder.chmod(0o700)
        assert (unreadable_file.split(), unreadable_folder.split()) == (["UnusableLog"] * 2, ["UnusableLog"] * 2)


READ_ONLY = """
import os, sys
from pathlib import Path
from adapter_helpers import envelope
from trackcore import SinkUnavailable
from trackcore_sqlite import SqliteSink

folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in (folder / "log.db", folder / "other.db", folder / "deeper" / "log.db"):
    try:
        print(SqliteSink(path).store([envelope("b")]))
    except SinkUnavailable as error:
        print(error.cause)
"""


NOT_TO_READ = """
import os, sys
import urllib.parse  # by pathlib from 3.13 on, late: nobody else may read the interpreter either, if it is root's
from trackcore_sqlite import SqliteLog

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
log = SqliteLog(sys.argv[1])
for read in (lambda: list(log.messages()), log.totals):
    try:
        print(read())
    except Exception as error:
        print(type(error).__name__)
"""


# Processes

WRITER = """
import os, sys, threading
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

path, threads, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sink = SqliteSink(path, busy_timeout=20)

def write(thread):
    for n in range(each):
        message_id = f"{thread}-{n}"
        (outcome,) = sink.store([envelope(message_id, payload=b'{"messageId": "%s", "pad": "%s"}' % (
            message_id.encode(), b"x" * (n % 3000)))])
        os.write(1, f"{message_id} {outcome}\\n".encode())

writers = [threading.Thread(target=write, args=(thread,)) for thread in range(threads)]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
sink.close()
"""


class TestProcesses:
    """Several processes and threads write; killed at any instant, every acknowledged message is there once."""

    def _start(self, path: Path, threads: int, each: int) -> subprocess.Popen[str]:
        command = python_command(WRITER, path, threads, each)
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())

    def test_two_processes_of_several_threads(self, log_path: Path, log: SqliteLog) -> None:
        writers = [self._start(log_path, 3, 40) for _ in range(2)]
        printed = [
            line.split() for writer in writers for line in writer.communicate(timeout=3 * PATIENCE)[0].splitlines()
        ]
        assert [writer.returncode for writer in writers] == [0, 0]
        expected = {f"{thread}-{n}" for thread in range(3) for n in range(40)}
        assert Counter(message_id for message_id, outcome in printed if outcome == "stored") == Counter(expected)
        assert Counter(message_id for message_id, outcome in printed if outcome == "duplicate") == Counter(expected)
        assert sorted(_ids(log)) == sorted(expected)
        assert [entry.seq for entry in log.messages()] == list(range(1, len(expected) + 1))
        assert is_sound(log_path)

    def test_killed_while_writing(self, log_path: Path, log: SqliteLog) -> None:
        """Each round sends everything again, as clients do that received no response."""
        acknowledged: dict[str, str] = {}
        for attempt in range(4):
            writer = self._start(log_path, 4, 10_000)
            assert writer.stdout is not None
            for _ in range(30 + 150 * attempt):
                message_id, outcome = writer.stdout.readline().split()
                assert outcome == "duplicate" or acknowledged.get(message_id) is None
                acknowledged[message_id] = outcome
            writer.send_signal(signal.SIGKILL)
            for line in writer.communicate(timeout=PATIENCE)[0].splitlines():
                message_id, _ = line.split()
                acknowledged[message_id] = "stored"
            assert writer.returncode == -signal.SIGKILL
            stored = Counter(_ids(log))
            assert set(acknowledged) <= set(stored)
            assert set(stored.values()) == {1}
            assert [entry.seq for entry in log.messages()] == list(range(1, len(stored) + 1))
            assert is_sound(log_path)
        sink = SqliteSink(log_path)
        assert sink.store([envelope("after")]) == [Outcome.STORED]
        sink.close()

    def test_a_fork_uses_the_log_beside_its_parent(self, log_path: Path, log: SqliteLog) -> None:
        script = """
import os, sys
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

sink = SqliteSink(sys.argv[1])
sink.store([envelope("before")])
sink.check_ready()
if os.fork() == 0:
    sink.check_ready()
    sys.stdout.write(" ".join(sink.store([envelope("before"), envelope("child")])) + "\\n")
    sys.stdout.flush()
    os._exit(0)
sys.stdout.write(" ".join(sink.store([envelope("parent")])) + "\\n")
sys.stdout.flush()
assert os.wait()[1] == 0
print(*sink.store([envelope("after"), envelope("child")]), flush=True)
"""
        printed = sorted(run_python(script, log_path).splitlines())
        assert printed == ["duplicate stored", "stored", "stored duplicate"]
        assert sorted(_ids(log)) == ["after", "before", "child", "parent"]
        assert is_sound(log_path)

    def test_threads_of_a_fork_that_begin_at_once(self, log_path: Path, log: SqliteLog) -> None:
        """Each finds a sink of the parent, and exactly one of them resets it."""
        script = """
import os, sys
from functools import partial
from adapter_helpers import at_once, envelope
from trackcore_sqlite import SqliteSink
sys.setswitchinterval(1e-6)
sink = SqliteSink(sys.argv[1])
sink.store([envelope("parent")])
for fork in range(60):
    if (child := os.fork()) == 0:
        try:
            at_once(*(partial(sink.store, [envelope(f"{fork}-{thread}")]) for thread in range(6)))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
        run_python(script, log_path)
        assert len(_ids(log)) == 361

    @pytest.mark.parametrize("use", ["sink.store([envelope('child')])", "sink.check_ready()", "sink.close()"])
    def test_a_fork_in_the_midst_of_a_commit(self, log_path: Path, log: SqliteLog, use: str) -> None:
        """A child must not use locks of its parent: no thread there releases them."""
        script = f"""
import os, sys, threading, time
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

sink = SqliteSink(sys.argv[1])
sink.store([envelope("before")])
with sink._writer._file._lock, sink._committer._lock:
    child = os.fork()
    if child == 0:
        {use}
        os._exit(0)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            print("ended", status)
            break
        time.sleep(0.005)
    else:
        os.kill(child, 9)
        print("hung")
print(*sink.store([envelope("after")]))
"""
        assert run_python(script, log_path).splitlines() == ["ended 0", "stored"]
        assert set(_ids(log)) - {"child"} == {"before", "after"}
        assert is_sound(log_path)

    @pytest.mark.parametrize(
        "meanwhile",
        [
            "",
            "other = SqliteSink(path); other.store([envelope('b')])",
            "reader = SqliteLog(path).messages(); next(reader); sink.close(); sink.store([envelope('b')])",
        ],
        ids=["one sink", "two sinks in one process", "a reader in the process while the sink opens again"],
    )
    def test_a_process_that_ends_does_not_take_the_log_away(
        self, log_path: Path, log: SqliteLog, meanwhile: str
    ) -> None:
        """Closing any descriptor of a file drops all POSIX locks that the process has on it.  A process that then
        closes the log takes itself for the last, and removes the write-ahead log to which this one continues to write.
        """
        script = f"""
import os, subprocess, sys
from adapter_helpers import envelope
from trackcore_sqlite import SqliteLog, SqliteSink

path, other_process = sys.argv[1:]
sink = SqliteSink(path)
sink.store([envelope("a")])
{meanwhile}
subprocess.run([sys.executable, "-c", other_process, path, "1", "1"], check=True, stdout=subprocess.DEVNULL)
print(*sink.store([envelope("after")]), flush=True)
os._exit(0)  # as if it were killed: nothing is closed in order
"""
        assert run_python(script, log_path, WRITER).split() == ["stored"]
        stored = _ids(log)
        assert set(stored) == {"a", "0-0", "after"} | ({"b"} if meanwhile else set())
        assert is_sound(log_path)

    def test_what_waited_in_the_parent_is_stored_by_the_parent_alone(self, log_path: Path, log: SqliteLog) -> None:
        script = """
import os, sys, threading, time
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

sink = SqliteSink(sys.argv[1])
with sink._writer._file._lock:
    waiting = threading.Thread(target=sink.store, args=([envelope("waiting")],))
    waiting.start()
    while not sink._committer._queue:
        time.sleep(0.001)
    if os.fork() == 0:
        sink.store([envelope("child")])
        os._exit(0)
    assert os.wait()[1] == 0
waiting.join()
"""
        run_python(script, log_path)
        assert _ids(log) == ["child", "waiting"]


def test_closing_waits_for_a_commit(sqlite_sink: SqliteSink, log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is not closed while a thread writes."""
    sqlite_sink.store([envelope("first")])
    closers: list[threading.Thread] = []
    write = LogWriter._write

    def write_while_another_closes(self: LogWriter, connection: sqlite3.Connection, requests: Any) -> Any:
        closer = threading.Thread(target=self.close)
        closer.start()
        closer.join(0.05)
        closers.append(closer)
        return write(self, connection, requests)

    monkeypatch.setattr(LogWriter, "_write", write_while_another_closes)
    assert sqlite_sink.store([envelope("a")]) == [Outcome.STORED]
    closers[0].join(PATIENCE)
    assert _ids(log) == ["first", "a"]


def test_a_number_that_is_taken_makes_no_duplicate(sqlite_sink: SqliteSink, log: SqliteLog) -> None:
    """Whatever the damage of the file, a message that is not in it is not reported as stored."""
    sqlite_sink.store([envelope("a")])
    with closing(sqlite3.connect(sqlite_sink.path, isolation_level=None)) as connection:
        connection.execute("UPDATE counters SET value = 0 WHERE name = 'messages.seq'")
    with pytest.raises((SinkUnavailable, sqlite3.Error)):
        sqlite_sink.store([envelope("b")])
    assert _ids(log) == ["a"]


def test_threads_that_meet_a_closing(sqlite_sink: SqliteSink, log: SqliteLog) -> None:
    """Close the file.  A later call opens it again."""
    stop = threading.Event()

    def close() -> None:
        while not stop.is_set():
            sqlite_sink.close()

    closing_all_the_time = Workers([close])
    try:
        for n in range(30):
            assert sqlite_sink.store([envelope(f"m{n}")]) == [Outcome.STORED]
    finally:
        stop.set()
    closing_all_the_time.finish()
    assert len(_ids(log)) == 30
