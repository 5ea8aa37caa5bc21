"""Rules about personal data as they are configured: in a real server, for one destination, and mistakes in them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import basic
from click.testing import Result
from delivery_helpers import fed, sender_context
from patience import wait_for
from served import Served
from trackcore_delivery import DeliveryBatch, FileDestination, MaskSettings
from trackcore_server import ConfigurationError, create_collector, load_configuration, parse_configuration
from trackcore_server.config.privacy_rules import privacy_rules
from trackcore_sqlite import SqliteBrowser

from trackcore import MemorySink

SOURCE = '[[sources]]\nname = "website"\nwrite_keys = ["key"]\n'
SERVER = '[server]\nproxy_hops = 1\naccess_log = true\nlog_level = "debug"\n[debugger]\ntoken = "a-long-token"\n'
ADDRESSES = ("203.0.113.77", "2001:db8:77:77::77", "::ffff:198.51.100.66")
FILES = '[[destinations]]\nname = "F"\nkind = "file"\nfolder = "f"\n'
KEY = '[privacy]\nkey = "a key of the tests"\n'

Serve = Callable[..., Served]
Run = Callable[..., Result]


def exchange(served: Served, request: bytes) -> None:
    """Send bytes, HTTP or not, and wait for the answer."""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def post(served: Served, path: str, body: bytes, address: str, key: str = "key") -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\nContent-Length: {len(body)}\r\n"
    head += f"Origin: http://x\r\nAuthorization: {basic(key)}\r\nConnection: close\r\n\r\n"
    exchange(served, head.encode() + body)


def files_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


class TestAddressesInAServer:
    """`mode` is "truncate", "drop" or "hash", applied before anything is written: messages, duplicates, rejected
    messages, quarantine, and all log lines, those of the debugger and of requests too.
    """

    @pytest.mark.parametrize("log", ["text", "json"])
    @pytest.mark.parametrize("mode", ["drop", "truncate", "hash"])
    def test_no_file_and_no_log_line_has_an_address(self, serve: Serve, tmp_path: Path, mode: str, log: str) -> None:
        server = SERVER.replace("[server]", f'[server]\nlog = "{log}"')
        (tmp_path / "trackcore.toml").write_text(f'{SOURCE}[sources.ip]\nmode = "{mode}"\n{KEY}{server}')
        served = serve("--data", tmp_path / "trackcore-data", "--config", "trackcore.toml")
        for number, address in enumerate(ADDRESSES):
            own = {"type": "page", "userId": "u1", "context": {"ip": address}}
            for message in ({**own, "messageId": f"{number}"}, {"type": "page", "userId": "u1"}, {**own, "userId": []}):
                body = json.dumps({"batch": [message, message]}).encode()
                for path, key in (("/v1/b", "key"), ("/v1/batch", "key"), ("/v1/b", "unknown")):
                    post(served, path, body, address, key)
                post(served, "/v1/b", body[:-2], address)
            post(served, "/debugger/session", b'{"token": "wrong"}', address)
            exchange(served, f"NONSENSE {address}\r\n\r\n".encode())
            exchange(served, f"POST /v1/b HTTP/1.1\r\nX-Forwarded-For: {address}\r\nContent-Length: x\r\n\r\n".encode())
        database = tmp_path / "trackcore-data" / "trackcore.db"
        counts = SqliteBrowser(database).ends()
        assert all(counts[part] for part in ("messages", "duplicates", "rejected", "quarantine")), counts
        written = files_below(tmp_path / "trackcore-data") + served.stderr().encode()
        assert served.terminate() == 0
        written += files_below(tmp_path / "trackcore-data") + served.stderr().encode()
        for address in ADDRESSES:
            plain = ip_address(address)
            bare = getattr(plain, "ipv4_mapped", None) or plain
            forms = {address, str(bare), bare.exploded, str(plain)}
            assert [form for form in forms if form.encode() in written] == []

    def test_the_log_line_of_a_wrong_token(self, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text(SOURCE + SERVER)
        served = serve("--data", tmp_path / "trackcore-data", "--config", "trackcore.toml")
        post(served, "/debugger/session", b'{"token": "wrong"}', ADDRESSES[0])
        wait_for(lambda: ADDRESSES[0] in served.stderr())


class TestSettings:
    def test_rules(self, tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text(
            SOURCE
            + '[sources.ip]\nmode = "hash"\nrotate = "7d"\n'
            + '[[sources.mask]]\nfields = ["traits.email"]\naction = "hash"\n'
            + '[[sources.mask]]\nfields = ["**.password"]\naction = "truncate"\nlength = 2\n'
            + KEY
        )
        configuration = load_configuration(tmp_path / "trackcore.toml")
        rules = privacy_rules(configuration)["website"]
        assert (rules.ip.mode, rules.ip.rotate.days, rules.ip.key) == ("hash", 7, b"a key of the tests")
        assert [(mask.fields, mask.action, mask.length) for mask in rules.masks] == [
            (("traits.email",), "hash", 1),
            (("**.password",), "truncate", 2),
        ]
        assert create_collector(configuration, MemorySink()).privacy == {"website": rules}

    def test_the_defaults_change_nothing(self) -> None:
        assert privacy_rules(parse_configuration(f"{SOURCE}[sources.ip]\n")) == {}

    @pytest.mark.parametrize(
        ("text", "path", "detail"),
        [
            ('[sources.ip]\nmode = "cut"', "sources[0].ip.mode", "expected one of"),
            ('[sources.ip]\nmode = "truncate"\nipv4_bits = 33', "sources[0].ip.ipv4_bits", "32"),
            ('[sources.ip]\nmode = "hash"', "sources[0].ip.mode", "key"),
            ('[[sources.mask]]\nfields = ["userId"]\naction = "drop"', "sources[0].mask[0].fields", "userId"),
            ('[[sources.mask]]\nfields = ["a"]\naction = "hide"', "sources[0].mask[0].action", "expected one of"),
            ('[[sources.mask]]\nfields = ["a"]\naction = "hash"', "sources[0].mask[0].action", "key"),
            (f'{FILES}[[destinations.mask]]\nfields = ["a"]\naction = "hash"', "destinations[0].mask[0].action", "key"),
        ],
    )
    def test_mistakes(self, text: str, path: str, detail: str) -> None:
        with pytest.raises(ConfigurationError, match=detail) as caught:
            parse_configuration(f"{SOURCE}{text}\n")
        assert caught.value.path == path

    @pytest.mark.parametrize("key", ["short", "env:TRACKCORE_NO_SUCH_KEY"])
    def test_a_key_that_cannot_be_used(self, key: str, run: Run, tmp_path: Path) -> None:
        text = f'{SOURCE}[sources.ip]\nmode = "hash"\n[privacy]\nkey = "{key}"\n'
        (tmp_path / "trackcore.toml").write_text(text)
        result = run("config", "check")
        assert (result.exit_code, "privacy.key" in result.stderr) == (1, True)
        assert "short" not in result.stderr.replace("trackcore", "")


class TestOneDestination:
    """`[[destinations.mask]]`: the fields stay in the log, and one destination does not get them."""

    def test_what_it_gets(self, tmp_path: Path) -> None:
        settings = MaskSettings(fields=("properties.*",), action="drop")
        destination = FileDestination(name="files", folder=Path("out"), mask=(settings,), gzip=False)
        sender = destination.open_sender(sender_context(tmp_path))
        payload = b'{"type":"track","userId":"u1","properties":{"a":1},"traits":{"b":1.50}}'
        sender.send(DeliveryBatch(destination="files", messages=[fed(1)[0]._replace(payload=payload)]))
        sender.close()
        assert files_below(tmp_path) == b'{"type":"track","userId":"u1","properties":{},"traits":{"b":1.50}}\n'


class TestCommands:
    def test_import_masks_too(self, run: Run, tmp_path: Path) -> None:
        text = SOURCE + '[sources.ip]\nmode = "drop"\n[[sources.mask]]\nfields = ["traits.email"]\naction = "drop"\n'
        (tmp_path / "trackcore.toml").write_text(text)
        good = {"type": "identify", "userId": "u1", "timestamp": "2026-01-01T00:00:00Z"}
        personal = {"traits": {"email": "a@b.example"}, "context": {"ip": ADDRESSES[0]}}
        bad = {"type": "identify", "userId": "u1", **personal}
        (tmp_path / "old.jsonl").write_text(f"{json.dumps(good | personal)}\n{json.dumps(bad)}\n{json.dumps(bad)[:-1]}")
        assert run("import", "old.jsonl").exit_code == 1
        stored = run("events").stdout + run("rejected").stdout
        assert stored.count("u1") == 2
        assert "a@b.example" not in stored
        assert ADDRESSES[0] not in stored

    def test_scan(self, run: Run, fill: Callable[..., None], lines: Callable[[Result], list[Any]]) -> None:
        fill(
            *({"type": "identify", "userId": f"u{number}", "traits": {"email": "a@b.example"}} for number in range(3)),
            received_at=datetime(2026, 1, 31, tzinfo=UTC),
        )
        result = run("pii", "scan", "--data", "trackcore-data")
        assert lines(result) == [
            {"path": "traits.email", "kind": "email", "level": "yellow", "by": by, "count": 3}
            for by in ("name", "value")
        ]
        assert "a@b.example" not in result.output
        assert "3 messages examined" in result.stderr
