"""A log that is damaged when the server starts.

Start-up checks the file, recovers as far as SQLite can, and reports the result.  A damaged file is reported and kept,
in place or moved aside; it is never silently replaced, and never written to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from adapter_helpers import envelope
from fault_helpers import KEY, message, stored_ids
from served import Served
from trackcore_sqlite import SqliteSink

PAGE_BYTES = 4096
BATCHES = 12
BATCH_MESSAGES = 20

Damage = Callable[[Path], None]


def garbage(path: Path) -> None:
    path.write_bytes(Random(1).randbytes(5 * PAGE_BYTES))


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_within_the_last_page(path: Path) -> None:
    os.truncate(path, path.stat().st_size - PAGE_BYTES // 3)


def _overwritten(place: int) -> Damage:
    """Overwrite one page; counted from the end where negative."""

    def overwrite(path: Path) -> None:
        page = place % (path.stat().st_size // PAGE_BYTES)
        with path.open("r+b") as file:
            file.seek(page * PAGE_BYTES)
            file.write(Random(1).randbytes(PAGE_BYTES))

    return overwrite


DAMAGES = [
    pytest.param(garbage, id="garbage"),
    pytest.param(cut_in_half, id="cut in half"),
    pytest.param(cut_within_the_last_page, id="cut within the last page"),
    pytest.param(_overwritten(0), id="first page overwritten"),
    pytest.param(_overwritten(1), id="second page overwritten"),
    pytest.param(_overwritten(-2), id="page inside overwritten"),
]


@pytest.fixture(name="written", scope="module")
def _written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log that was closed in order, `closed.db`, and one that a killed server left, `trackcore.db`."""
    folder = tmp_path_factory.mktemp("written")
    killed = tmp_path_factory.mktemp("killed")
    sink = SqliteSink(folder / "trackcore.db")
    for number in range(BATCHES):
        names = [f"{number}-{index}" for index in range(BATCH_MESSAGES)]
        sink.store([envelope(name, payload=json.dumps(message(name)).encode()) for name in names])
    for path in folder.iterdir():
        shutil.copy(path, killed)
    sink.close()
    shutil.copy(folder / "trackcore.db", killed / "closed.db")
    return killed


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file(written: Path, start: Any, log_path: Path, damage: Damage) -> None:
    """It is reported by its name, and every byte of it is still there, in place or moved aside."""
    log_path.parent.mkdir()
    shutil.copy(written / "closed.db", log_path)
    damage(log_path)
    damaged = log_path.read_bytes()
    served = start(sure=False)
    assert "Traceback" not in served.stderr()
    assert re.search(rf"{re.escape(str(log_path))}.*damaged", served.stderr()), served.stderr()
    assert damaged in [path.read_bytes() for path in log_path.parent.iterdir()]


class TestTornWriteAheadLog:
    """The last write may be torn when the machine goes down; SQLite recovers all commits before it."""

    @pytest.fixture(name="wal")
    def _wal(self, written: Path, log_path: Path) -> Path:
        """The write-ahead log of a server that was killed, beside its log."""
        log_path.parent.mkdir()
        for path in written.glob("trackcore.db*"):
            shutil.copy(path, log_path.parent)
        return log_path.with_name(log_path.name + "-wal")

    def test_cut_within_the_last_commit(self, wal: Path, start: Any, log_path: Path) -> None:
        """Only the unfinished commit is missing, and it is missing as a whole."""
        os.truncate(wal, wal.stat().st_size - PAGE_BYTES - 100)
        self._goes_on(start(), log_path, (BATCHES - 1) * BATCH_MESSAGES)

    def test_overwritten_in_the_last_commit(self, wal: Path, start: Any, log_path: Path) -> None:
        with wal.open("r+b") as file:
            file.seek(-PAGE_BYTES // 2, os.SEEK_END)
            file.write(Random(1).randbytes(100))
        self._goes_on(start(), log_path, (BATCHES - 1) * BATCH_MESSAGES)

    def test_garbage_behind_the_last_commit(self, wal: Path, start: Any, log_path: Path) -> None:
        """As of a commit whose end was never written."""
        with wal.open("ab") as file:
            file.write(Random(1).randbytes(3 * PAGE_BYTES))
        self._goes_on(start(), log_path, BATCHES * BATCH_MESSAGES)

    def test_the_index_beside_it_is_gone(self, wal: Path, start: Any, log_path: Path) -> None:
        wal.with_name(log_path.name + "-shm").unlink()
        self._goes_on(start(), log_path, BATCHES * BATCH_MESSAGES)

    def _goes_on(self, served: Served, log_path: Path, count: int) -> None:
        """Expect the first messages of a count, in order, and that the next one is stored after them."""
        expected = [f"{n // BATCH_MESSAGES}-{n % BATCH_MESSAGES}" for n in range(count)]
        assert stored_ids(log_path) == expected
        assert served.post("/v1/track", message("next"), KEY)[0] == 200
        assert stored_ids(log_path) == [*expected, "next"]
