"""`trackcore prune`, `trackcore check`, retention by configuration, and `serve` with a damaged log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from patience import wait_for
from served import Served
from trackcore_server.storage.retention import BelievedTime, start_retention, time_of_log
from trackcore_sqlite import CONSISTENT, SqliteLog, check_log, rebuild_ids
from trackcore_sqlite.tables import MIGRATIONS, open_for_writing

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MESSAGE = {"type": "track", "userId": "u", "event": "Paid"}
LOG = Path("trackcore-data/trackcore.db")


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)


def fill_at(fill: Callable[..., None], *times: datetime) -> None:
    """Receive a message at each of these times."""
    for at in times:
        fill(MESSAGE | {"messageId": at.isoformat()}, received_at=at)


def lose_an_id(path: Path) -> None:
    rebuild_ids(path)  # now all ids are in the last table
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM message_ids_4 WHERE seq = 2")
        connection.commit()


class TestPrune:
    def test_older_messages_are_deleted(self, run: Callable[..., Result], fill: Callable[..., None]) -> None:
        now = datetime.now(UTC)
        fill(MESSAGE, received_at=now - timedelta(days=31))
        fill(MESSAGE | {"messageId": "new"}, received_at=now - timedelta(days=29))
        result = run("prune", "--older-than", "30d")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "Deleted 1 message, 0 rejected, 0 quarantined, 0 duplicates.\n"
        assert [stored.seq for stored in SqliteLog(LOG).messages()] == [2]

    def test_an_age_is_needed_and_understood(self, run: Callable[..., Result]) -> None:
        assert run("prune").exit_code == 2
        result = run("prune", "--older-than", "soon")
        assert result.exit_code == 2
        assert "expected an age such as '5d'" in result.stderr

    def test_without_a_log_none_is_made(self, run: Callable[..., Result]) -> None:
        result = run("prune", "--older-than", "1d")
        assert result.exit_code == 2
        assert "there is no log here" in result.stderr
        assert not LOG.exists()


class TestRetention:
    def test_the_configured_age_is_kept_to(self, fill: Callable[..., None]) -> None:
        for hours in (48, 30, 16, 0):
            fill(MESSAGE | {"messageId": f"m{hours}"}, received_at=datetime.now(UTC) - timedelta(hours=hours))
        stop = start_retention(LOG.absolute(), timedelta(days=1), every=timedelta(milliseconds=10))
        wait_for(lambda: [stored.seq for stored in SqliteLog(LOG).messages()] == [3, 4])
        stop()

    def test_a_clock_that_is_a_year_ahead_does_not_delete_everything(self, fill: Callable[..., None]) -> None:
        """The clock is trusted once it has been ahead for a day; until then time continues from the newest message."""
        for hours in (72, 60, 40, 20, 0):
            fill(MESSAGE | {"messageId": f"m{hours}"}, received_at=NOW - timedelta(hours=hours))
        ahead = NOW + timedelta(days=365)
        assert time_of_log(LOG) == NOW
        believed = BelievedTime(NOW, 0.0)
        assert believed.at(ahead, 0.0) == NOW
        assert believed.at(ahead + timedelta(hours=23), 23 * 3_600) == NOW + timedelta(hours=23)
        assert believed.at(ahead + timedelta(hours=24), 24 * 3_600) == ahead + timedelta(hours=24)

    def test_a_process_that_starts_while_the_clock_is_ahead_reads_the_time_in_the_log(
        self, fill: Callable[..., None]
    ) -> None:
        fill(MESSAGE, received_at=NOW)
        for hours in (1, 3):
            fill(MESSAGE | {"messageId": f"m{hours}"}, received_at=NOW + timedelta(days=365, hours=hours))
        assert time_of_log(LOG) == NOW + timedelta(hours=2)
        for hours in (20, 26):
            fill(MESSAGE | {"messageId": f"m{hours}"}, received_at=NOW + timedelta(days=365, hours=hours))
        assert time_of_log(LOG) == NOW + timedelta(days=365, hours=26), "it has stood there for a day"

    @pytest.mark.parametrize("ahead", [1, 4])
    @pytest.mark.parametrize("blocks", [(3,), (3, 40), (4, 80), (29, 30, 31)], ids=str)
    def test_messages_of_the_future_say_nothing_once_the_clock_was_put_right(
        self, fill: Callable[..., None], blocks: tuple[int, ...], ahead: int
    ) -> None:
        """Messages of the given hours before now, and some that were dated by a clock that was a year ahead."""
        for hours in sorted({*range(1, 100, 3), *blocks}, reverse=True):
            fill_at(fill, NOW - timedelta(hours=hours))
            if hours in blocks:
                fill_at(fill, *(NOW + timedelta(days=365 - number, hours=-hours) for number in range(ahead)))
        assert time_of_log(LOG) == NOW - timedelta(hours=1)

    def test_a_gap_is_found_beside_messages_of_the_future(self, fill: Callable[..., None]) -> None:
        hours = (101, 100, 99, 98, -9_000, -8_999, -8_998, -8_997, 5, 3, 1)
        fill_at(fill, *(NOW - timedelta(hours=hour) for hour in hours))
        assert time_of_log(LOG) == NOW - timedelta(hours=94), "four hours after the last before the gap"

    def test_a_server_that_is_restarted_daily_catches_up(self, fill: Callable[..., None]) -> None:
        """Even if each server process ends before its clock has been trusted for a day."""
        fill_at(fill, *(NOW - timedelta(hours=hours) for hours in (*range(200, 100, -5), *range(-8_020, -8_000))))
        behind = []
        for day in range(3):
            fill_at(fill, *(NOW + timedelta(days=day, hours=hour) for hour in range(0, 20, 4)))
            started = time_of_log(LOG)
            assert started is not None
            believed = BelievedTime(started, 0.0)
            now = NOW + timedelta(days=day, hours=20)
            behind.append(max(now - believed.at(now, 0.0), timedelta()))
        assert [late > timedelta(days=2) for late in behind] == [True, False, False]

    def test_a_clock_that_is_put_back_is_believed_at_once(self) -> None:
        believed = BelievedTime(NOW, 0.0)
        assert believed.at(NOW - timedelta(days=9), 5.0) == NOW - timedelta(days=9)

    def test_a_log_that_cannot_be_written_does_not_end_it(self, caplog: Any, tmp_path: Path) -> None:
        (tmp_path / "no.db").write_bytes(b"x" * 10_000)
        stop = start_retention(tmp_path / "no.db", timedelta(days=1), every=timedelta(milliseconds=10))
        wait_for(lambda: len([record for record in caplog.records if "cannot delete" in record.message]) > 1)
        stop()


class TestCheck:
    def test_a_sound_log(self, run: Callable[..., Result], fill: Callable[..., None]) -> None:
        fill(MESSAGE)
        result = run("check")
        assert result.exit_code == 0
        assert "trackcore.db: sound, " in result.stderr

    def test_ids_that_do_not_fit(self, run: Callable[..., Result], fill: Callable[..., None]) -> None:
        fill(*[MESSAGE] * 3)
        lose_an_id(LOG)
        result = run("check")
        assert result.exit_code == 1
        assert "its ids do not fit its messages: 1 messages are not among them" in result.stderr
        assert "`trackcore check --mend` rebuilds the id index" in result.stderr
        result = run("check", "--mend")
        assert result.exit_code == 0
        assert "its ids were rebuilt from its messages" in result.stderr
        assert run("check").stderr.endswith(f"trackcore.db: sound, {LOG.stat().st_size:,} bytes\n")

    def test_a_damaged_log(self, run: Callable[..., Result], fill: Callable[..., None]) -> None:
        fill(*[MESSAGE] * 200)
        damage(LOG)
        result = run("check")
        assert result.exit_code == 1
        assert "THE LOG IS DAMAGED" in result.stderr


class TestServe:
    """A damaged log is reported and kept aside, never silently replaced."""

    def test_it_goes_on_with_a_new_log(self, serve: Callable[..., Served], fill: Callable[..., None]) -> None:
        fill(*[MESSAGE] * 200)
        damage(LOG)
        damaged = LOG.read_bytes()
        server = serve("--write-key", "key")
        assert "THE LOG IS DAMAGED" in server.stderr()
        (aside,) = LOG.parent.glob("trackcore.db.damaged-*[0-9]")
        assert f"It was moved to {aside.absolute()}" in server.stderr()
        assert aside.read_bytes() == damaged
        assert server.post("/v1/track", MESSAGE, "key") == (200, {"success": True})
        assert len(list(SqliteLog(LOG).messages())) == 1

    def test_an_id_index_that_does_not_match_is_rebuilt(
        self, serve: Callable[..., Served], fill: Callable[..., None]
    ) -> None:
        """The messages are intact, so the log is not moved aside."""
        fill(*[MESSAGE | {"messageId": f"m{number}"} for number in range(3)])
        lose_an_id(LOG)
        server = serve("--write-key", "key")
        assert "its ids were rebuilt from its messages" in server.stderr()
        assert not list(LOG.parent.glob("*damaged*"))
        assert check_log(LOG).inconsistency == CONSISTENT
        assert len(list(SqliteLog(LOG).messages())) == 3

    def test_the_upgrade_of_an_older_log_is_reported(self, serve: Callable[..., Served]) -> None:
        open_for_writing(LOG.absolute(), 5, MIGRATIONS[:2]).close()
        server = serve("--write-key", "key")
        assert "it is of an older trackcore" in server.stderr()
        assert server.post("/v1/track", MESSAGE, "key") == (200, {"success": True})

    def test_the_leftovers_of_a_killed_server_are_reported(self, serve: Callable[..., Served]) -> None:
        first = serve("--write-key", "key")
        assert first.post("/v1/track", MESSAGE, "key")[0] == 200
        first.kill()
        second = serve("--write-key", "key")
        assert "all that was committed is there" in second.stderr()
        assert len(list(SqliteLog(LOG).messages())) == 1
