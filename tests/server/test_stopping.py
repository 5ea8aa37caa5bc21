"""Stopping at each moment and in each way: the server exits with 0 and keeps all acknowledged messages.

`interrupted.py` creates the worst moments; there a process has an hour to stop, so that a hanging one is noticed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from delivery_helpers import EndpointServer, Received, Reply
from fault_helpers import being_served, hold_write_lock
from gunicorn.workers.gthread import PollableMethodQueue
from interrupted import AT_ANY_TIME, WITH_THREADS
from patience import PATIENCE, wait_for
from served import Served
from trackcore_server.hosting.worker import WakeUp

INTERRUPTED_DELIVERY = Path(__file__).parents[1] / "interrupted_delivery.py"
WHILE_IT_IS_IMPORTED = """
import os, signal, sys, trackcore_command
class Interrupt:
    def find_spec(self, name, *_):
        if name == "trackcore_server":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
trackcore_command.main()
"""
INSTRUCTIONS = 250
"""More than one turn of a wait has."""

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
TRACK = {"userId": "user-1", "event": "Bought"}
WEBSITE = '[[sources]]\nname = "website"\nwrite_keys = ["key"]\n'
HOOK = '[[destinations]]\nname = "There"\nkind = "webhook"\nurl = "{url}"\nbatch_wait = "0s"\n'
WRONG = re.compile("Traceback|Exception|Interrupt|Aborted|ERROR|was sent|by itself")

Start = Callable[..., Served]


@pytest.fixture
def start(serve: Start) -> Start:
    """Start servers that are interrupted at a moment."""

    def begin(moment: str, *arguments: str, ready: bool = True) -> Served:
        return serve(*arguments, moment=moment, ready=ready)

    return begin


@pytest.fixture
def stalled() -> Iterator[tuple[EndpointServer, threading.Event]]:
    """An endpoint that answers once an event is set."""
    goes_on = threading.Event()

    def answer(_: Received) -> Reply:
        goes_on.wait(PATIENCE)
        return Reply()

    endpoint = EndpointServer(answer)
    yield endpoint, goes_on
    goes_on.set()
    endpoint.stop()


def check_end(served: Served) -> None:
    """Expect that the server exits with 0, without output like a failure, and leaves no process behind."""
    assert served.process.wait(PATIENCE) == 0
    assert WRONG.findall(served.stderr()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(served.process.pid, 0)


def stored(run: Any, *options: str) -> int:
    """Count the messages in the log."""
    return len(run("events", *options).stdout.splitlines())


def open_if_read(fifo: str) -> int | None:
    """Open a FIFO to write it, if a process waits to read it."""
    with suppress(OSError):
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    return None


class TestMoments:
    def test_while_a_request_is_handed_over(self, start: Start, run: Any) -> None:
        """The handler of the signal runs while the thread that it interrupts holds the lock of the pool."""
        served = start("while a request is handed over", "--write-key", "key", ready=False)
        served.wait_until_listening()
        assert served.post("/v1/track", TRACK, "key")[0] == 200
        check_end(served)
        assert stored(run) == 1

    @pytest.mark.parametrize("moment", ["at birth", "while a worker loads"])
    def test_while_a_worker_starts(self, start: Start, moment: str) -> None:
        check_end(start(moment, "--write-key", "key", "--workers", "2", ready=False))

    def test_while_delivery_starts(self, start: Start) -> None:
        Path("trackcore.toml").write_text(WEBSITE + HOOK.format(url="http://127.0.0.1:9"))
        check_end(start("while delivery starts", ready=False))

    def test_at_the_end(self, start: Start) -> None:
        served = start("at the end", "--write-key", "key")
        served.process.terminate()
        check_end(served)

    @pytest.mark.parametrize("how", [TERM, INT])
    def test_before_it_serves(self, start: Start, how: signal.Signals) -> None:
        """A signal ends a process as usual before it has anything to finish."""
        os.mkfifo("waited-for.toml")
        served = start(AT_ANY_TIME, "--config", "waited-for.toml", ready=False)
        with os.fdopen(wait_for(lambda: open_if_read("waited-for.toml")), "wb"):
            served.process.send_signal(how)
            assert served.process.wait(PATIENCE) == -how
        assert WRONG.findall(served.stderr()) == []

    def test_while_it_is_imported(self) -> None:
        command = [sys.executable, "-W", "error", "-c", WHILE_IT_IS_IMPORTED, "--version"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
        assert (done.returncode, done.stdout, done.stderr) == (-INT, b"", b"")

    def test_while_its_first_configuration_is_written(self, start: Start) -> None:
        """Its leftovers do not prevent the next start."""
        served = start("while its first configuration is written", ready=False)
        assert served.process.wait(PATIENCE) == -TERM
        start(AT_ANY_TIME)

    def test_before_delivery_has_its_configuration(self) -> None:
        """The server was killed when it had just started the delivery process."""
        command = [sys.executable, "-W", "error", "-m", "trackcore_server.delivery.child"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_each_instruction_of_a_wait_for_delivery(self, tmp_path: Path) -> None:
        config = tmp_path / "trackcore.toml"
        config.write_text(WEBSITE + HOOK.format(url="http://127.0.0.1:9"))
        command = [sys.executable, str(INTERRUPTED_DELIVERY), str(config), str(INSTRUCTIONS), str(PATIENCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("status")) == (0, 0), done.stderr


@pytest.mark.parametrize("how", [TERM, INT])
class TestConnections:
    def test_one_that_has_sent_nothing(self, start: Start, how: signal.Signals) -> None:
        """A thread waits for its first byte."""
        served = start("while a thread waits for bytes", "--write-key", "key")
        with socket.create_connection(("127.0.0.1", served.port), PATIENCE):
            assert served.get("/ready") == 200  # accepted after that one
            served.process.send_signal(how)
            check_end(served)

    def test_one_that_has_sent_nothing_for_long(self, start: Start, how: signal.Signals) -> None:
        """No thread waits for it any more, only the loop of the worker."""
        served = start("while a connection is set aside", "--write-key", "key")
        with socket.create_connection(("127.0.0.1", served.port), PATIENCE):
            wait_for(lambda: "set aside" in served.stderr())
            served.process.send_signal(how)
            check_end(served)

    def test_one_that_has_sent_nothing_to_a_loop(self, start: Start, how: signal.Signals) -> None:
        served = start(AT_ANY_TIME, "--write-key", "key")
        with socket.create_connection(("127.0.0.1", served.port), PATIENCE):
            assert served.get("/ready") == 200  # accepted after that one
            served.process.send_signal(how)
            check_end(served)

    @pytest.mark.parametrize("host", [AT_ANY_TIME, WITH_THREADS])
    def test_one_that_is_kept(self, start: Start, how: signal.Signals, host: str) -> None:
        served = start(host, "--write-key", "key")
        with socket.create_connection(("127.0.0.1", served.port), PATIENCE) as connection:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            served.process.send_signal(how)
            check_end(served)


@pytest.mark.parametrize(
    "signals",
    [(INT,), (TERM,), (INT, INT), (TERM, TERM, TERM), (TERM, INT), (INT, TERM), (HUP, TERM), (HUP, INT), (TERM, HUP)],
    ids=lambda signals: "-".join(each.name for each in signals),
)
@pytest.mark.parametrize("to_all", [False, True], ids=["the first process", "all"])
@pytest.mark.parametrize("host", [AT_ANY_TIME, WITH_THREADS], ids=["loop", "threads"])
def test_signals(start: Start, run: Any, signals: tuple[signal.Signals, ...], to_all: bool, host: str) -> None:
    """A terminal sends Ctrl-C to all processes of a server; a service manager may do the same with SIGTERM."""
    Path("trackcore.toml").write_text(WEBSITE + HOOK.format(url="http://127.0.0.1:9"))
    served = start(host, "--workers", "2", "--data", ".")
    assert served.post("/v1/track", TRACK, "key")[0] == 200
    for number in signals:
        (os.killpg if to_all else os.kill)(served.process.pid, number)
    check_end(served)
    assert stored(run, "--data", ".") == 1


def test_a_request_that_ends_too_late_writes_into_no_file(tmp_path: Path) -> None:
    """Its thread wakes a loop that has ended, by a descriptor that may belong to another file."""
    wake_up = WakeUp()
    wake_up.init()
    wake_up.close()
    log = tmp_path / "log"
    with ExitStack() as files:
        for _ in range(10):  # some of them get the numbers that are free
            files.enter_context(log.open("ab"))
        wake_up.defer(lambda: None)
    assert log.read_bytes() == b""
    PollableMethodQueue.close(wake_up)


class TestReload:
    """SIGHUP waits for the requests in progress of the previous workers; a stop ends that wait."""

    @pytest.mark.parametrize("host", [AT_ANY_TIME, WITH_THREADS])
    def test_requests(self, start: Start, run: Any, host: str) -> None:
        served = start(host, "--write-key", "key", "--data", ".")
        before = set(served.workers())
        with ThreadPoolExecutor(1) as pool:
            with hold_write_lock(Path("trackcore.db")):
                answer = pool.submit(served.post, "/v1/track", TRACK, "key")
                wait_for(lambda: being_served(served.port) == 1)
                served.process.send_signal(HUP)
                wait_for(lambda: before < set(served.workers()))
                served.process.send_signal(TERM)
                wait_for(lambda: before == set(served.workers()))
            assert answer.result()[0] == 200
        check_end(served)
        assert stored(run, "--data", ".") == 1

    def test_batches(self, start: Start, stalled: tuple[EndpointServer, threading.Event]) -> None:
        endpoint, goes_on = stalled
        Path("trackcore.toml").write_text(WEBSITE + HOOK.format(url=endpoint.url))
        served = start(AT_ANY_TIME)
        before = set(served.workers())
        assert served.post("/v1/track", TRACK, "key")[0] == 200
        wait_for(lambda: endpoint.requests)
        served.process.send_signal(HUP)
        wait_for(lambda: set(served.workers()) - before)
        served.process.send_signal(TERM)
        wait_for(lambda: len(served.workers()) == 1)  # the process that delivers
        goes_on.set()
        check_end(served)
        assert len(endpoint.ids) == 1
