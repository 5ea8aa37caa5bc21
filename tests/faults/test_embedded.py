"""An asyncio program that embeds a collector, under load: killed, locked out, and on a full disk.

`await collector.receive_async(...)` returns once everything is durably stored: no acknowledged message is lost, and
none is stored twice.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from embedded import Embedded
from fault_helpers import Follower, Ledger, check_log, check_settled, hold_write_lock, let_work, new_log
from patience import wait_for

SEED = 7


def test_two_programs_are_killed_in_turn(data: Path, is_long: bool) -> None:
    """Killed at any instant, every acknowledged message is there once, and nothing is half-written."""
    random = Random(SEED)
    log_path, ledger = new_log(data), Ledger()
    programs = [Embedded(log_path, ledger, name=f"first{number}") for number in range(2)]
    with Follower(log_path) as follower:
        for kill in range(100 if is_long else 4):
            let_work(ledger, random)
            again = programs.pop(0).kill()
            check_log(log_path, ledger)
            programs.append(Embedded(log_path, ledger, name=f"after{kill}", again=again))
        let_work(ledger, random)
        for program in programs:
            program.stop()
        check_settled(log_path, ledger)
    follower.check()
    assert (ledger.refused, ledger.unanswered) == (set(), set())


def test_another_process_holds_the_lock(data: Path) -> None:
    """A short wait delays the requests; a long one refuses them, and they are stored when they are sent again."""
    log_path, ledger = new_log(data), Ledger()
    with Embedded(log_path, ledger, name="p") as program:
        ledger.wait_for_answers(50)
        with hold_write_lock(log_path):
            wait_for(lambda: len(ledger.refusals) >= 24)
            check_log(log_path, ledger)
        ledger.wait_for_answers(50)
        program.stop()
    assert {refusal.status for refusal in ledger.refusals} == {503}
    check_settled(log_path, ledger)
    assert (ledger.refused, ledger.unanswered) == (set(), set())


def test_the_disk_is_full(disk: Path) -> None:
    """The requests are refused with that cause, nothing is half-written, and it recovers by itself."""
    log_path, ledger = disk / "trackcore.db", Ledger()
    with Embedded(log_path, ledger, name="p") as program:
        wait_for(lambda: len(ledger.refusals) > 100)
        check_log(log_path, ledger)
        assert ledger.acknowledged
        (disk / "ballast").unlink()
        ledger.wait_for_answers(len(ledger.refusals))
        wait_for(lambda: not ledger.refused)
        program.stop()
    assert {refusal.status for refusal in ledger.refusals} == {507}
    check_settled(log_path, ledger)
