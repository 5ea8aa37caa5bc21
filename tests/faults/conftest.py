"""Fixtures of the fault tests: real servers of two workers on a log, and a small disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_helpers import KEY
from patience import wait_for
from served import Served

Start = Callable[..., Served]

DISK_BYTES = 16 << 20
BALLAST_BYTES = 14 << 20

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # the tests read /proc


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    """The data folder of the servers; it does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(name="log_path")
def _log_path(data: Path) -> Path:
    """The log of the servers."""
    return data / "trackcore.db"


@pytest.fixture(name="start")
def _start(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start servers on the log; at the end they are killed with all their workers.

    It waits until the server is ready; with `ready=False` until it answers; with `sure=False` until it listens or has
    given up.  A `moment` is one of `interrupted.py`.
    """
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    started: list[Served] = []

    def start(*, folder: Path = data, ready: bool = True, sure: bool = True, moment: str | None = None) -> Served:
        options = ["--data", str(folder), "--write-key", KEY, "--workers", "2", "--threads", "8"]
        served = Served.start(tmp_path / f"stderr-{len(started)}", *options, moment=moment)
        started.append(served)
        if not sure:
            wait_for(lambda: served.process.poll() is not None or "Listening" in served.stderr())
            return served
        served.wait_until_listening()
        wait_for(served.is_ready if ready else lambda: served.get("/health") == 200)
        return served

    yield start
    for served in started:
        served.kill()


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB, of which 4 are taken by `ballast`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES},mode=700,uid={os.getuid()}"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    try:
        subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk can be mounted by the superuser only; tests/adapters has the same with a limit on pages")
    (folder / "ballast").write_bytes(bytes(BALLAST_BYTES))
    yield folder
    subprocess.run([*sudo, "umount", "--lazy", folder], check=True)
