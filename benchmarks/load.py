"""Servers to be measured, and the load from wrk.

The load is wrk's (https://github.com/wg/wrk, `apt-get install wrk`): it is written in C, so that on a small machine
nearly all processor time is left to the server.  It sends the bodies of the corpus in turn, over connections that
stay open.  They have no messageId, so that the server makes one for each and no message is a duplicate.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import attrs
import psutil
from corpus import DESTINATIONS, KEY
from trackcore_server.hosting.application import KEEPALIVE_SECONDS

HERE = Path(__file__).parent
PATIENCE_SECONDS = 30.0
MEGABYTE = 1_000_000

_SAMPLE_SECONDS = 0.5

_SCRIPT = """
local requests = {}
local files = {%(files)s}
for number, name in ipairs(files) do
  local file = assert(io.open(name, "rb"))
  local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Basic %(key)s"}
  local path = assert(file:read("*l"))
  requests[number] = wrk.format("POST", path, headers, file:read("*a"))
  file:close()
end
local last = 0
request = function()
  last = last %% #requests + 1
  return requests[last]
end
done = function(summary, latency, _)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "refused": %%d, "broken": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@attrs.frozen(kw_only=True)
class Load:
    """The result of one period of load.  Times are in milliseconds, memory in MB, CPU in cores kept busy."""

    requests_per_second: float
    p50: float
    p99: float
    refused: int
    broken: int
    cpu: float
    rss: float


@attrs.frozen(kw_only=True)
class RunningServer:
    """A gunicorn with its workers."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        return psutil.Process(self.process.pid).children()

    def largest_worker(self) -> float:
        """Return the memory of the largest worker, in MB."""
        return max(worker.memory_info().rss for worker in self.workers) / MEGABYTE

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all its processes."""
        processes = [psutil.Process(self.process.pid), *self.workers]
        return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def trackcore(folder: Path, *, workers: int, threads: int) -> Iterator[RunningServer]:
    """Run `trackcore serve` with 10 destinations on a log in `folder`."""
    config = folder / "trackcore.toml"
    config.write_text(_configuration())
    command = [sys.executable, "-m", "trackcore_server.cli", "serve", "--config", str(config)]
    with _running("trackcore", [*command, "--workers", str(workers), "--threads", str(threads)], folder) as server:
        yield server


@contextmanager
def bare(folder: Path, *, workers: int, threads: int) -> Iterator[RunningServer]:
    """Run the bare app under gunicorn with the settings of `trackcore serve`."""
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--log-level", "warning"]
    command += ["--chdir", str(HERE), "--keep-alive", str(KEEPALIVE_SECONDS), "--worker-tmp-dir", "/dev/shm"]  # noqa: S108
    command += ["--workers", str(workers), "--threads", str(threads), "bare:app"]
    with _running("bare Werkzeug", command, folder) as server:
        yield server


def put_load(
    server: RunningServer, requests: Sequence[tuple[str, bytes]], *, folder: Path, connections: int, seconds: float
) -> Load:
    """Send requests with wrk, `(path, body)` in turn, for `seconds`."""
    script = _write_script(requests, folder)
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds:.0f}s"]
    command += ["--timeout", "30s", "--script", str(script), f"http://127.0.0.1:{server.port}/"]
    used = server.cpu_seconds()
    started = time.monotonic()
    with _watching(server.largest_worker) as sizes:
        done = subprocess.run(command, capture_output=True, check=True, text=True)
    took = time.monotonic() - started
    found = json.loads(done.stderr.splitlines()[-1])
    return Load(
        requests_per_second=found["requests"] / found["seconds"],
        p50=found["p50"],
        p99=found["p99"],
        refused=found["refused"],
        broken=found["broken"],
        cpu=(server.cpu_seconds() - used) / took,
        rss=max(sizes),
    )


def check_tools() -> None:
    """Exit with a message if wrk is not installed."""
    if shutil.which("wrk") is None:
        sys.exit("This benchmark needs wrk: apt-get install wrk, brew install wrk, or https://github.com/wg/wrk")


@contextmanager
def _watching(measure: Callable[[], float]) -> Iterator[list[float]]:
    """Measure twice a second during the block, and once at its end."""
    found: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            found.append(measure())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
        found.append(measure())


@contextmanager
def _running(name: str, command: Sequence[str], folder: Path) -> Iterator[RunningServer]:
    port = _free_port()
    log = folder / f"{name}.stderr".replace(" ", "-")
    with log.open("wb") as stderr:
        process = subprocess.Popen([*command, "--bind", f"127.0.0.1:{port}"], stderr=stderr, start_new_session=True)
    try:
        _wait_for(process, port, log)
        yield RunningServer(name=name, process=process, port=port)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the server did not start: {re.sub(r'^$', 'no message', log.read_text())}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < 500  # noqa: PLR2004
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_script(requests: Sequence[tuple[str, bytes]], folder: Path) -> Path:
    bodies = folder / "requests"
    bodies.mkdir(exist_ok=True)
    for old in bodies.iterdir():
        old.unlink()
    files = []
    for number, (path, body) in enumerate(requests):
        file = bodies / f"{number}"
        file.write_bytes(path.encode() + b"\n" + body)
        files.append(f'"{file}"')
    script = folder / "load.lua"
    key = base64.b64encode(f"{KEY}:".encode()).decode()
    script.write_text(_SCRIPT % {"files": ", ".join(files), "key": key})
    return script


def _configuration() -> str:
    destinations = "".join(f'[[destinations]]\nname = "{destination.name}"\n' for destination in DESTINATIONS)
    return f'[[sources]]\nname = "website"\nwrite_keys = ["{KEY}"]\n{destinations}[log]\npath = "trackcore.db"\n'
