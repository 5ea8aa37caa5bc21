"""No error and no log line quotes a setting: laws over any secret, in any setting, for any failure."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from delivery_helpers import Bench, envelopes, fed, sender_context, store
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trackcore_delivery import (
    CallableDestination,
    DeliveredDestination,
    Delivery,
    DeliveryBatch,
    PermanentError,
    RetryLater,
    Secret,
    SegmentDestination,
    WebhookDestination,
)
from trackcore_server import ConfigurationError, parse_configuration
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.delivery.service import check_destinations
from trackcore_server.process.log_lines import VisibleFormatter
from trackcore_server.process.stderr_log import GunicornLogger, log_to_stderr
from trackcore_server.storage.backends import backend_of

MARK = "s3cr3t"
"""Part of every secret: any output that shows a secret shows this part."""

TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8)
SECRETS = st.tuples(TEXTS, TEXTS).map(MARK.join).filter(lambda text: not text.startswith("env:"))
HEADER_TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=8)
HEADERS = st.tuples(HEADER_TEXTS, HEADER_TEXTS).map(lambda ends: MARK.join(ends).strip())
WRITE_KEYS = HEADERS.map(lambda text: text.replace(":", "").replace("\xad", "").strip())

SOURCE = '[[sources]]\nname = "website"\nwrite_keys = ["abc"]\n'
WEBHOOK = '[[destinations]]\nname = "There"\nkind = "webhook"\nurl = "http://a"\n'
SEGMENT = '[[destinations]]\nname = "There"\nkind = "segment"\nwrite_key = "abc"\n'
FILE = '[[destinations]]\nname = "There"\nkind = "file"\nfolder = "there"\n'
KAFKA = '[[destinations]]\nname = "There"\nkind = "kafka"\nbootstrap_servers = "127.0.0.1:1"\ntopic = "t"\n'
KAFKA_LOG = '[log]\nkind = "kafka"\nbootstrap_servers = "127.0.0.1:1"\n'
OF_LIBRDKAFKA = (
    "sasl.password",
    "sasl.mechanism",
    "security.protocol",
    "ssl.ca.location",
    "ssl.keystore.location",
    "ssl.key.pem",
    "client.id",
    "debug",
    "linger.ms",
    "plugin.library.paths",
    "socket.keepalive.enable",
    "error_cb",
    "no.such.setting",
)
PLACES = (
    *(f'[[sources]]\nname = "website"\nwrite_keys = {value}\n' for value in ("@", "[@]", '["abc", @]')),
    *(f'[[sources]]\nname = "website"\nwrite_keys = ["abc"]\n{name} = @\n' for name in ("strict", "destinations")),
    *(f"[server]\n{name} = @\n" for name in ("bind", "workers", "threads", "proxy_hops", "prefix")),
    *(f"[log]\n{name} = @\n" for name in ("kind", "keep", "rejected_bytes", "quarantine_bytes")),
    *(f"[delivery]\n{name} = @\n" for name in ("dead_letter_bytes",)),
    *(f"[limits]\n{name} = @\n" for name in ("depth", "request_bytes")),
    "[debugger]\ntoken = @\n",
    '[[destinations]]\nname = "There"\nkind = @\n',
    '[[destinations]]\nname = "There"\nkind = "webhook"\nurl = @\n',
    '[[destinations]]\nname = "There"\nkind = "webhook"\nurl = ["http://a", @]\n',
    *(f"{WEBHOOK}{name} = @\n" for name in ("secret", "headers", "headers.A", "gzip", "timeout", "batch_messages")),
    *(f"{WEBHOOK}{name} = @\n" for name in ("batch_bytes", "batch_wait", "retry_window", "start", "max_age")),
    '[[destinations]]\nname = "There"\nkind = "segment"\nwrite_key = @\n',
    *(f"{SEGMENT}{name} = @\n" for name in ("url", "headers", "headers.A", "batch_bytes", "timeout")),
    *(f"{FILE}{name} = @\n" for name in ("rotate_bytes", "gzip")),
    *(f"{KAFKA}{name} = @\n" for name in ("timeout", "client")),
    *(f"{KAFKA}[destinations.client]\n{name} = @\n" for name in OF_LIBRDKAFKA),
    *(f"{KAFKA_LOG}{name} = @\n" for name in ("partitions", "timeout", "retention", "duplicate_window", "client")),
    *(f"{KAFKA_LOG}[log.client]\n{name} = @\n" for name in OF_LIBRDKAFKA),
)


def toml(text: str) -> str:
    """Write a text as a TOML string."""
    return json.dumps(text).replace("\x7f", "\\u007f")


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Collect all log output, with the tracebacks that a third-party handler would write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.INFO)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def everything_of(error: BaseException) -> str:
    """Return the text that Python shows for an uncaught error, and its value."""
    return "".join(traceback.format_exception(error)) + repr(error)


def check_mistake(mistake: ConfigurationError, begin: str = "", part: str = "") -> None:
    assert mistake.path
    assert MARK not in everything_of(mistake)
    assert str(mistake).startswith(begin)
    assert part in str(mistake)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=15)
@given(SECRETS)
@example(MARK)
@example(f"http://{MARK}:99999/")
@example(f"http://u:{MARK}@a/")
@example(f"{MARK}\n")
@example(f"{MARK}\0x")
@example(MARK * 300)
@example(f"\x01{MARK}\x02")
def test_no_mistake_of_the_configuration_quotes_it(place: str, secret: str) -> None:
    with logged() as log:
        try:
            configuration = parse_configuration(place.replace("@", toml(secret)))
            check_destinations(configuration, environ={})
            read_debugger_token(configuration, {})
            backend_of(configuration).make_sink()
        except ConfigurationError as mistake:
            check_mistake(mistake)
        else:
            assert MARK not in repr(configuration) or "prefix" in place
    assert MARK not in log.getvalue()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("destinations[0].write_key", SEGMENT.replace('"abc"', '"env:VALUE"')),
        ("destinations[0].secret", WEBHOOK + 'secret = "env:VALUE"\n'),
        ("destinations[0].headers.A", WEBHOOK + 'headers.A = "env:VALUE"\n'),
        ("destinations[0].client.sasl.password", KAFKA + 'client.sasl.password = "env:VALUE"\n'),
        ("debugger.token", '[debugger]\ntoken = "env:VALUE"\n'),
    ],
)
@given(SECRETS)
def test_no_mistake_in_the_environment_quotes_it(setting: str, text: str, secret: str) -> None:
    configuration = parse_configuration(text)
    file = Path("there.toml")
    try:
        check_destinations(configuration, file, environ={"VALUE": secret})
        read_debugger_token(configuration, {"VALUE": secret}, file=file)
    except ConfigurationError as mistake:
        check_mistake(mistake, f"there.toml: {setting}: ", "the environment variable VALUE ")


class Echo:
    """An endpoint that echoes everything that it receives."""

    def __init__(self) -> None:
        self.before = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                received = connection.recv(1 << 16)
                connection.sendall(self.before + received)


@pytest.fixture(name="echo", scope="module")
def _echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


ANSWERS = [
    b"",
    b"HTTP/1.1 500 ",
    b"HTTP/1.1 400 No\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 429 No\r\nConnection: close\r\nRetry-After: ",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 301 No\r\nLocation: ",
    b"HTTP/1.1 200 OK\r\nContent-Length: ",
]


@pytest.mark.parametrize("before", ANSWERS)
@settings(max_examples=15, deadline=None)
@given(HEADERS, WRITE_KEYS)
@example(f"{MARK}é", f"{MARK}é")
@example(f"Bearer {MARK}", f'{MARK}"\\')
def test_no_failure_of_sending_quotes_it(echo: Echo, before: bytes, secret: str, key: str) -> None:
    """Headers, keys and the URL, whatever the receiver makes of them."""
    echo.before = before
    address = f"{echo.url}/long-{MARK}"
    environ = {"SECRET": secret, "KEY": key}
    headers = {"X-Token": Secret("env:SECRET")}
    for destination in (
        WebhookDestination(name="There", url=f"{address}?key={MARK}", secret=Secret("env:SECRET"), headers=headers),
        SegmentDestination(name="There", url=address, write_key=Secret("env:KEY"), headers=headers),
    ):
        sender = destination.make_sender(sender_context(Path(), environ))
        with logged() as log, suppress_taken():
            sender.send(DeliveryBatch(destination="There", messages=fed(2)))
        sender.close()
        assert MARK not in log.getvalue()


@contextmanager
def suppress_taken() -> Iterator[None]:
    """Check the error that a sender raises, if it raises one."""
    try:
        yield
    except (RetryLater, PermanentError) as error:
        shown, message = everything_of(error), str(error)
    else:
        return
    assert MARK not in shown
    assert message.isprintable()


def fail(secret: str) -> None:
    raise KeyError(secret)


def fail_of_it(secret: str) -> None:
    try:
        fail(secret)
    except KeyError as error:
        raise ValueError(secret) from error


def fail_as_a_group(secret: str) -> None:
    raise ExceptionGroup(secret, [ValueError(secret), OSError(5, secret)])


def fail_to_encode(secret: str) -> None:
    f"{secret}\ud800".encode()


FAILURES = [fail, fail_of_it, fail_as_a_group, fail_to_encode, json.loads, int]


@pytest.mark.parametrize("failure", FAILURES)
@settings(max_examples=10, deadline=None)
@given(SECRETS)
def test_no_unexpected_error_of_a_destination_is_quoted(failure: Callable[[str], object], secret: str) -> None:
    """A third-party callable raises anything: the error appears in a log, in the state and among the dead letters."""
    with TemporaryDirectory() as folder, logged() as log:
        bench = Bench(Path(folder))
        store(bench.log, envelopes(1))

        def call(_: object) -> None:
            failure(secret)

        destination = CallableDestination(name="There", call=call)
        worker = bench.worker(destination.make_sender(sender_context(bench.folder)), retry_window=timedelta())
        bench.run(worker)
        bench.clock.turn(seconds=100)
        bench.run(worker)
        status = bench.state.status("There", bench.clock.now)
        bench.state.close()
    assert status is not None
    assert "the sender failed" in (status.last_error or "")
    assert MARK not in repr(status)
    assert "the sender failed: " in log.getvalue()
    assert " in call" in log.getvalue()
    assert MARK not in log.getvalue()


class _Broken(DeliveredDestination):
    """A kind whose sender is never used."""

    def make_sender(self, _: Any) -> Any:
        return None


@pytest.mark.parametrize("failure", FAILURES)
def test_no_unexpected_error_of_a_queue_is_quoted(failure: Callable[[str], object], tmp_path: Path) -> None:
    asked = threading.Event()

    class Queue:
        name = "incoming"
        can_hold = False

        def take(self, **_: object) -> object:
            try:
                return failure(MARK)
            finally:
                asked.set()

        def keep_alive(self, _: object) -> None:
            """Nothing to do."""

    bench = Bench(tmp_path)
    with logged() as log:
        delivery = Delivery(
            make_queues=lambda _: [Queue()],  # type: ignore[list-item]
            state=bench.state,
            destinations=[_Broken(name="There")],
            context=sender_context(tmp_path),
        )
        delivery._senders = []
        delivery.start()
        assert asked.wait(30)
        assert delivery.stop(30)
    bench.state.close()
    assert "There: " in log.getvalue()
    assert "test_unquoted.py:" in log.getvalue()
    assert MARK not in log.getvalue()


class TestTheLogOfTheServer:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_no_exception_that_a_library_logs_is_quoted(self, failure: Callable[[str], object]) -> None:
        stream = io.StringIO()
        handlers = [logging.StreamHandler(io.StringIO()), logging.StreamHandler(stream)]  # the first leaves its text
        handlers[1].setFormatter(VisibleFormatter())
        logger = logging.getLogger("library.of.somebody.else")
        for handler in handlers:
            logger.addHandler(handler)
        try:
            failure(MARK)
        except Exception:
            logger.exception("it failed")
        finally:
            logger.handlers.clear()
        assert "it failed\n  " in stream.getvalue()
        assert "test_unquoted.py:" in stream.getvalue()
        assert MARK not in stream.getvalue()

    def test_gunicorn_logs_so_too(self) -> None:
        from gunicorn.config import Config  # noqa: PLC0415 - it has no types

        logger = GunicornLogger(Config())
        assert logger.error_log.handlers == []
        assert logger.error_log.propagate, "the one handler of our log writes its records"

    def test_what_ends_a_thread_or_the_process_is_not_quoted(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        import sys  # noqa: PLC0415 - its hooks are put back

        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(threading, "excepthook", threading.excepthook)
        log_to_stderr()
        thread = threading.Thread(target=fail, args=(MARK,), name="mine")
        thread.start()
        thread.join()
        with pytest.raises(KeyError) as caught:
            fail(MARK)
        error = caught.value
        sys.excepthook(KeyError, error, error.__traceback__)
        texts = [record.getMessage() for record in caplog.records]
        assert texts[0].startswith("the thread mine ends: KeyError at ")
        assert texts[1].startswith("the process ends: KeyError at ")
        assert MARK not in caplog.text
