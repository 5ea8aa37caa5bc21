"""Webhooks against real servers: the requests, and the meaning of each response."""

import gzip
import hmac
import re
import socket
import ssl
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from delivery_helpers import NOON, EndpointServer, Reply, fed, sender_context
from hypothesis import given
from hypothesis import strategies as st
from trackcore_delivery import DeliveryBatch, PermanentError, RetryLater, Secret, Sender, WebhookDestination
from trackcore_delivery.backoff import LONGEST_RETRY_AFTER_SECONDS, capped_retry_after
from trackcore_delivery.http import EndpointResponse, HttpEndpoint
from trackcore_delivery.retry_after import retry_after_seconds

BATCH = DeliveryBatch(destination="There", messages=fed(3))
TOKEN = "a-T0ken-of-Ours"  # noqa: S105 - used in tests alone
ENDPOINT = HttpEndpoint("http://a/", headers={}, timeout=1.0, secrets=[TOKEN], clock=lambda: NOON)


@pytest.fixture(name="hook")
def _hook(tmp_path: Path) -> Callable[..., Sender]:
    def make(url: str, **settings: Any) -> Sender:
        destination = WebhookDestination(name="There", url=url, **settings)
        return destination.make_sender(sender_context(tmp_path, {"SECRET": "shh", "TOKEN": "t0ken"}))

    return make


def self_signed(folder: Path) -> Path:
    """Make a key and a self-signed certificate, in one file."""
    file = folder / "self-signed.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
    parts = [*made, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    file.write_bytes(subprocess.run(parts, check=True, capture_output=True).stdout)
    return file


class TestRequests:
    def test_the_body_is_an_array_of_the_messages_as_stored(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]
    ) -> None:
        server = endpoint()
        hook(f"{server.url}/some/path?key=1").send(BATCH)
        (request,) = server.requests
        assert request.path == "/some/path?key=1"
        assert request.headers["content-type"] == "application/json"
        assert request.body == b"[" + b",".join(message.payload for message in BATCH.messages) + b"]"
        assert "x-trackcore-signature" not in request.headers

    @pytest.mark.parametrize("with_gzip", [False, True])
    def test_a_signature_proves_who_sent_the_bytes_and_when(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], *, with_gzip: bool
    ) -> None:
        """HMAC-SHA256 over timestamp + "." + body, as sent."""
        server = endpoint()
        hook(server.url, secret=Secret("env:SECRET"), gzip=with_gzip).send(BATCH)
        (request,) = server.requests
        timestamp = request.headers["x-trackcore-timestamp"]
        assert int(timestamp) == int(NOON.timestamp())
        expected = hmac.new(b"shh", timestamp.encode() + b"." + request.raw, "sha256").hexdigest()
        assert request.headers["x-trackcore-signature"] == f"v1={expected}"
        assert len(request.messages) == 3
        assert (request.headers.get("content-encoding") == "gzip") == with_gzip

    def test_the_delivery_id_is_the_same_when_the_batch_goes_again(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]
    ) -> None:
        server = endpoint()
        for batch in (BATCH, BATCH, DeliveryBatch(destination="There", messages=fed(2))):
            hook(server.url).send(batch)
        first, again, other = (request.headers["x-trackcore-delivery"] for request in server.requests)
        assert first == again != other

    def test_own_headers_are_sent_and_may_be_secret(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]
    ) -> None:
        server = endpoint()
        hook(server.url, headers={"Authorization": Secret("env:TOKEN"), "X-Team": Secret("red")}).send(BATCH)
        (request,) = server.requests
        assert (request.headers["authorization"], request.headers["x-team"]) == ("t0ken", "red")

    def test_one_connection_is_kept(self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]) -> None:
        peers = set()
        server = endpoint()
        original = server.answer

        def note(handler: Any) -> None:
            peers.add(handler.client_address)
            original(handler)

        server.answer = note  # type: ignore[method-assign]
        sender = hook(server.url)
        for _ in range(5):
            sender.send(BATCH)
        assert len(peers) == 1


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_taken(self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], status: int) -> None:
        assert list(hook(endpoint(lambda _: Reply(status=status)).url).send(BATCH)) == []

    @pytest.mark.parametrize("status", [301, 302, 307, 408, 425, 429, 500, 502, 503, 504])
    def test_try_later(self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], status: int) -> None:
        server = endpoint(lambda _: Reply(status=status, headers={"Location": "/elsewhere"}))
        with pytest.raises(RetryLater, match=f"answered {status}"):
            hook(server.url).send(BATCH)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [400, 402, 409, 413, 418, 422])
    def test_refused_perhaps_because_of_one_message(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], status: int
    ) -> None:
        server = endpoint(lambda _: Reply(status=status, body=b"bad   \n thing"))
        with pytest.raises(PermanentError, match=f"answered {status}: bad thing") as raised:
            hook(server.url).send(BATCH)
        assert raised.value.divisible

    @pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 410])
    def test_refused_because_of_address_or_credentials(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], status: int
    ) -> None:
        with pytest.raises(PermanentError) as raised:
            hook(endpoint(lambda _: Reply(status=status)).url).send(BATCH)
        assert not raised.value.divisible

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("7", 7.0),
            (" 120 ", 120.0),
            (format_datetime(NOON + timedelta(minutes=2), usegmt=True), 120.0),
            (format_datetime(NOON - timedelta(minutes=2), usegmt=True), None),
            ("soon", None),
            ("-5", None),
            ("3.5", 3.5),
            ("0", None),
            ("1e400", None),
            ("nan", None),
            ("9" * 400, None),
            (str(int(NOON.timestamp()) + 4), 4.0),
            (str(1_000 * int(NOON.timestamp()) + 4_000), 4.0),
            (str(int(NOON.timestamp()) - 4), None),
            ("99999999999999999999999999 Jan 1 0:0:0 +9", None),
        ],
    )
    def test_retry_after_is_seconds_or_a_date(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], text: str, seconds: float | None
    ) -> None:
        server = endpoint(lambda _: Reply(status=429, headers={"Retry-After": text}))
        with pytest.raises(RetryLater) as raised:
            hook(server.url).send(BATCH)
        assert raised.value.retry_after == seconds

    def test_what_an_endpoint_answers_is_quoted_in_part_and_without_our_secrets(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]
    ) -> None:
        server = endpoint(lambda request: Reply(status=500, body=repr(request.headers).encode() + b"x" * 10_000))
        sender = hook(f"{server.url}/path-of-a-slack-hook?token=in-the-url", headers={"A": Secret("env:TOKEN")})
        with pytest.raises(RetryLater) as raised:
            sender.send(BATCH)
        message = str(raised.value)
        assert "***" in message
        assert "t0ken" not in message
        assert "in-the-url" not in message
        assert "slack" not in message
        assert len(message) < 300

    @pytest.mark.parametrize(
        "answer",
        [
            EndpointResponse(status=500, body=b" " * ((1 << 16) - 9) + TOKEN.encode() + b" the end"),
            EndpointResponse(status=500, body=b" " * ((1 << 16) - 40) + TOKEN.encode() * 3),
            EndpointResponse(status=500, body=TOKEN.encode()[:9], is_whole=False),
            EndpointResponse(status=500, body=TOKEN.encode() + TOKEN.encode()[:9], is_whole=False),
        ],
        ids=["long", "often", "broken off", "broken off after it"],
    )
    def test_no_part_of_a_secret_is_shown_where_an_answer_is_cut(self, answer: EndpointResponse) -> None:
        """Only the beginning of a response is searched, and it may not arrive completely in time."""
        with pytest.raises(RetryLater) as raised:
            ENDPOINT.check(answer)
        assert re.fullmatch(r"http://a answered 500(: [*]+)?", str(raised.value))

    @pytest.mark.parametrize("text", [TOKEN.upper(), TOKEN.lower(), TOKEN.title()])
    def test_a_secret_is_masked_however_its_letters_are_written(self, text: str) -> None:
        with pytest.raises(RetryLater, match=r"answered 500: no: [*]{3} is wrong$"):
            ENDPOINT.check(EndpointResponse(status=500, body=f"no: {text} is wrong".encode()))


class TestNoAnswer:
    def test_nobody_listens(self, hook: Callable[..., Sender]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(RetryLater, match=f"http://127.0.0.1:{port}: connection refused"):
            hook(f"http://127.0.0.1:{port}/x?token=in-the-url").send(BATCH)

    def test_the_connection_is_closed_early(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]
    ) -> None:
        with pytest.raises(RetryLater, match=r"the connection broke off|reset"):
            hook(endpoint(lambda _: Reply(close=True)).url).send(BATCH)

    def test_the_answer_ends_early(self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]) -> None:
        with pytest.raises(RetryLater, match="the connection broke off"):
            hook(endpoint(lambda _: Reply(body=b"half", announced=8)).url).send(BATCH)

    def test_it_hangs(self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]) -> None:
        sender = hook(endpoint(lambda _: Reply(stall=True)).url, timeout=timedelta(milliseconds=200))
        with pytest.raises(RetryLater, match="no answer within the timeout"):
            sender.send(BATCH)

    def test_an_answer_that_never_ends_is_not_read_to_its_end(self, hook: Callable[..., Sender]) -> None:
        """A byte now and then would keep a timeout for each read from ever expiring."""
        ended = threading.Event()

        def trickle(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not ended.wait(0.05):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=trickle, args=(listening,))
            thread.start()
            sender = hook(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=timedelta(milliseconds=300))
            sender.send(BATCH)
            ended.set()
            thread.join()

    @pytest.mark.parametrize(
        ("scheme", "start", "drip", "expected"),
        [
            ("http", b"HTTP/1.1 200 OK\r\nX-A: ", b"a", "no answer"),
            ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n", "no answer"),
            ("http", b"HTTP/1.1 ", b"2", "no answer"),
            ("https", b"\x16\x03\x03\x40\x00", b"\x02", "no TLS connection"),
        ],
    )
    def test_the_timeout_is_a_deadline_for_the_whole_request(
        self, hook: Callable[..., Sender], scheme: str, start: bytes, drip: bytes, expected: str
    ) -> None:
        """A byte now and then restarts no timeout: in a header, in interim responses, in the TLS handshake."""
        ended = threading.Event()

        def trickle(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(start)
                while not ended.wait(0.02):
                    connection.sendall(drip)

        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=trickle, args=(listening,), daemon=True)
            thread.start()
            url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
            sender = hook(url, timeout=timedelta(milliseconds=300))
            with pytest.raises(RetryLater, match=f"{expected} within the timeout$"):
                sender.send(BATCH)
            ended.set()
            thread.join()

    def test_a_request_that_is_not_read_is_late_too(self, hook: Callable[..., Sender]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            sender = hook(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=timedelta(milliseconds=300))
            with pytest.raises(RetryLater, match="no answer within the timeout"):
                sender.send(DeliveryBatch(destination="There", messages=fed(1, pad=64 << 20)))

    @pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
    def test_a_compressed_answer_is_inflated_to_a_limit(
        self, endpoint: Callable[..., EndpointServer], tmp_path: Path, headers: dict[str, str]
    ) -> None:
        bomb = gzip.compress(b"\0" * (64 << 20))
        server = endpoint(lambda _: Reply(headers=headers, body=bomb))
        sender = WebhookDestination(name="There", url=server.url).make_sender(sender_context(tmp_path))
        tracemalloc.start()
        sender.send(BATCH)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20

    @given(
        st.text(st.characters(max_codepoint=255))
        | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} -?\d+ \d+:\d+:\d+ [+-]?\d+")
    )
    def test_no_retry_after_raises_or_waits_beyond_the_bound(self, text: str) -> None:
        seconds = retry_after_seconds(text, NOON)
        assert seconds is None or 0 < capped_retry_after(seconds) <= LONGEST_RETRY_AFTER_SECONDS

    def test_what_an_endpoint_answers_acts_on_no_terminal(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender]
    ) -> None:
        body = "A\x1b]0;pwned\x07\x9b31m\u202eevil\u2028x\x7f\r\nINFO fake".encode()
        with pytest.raises(RetryLater) as raised:
            hook(endpoint(lambda _: Reply(status=500, body=body)).url).send(BATCH)
        assert str(raised.value).isprintable()

    @pytest.mark.parametrize(
        "echo", ["t0/ken", '"t0\\/ken"', "t0%2Fken", "Bearer t0/ken", "k=a b", "k=a%20b", "T00000000"]
    )
    def test_no_form_of_a_setting_is_quoted(
        self, endpoint: Callable[..., EndpointServer], hook: Callable[..., Sender], echo: str
    ) -> None:
        server = endpoint(lambda _: Reply(status=500, body=echo.encode()))
        sender = hook(f"{server.url}/s/T00000000/b?k=a%20b", headers={"Authorization": Secret("Bearer t0/ken")})
        with pytest.raises(RetryLater) as raised:
            sender.send(BATCH)
        assert not any(part in str(raised.value) for part in ("t0", "ken", "a b", "a%20b", "T0000"))

    def test_it_speaks_no_http(self, hook: Callable[..., Sender]) -> None:
        def mumble(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=mumble, args=(listening,))
            thread.start()
            with pytest.raises(RetryLater, match="the connection broke off"):
                hook(f"http://127.0.0.1:{listening.getsockname()[1]}").send(BATCH)
            thread.join()

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [(socket.EAI_NONAME, "the host is not known"), (socket.EAI_AGAIN, "the host cannot be looked up at this time")],
    )
    def test_the_name_is_unknown(
        self, hook: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch, reason: int, expected: str
    ) -> None:
        def look_up(*_: object, **__: object) -> Any:
            raise socket.gaierror(reason, "s3cr3t")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(RetryLater, match=rf"^http://somewhere\.example: {expected}$") as raised:
            hook("http://somewhere.example/s3cr3t").send(BATCH)
        assert raised.value.of_destination

    def test_looking_up_the_name_takes_too_long(
        self, hook: Callable[..., Sender], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended = threading.Event()

        def look_up(*_: object, flags: int = 0, **__: object) -> Any:
            assert flags or ended.wait(30)
            raise socket.gaierror(socket.EAI_NONAME, "s3cr3t")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        sender = hook("http://somewhere.example/s3cr3t", timeout=timedelta(milliseconds=100))
        with pytest.raises(RetryLater, match=r"^http://somewhere\.example: no address of the host within the timeout$"):
            sender.send(BATCH)
        ended.set()

    def test_connecting_takes_too_long(self, hook: Callable[..., Sender]) -> None:
        """Nobody accepts connections, and the backlog of the listening socket is full."""
        with ExitStack() as opened:
            listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            address = listening.getsockname()
            for _ in range(8):
                waiting = opened.enter_context(socket.socket())
                waiting.settimeout(0)
                waiting.connect_ex(address)
            sender = hook(f"http://127.0.0.1:{address[1]}/s3cr3t", timeout=timedelta(milliseconds=300))
            with pytest.raises(
                RetryLater, match=r"^http://127.0.0.1:[0-9]+: no connection within the timeout$"
            ) as raised:
                sender.send(BATCH)
            assert raised.value.of_destination

    def test_the_connection_is_reset(self, hook: Callable[..., Sender]) -> None:
        def reset(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            while not connection.recv(1 << 16).endswith(b"]"):  # else the request fails
                pass
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=reset, args=(listening,))
            thread.start()
            with pytest.raises(RetryLater, match=r"^http://127.0.0.1:[0-9]+: connection reset by peer$") as raised:
                hook(f"http://127.0.0.1:{listening.getsockname()[1]}/s3cr3t").send(BATCH)
            thread.join()
            assert not raised.value.of_destination

    def test_the_body_of_a_failure_takes_too_long(self, hook: Callable[..., Sender]) -> None:
        """The status has arrived, so it decides, and the received part of the body is quoted."""
        ended = threading.Event()

        def stall(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\nfull")
                ended.wait(30)

        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=stall, args=(listening,))
            thread.start()
            sender = hook(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=timedelta(milliseconds=300))
            with pytest.raises(RetryLater, match=r"answered 503: full$"):
                sender.send(BATCH)
            ended.set()
            thread.join()

    def test_the_certificate_is_not_trusted(self, hook: Callable[..., Sender], tmp_path: Path) -> None:
        """A self-signed certificate; OpenSSL's message is quoted, and nothing of the request."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(tmp_path))

        def serve(listening: socket.socket) -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1 << 16)

        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=serve, args=(listening,))
            thread.start()
            pattern = r"^https://127.0.0.1:[0-9]+: TLS failed \(certificate verify failed: self.signed certificate\)$"
            with pytest.raises(RetryLater, match=pattern) as raised:
                hook(f"https://127.0.0.1:{listening.getsockname()[1]}/s3cr3t").send(BATCH)
            thread.join()
            assert raised.value.of_destination

    def test_it_speaks_no_tls(self, endpoint: Callable[..., EndpointServer], hook: Any) -> None:
        with pytest.raises(RetryLater, match=r"TLS failed \((?!certificate)[a-z ]+\)$"):
            hook(endpoint().url.replace("http:", "https:")).send(BATCH)
