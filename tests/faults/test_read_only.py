"""A log, or its folder, that an unprivileged user may not write."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapter_helpers import envelope, run_python
from fault_helpers import KEY, stored_ids
from patience import PATIENCE
from trackcore_sqlite import SqliteSink

NOBODY = 65534


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """A folder with a log of one message that was closed in order; every user can access it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sink = SqliteSink(folder / "trackcore.db")
        sink.store([envelope("a")])
        sink.close()
        if os.geteuid() == 0:
            for path in (folder, folder / "trackcore.db"):
                os.chown(path, NOBODY, NOBODY)
        yield folder
        folder.chmod(0o700)


AS_NOBODY = f"""
import os, sys
# While they can be read: the interpreter may be the superuser's.
import trackcore_server.cli.serve
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
trackcore_server.cli.main(prog_name="trackcore")
"""
"""The `trackcore` command, run by an unprivileged user."""


class TestStarting:
    """A wrong path is reported at the start and not to the first client, and the log is left unchanged."""

    def start(self, folder: Path) -> str:
        """Start a server that fails, and return its message."""
        before = (folder / "trackcore.db").read_bytes()
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, "serve", "--bind", "127.0.0.1:0", "--data", folder, "--write-key", KEY],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            text=True,
        )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert (folder / "trackcore.db").read_bytes() == before
        assert {path.name for path in folder.iterdir()} <= {"trackcore.db", "trackcore.db-wal", "trackcore.db-shm"}
        return done.stderr

    def test_on_a_file_that_is_read_only(self, folder: Path) -> None:
        (folder / "trackcore.db").chmod(0o444)
        assert f"{folder / 'trackcore.db'}: the log cannot be written" in self.start(folder)

    def test_in_a_folder_that_is_read_only(self, folder: Path) -> None:
        folder.chmod(0o555)
        assert f"{folder / 'trackcore.db'}: the log cannot be written" in self.start(folder)


def test_made_read_only_while_it_is_written(folder: Path) -> None:
    """The responses stay true: exactly the acknowledged messages are in the log; then it works again by itself."""
    printed = dict(line.split() for line in run_python(MADE_READ_ONLY, folder).splitlines())
    assert (printed["b"], printed["d"]) == ("stored", "stored")
    assert set(printed.values()) <= {"stored", "unavailable"}
    stored = [name for name, outcome in printed.items() if outcome == "stored"]
    assert stored_ids(folder / "trackcore.db") == ["a", *stored]


MADE_READ_ONLY = f"""
import os, sys
from pathlib import Path
from adapter_helpers import envelope, run_python
from trackcore import SinkUnavailable
from trackcore_sqlite import SqliteSink

if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
folder = Path(sys.argv[1])
sink = SqliteSink(folder / "trackcore.db")

def store(name):
    try:
        print(name, *sink.store([envelope(name)]))
    except SinkUnavailable as error:
        print(name, error.cause)

store("b")
for path in folder.iterdir():
    path.chmod(0o444)
folder.chmod(0o555)
store("c1")
sink.close()
store("c2")
folder.chmod(0o700)
for path in folder.iterdir():
    path.chmod(0o600)
store("d")
sink.close()
"""
