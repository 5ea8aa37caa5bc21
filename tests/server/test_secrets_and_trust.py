"""Secrets stay secret, and untrusted input stays untrusted: one test for each leak and each trick.

Each of these tests was seen to fail without its guard.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import attrs
import pytest
from adapter_helpers import KEY, NOON_TEXT, FailingSink, Server, basic, call_app, track, unavailable
from adapter_helpers import serve as serve_app
from click.testing import Result
from patience import PATIENCE
from served import Served
from trackcore_debugger import DebuggerApp
from trackcore_server import ConfigurationError, parse_configuration
from trackcore_server.hosting.worker import Worker
from trackcore_sqlite import SqliteSink

from trackcore import Cause, Destination, MemorySink, Source, SourceRegistry, WriteKey
from trackcore.text.printable import visible

SECRET = "sEcReT-write-key-0123456789"  # noqa: S105 - it is none
CONTROLS = "\n\r\x1b[31m\x07\x7f\x9b31m\u2028\u202e"

opened: list[str] | None = None
"""The files opened since the test began to record; None while nobody does."""


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if opened is not None and event in {"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "sqlite3.connect"}:
        opened.append(str(arguments[0]))


sys.addaudithook(_listen)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    """A sink on a new file."""
    sink = SqliteSink(tmp_path / "trackcore-data" / "trackcore.db")
    yield sink
    sink.close()


@pytest.fixture
def app(sink: SqliteSink) -> Server:
    """The app on a new log."""
    return serve_app(sink)


def load(served: Served, target: str) -> None:
    """Load an image and wait for its end."""
    with urlopen(f"http://127.0.0.1:{served.port}{target}", timeout=PATIENCE) as answer:
        assert answer.read().startswith(b"GIF")


class TestWriteKeysAreMasked:
    def test_in_the_log_of_the_server(self, serve: Callable[..., Served], tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text(f'[[sources]]\nname = "website"\nwrite_keys = ["{SECRET}"]\n')
        served = serve()
        for key in (SECRET, "other-" + SECRET):
            served.post("/v1/track", {"userId": "u"}, key)
            served.post("/v1/track", {"userId": "u", "event": "E", "writeKey": key}, None)
            served.post(f"/v1/track?writeKey={key}", [], key)
            served.get(f"/v1/projects/{key}/settings")
            load(served, f"/v1/pixel/track?writeKey={key}&data=%7B")
        assert served.terminate() == 0
        assert SECRET not in served.stderr()

    @pytest.mark.parametrize(
        "text",
        [
            f'[[sources]]\nname = "a"\nwrite_keys = ["{SECRET}"]\n[[sources]]\nname = "b"\nwrite_keys = ["{SECRET}"]\n',
            f'[[sources]]\nname = "a"\nwrite_keys = "{SECRET}"\n',
            f'[[sources]]\nname = "a"\nwrite_key = "{SECRET}"\n',
            f'[[sources]]\nname = "a"\nwrite_keys = ["{SECRET}", 5]\n',
        ],
    )
    def test_in_an_error_of_the_configuration(self, text: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            parse_configuration(text)
        assert SECRET not in str(caught.value)

    def test_in_the_repr_of_a_source(self) -> None:
        source = Source(name="website", write_keys=(SECRET,))
        collector = serve_app(MemorySink()).app.collector
        collector = attrs.evolve(collector, sources=[source])
        for thing in (source, SourceRegistry([source]), collector):
            assert SECRET not in repr(thing)
            assert "website" in repr(thing)

    NAMES = pytest.mark.parametrize("name", ["writeKey", "write_key", "Write-Key"])

    @NAMES
    def test_in_events(self, run: Callable[..., Result], tmp_path: Path, name: str) -> None:
        self._send_everywhere(tmp_path, {"userId": "u", "type": "track", "event": "E", name: SECRET}, name=name)
        listed = run("events").stdout
        assert len(listed.splitlines()) == 3
        assert SECRET not in listed
        assert SECRET not in run("events", "--format", "table").stdout
        assert SECRET not in "".join(run("explain", seq).stdout for seq in "123")

    @NAMES
    def test_in_rejected(self, run: Callable[..., Result], tmp_path: Path, name: str) -> None:
        self._send_everywhere(tmp_path, {"userId": "u", "type": "track", name: SECRET}, name=name)
        listed = run("rejected").stdout
        assert len(listed.splitlines()) == 4
        assert SECRET not in listed
        assert SECRET not in run("rejected", "--format", "table").stdout
        for output_format in ("json", "text"):
            output = [run("explain", "--rejected", seq, "--format", output_format).stdout for seq in "1234"]
            assert SECRET[:20] not in "".join(output)

    @NAMES
    def test_in_the_quarantine(self, run: Callable[..., Result], tmp_path: Path, name: str) -> None:
        self._send_everywhere(tmp_path, {"userId": "u", "type": "track", name: SECRET}, key="another", name=name)
        listed = run("rejected", "--quarantine").stdout
        assert len(listed.splitlines()) == 3
        assert SECRET not in listed
        assert SECRET not in run("rejected", "--quarantine", "--format", "table").stdout
        output = [run("explain", "--quarantine", seq).stdout for seq in "123"]
        assert SECRET not in "".join(output)
        hints = [f"came without a write key; found '{name}'; did you mean `writeKey`?" in text for text in output]
        assert hints == [False, *[name != "writeKey"] * 2]

    def _send_everywhere(self, folder: Path, message: Any, key: str = SECRET, name: str = "writeKey") -> None:
        """Send a message with its key in every place; a broken body too, which is kept when the key is known."""
        headers = {"Authorization": basic(key)} if name != "writeKey" and key == SECRET else {}
        sink = SqliteSink(folder / "trackcore-data" / "trackcore.db")
        server = serve_app(sink).with_collector(sources=[Source(name="website", write_keys=(key,))])
        server.post("/v1/track", message, headers={"Authorization": basic(SECRET)})
        server.post("/v1/batch", {"batch": [message], name: SECRET}, headers=headers)
        server.post("/v1/batch", {"batch": [message]}, headers=headers)
        server.post("/v1/track", json.dumps({"n": float("nan"), name: SECRET}).encode(), headers=headers)
        sink.close()


def test_write_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R10: "Compared in constant time"."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append((given, known))
        return given == known

    book = SourceRegistry([Source(name="website", write_keys=(SECRET,))])
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert book.find(WriteKey(SECRET)) is not None
    assert book.find(WriteKey("other")) is None
    assert compared == [(SECRET.encode(), SECRET.encode()), (b"other", b"")]


def test_folder_and_files_are_the_owners_alone(app: Server, sink: SqliteSink) -> None:
    mask = os.umask(0)
    try:
        app.post("/v1/track", track())
    finally:
        os.umask(mask)
    folder = sink.path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == dict.fromkeys(("trackcore.db", "trackcore.db-wal", "trackcore.db-shm"), 0o600)


def test_a_configuration_that_is_made_is_the_owners_alone(serve: Callable[..., Served], tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        serve()
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "trackcore-data" / "trackcore.toml").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "error",
    [
        *(unavailable(cause=cause) for cause in Cause),
        ZeroDivisionError("secret detail"),
        OSError(5, "secret detail", "/var/lib/secret detail"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/batch"), ("GET", "/ready"), ("GET", "/v1/pixel/page")])
def test_no_answer_shows_internals(error: Exception, method: str, path: str) -> None:
    """R2: "It never shows internals"."""
    server = serve_app(FailingSink(error))
    query = "writeKey=abc123&userId=u" if "pixel" in path else ""
    answer = call_app(
        server.app, path, b'{"batch":[{"type":"page","userId":"u"}]}', method=method, query=query, headers=KEY
    )
    shown = answer.body.decode("latin-1") + repr(dict(answer.headers))
    assert answer.status >= 500 or answer.status == 429 or "pixel" in path
    for internal in ("secret", "Error", "Traceback", ".py", "trackcore_", "sqlite"):
        assert internal not in shown


class TestUnexpectedErrors:
    """The log has their type and where they were raised; their text may quote anything."""

    @pytest.mark.parametrize(("method", "path"), [("POST", "/v1/batch"), ("GET", "/v1/pixel/page")])
    def test_of_a_request(self, caplog: pytest.LogCaptureFixture, method: str, path: str) -> None:
        query = f"writeKey=abc123&userId={SECRET}" if "pixel" in path else ""
        body = json.dumps({"batch": [{"type": "page", "userId": SECRET}]}).encode()
        server = serve_app(FailingSink(KeyError(SECRET)))
        call_app(server.app, path, body, method=method, query=query, headers=KEY)
        self._check(caplog)

    def test_of_the_debugger(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: object, __: object) -> Any:
            raise KeyError(SECRET)

        monkeypatch.setattr(DebuggerApp, "_dispatch", fail)
        app = DebuggerApp.__new__(DebuggerApp)
        assert call_app(app, "/api/start", method="GET").status == 500
        self._check(caplog)

    def test_of_the_worker(self, caplog: pytest.LogCaptureFixture) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(KeyError) as caught:
                os.environ.pop(SECRET)
            Worker.handle_error(Worker.__new__(Worker), None, ours, ("203.0.113.9", 1), caught.value)
            assert theirs.recv(1 << 16).startswith(b"HTTP/1.1 500 ")
        self._check(caplog)

    def _check(self, caplog: pytest.LogCaptureFixture) -> None:
        assert "KeyError at " in caplog.text
        assert SECRET not in caplog.text


FORGED = {"X-Forwarded-For": "6.6.6.6", "X-Real-Ip": "6.6.6.6", "Forwarded": "for=6.6.6.6", "Client-Ip": "6.6.6.6"}


class TestForwardedHeaders:
    def test_are_not_believed_without_a_proxy(self, app: Server) -> None:
        app.post("/v1/t", track(), headers=KEY | FORGED)
        assert app.only["context"]["ip"] == "203.0.113.9"

    def test_are_believed_for_as_many_hops_as_are_configured(self, sink: SqliteSink) -> None:
        app = serve_app(sink, proxy_hops=1)
        app.post("/v1/t", track(), headers=KEY | {"X-Forwarded-For": "6.6.6.6, 198.51.100.7"})
        assert app.only["context"]["ip"] == "198.51.100.7"

    def test_do_not_change_where_an_sdk_sends_to(self, app: Server) -> None:
        forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/evil"}
        document = app.get("/v1/projects/k/settings", headers=forged).json
        assert document["integrations"]["Segment.io"]["apiHost"] == "localhost/v1"


def test_a_client_sets_neither_time_of_arrival_nor_source_nor_destinations(sink: SqliteSink) -> None:
    server = serve_app(sink).with_collector(
        destinations=(Destination(name="Mixpanel"), Destination(name="Amplitude")),
        sources=[Source(name="website", write_keys=("abc123",), destinations=("Mixpanel",)), Source(name="app")],
    )
    forged = {"source": "app", "destinations": ["Amplitude"], "seq": 99, "warnings": [], "decisions": []}
    message = track(receivedAt="1999-01-01T00:00:00.000Z", integrations={"Amplitude": True}, **forged)
    server.post("/v1/batch", {"batch": [message], "receivedAt": "1999-01-01T00:00:00Z", **forged})
    (entry,) = server.entries
    assert entry.message["receivedAt"] == NOON_TEXT
    assert (entry.source, entry.seq, entry.destinations) == ("website", 1, ("Mixpanel",))


class TestInjection:
    def test_into_a_header(self, app: Server) -> None:
        """An echoed header contains only printable ASCII."""
        for name in ("Origin", "Access-Control-Request-Headers"):
            for bad in ("x\r\nSet-Cookie: a=b", "x\ny", "x\x00y", "x\x1b[31m", "x\x85y"):
                answer = app.post("/v1/batch", {"batch": []}, method="OPTIONS", headers={name: bad}, validate=False)
                assert all(value.isprintable() and value.isascii() for value in answer.headers.values())
                assert "set-cookie" not in answer.headers

    def test_into_the_log(self, app: Server, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        evil = "u" + CONTROLS[:-2]  # WSGI has bytes, as Latin-1
        message = track(userId=evil, messageId=evil, event=evil, type=evil, timestamp=evil)
        app.post("/v1/batch", {"batch": [message], "writeKey": evil}, headers={"Authorization": basic(evil)})
        app.post("/v1/batch", {"batch": [message]})
        app.post(f"/v1/{evil}", b"{", headers=KEY | {"Content-Encoding": evil, "X-Write-Key": evil}, validate=False)
        app.get("/v1/pixel/track", "data=%7B%0a%1b&writeKey=%0a%1b")
        app.post("/v1/m", b"x", headers={"Content-Encoding": evil}, validate=False)
        assert caplog.records
        for record in caplog.records:
            assert record.getMessage().isprintable()

    def test_into_a_terminal(
        self, run: Callable[..., Result], fill: Callable[..., None], lines: Callable[[Result], list[Any]]
    ) -> None:
        evil = "E" + CONTROLS
        fill(track(event=evil, userId=evil, timestamp=evil), {"type": evil}, {"type": "track", "userId": evil})
        for command in ("events", "rejected"):
            for output_format in ("table", "jsonl"):
                shown = run(command, "--format", output_format).stdout
                assert all(visible(line) == line for line in shown.split("\n") if output_format == "table")
                assert not any(control in shown for control in CONTROLS if control not in "\n[31m")
        assert lines(run("events", "--format", "jsonl"))[0]["message"]["event"] == evil


def test_no_path_from_a_request_reaches_the_file_system(app: Server, sink: SqliteSink) -> None:
    global opened  # noqa: PLW0603 - an audit hook cannot be taken away
    app.post("/v1/track", track())
    evil = ["/../../etc/passwd", "/v1/projects/../../../etc/passwd/settings", "/etc/passwd", "//etc/passwd", "/v1/\x00"]
    opened = []
    try:
        for path in evil:
            for method in ("GET", "POST", "PUT"):
                call_app(app.app, path, b"{}", method=method, headers=KEY, validate=False)
        name = "../../../../tmp/evil"
        headers = {"Authorization": basic(name), "X-Write-Key": name}
        app.post("/v1/batch", {"batch": [track(messageId=name, userId=name, type=name)]}, headers=headers)
        app.get("/v1/projects/..%2f..%2fetc%2fpasswd/settings")
        app.get("/v1/pixel/page", f"userId={name}&writeKey={name}&data=/etc/passwd")
    finally:
        seen, opened = opened, None
    assert {path for path in seen if not path.startswith(str(sink.path))} == set()


@pytest.mark.parametrize(("part", "key"), [("quarantine_bytes", "nobody's"), ("rejected_bytes", "abc123")])
def test_rejected_and_quarantined_data_cannot_fill_the_disk(tmp_path: Path, part: str, key: str) -> None:
    """R6, R7: quarantine and rejected are bounded; the newest are kept."""
    bounds: dict[str, Any] = {part: 1 << 20}
    sink = SqliteSink(tmp_path / "data" / "trackcore.db", **bounds)
    server = serve_app(sink)
    size = 200_000
    for number in range(150):
        body = json.dumps({"batch": [{"n": number, "pad": "x" * 20_000} for _ in range(size // 20_000)]}).encode()
        assert server.post("/v1/batch", body, headers={"Authorization": basic(key)}).status == 200
    sink.close()
    assert sum(file.stat().st_size for file in sink.path.parent.iterdir()) < 10 << 20  # 30 MB were sent
    payloads = [*(kept.payload for kept in server.log.quarantined()), *(kept.payload for kept in server.log.rejected())]
    assert b'"n": 149' in payloads[-1]


def test_a_source_cannot_make_anothers_messages_look_like_duplicates(app: Server) -> None:
    """R16: "De-duplication by (source, messageId)"."""
    for key in ("app1", "abc123", "app1", "abc123"):
        app.post("/v1/track", track(messageId="same"), headers={"Authorization": basic(key)})
    assert [entry.source for entry in app.entries] == ["app", "website"]
