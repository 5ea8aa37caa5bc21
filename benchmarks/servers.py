"""Servers to be measured: how they are started, the cost of all their processes, and what they have stored."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from tempfile import gettempdir

import attrs
import click
import psutil
from corpus import BATCH_MESSAGES, DESTINATIONS, KEY, make_bodies, make_singles
from load import Request, make_request

HERE = Path(__file__).parent
LOCALHOST = "127.0.0.1"
MEGABYTE = 1_000_000
START_SECONDS = 30.0
STOP_SECONDS = 30.0
SERVER_ERROR = 500

_LOG = "trackcore.db"
_SINGLES = 500
_BODIES = 50

_COUNT = """
import sys
from trackcore_sqlite import SqliteLog
print(sum(1 for _ in SqliteLog(sys.argv[1]).messages()))
"""


@attrs.frozen
class ProcessTree:
    """Processes and all their descendants."""

    roots: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """Return the CPU time that they have used, with that of the children which have ended."""
        return sum(sum(process.cpu_times()[:4]) for process in self._processes())

    def megabytes(self) -> list[float]:
        """Return the resident memory of each, largest first."""
        return sorted((process.memory_info().rss / MEGABYTE for process in self._processes()), reverse=True)

    def _processes(self) -> list[psutil.Process]:
        roots = [psutil.Process(root) for root in self.roots]
        return list({*roots, *(child for root in roots for child in root.children(recursive=True))})


@cache
def segment_requests(messages: int, key: str = KEY) -> Sequence[Request]:
    """Return requests of Segment's API: with one message to the path of its call, else batches."""
    if messages == 1:
        return [make_request(f"/v1/{call}", body, key=key) for call, body in make_singles(_SINGLES)]
    assert messages == BATCH_MESSAGES
    return [make_request("/v1/batch", body, key=key) for body in make_bodies(_BODIES)]


@attrs.frozen(kw_only=True)
class RunningServer:
    """A server that answers."""

    address: tuple[str, int]
    processes: ProcessTree
    requests: Callable[[int], Sequence[Request]] = segment_requests
    """Returns requests for it, with so many messages each."""


@attrs.frozen(kw_only=True)
class Trackcore:
    """An installed trackcore: `folder` is the `bin` of its environment, `options` are those of `trackcore serve`."""

    name: str
    folder: Path
    options: tuple[str, ...] = ()
    source: str = ""
    """Further settings of the source, as TOML."""
    destination: str = ""
    """Further settings of each destination, as TOML."""
    tables: str = ""
    """Further tables of settings, as TOML."""

    @contextmanager
    def serve(self, data: Path) -> Iterator[RunningServer]:
        """Run `trackcore serve` with 10 destinations, on a log in a folder."""
        config = write_configuration(data, source=self.source, destination=self.destination, tables=self.tables)
        command = [str(self.folder / "trackcore"), "serve", "--config", str(config), *self.options, "--bind"]
        with running(command, data) as server:
            yield server

    def count_messages(self, data: Path) -> int:
        """Read the whole log in a folder, with the API of this trackcore, and return the number of its messages."""
        command = [str(self.folder / "python"), "-c", _COUNT, str(data / _LOG)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


CURRENT = Trackcore(name="current", folder=Path(sys.executable).parent)
"""The trackcore of this environment."""


def _environments(_: click.Context, __: click.Parameter, values: Sequence[str]) -> list[Trackcore]:
    found = []
    for value in values:
        name, _separator, folder = value.partition("=")
        if not (Path(folder) / "trackcore").is_file():
            raise click.BadParameter(f"{value}: is to be NAME=FOLDER, and the folder is to contain `trackcore`")
        found.append(Trackcore(name=name, folder=Path(folder)))
    return found


against_option = click.option(
    "--against",
    multiple=True,
    callback=_environments,
    metavar="NAME=FOLDER",
    help="Also measure the trackcore of another environment, whose `bin` is FOLDER. Can be repeated. The first one is"
    " the baseline.",
)


@attrs.frozen(kw_only=True)
class Bare:
    """The bare app under gunicorn's threads."""

    workers: int
    threads: int
    name: str = "bare Werkzeug"

    @contextmanager
    def serve(self, data: Path) -> Iterator[RunningServer]:
        """Run it."""
        command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--log-level", "warning"]
        command += ["--chdir", str(HERE), "--keep-alive", "75", "--worker-tmp-dir", "/dev/shm"]  # noqa: S108
        command += ["--workers", str(self.workers), "--threads", str(self.threads), "bare:app", "--bind"]
        with running(command, data) as server:
            yield server

    def count_messages(self, data: Path) -> None:
        """It stores nothing."""


@contextmanager
def running(command: Sequence[str], data: Path) -> Iterator[RunningServer]:
    """Run a server: a command to which the address to listen on is added.  Its stderr goes to a file in `data`."""
    port = free_port()
    log = data / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen([*command, f"{LOCALHOST}:{port}"], stderr=stderr, start_new_session=True)
    try:
        _wait_for(process, port, log)
        yield RunningServer(address=(LOCALHOST, port), processes=ProcessTree((process.pid,)))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def file_system(folder: Path | None) -> str:
    """Return the type of the file system of a folder, or of that of temporary files.  On tmpfs fsync costs nothing."""
    place = (folder or Path(gettempdir())).resolve()
    around = [place, *place.parents]
    types = {Path(partition.mountpoint): partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next(types[mount] for mount in around if mount in types)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the server did not start: {log.read_text() or 'no message'}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    connection = HTTPConnection(LOCALHOST, port, timeout=START_SECONDS)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status < SERVER_ERROR
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
        return port


def write_configuration(data: Path, *, source: str = "", destination: str = "", tables: str = "") -> Path:
    """Write a configuration with 10 destinations, and a log in the same folder; the texts are further settings."""
    config = data / "trackcore.toml"
    destinations = "".join(f'[[destinations]]\nname = "{one.name}"\n{destination}' for one in DESTINATIONS)
    source = f'[[sources]]\nname = "website"\nwrite_keys = ["{KEY}"]\n{source}'
    config.write_text(f'{source}{destinations}[log]\npath = "{_LOG}"\n{tables}')
    return config
