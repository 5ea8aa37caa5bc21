"""A small disk that fills up and gets room again.

"It refuses cleanly when the disk is full and recovers by itself."
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import NOON, envelope
from fault_helpers import KEY, Clients, Follower, Ledger, batch, check_settled, message, stored_ids
from patience import wait_for
from served import Answered, Served
from trackcore_sqlite import SqliteSink, prune

from trackcore import Cause, SinkUnavailable

ROOM_TO_BEGIN_BYTES = 64 << 10
"""Room for the -wal and -shm files of the log, but not for a step of pruning."""


def test_filled_under_load_and_freed_again(start: Any, disk: Path) -> None:
    """507 with Retry-After, `/ready` states the reason, nothing is half-written, and the server recovers by itself."""
    log_path = disk / "trackcore.db"
    ledger = Ledger()
    served = start(folder=disk)
    with Follower(log_path) as follower:
        with Clients(served, ledger) as clients:
            wait_for(lambda: len(ledger.refusals) > 20)
            clients.stop()
        _fill(disk)
        expect_full(wait_for(lambda: _not_ready(served)))
        assert served.get("/health") == 200
        assert ledger.acknowledged
        for refusal in ledger.refusals:
            expect_full(refusal)
        check_settled(log_path, ledger)

        (disk / "rest").unlink()
        (disk / "ballast").unlink()
        wait_for(served.is_ready)
        refused = sorted(ledger.refused)
        again = served.ask("POST", "/v1/batch", batch(*refused), KEY)
        assert again.status == 200, again
        ledger.note(refused, again)
        check_settled(log_path, ledger)
    follower.check()
    assert served.terminate() == 0
    assert "Traceback" not in served.stderr()


def test_full_from_the_start(start: Any, disk: Path) -> None:
    """The server starts on a full disk, reports it to its clients, and recovers by itself."""
    _fill(disk)
    served = start(folder=disk, ready=False)
    assert "nothing can be stored until space is free" in served.stderr()
    expect_full(served.ask("POST", "/v1/track", message("early"), KEY))
    expect_full(served.ask("GET", "/ready"))
    (disk / "ballast").unlink()
    wait_for(served.is_ready)
    assert served.post("/v1/track", message("late"), KEY)[0] == 200
    assert stored_ids(disk / "trackcore.db") == ["late"]


def test_restarted_while_it_is_full(start: Any, disk: Path) -> None:
    """Acknowledged messages are there, even without room to recover the log."""
    first = start(folder=disk)
    sent = _send_until_refused(first)
    first.kill()
    second = start(folder=disk, ready=False)
    _fill(disk)
    assert stored_ids(disk / "trackcore.db") == sent
    (disk / "ballast").unlink()
    wait_for(second.is_ready)
    assert second.post("/v1/track", message("late"), KEY)[0] == 200
    assert stored_ids(disk / "trackcore.db") == [*sent, "late"]


def test_pruned_while_it_is_full(disk: Path) -> None:
    """Deleting needs some room temporarily: the lack of it is reported, and nothing is half-deleted."""
    log_path = disk / "trackcore.db"
    (disk / "ballast").unlink()
    with closing(SqliteSink(log_path)) as sink:
        for number in range(200):
            sink.store([envelope(f"m{number}", payload=b'{"messageId": "m%d"}' % number + b" " * 5_000)])
    _fill(disk)
    os.truncate(disk / "rest", (disk / "rest").stat().st_size - ROOM_TO_BEGIN_BYTES)
    with pytest.raises(SinkUnavailable, match="the disk is full") as caught:
        list(prune(log_path, NOON + timedelta(hours=1)))
    assert caught.value.cause is Cause.FULL
    (disk / "rest").unlink()
    left = len(stored_ids(log_path))
    assert left
    assert sum(step.deleted for step in prune(log_path, NOON + timedelta(hours=1))) == left


def expect_full(answered: Answered) -> None:
    """Expect the response for a full disk."""
    assert answered.status == 507, answered
    assert 1 <= int(answered.headers["retry-after"]) <= 300
    assert (answered.body["success"], answered.body["code"]) == (False, "disk_full")
    assert "No space" in answered.body["message"]


def _not_ready(served: Served) -> Answered | None:
    """Return the response of `/ready` unless it is 200: each worker caches its own for a second."""
    answered = served.ask("GET", "/ready")
    return None if answered.status == 200 else answered


def _send_until_refused(served: Served) -> list[str]:
    """Send until the disk is full, and return the acknowledged ids."""
    sent: list[str] = []
    for number in range(10_000):
        name = f"m{number}"
        answered = served.ask("POST", "/v1/track", message(name, context={"pad": "x" * 20_000}), KEY)
        if answered.status != 200:
            expect_full(answered)
            return sent
        sent.append(name)
    raise AssertionError("the disk was never full")


def _fill(disk: Path) -> None:
    """Fill the disk."""
    with (disk / "rest").open("wb", buffering=0) as rest:
        for size in (1 << 16, 1):
            try:
                while True:
                    rest.write(bytes(size))
            except OSError:
                continue
