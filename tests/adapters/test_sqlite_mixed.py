"""The embedded log, written by threads and event loops in any mixture, and by processes that end in the meantime."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
from adapter_helpers import at_once, envelope, is_sound, rejected_record, run_python, write_lock
from hypothesis import given
from hypothesis import strategies as st
from loops import run_quietly
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Envelope, Outcome


def _ids(log: SqliteLog) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages()]


PLACES = ("thread", "loop 1", "loop 2")


@attrs.frozen
class Call:
    """One call of an actor: the ids of its messages, and whether it is cancelled, which only a loop can do."""

    ids: list[str]
    is_cancelled: bool


@attrs.frozen
class Actor:
    """A thread, or a task of a loop, that makes one call after the other."""

    place: str
    calls: list[Call]

    def in_thread(self, sink: SqliteSink) -> list[Sequence[Outcome]]:
        return [sink.store(self._envelopes(call), rejected=[rejected_record()]) for call in self.calls]

    async def in_loop(self, sink: SqliteSink) -> list[Sequence[Outcome] | None]:
        outcomes: list[Sequence[Outcome] | None] = []
        for call in self.calls:
            task = asyncio.create_task(sink.store_async(self._envelopes(call), rejected=[rejected_record()]))
            if call.is_cancelled:
                await asyncio.sleep(0)
                task.cancel()
            (found,) = await asyncio.gather(task, return_exceptions=True)
            outcomes.append(None if isinstance(found, BaseException) else found)
        return outcomes

    @staticmethod
    def _envelopes(call: Call) -> list[Envelope]:
        return [envelope(message_id) for message_id in call.ids]


_CALLS = st.builds(Call, st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3), st.booleans())
_ACTORS = st.lists(
    st.builds(Actor, st.sampled_from(PLACES), st.lists(_CALLS, min_size=1, max_size=4)), min_size=1, max_size=6
)


@given(actors=_ACTORS)
def test_any_mixture_of_threads_and_loops_is_some_order_of_their_calls(actors: list[Actor]) -> None:
    """Each message is stored once, by the call that is said to have stored it; each actor finds its own in order."""
    with TemporaryDirectory() as folder:
        sink, log = SqliteSink(Path(folder) / "log.db"), SqliteLog(Path(folder) / "log.db")
        sink.check_ready()
        results = _run_all(sink, actors)
        sink.close()
        ids, kept = _ids(log), len(list(log.rejected()))
    calls = [
        (call, outcomes) for actor, of_calls in results for call, outcomes in zip(actor.calls, of_calls, strict=True)
    ]
    answered = [(message_id, outcome) for call, found in calls for message_id, outcome in _pairs(call, found)]
    unsure = {message_id for call, outcomes in calls if outcomes is None for message_id in call.ids}
    assert len(ids) == len(set(ids))
    assert {message_id for message_id, _ in answered} <= set(ids) <= {found for call, _ in calls for found in call.ids}
    stored = Counter(message_id for message_id, outcome in answered if outcome is Outcome.STORED)
    assert all(stored[message_id] == 1 or (message_id in unsure and not stored[message_id]) for message_id in ids)
    assert sum(outcomes is not None for _, outcomes in calls) <= kept <= len(calls)
    for actor, of_calls in results:
        pairs = [pair for call, found in zip(actor.calls, of_calls, strict=True) for pair in _pairs(call, found)]
        own = [message_id for message_id, outcome in pairs if outcome is Outcome.STORED]
        assert own == sorted(own, key=ids.index)


def _pairs(call: Call, outcomes: Sequence[Outcome] | None) -> list[tuple[str, Outcome]]:
    return [] if outcomes is None else list(zip(call.ids, outcomes, strict=True))


def _run_all(sink: SqliteSink, actors: list[Actor]) -> list[tuple[Actor, Sequence[Sequence[Outcome] | None]]]:
    """Run all actors at once, those of each loop in a thread of its own."""
    places = [[actor] for actor in actors if actor.place == "thread"]
    places += [[actor for actor in actors if actor.place == place] for place in PLACES[1:]]
    places = list(filter(None, places))

    async def run_loop(of_loop: list[Actor]) -> list[Any]:
        return await asyncio.gather(*(actor.in_loop(sink) for actor in of_loop))

    def task(place: list[Actor]) -> Callable[[], Any]:
        if place[0].place == "thread":
            return lambda: [place[0].in_thread(sink)]
        return lambda: run_quietly(run_loop(place))

    found = at_once(*map(task, places))
    return [pair for place, results in zip(places, found, strict=True) for pair in zip(place, results, strict=True)]


# The end of the process

AT_EXIT = """
import asyncio, sys, threading
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

sink = SqliteSink(sys.argv[1], busy_timeout=60)

async def store():
    tasks = [asyncio.create_task(sink.store_async([envelope(f"m{{n}}")])) for n in range(3)]
    await asyncio.sleep({wait})

{run}
{end}
print("ended")
"""

ENDS = {
    "the loop ends": "asyncio.run(store())",
    "the loop is left behind": "loop = asyncio.new_event_loop(); loop.run_until_complete(store())",
    "a thread runs the loop": "t = threading.Thread(target=asyncio.run, args=(store(),)); t.start(); t.join()",
}


class TestExit:
    """A process that ends while requests wait neither hangs nor crashes."""

    @pytest.mark.parametrize("wait", ["0", "0.05"])
    @pytest.mark.parametrize("run", ENDS.values(), ids=ENDS)
    def test_while_another_process_writes(
        self, run: str, wait: str, sqlite_sink: SqliteSink, log_path: Path, log: SqliteLog
    ) -> None:
        """The commit cannot even begin."""
        sqlite_sink.store([envelope("first")])
        sqlite_sink.close()
        script = AT_EXIT.format(run=run, end="", wait=wait)
        with write_lock(log_path):
            assert run_python(script, log_path).split() == ["ended"]
        assert _ids(log) == ["first"]
        assert is_sound(log_path)

    @pytest.mark.parametrize("run", ENDS.values(), ids=ENDS)
    def test_at_any_time(self, run: str, sqlite_sink: SqliteSink, log_path: Path) -> None:
        sqlite_sink.store([envelope("first")])
        sqlite_sink.close()
        assert run_python(AT_EXIT.format(run=run, end="", wait="0.001"), log_path).split() == ["ended"]
        assert is_sound(log_path)

    @pytest.mark.parametrize("run", ENDS.values(), ids=ENDS)
    def test_what_waits_is_stored_by_close(self, run: str, log_path: Path, log: SqliteLog) -> None:
        assert run_python(AT_EXIT.format(run=run, end="sink.close()", wait="0.001"), log_path).split() == ["ended"]
        assert _ids(log) == ["m0", "m1", "m2"]
