"""The embedded log, written by event loops: one, several at once, and beside threads.

`test_sink_contract` has the contract that a sink keeps for threads and loops alike.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVarTuple, Unpack

import pytest
from adapter_helpers import (
    Workers,
    commits_held,
    envelope,
    interrupting,
    is_sound,
    rejected_record,
    write_lock,
)
from loops import run_quietly, wait_in_loop
from patience import PATIENCE, wait_for
from trackcore_sqlite import SqliteLog, SqliteSink, writer, writer_thread
from trackcore_sqlite.tables import open_for_writing

from trackcore import Cause, Envelope, Outcome, SinkUnavailable

STORED, DUPLICATE = Outcome.STORED, Outcome.DUPLICATE


def _ids(log: SqliteLog) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages()]


def _large(message_id: str, size: int) -> Envelope:
    return envelope(message_id, payload=b'{"messageId": "%s", "pad": "%s"}' % (message_id.encode(), b"x" * size))


def _waiting(sink: SqliteSink) -> int:
    return len(sink._committer._queue)


async def _enter(sink: SqliteSink, *calls: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Begin calls of an event loop, and wait until all are in the queue of the sink."""
    enough = _waiting(sink) + len(calls)
    tasks = [asyncio.create_task(call) for call in calls]
    await wait_in_loop(lambda: _waiting(sink) == enough)
    return tasks


def _enter_by_thread(sink: SqliteSink, message_id: str) -> Workers:
    enough = _waiting(sink) + 1
    workers = Workers([partial(sink.store, [envelope(message_id)])])
    wait_for(lambda: _waiting(sink) == enough)
    return workers


async def _results(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """Return the outcomes of calls, and of those that failed the cause or the kind of the error."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        found.cause
        if isinstance(found, SinkUnavailable)
        else type(found)
        if isinstance(found, BaseException)
        else found
        for found in results
    ]


@pytest.fixture(name="sink")
def _sink(sqlite_sink: SqliteSink) -> SqliteSink:
    """A sink on a file that has the message `first`."""
    sqlite_sink.store([envelope("first")])
    return sqlite_sink


@pytest.fixture(name="commits")
def _commits(sink: SqliteSink) -> list[str]:
    """The commits of the sink from then on."""
    commits: list[str] = []
    connection = sink._writer._file._connection
    assert connection is not None
    connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    return commits


_Ts = TypeVarTuple("_Ts")


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts how often other threads wake it."""

    wakeups = 0

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.wakeups += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


class TestGroups:
    """Requests that are ready together are committed together, and their loop is woken once for all of them."""

    def test_the_requests_of_one_iteration_are_one_commit(self, sink: SqliteSink, commits: list[str]) -> None:
        async def store() -> list[Sequence[Outcome]]:
            return await asyncio.gather(*(sink.store_async([envelope(f"m{n}")]) for n in range(50)))

        assert run_quietly(store()) == [[STORED]] * 50
        assert len(commits) == 1

    @pytest.mark.parametrize("first", ["a thread", "a loop"])
    def test_threads_and_loops_that_wait_are_one_commit(
        self, first: str, sink: SqliteSink, log: SqliteLog, commits: list[str]
    ) -> None:
        """The first of them leads."""

        async def store() -> None:
            workers, tasks = [], []
            with commits_held(sink):
                for turn in range(4):
                    if (turn % 2 == 0) == (first == "a thread"):
                        workers.append(_enter_by_thread(sink, f"{turn}"))
                    else:
                        tasks += await _enter(sink, sink.store_async([envelope(f"{turn}")]))
            assert await _results(tasks) == [[STORED]] * 2
            assert [worker.finish() for worker in workers] == [[[STORED]]] * 2

        run_quietly(store())
        assert len(commits) == 1
        assert _ids(log) == ["first", "0", "1", "2", "3"]

    def test_a_loop_is_woken_once_for_a_commit(self, sink: SqliteSink, commits: list[str]) -> None:
        """Even if its requests are from several iterations."""

        async def store() -> None:
            with commits_held(sink):
                tasks = [task for n in range(5) for task in await _enter(sink, sink.store_async([envelope(f"m{n}")]))]
            assert await _results(tasks) == [[STORED]] * 5

        with asyncio.Runner(loop_factory=CountingLoop) as runner:
            runner.run(store())
            loop = runner.get_loop()
            assert isinstance(loop, CountingLoop)
            assert (loop.wakeups, len(commits)) == (1, 1)

    def test_a_large_queue_is_committed_in_parts(self, sink: SqliteSink, log: SqliteLog, commits: list[str]) -> None:
        async def store() -> None:
            with commits_held(sink):
                tasks = await _enter(sink, *(sink.store_async([_large(f"m{n}", 6 << 20)]) for n in range(5)))
            assert await _results(tasks) == [[STORED]] * 5

        run_quietly(store())
        assert len(commits) == 2
        assert len(_ids(log)) == 6

    def test_a_loop_finds_its_calls_in_their_order(self, sink: SqliteSink, log: SqliteLog) -> None:
        expected = [f"{turn}-{n}" for turn in range(5) for n in range(10)]

        async def store() -> None:
            tasks = []
            for turn in range(5):
                tasks += [asyncio.create_task(sink.store_async([envelope(f"{turn}-{n}")])) for n in range(10)]
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)

        run_quietly(store())
        assert _ids(log) == ["first", *expected]

    def test_nothing_is_acknowledged_before_its_commit(self, sink: SqliteSink, log: SqliteLog) -> None:
        """Whenever `store_async` has returned, another connection sees the messages."""

        async def store(task: int) -> bool:
            seen = True
            for n in range(10):
                await sink.store_async([envelope(f"{task}-{n}")])
                seen = seen and f"{task}-{n}" in _ids(log)
            return seen

        async def store_all() -> list[bool]:
            return await asyncio.gather(*map(store, range(4)))

        assert run_quietly(store_all()) == [True] * 4

    def test_the_loop_goes_on_while_others_write(self, sink: SqliteSink, log_path: Path) -> None:
        async def store() -> None:
            with write_lock(log_path):
                (task,) = await _enter(sink, sink.store_async([envelope("a")]))
                await wait_in_loop(lambda: sink._writer._file.is_busy)
                assert not task.done()
            assert await task == [STORED]

        run_quietly(store())


class TestCancelled:
    """A call that is cancelled may be stored nevertheless; it disturbs nobody."""

    def test_in_the_iteration_in_which_it_was_made(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            tasks = [asyncio.create_task(sink.store_async([envelope(name)])) for name in ("cancelled", "a")]
            await asyncio.sleep(0)
            tasks[0].cancel()
            assert await _results(tasks) == [asyncio.CancelledError, [STORED]]

        run_quietly(store())
        assert "a" in _ids(log)
        assert sink._committer._queued_bytes == 0

    def test_while_it_waits(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            with commits_held(sink):
                names = ("a", "cancelled", "b")
                tasks = await _enter(sink, *(sink.store_async([envelope(name)]) for name in names))
                tasks[1].cancel()
                await asyncio.sleep(0)
            assert await _results(tasks) == [[STORED], asyncio.CancelledError, [STORED]]

        run_quietly(store())
        assert {"a", "b"} <= set(_ids(log))

    def test_after_its_commit_before_the_loop_has_noticed(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            tasks = [asyncio.create_task(sink.store_async([envelope(name)])) for name in ("cancelled", "a")]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            wait_for(lambda: "a" in _ids(log))  # the loop stands still
            tasks[0].cancel()
            assert await _results(tasks) == [asyncio.CancelledError, [STORED]]
            assert await sink.store_async([envelope("cancelled")]) == [DUPLICATE]

        run_quietly(store())

    def test_all_of_them(self, sink: SqliteSink) -> None:
        async def store() -> None:
            with commits_held(sink):
                tasks = await _enter(sink, *(sink.store_async([envelope(f"m{n}")]) for n in range(5)))
                for task in tasks:
                    task.cancel()
                assert await _results(tasks) == [asyncio.CancelledError] * 5
            await sink.store_async([envelope("next")])

        run_quietly(store())
        assert sink._committer._queued_bytes == 0

    def test_by_a_timeout(self, sink: SqliteSink, log_path: Path, log: SqliteLog) -> None:
        async def store() -> None:
            with write_lock(log_path), pytest.raises(TimeoutError):
                await asyncio.wait_for(sink.store_async([envelope("late")]), 0.05)
            await sink.store_async([envelope("next")])

        run_quietly(store())
        assert "next" in _ids(log)


class TestLoopsThatEnd:
    """A loop that ends before its commit harms no other loop and no thread."""

    def test_closed_while_its_requests_wait(self, sink: SqliteSink, log: SqliteLog) -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, __: None)  # it complains about its pending task
        with commits_held(sink):
            loop.run_until_complete(_enter(sink, sink.store_async([envelope("of the closed loop")])))
            loop.close()
            workers = _enter_by_thread(sink, "a")
        assert workers.finish() == [[STORED]]
        assert run_quietly(sink.store_async([envelope("b")])) == [STORED]
        assert _ids(log) == ["first", "of the closed loop", "a", "b"]

    def test_stopped_before_the_end_of_the_iteration(self, sink: SqliteSink, log: SqliteLog) -> None:
        """Another loop of the same thread stores meanwhile, and so do threads; then the first loop goes on."""
        loop = asyncio.new_event_loop()
        call = loop.create_task(sink.store_async([envelope("of the stopped loop")]))
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert run_quietly(sink.store_async([envelope("a")])) == [STORED]
        assert Workers([partial(sink.store, [envelope("b")])]).finish() == [[STORED]]
        assert _ids(log) == ["first", "a", "b"]
        more = loop.create_task(sink.store_async([envelope("c")]))
        assert [loop.run_until_complete(task) for task in (call, more)] == [[STORED], [STORED]]
        assert _ids(log)[3:] == ["of the stopped loop", "c"]
        loop.close()

    def test_run_for_each_call(self, sink: SqliteSink, log: SqliteLog) -> None:
        for n in range(20):
            assert asyncio.run(sink.store_async([envelope(f"m{n}")])) == [STORED]
        assert len(_ids(log)) == 21


class TestFailures:
    """The answers are those that threads get; nothing of a refused request is stored."""

    def test_disk_full(self, log_path: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
        def open_with_little_room(path: Path, busy_timeout: float) -> sqlite3.Connection:
            connection = open_for_writing(path, busy_timeout)
            connection.execute(f"PRAGMA max_page_count = {pages}")
            return connection

        pages = 60
        monkeypatch.setattr(writer, "open_for_writing", open_with_little_room)
        sink = SqliteSink(log_path)

        async def store() -> None:
            await sink.store_async([envelope("first")])
            with commits_held(sink):
                calls = (sink.store_async([_large(f"m{n}", 200_000)]) for n in range(3))
                tasks = await _enter(sink, *calls)
            assert await _results(tasks) == [Cause.FULL] * 3

        run_quietly(store())
        assert _ids(log) == ["first"]
        pages = 4000
        assert run_quietly(sink.store_async([_large("m0", 200_000)])) == [STORED]
        assert is_sound(log_path)
        sink.close()

    def test_locked(self, log_path: Path, log: SqliteLog) -> None:
        sink = SqliteSink(log_path, busy_timeout=0.02)
        sink.store([envelope("first")])

        async def store() -> None:
            with write_lock(log_path), pytest.raises(SinkUnavailable, match="another process"):
                await sink.store_async([envelope("a")])
            assert await sink.store_async([envelope("a")]) == [STORED]

        run_quietly(store())
        assert _ids(log) == ["first", "a"]
        sink.close()

    def test_gone(self, sink: SqliteSink, log_path: Path) -> None:
        log_path.unlink()
        with pytest.raises(SinkUnavailable, match="deleted, moved or replaced"):
            run_quietly(sink.store_async([envelope("a")]))
        with pytest.raises(SinkUnavailable, match="restart the server"):
            run_quietly(sink.check_ready_async())

    def test_damaged(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        path.write_bytes(b"these are my notes, " * 1000)
        sink = SqliteSink(path)
        with pytest.raises(SinkUnavailable) as caught:
            run_quietly(sink.store_async([envelope("a")]))
        assert caught.value.reason == "damaged"
        sink.close()

    def test_overload(self, log_path: Path, log: SqliteLog) -> None:
        """Requests that are too much are refused at once, while those before them wait."""
        sink = SqliteSink(log_path, waiting_bytes=1000)

        async def store() -> None:
            with commits_held(sink):
                (waiting,) = await _enter(sink, sink.store_async([_large("a", 800)]))
                with pytest.raises(SinkUnavailable) as caught:
                    await sink.store_async([_large("b", 800)])
                assert caught.value.cause is Cause.OVERLOADED
                assert not waiting.done()
                (small,) = await _enter(sink, sink.store_async([envelope("c")]))
            assert await _results([waiting, small]) == [[STORED]] * 2

        run_quietly(store())
        assert _ids(log) == ["a", "c"]
        assert sink._committer._queued_bytes == 0
        sink.close()

    def test_overload_within_one_iteration(self, log_path: Path, log: SqliteLog) -> None:
        sink = SqliteSink(log_path, waiting_bytes=2000)

        async def store() -> None:
            tasks = [asyncio.create_task(sink.store_async([_large(f"m{n}", 800)])) for n in range(5)]
            assert await _results(tasks) == [[STORED]] * 2 + [Cause.OVERLOADED] * 3

        run_quietly(store())
        assert _ids(log) == ["m0", "m1"]
        sink.close()

    def test_a_fault_of_one_call_is_not_that_of_those_beside_it(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            broken = [envelope("x"), envelope("broken", user_id="\ud800")]
            calls = [sink.store_async(envelopes) for envelopes in ([envelope("a")], broken, [envelope("b")])]
            tasks = [asyncio.create_task(call) for call in calls]
            assert await _results(tasks) == [[STORED], UnicodeEncodeError, [STORED]]

        run_quietly(store())
        assert _ids(log) == ["first", "a", "b"]

    def test_an_interrupt_is_no_acknowledgement(self, sink: SqliteSink, log: SqliteLog) -> None:
        """When the thread that commits is interrupted, no call returns as if it were stored, and the next one works."""

        async def store() -> None:
            tasks = [asyncio.create_task(sink.store_async(found)) for found in ([envelope("a")], interrupting())]
            assert await _results(tasks) == [Cause.UNAVAILABLE] * 2
            assert await sink.store_async([envelope("next")]) == [STORED]

        run_quietly(store())
        assert _ids(log) == ["first", "next"]

    def test_a_thread_that_commits_for_a_loop_is_interrupted(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            with commits_held(sink):
                leading = _enter_by_thread(sink, "a")
                tasks = await _enter(sink, sink.store_async(interrupting()), sink.store_async([envelope("b")]))
            assert await _results(tasks) == [Cause.UNAVAILABLE] * 2
            leading.finish()
            assert [type(error) for error in leading.errors] == [KeyboardInterrupt]

        run_quietly(store())
        assert _ids(log) == ["first"]

    def test_readiness(self, sink: SqliteSink, log_path: Path, commits: list[str]) -> None:
        """`check_ready_async` tests by storing, at most once a second; a failure to store ends what was known."""
        run_quietly(sink.check_ready_async())
        sink._ready_at += 10 * PATIENCE  # else a slow machine needs more than a second
        run_quietly(sink.check_ready_async())
        sink.check_ready()
        assert len(commits) == 1
        log_path.rename(log_path.with_name("aside"))
        run_quietly(sink.check_ready_async())  # known
        with pytest.raises(SinkUnavailable):
            run_quietly(sink.store_async([envelope("a")]))
        with pytest.raises(SinkUnavailable):
            run_quietly(sink.check_ready_async())


def _writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trackcore-writer"]


class TestWriterThread:
    """It is started when it is first needed, and ends by itself once it has been idle for a while."""

    @pytest.fixture(autouse=True)
    def _without_those_of_others(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(writer_thread, "IDLE_SECONDS", 0.02)
        yield
        wait_for(lambda: not _writer_threads())

    def test_threads_need_none(self, sink: SqliteSink) -> None:
        wait_for(lambda: not _writer_threads())
        sink.store([envelope("a")])
        sink.check_ready()
        assert _writer_threads() == []

    def test_it_ends_and_is_started_again(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            for n in range(3):
                await sink.store_async([envelope(f"m{n}")])
                await wait_in_loop(lambda: not _writer_threads())

        run_quietly(store())
        assert len(_ids(log)) == 4

    def test_it_does_not_end_while_others_lead(self, sink: SqliteSink) -> None:
        """It would be missing when they hand the lead over."""

        async def store() -> None:
            await sink.store_async([envelope("a")])
            with commits_held(sink):
                leading = _enter_by_thread(sink, "b")
                tasks = await _enter(sink, *(sink.store_async([_large(f"m{n}", 9 << 20)]) for n in range(3)))
                for _ in range(10):
                    await asyncio.sleep(writer_thread.IDLE_SECONDS)
            assert await _results(tasks) == [[STORED]] * 3
            leading.finish()

        run_quietly(store())

    def test_without_one_more_thread_the_calls_are_refused(
        self, sink: SqliteSink, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> NoReturn:
            raise RuntimeError("can't start new thread")

        async def store() -> None:
            await wait_in_loop(lambda: not _writer_threads())
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                calls = (sink.store_async([envelope(name)]) for name in "ab")
                for found in await asyncio.gather(*calls, return_exceptions=True):
                    assert isinstance(found, SinkUnavailable)
                    assert found.detail == "no thread can be started (can't start new thread)"
                assert sink.store([envelope("c")]) == [STORED]
            assert await sink.store_async([envelope("a")]) == [STORED]

        run_quietly(store())
        assert _ids(log) == ["first", "c", "a"]


class TestClose:
    """`close` stores first what waits, and closes the file; a later call opens it again."""

    @pytest.mark.parametrize("iterations", [1, 2])
    def test_what_a_loop_has_just_asked_for(self, iterations: int, sink: SqliteSink, log: SqliteLog) -> None:
        """After one iteration the requests are not in the queue yet."""

        async def store() -> None:
            calls = (sink.store_async([envelope(f"m{n}")], rejected=[rejected_record()]) for n in range(3))
            tasks = [asyncio.create_task(call) for call in calls]
            for _ in range(iterations):
                await asyncio.sleep(0)
            sink.close()
            assert len(_ids(log)) == 4
            assert not sink._writer._file.is_open
            assert await _results(tasks) == [[STORED]] * 3
            assert await sink.store_async([envelope("again")]) == [STORED]

        run_quietly(store())
        assert _ids(log)[-1] == "again"
        assert log.totals().rejected == 3

    def test_in_another_thread(self, sink: SqliteSink, log: SqliteLog) -> None:
        async def store() -> None:
            with commits_held(sink):
                tasks = await _enter(sink, *(sink.store_async([envelope(f"m{n}")]) for n in range(3)))
                closing = Workers([sink.close])
                await wait_in_loop(lambda: _waiting(sink) == 4)
            closing.finish()
            assert len(_ids(log)) == 4
            assert await _results(tasks) == [[STORED]] * 3

        run_quietly(store())
        assert not sink._writer._file.is_open

    def test_what_cannot_be_stored_is_refused(self, sink: SqliteSink, log_path: Path) -> None:
        log_path.unlink()

        async def store() -> None:
            tasks = [asyncio.create_task(sink.store_async([envelope("a")]))]
            await asyncio.sleep(0)
            sink.close()
            assert await _results(tasks) == [Cause.UNAVAILABLE]

        run_quietly(store())

    def test_a_sink_that_was_not_used_makes_no_log(self, log_path: Path) -> None:
        SqliteSink(log_path).close()
        assert not log_path.parent.exists()
