"""The asynchronous worker under gunicorn's own command, with any ASGI app."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest
from patience import PATIENCE, wait_for
from served import Served
from trackcore_server.hosting.async_worker import _loop_factory

Start = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start gunicorn with an app of `lifespans.py`."""
    started: list[Served] = []

    def begin(app: str, *options: str) -> Served:
        worker = ("--worker-class", "trackcore_server.worker.AsyncWorker", "--pythonpath", str(Path(__file__).parent))
        started.append(Served.start_gunicorn(tmp_path / "stderr", *worker, *options, app))
        return started[-1]

    yield begin
    for served in started:
        served.kill()


def ask(connection: HTTPConnection) -> str:
    connection.request("GET", "/")
    return connection.getresponse().read().decode()


def ask_once(served: Served) -> str:
    connection = HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    try:
        return ask(connection)
    finally:
        connection.close()


class TestLifespan:
    @pytest.mark.parametrize(
        ("app", "shown"),
        [
            ("lifespans:failing", r"the app reports: no\nluck"),
            ("lifespans:raising", "the app failed: ValueError"),
            ("trackcore_server:create_app()", "the app failed: TypeError"),
        ],
    )
    def test_an_app_that_cannot_start_ends_the_server(self, start: Start, app: str, shown: str) -> None:
        Path("trackcore.toml").write_text('[[sources]]\nname = "website"\nwrite_keys = ["key"]\n')
        served = start(app)
        assert served.process.wait(PATIENCE) == 3
        assert shown in served.stderr()
        assert "secret" not in served.stderr()
        assert "Traceback" not in served.stderr()

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
    def test_its_state_reaches_requests_and_its_end_is_awaited(self, start: Start, how: signal.Signals) -> None:
        served = start("lifespans:plain")
        served.wait_until_listening()
        assert ask_once(served).split()[1:] == ["http", "yes"]
        served.process.send_signal(how)
        assert served.process.wait(PATIENCE) == 0
        assert Path("ended").exists()


class TestSettings:
    def test_those_without_effect_are_reported(self, start: Start) -> None:
        served = start("lifespans:plain", "--threads", "2", "--access-logfile", "-", "--proxy-protocol", "auto")
        served.wait_until_listening()
        for name in ("threads", "accesslog", "proxy_protocol"):
            served.wait_for_output(rf"The setting {name} has no effect on this worker\.")

    def test_a_worker_is_replaced_after_its_most_requests(self, start: Start) -> None:
        served = start("lifespans:plain", "--max-requests", "3")
        served.wait_until_listening()
        first = ask_once(served).split()[0]
        wait_for(lambda: ask_once(served).split()[0] != first)
        assert served.process.poll() is None

    def test_tls(self, start: Start, tmp_path: Path) -> None:
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        served = start("lifespans:plain", "--certfile", str(certificate), "--keyfile", str(key))
        served.port = int(served.wait_for_output(r"Listening at: https://127\.0\.0\.1:(\d+)\b")[1])
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.load_verify_locations(certificate)
        connection = HTTPSConnection("127.0.0.1", served.port, timeout=PATIENCE, context=trusting)
        assert [ask(connection).split()[1] for _ in range(2)] == ["https", "https"]
        connection.close()
        assert served.terminate() == 0


def test_a_worker_whose_loop_is_blocked_is_replaced(start: Start) -> None:
    served = start("lifespans:plain", "--timeout", "2")
    served.wait_until_listening()
    (worker,) = wait_for(served.workers)
    assert ask_once(served).split()[0] == str(worker)
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: served.workers() not in ([], [worker]))
    assert ask_once(served).split()[0] != str(worker)


def test_without_uvloop_the_loop_is_that_of_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not available on every platform."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert _loop_factory("auto") is asyncio.new_event_loop


def test_the_limit_of_open_files_is_raised() -> None:
    """The usual one is 1,024, and a connection is a file."""
    program = (
        "import resource; from trackcore_server.hosting.async_worker import raise_file_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1_000))\n"
        "for wanted in (100, 500, 5_000):\n"
        "    raise_file_limit(wanted)\n"
        "    print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["256 1000", "500 1000", "1000 1000"]


def test_it_ends_with_its_server(start: Start) -> None:
    """The server was killed: its worker sees that, and does not stay behind."""
    served = start("lifespans:plain")
    served.wait_until_listening()
    worker = int(ask_once(served).split()[0])
    served.process.kill()
    served.process.wait(PATIENCE)
    wait_for(lambda: not _exists(worker))


def _exists(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
