"""The power is cut under load: of a server, and of an asyncio program that embeds a collector.

Every acknowledged message survives a crash of the machine: what was synced is certain to be on the disk, and any part
of the rest may be there.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from embedded import Embedded
from fault_helpers import Clients, Ledger, check_settled, let_work, new_log
from power import Disk, compile_recorder

SEED = 7


def test_of_an_embedding_program(tmp_path: Path, is_long: bool) -> None:
    random = Random(SEED)
    ledger = Ledger()
    recorder = compile_recorder(tmp_path)
    log_path = new_log(tmp_path / "first")
    again: list[list[str]] = []
    for cut in range(100 if is_long else 4):
        disk = Disk(log_path.parent, tmp_path / f"platter{cut}", recorder)
        program = Embedded(log_path, ledger, name=f"p{cut}", again=again, environment=disk.environment)
        let_work(ledger, random)
        again = program.kill()
        log_path = tmp_path / f"after{cut}" / log_path.name
        disk.cut_power(log_path.parent, random if cut % 2 else None)
        check_settled(log_path, ledger)


def test_of_a_server(start: Any, tmp_path: Path, is_long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(SEED)
    ledger = Ledger()
    recorder = compile_recorder(tmp_path)
    log_path = new_log(tmp_path / "first")
    for cut in range(50 if is_long else 2):
        disk = Disk(log_path.parent, tmp_path / f"platter{cut}", recorder)
        for name, value in disk.environment.items():
            monkeypatch.setenv(name, value)
        served = start(folder=log_path.parent)
        with Clients(served, ledger, name=f"c{cut}-") as clients:
            let_work(ledger, random)
            served.kill()
            clients.stop()
        log_path = tmp_path / f"after{cut}" / log_path.name
        disk.cut_power(log_path.parent, random if cut % 2 else None)
        check_settled(log_path, ledger)
    assert ledger.refusals == []
