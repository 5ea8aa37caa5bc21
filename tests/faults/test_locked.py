"""A second process that holds the write lock of the log.

A server waits for another process that writes; too long a wait is an error, and nothing is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fault_helpers import KEY, Clients, Ledger, batch, check_settled, hold_write_lock, message, stored_ids
from patience import wait_for
from served import Answered


def test_a_lock_that_is_let_go_in_time(start: Any, log_path: Path) -> None:
    """Clients wait, and all are served.  They are fewer than the threads of a worker, so one is left for `/health`."""
    served = start()
    ledger = Ledger()
    with Clients(served, ledger, clients=6) as clients:
        for _ in range(3):
            ledger.wait_for_answers(20)
            with hold_write_lock(log_path):
                assert served.get("/health") == 200
        clients.stop()
    assert ledger.refusals == []
    assert ledger.unanswered == set()
    check_settled(log_path, ledger)


def test_a_lock_that_is_held_too_long(start: Any, log_path: Path, is_long: bool) -> None:
    """503 with Retry-After; then it works again, and the rejected messages can be sent again."""
    served = start()
    assert served.post("/v1/track", message("before"), KEY)[0] == 200
    with hold_write_lock(log_path):
        expect_unavailable(served.ask("POST", "/v1/batch", batch("a", "b"), KEY))
        if is_long:
            wait_for(lambda: not served.is_ready())
            expect_unavailable(served.ask("GET", "/ready"))
        assert stored_ids(log_path) == ["before"]
    wait_for(served.is_ready)
    assert served.post("/v1/batch", batch("a", "b"), KEY)[0] == 200
    assert stored_ids(log_path) == ["before", "a", "b"]


def expect_unavailable(answered: Answered) -> None:
    """Expect the response that asks a client to retry soon."""
    assert answered.status == 503
    assert 1 <= int(answered.headers["retry-after"]) <= 300
    assert (answered.body["success"], answered.body["code"]) == (False, "unavailable")
