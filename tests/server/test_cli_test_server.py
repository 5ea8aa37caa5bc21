"""`trackcore test-server`: a real process that a test in any language starts, asks and stops."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest
from click.testing import Result
from kit_client import Client
from patience import PATIENCE, wait_for
from served import COMMAND, Running

Run = Callable[..., Result]


@attrs.define
class Started(Running):
    """A running `trackcore test-server`."""

    stdout_file: Path

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.wait_for_port()}")

    def stdout(self) -> str:
        return self.stdout_file.read_text()


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start test servers; those that still run at the end are killed."""
    started: list[Started] = []

    def start(*arguments: str) -> Started:
        stdout, stderr = (tmp_path / f"{name}-{len(started)}" for name in ("stdout", "stderr"))
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(
                [*COMMAND, "test-server", *arguments], stdout=out, stderr=err, start_new_session=True
            )
        started.append(Started(process, stderr, stdout))
        return started[-1]

    yield start
    for server in started:
        server.kill()


class TestATest:
    def test_it_prints_its_url_first_and_tells_what_it_has_received(self, start: Callable[..., Started]) -> None:
        server = start("--port", "0", "--print-url")
        client = server.client
        assert server.stdout() == f"{client.url}\n"
        assert client.track("Paid", key="test-write-key").json == {"success": True}
        answer = client.post("/test/wait", {"event": "Paid", "timeout": PATIENCE})
        assert [found["message"]["userId"] for found in answer.json["messages"]] == ["u1"]
        assert server.terminate() == 0

    def test_it_has_the_sources_of_its_write_keys(self, start: Callable[..., Started]) -> None:
        server = start("--write-key", "web", "--write-key", "app")
        client = server.client
        client.track("Paid", key="app")
        client.track("Paid", key="web")
        sources = [found["source"] for found in client.send("GET", "/test/messages").json["messages"]]
        assert sources == ["test-2", "test"]
        assert server.stderr().splitlines()[1:] == ["Write key of test: web", "Write key of test-2: app"]

    def test_each_message_is_a_line_as_it_comes(self, start: Callable[..., Started]) -> None:
        server = start("--watch", "--print-url")
        client = server.client
        client.track("Paid", properties={"total": 9.5}, key="test-write-key", messageId="m1")
        client.track("Paid", properties={"total": 9.5}, key="test-write-key", messageId="m1")
        client.post("/v1/track", {"userId": "\x1b[2J"}, key="test-write-key")
        client.track("Paid", key="nobody")
        assert server.stdout().splitlines()[1:] == [
            'track     "Paid"  user u1  {"total": 9.5}',
            "rejected  event_not_defined: a track message needs 'event'",
            "unknown write key",
        ]


class TestItsEnd:
    """Exit status 1 at SIGTERM when something was rejected and `--strict`."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
    def test_something_was_rejected(
        self, start: Callable[..., Started], options: Sequence[str], code: int, number: signal.Signals
    ) -> None:
        server = start(*options)
        server.client.post("/v1/track", {"userId": "u1"}, key="test-write-key")
        server.client.send("DELETE", "/test/messages")
        server.process.send_signal(number)
        assert server.process.wait(PATIENCE) == code
        assert ("event_not_defined at event: " in server.stderr()) == (code == 1)

    def test_nothing_was_rejected(self, start: Callable[..., Started]) -> None:
        server = start("--strict")
        server.client.track("Paid", key="test-write-key")
        assert server.terminate() == 0

    def test_a_request_that_waits_does_not_delay_it(self, start: Callable[..., Started]) -> None:
        server = start()
        with server.client.connected() as connected:
            body = b'{"event": "Paid", "timeout": 600}'
            head = f"POST /test/wait HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connected.sendall(head.encode() + body)
            assert server.terminate() == 0

    def test_lines_that_nobody_reads_do_not_stop_it(self, tmp_path: Path) -> None:
        with (tmp_path / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, "test-server", "--watch"], stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
            )
        server = Started(process, tmp_path / "stderr", tmp_path / "none")
        try:
            assert process.stdout is not None
            process.stdout.close()
            assert [server.client.track(event, key="test-write-key").status for event in ("Paid", "Paid")] == [200, 200]
            assert server.terminate() == 0
        finally:
            server.kill()


class TestItsAddress:
    """Never on a public address unless told so."""

    def test_it_listens_on_loopback(self, start: Callable[..., Started]) -> None:
        server = start()
        server.wait_for_output(r"Write key of test: test-write-key\n")
        assert "WARNING" not in server.stderr()

    def test_another_address_has_a_warning(self, start: Callable[..., Started]) -> None:
        server = start("--host", "0.0.0.0")
        wait_for(lambda: "WARNING: anybody who reaches this address" in server.stderr())

    def test_a_taken_port_is_reported(self, start: Callable[..., Started], run: Run) -> None:
        port = start().wait_for_port()
        result = run("test-server", "--port", str(port))
        assert (result.exit_code, "in use" in result.stderr) == (2, True)

    def test_a_write_key_that_no_request_can_carry_is_refused(self, run: Run) -> None:
        result = run("test-server", "--write-key", "a:b")
        assert (result.exit_code, "cannot have a colon" in result.stderr) == (2, True)
