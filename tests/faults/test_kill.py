"""`kill -9` of workers and of the master, at random instants under concurrent load.

"Killed at any instant, every acknowledged message is there once, nothing half-written."
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fault_helpers import Clients, Follower, Ledger, check_log, check_settled, let_work
from patience import wait_for
from served import Served

SEED = 4
SHORT_KILLS = 4
LONG_KILLS = 100


def test_nothing_acknowledged_is_lost_and_nothing_is_stored_twice(
    start: Any, log_path: Path, is_long: bool, pytestconfig: pytest.Config
) -> None:
    random = Random(SEED)
    ledger = Ledger()
    served = start()
    kills = LONG_KILLS if is_long else SHORT_KILLS
    with Follower(log_path) as follower, Clients(served, ledger) as clients:
        for number in range(kills):
            let_work(ledger, random)
            victim = VICTIMS[number % len(VICTIMS)]
            served = victim(served, clients, start, random)
            check_log(log_path, ledger)
            _tell(pytestconfig, f"{number + 1} of {kills} kills, {len(ledger.acknowledged)} messages acknowledged")
        let_work(ledger, random)
        clients.stop()
        check_settled(log_path, ledger)
    follower.check()
    assert ledger.refusals == []


def _kill_a_worker(served: Served, clients: Clients, start: Any, random: Random) -> Served:
    """The master replaces it, and the other one goes on."""
    del clients, start
    pid = random.choice(served.workers())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in served.workers() and len(served.workers()) == 2)
    return served


def _kill_all(served: Served, clients: Clients, start: Any, random: Random) -> Served:
    """As if the machine went down; then the server is started again."""
    del random
    served.kill()
    successor: Served = start()
    clients.send_to(successor)
    return successor


def _kill_the_master(served: Served, clients: Clients, start: Any, random: Random) -> Served:
    """Its workers end by themselves; the next server starts while they still run."""
    del random
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    successor: Served = start()
    clients.send_to(successor)
    wait_for(lambda: _has_ended(served.process.pid))
    return successor


VICTIMS = (_kill_a_worker, _kill_all, _kill_a_worker, _kill_the_master)


def _has_ended(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return False
    return True


def _tell(config: pytest.Config, text: str) -> None:
    """Show progress with `-v` or `--long`, past the capture of pytest: the long form takes minutes."""
    if config.get_verbosity() <= 0 and not config.getoption("--long"):
        return
    with config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]
        config.pluginmanager.get_plugin("terminalreporter").write_line(text)  # type: ignore[union-attr]
