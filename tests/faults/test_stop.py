"""SIGTERM under load.

"SIGTERM and Ctrl-C stop the server once the requests in progress are answered."  The servers have an hour for it, so
one that hangs is not killed in time.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fault_helpers import (
    KEY,
    Clients,
    Follower,
    Ledger,
    being_served,
    check_settled,
    hold_write_lock,
    message,
    stored_ids,
)
from interrupted import AT_ANY_TIME
from patience import PATIENCE, wait_for

SHORT_STOPS = 1
LONG_STOPS = 25


def test_under_load(start: Any, log_path: Path, is_long: bool) -> None:
    """No acknowledged message is lost, and no connection is cut during the processing of a request.

    A client may have sent a request on a kept connection just when the server closed it: then the server has not read
    it, so nothing of it may be stored.
    """
    random = Random(4)
    ledger = Ledger()
    served = start(moment=AT_ANY_TIME)
    with Follower(log_path) as follower:
        for number in range(LONG_STOPS if is_long else SHORT_STOPS):
            served = start(moment=AT_ANY_TIME) if number else served
            with Clients(served, ledger, clients=12, name=f"stop{number}-") as clients:
                ledger.wait_for_answers(random.randint(50, 150))
                served.process.send_signal(signal.SIGTERM)
                assert served.process.wait(PATIENCE) == 0
                clients.stop()
            check_settled(log_path, ledger)
            assert ledger.unanswered & set(stored_ids(log_path)) == set(), "stored, and yet the connection was cut"
            assert "Traceback" not in served.stderr()
    follower.check()
    assert ledger.refusals == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_is_being_served_is_answered(start: Any, log_path: Path, how: signal.Signals) -> None:
    """Requests that wait for their commit when the signal comes are committed and answered."""
    served = start(moment=AT_ANY_TIME)
    assert served.post("/v1/track", message("before"), KEY)[0] == 200
    with ThreadPoolExecutor(6) as pool:
        with hold_write_lock(log_path):
            answers = [pool.submit(served.ask, "POST", "/v1/track", message(f"m{n}"), KEY) for n in range(6)]
            wait_for(lambda: being_served(served.port) == 6)
            served.process.send_signal(how)
            assert not any(answer.done() for answer in answers)
        assert [answer.result().status for answer in answers] == [200] * 6
    assert served.process.wait(PATIENCE) == 0
    assert sorted(stored_ids(log_path)) == ["before", *(f"m{n}" for n in range(6))]
