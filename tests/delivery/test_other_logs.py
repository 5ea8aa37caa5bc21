"""A log that was replaced or rewound: every message in it is delivered.

The rule: a position in a log means nothing without the log's identity.  Every stored position comes with a proof that
shows when the log was replaced or rewound; then every message in the log is delivered (repeats are allowed, silence is
not).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import back_up, overwrite, put_in_place
from delivery_helpers import NOON, Bench, Recipient, envelopes, store
from delivery_processes import Deployed
from hypothesis import given, settings
from hypothesis import strategies as st
from trackcore_delivery import Selection, State, make_feed
from trackcore_delivery.state_file import MIGRATIONS
from trackcore_server.storage.log_changes import confirmed
from trackcore_sqlite import SqliteLog, SqliteSink, prune

from trackcore import Envelope, LogChanged, Mark, SinkUnavailable, Stretch


def store_apart(path: Path, made: Sequence[Envelope]) -> None:
    """Store messages in a log, as if by one process each."""
    for each in made:
        store(path, [each])


def ids_in(path: Path) -> set[str]:
    return {stored.message["messageId"] for stored in SqliteLog(path).messages()} if path.exists() else set()


@pytest.fixture(name="backup")
def _backup(tmp_path: Path) -> Path:
    return tmp_path / "backup.db"


class TestIncoming:
    """Delivery goes on from where both logs agree, at the furthest, and reports the change in the log and the state."""

    @pytest.mark.parametrize("more", [0, 1, 3, 4, 20], ids="grown to {} behind the backup".format)
    def test_a_restored_backup_is_delivered_from_where_it_ends(
        self, bench: Bench, backup: Path, caplog: pytest.LogCaptureFixture, more: int
    ) -> None:
        store(bench.log, envelopes(6))
        back_up(bench.log, backup)
        store(bench.log, envelopes(4, first=6))
        bench.run(bench.worker(Recipient()))
        put_in_place(bench.log, backup)
        store(bench.log, envelopes(more, first=100))
        there = Recipient()
        bench.run(bench.worker(there))
        assert there.taken == [f"m{number}" for number in range(100, 100 + more)]
        assert "There: the log was rewound: it agrees with what was read of it up to 6" in caplog.text
        assert "going on behind 6" in caplog.text
        change = bench.state.log_change("There")
        assert change is not None
        assert (change[0] in caplog.text, change[1]) == (True, NOON)

    @pytest.mark.parametrize("count", [2, 10, 30])
    def test_another_log_is_delivered_from_its_oldest_message(
        self, bench: Bench, caplog: pytest.LogCaptureFixture, count: int
    ) -> None:
        """Shorter, as long, or longer than the one that was delivered."""
        store(bench.log, envelopes(10))
        bench.run(bench.worker(Recipient()))
        put_in_place(bench.log, None)
        store(bench.log, envelopes(count, first=50))
        there = Recipient()
        bench.run(bench.worker(there))
        assert there.taken == [f"m{number}" for number in range(50, 50 + count)]
        assert "There: the log is another one than before" in caplog.text

    def test_a_worker_that_runs_notices(self, bench: Bench, backup: Path) -> None:
        store(bench.log, envelopes(6))
        back_up(bench.log, backup)
        there = Recipient()
        worker = bench.worker(there)
        store(bench.log, envelopes(4, first=6))
        bench.run(worker)
        put_in_place(bench.log, backup)
        store(bench.log, envelopes(8, first=100))
        bench.run(worker)
        assert there.taken == [f"m{number}" for number in (*range(10), *range(100, 108))]

    def test_a_worker_goes_on_after_another_state_of_the_log_is_put_back(self, bench: Bench, backup: Path) -> None:
        """A log may be replaced again before any message of its first replacement was delivered."""
        store(bench.log, envelopes(6))
        back_up(bench.log, backup)
        store(bench.log, envelopes(4, first=6))
        worker = bench.worker(there := Recipient())
        bench.run(worker)
        for first in (100, 200):
            put_in_place(bench.log, backup)
            store(bench.log, envelopes(5, first=first))
        bench.run(worker)
        assert there.taken[10:] == [f"m{number}" for number in range(200, 205)]

    def test_the_same_log_is_not_taken_for_another(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """It was opened again and again, pruned, and another program deleted messages from it."""
        there = Recipient()
        for number in range(60):
            store(bench.log, envelopes(2, first=2 * number))
            bench.run(bench.worker(there))
            if number % 7 == 0:
                list(prune(bench.log, NOON + timedelta(days=1), up_to=bench.state.position("There")))
            if number % 5 == 0:
                with closing(sqlite3.connect(bench.log)) as connection, connection:
                    connection.execute("DELETE FROM messages WHERE seq >= ?", (2 * number,))
        assert there.taken == [f"m{number}" for number in range(120)]
        assert caplog.text == ""

    def test_a_log_that_was_overwritten_under_its_writers(self, bench: Bench, backup: Path) -> None:
        writers = [SqliteSink(bench.log), SqliteSink(bench.log)]
        there = Recipient()
        worker = bench.worker(there)
        writers[0].store(envelopes(10))
        back_up(bench.log, backup)
        for number, writer in enumerate(writers):
            writer.store(envelopes(5, first=10 + 5 * number))
            bench.run(worker)
        overwrite(bench.log, backup)
        for number, writer in enumerate((*writers, *writers)):
            with suppress(SinkUnavailable):
                writer.store(envelopes(3, first=100 + 10 * number))
            bench.run(worker)
        for writer in writers:
            writer.close()
        assert ids_in(bench.log) <= set(there.taken)
        assert {"m120", "m130"} <= set(there.taken)

    def test_the_log_of_another_data_folder(self, bench: Bench, tmp_path: Path) -> None:
        store(bench.log, envelopes(10))
        bench.run(bench.worker(Recipient()))
        store(tmp_path / "elsewhere.db", envelopes(40, first=50))
        put_in_place(bench.log, tmp_path / "elsewhere.db")
        there = Recipient()
        bench.run(bench.worker(there))
        assert there.taken == [f"m{number}" for number in range(50, 90)]

    @pytest.mark.parametrize("position", [7, 10, 11])
    def test_a_position_of_before_there_were_proofs_is_believed_if_the_log_has_it(
        self, bench: Bench, position: int
    ) -> None:
        """And its proof is kept from then on."""
        store(bench.log, envelopes(10))
        bench.state.begin("There", position)
        there = Recipient(lambda _: pytest.fail("nothing is to be sent") if position == 10 else ())
        bench.run(bench.worker(there))
        begin = position if position <= 10 else 0
        assert there.taken == [f"m{number}" for number in range(begin, 10)]
        mark = bench.state.mark("There")
        assert mark is not None
        assert mark.position == 10
        assert mark.stretches

    def test_a_destination_that_begins_with_the_newest_message(self, bench: Bench) -> None:
        """The messages of another log came after the destination had begun."""
        store(bench.log, envelopes(10))
        bench.run(bench.worker(Recipient(), start="newest"))
        put_in_place(bench.log, None)
        store(bench.log, envelopes(10, first=50))
        there = Recipient()
        bench.run(bench.worker(there, start="newest"))
        assert there.taken == [f"m{number}" for number in range(50, 60)]


class TestManyStretches:
    """However many processes have written the log: a position is kept with its proof, and little is sent again."""

    def test_each_position_of_a_page_is_proven(self, bench: Bench) -> None:
        """Also a position that many stretches follow before the end of the page."""
        store_apart(bench.log, envelopes(30))
        store_apart(bench.log, envelopes(3, first=30) + envelopes(40, first=33, destinations=("Other",)))
        for after in (0, 5, 29, 30):
            page = bench.feed.read("There", after=after, count=500, size=1_000_000)
            marks = [*map(page.mark, page.messages), page.mark_at_end()]
            assert [mark.position for mark in marks] == [*range(after + 1, 34), 73]
            for mark in marks:
                assert mark.stretches[-1] == bench.feed.mark(mark.position).stretches[-1]
                assert (mark.stretches[0], mark.message) == (
                    bench.feed.mark().stretches[0],
                    bench.feed.mark(mark.position).message,
                )

    @pytest.mark.parametrize("count", [1, 60])
    def test_another_log_is_noticed(self, bench: Bench, count: int) -> None:
        store_apart(bench.log, envelopes(1) + envelopes(40, first=1, destinations=("Other",)))
        bench.worker(Recipient()).step()
        put_in_place(bench.log, None)
        store(bench.log, envelopes(count, first=50))
        bench.run(bench.worker(there := Recipient()))
        assert there.taken == [f"m{number}" for number in range(50, 50 + count)]

    def test_a_backup_of_many_stretches_ago(self, bench: Bench, backup: Path, caplog: pytest.LogCaptureFixture) -> None:
        """It is delivered from where it ends, or from before that by less than what it is behind."""
        store(bench.log, envelopes(3_000))
        store_apart(bench.log, envelopes(100, first=3_000))
        back_up(bench.log, backup)
        store_apart(bench.log, envelopes(100, first=3_100))
        bench.run(bench.worker(Recipient()))
        put_in_place(bench.log, backup)
        store(bench.log, envelopes(5, first=9_000))
        bench.run(bench.worker(there := Recipient()))
        assert there.taken[-5:] == [f"m{number}" for number in range(9_000, 9_005)]
        assert len(there.taken) < 105
        assert "There: the log was rewound" in caplog.text


class TestReplay:
    """A replay goes on in the current log, from where both agree up to its end."""

    def test_a_replay_of_a_log_that_was_replaced_begins_again(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        store(bench.log, envelopes(10))
        bench.run(bench.worker(Recipient()))
        mark = bench.feed.mark()
        number = bench.state.ask_for_replay("There", Selection(), last=10, now=NOON, mark=mark)
        bench.worker(Recipient(), batch_messages=4).step()
        put_in_place(bench.log, None)
        store(bench.log, envelopes(20, first=50))
        there = Recipient()
        bench.run(bench.worker(there))
        assert sorted(there.taken) == sorted([f"m{number}" for number in range(50, 70)] * 2)
        replay = bench.state.replay(number)
        assert replay is not None
        assert replay.finished_at is not None
        assert f"There: replay {number}: the log is another one" in caplog.text


class TestPruning:
    """A position that was reached in another log protects nothing."""

    def test_what_a_restored_log_has_got_since_is_kept(self, bench: Bench, backup: Path) -> None:
        store(bench.log, envelopes(6))
        back_up(bench.log, backup)
        store(bench.log, envelopes(4, first=6))
        bench.run(bench.worker(Recipient()))
        put_in_place(bench.log, backup)
        store(bench.log, envelopes(10, first=100))
        mark = bench.state.mark("There")
        assert mark is not None
        position, change = confirmed(bench.feed, mark)
        assert position == 6
        assert change is not None


class TestCommands:
    """`prune` keeps undelivered messages, `destinations` reports the change, `--follow` goes on in the other log."""

    def test_pruning_and_the_standing_of_destinations(self, deploy: Callable[..., Deployed], backup: Path) -> None:
        deployed = deploy('[[destinations]]\nname = "There"\nkind = "file"\nfolder = "out"\n')
        store(deployed.log_path, envelopes(6))
        back_up(deployed.log_path, backup)
        store(deployed.log_path, envelopes(4, first=6))
        mark = make_feed(SqliteLog(deployed.log_path), (), ()).mark()
        with closing(State(deployed.folder / "trackcore-delivery.db")) as state:
            state.begin("There", mark.position, mark)
        put_in_place(deployed.log_path, backup)
        store(deployed.log_path, envelopes(10, first=100))
        (record,), _ = deployed.ask("destinations")
        assert record["lagMessages"] == 10
        assert "rewound: it agrees with what was read of it up to 6" in record["logChange"]
        deployed.ask("prune", "--older-than", "1s")
        assert ids_in(deployed.log_path) == {f"m{number}" for number in range(100, 110)}
        running, _ = deployed.serve("--no-deliver")
        assert "There: the log was rewound" in running.stderr()
        assert deployed.status("There").position == 6

    @pytest.mark.parametrize("more", [2, 4, 9])
    def test_following_goes_on_in_the_log_that_is_there(
        self, tmp_path: Path, backup: Path, caplog: pytest.LogCaptureFixture, more: int
    ) -> None:
        path = tmp_path / "log.db"
        store(path, envelopes(6))
        back_up(path, backup)
        store(path, envelopes(4, first=6))
        tail = SqliteLog(path).tail()
        assert len(list(tail.read())) == 10
        put_in_place(path, backup)
        store(path, envelopes(more, first=100))
        assert [each.message["messageId"] for each in tail.read()] == [f"m{n}" for n in range(100, 100 + more)]
        assert "the log was rewound" in caplog.text
        put_in_place(path, None)
        store(path, envelopes(20, first=200))
        assert [each.message["messageId"] for each in tail.read()] == [f"m{n}" for n in range(200, 220)]
        assert list(tail.read()) == []


def test_a_state_file_of_before_there_were_proofs_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute("INSERT INTO destinations (name, position) VALUES ('There', 7)")
        connection.execute("INSERT INTO replays (destination, asked_at, last) VALUES ('There', 0, 5)")
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'trkd')}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    with closing(State(path)) as state:
        assert state.mark("There") == Mark(position=7)
        replay = state.next_replay("There")
        assert replay is not None
        assert replay.mark == Mark(position=5)
        assert state.log_change("There") is None
        mark = Mark(position=9, stretches=(Stretch("a", 0, 4), Stretch("b", 4, 9)), message="x")
        state.skip("There", mark)
        assert state.mark("There") == mark
        change = LogChanged(mark=mark, found=Mark(position=4, stretches=(Stretch("a", 0, 4),)), end=6)
        state.change_log("There", change, NOON)
        assert state.mark("There") == change.found
        assert state.log_change("There") == (str(change), NOON)


class _Deployment:
    """One log, state and destination, and the operations on them."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.there = Recipient()
        self.worker = self.bench.worker(self.there)
        self.count = 0
        self.logs: list[Path] = []
        self.states: list[Path] = []
        self.sink = SqliteSink(self.bench.log)

    def append(self, count: int) -> None:
        """Store messages; a writer whose log file is gone opens the one in its place."""
        made = envelopes(count, first=self.count)
        self.count += count
        try:
            self.sink.store(made)
        except SinkUnavailable:
            self.sink.close()
            self.sink.store(made)

    def append_as_another(self, count: int) -> None:
        store(self.bench.log, envelopes(count, first=self.count))
        self.count += count

    def append_as_others(self, count: int) -> None:
        for _ in range(5 * count):
            self.append_as_another(1)

    def deliver(self, steps: int) -> None:
        for _ in range(steps):
            self.worker.step()

    def deliver_as_another(self, steps: int) -> None:
        self.worker = self.bench.worker(self.there, batch_messages=3)
        self.deliver(steps)

    def back_up_log(self, _: int) -> None:
        self.logs.append(self.bench.folder / f"backup-{len(self.logs)}")
        back_up(self.bench.log, self.logs[-1])

    def restore_log(self, number: int) -> None:
        if self.logs:
            put_in_place(self.bench.log, self.logs[number % len(self.logs)])

    def overwrite_log(self, number: int) -> None:
        if self.logs:
            overwrite(self.bench.log, self.logs[number % len(self.logs)])

    def replace_log(self, _: int) -> None:
        put_in_place(self.bench.log, None)
        self.append_as_another(1)

    def back_up_state(self, _: int) -> None:
        self.states.append(self.bench.folder / f"state-{len(self.states)}")
        back_up(self.bench.state.path, self.states[-1])

    def restore_state(self, number: int) -> None:
        self.bench.state.close()
        if self.states:
            put_in_place(self.bench.state.path, self.states[number % len(self.states)])
        self.bench.state = State(self.bench.state.path)
        self.worker = self.bench.worker(self.there)

    def prune(self, _: int) -> None:
        """Prune delivered messages, and check that no other is gone."""
        before = ids_in(self.bench.log)
        position, _change = confirmed(self.bench.feed, self.bench.state.mark("There") or Mark())
        for _step in prune(self.bench.log, NOON + timedelta(days=1), up_to=position):
            pass
        assert before - ids_in(self.bench.log) <= set(self.there.taken)

    def end(self) -> None:
        self.bench.run(self.worker)
        assert ids_in(self.bench.log) <= set(self.there.taken)
        self.bench.run(self.bench.worker(self.there))
        assert ids_in(self.bench.log) <= set(self.there.taken)
        self.sink.close()
        self.bench.state.close()


_STEPS = [name for name in vars(_Deployment) if not name.startswith("_") and name != "end"]


class TestLaw:
    @settings(deadline=None)
    @given(steps=st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(0, 5)), max_size=25))
    def test_whatever_is_done_to_log_and_state_everything_in_the_log_is_delivered(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
    ) -> None:
        """For any sequence of storing, delivering, backups, restored logs and states, replaced logs and pruning."""
        deployment = _Deployment(tmp_path_factory.mktemp("law"))
        deployment.append(1)
        for name, number in steps:
            action: Any = getattr(deployment, name)
            action(number)
        deployment.end()
