"""The debugger as a WSGI app: sign-in, complete listings, details and repairs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from adapter_helpers import back_up, put_in_place
from trackcore_debugger import OneTimeToken, SessionAuth
from trackcore_debugger.auth import COOKIE, SESSION_SECONDS
from trackcore_server import create_app, parse_configuration
from trackcore_server.app import _reader, create_collector
from trackcore_server.config.configuration import ConfigurationError, rebase
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.debugger.deadline import Deadline
from trackcore_server.debugger.recent import RecordingSink
from trackcore_server.storage.backends import backend_of
from trackcore_sqlite import SqliteSink, prune
from werkzeug.test import Client, EnvironBuilder, TestResponse
from werkzeug.wrappers import Request

from trackcore import (
    Cause,
    Envelope,
    MemorySink,
    MessageWarning,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    Search,
    SinkUnavailable,
    WarningCode,
    WriteKey,
)

TOKEN = "the-token-of-the-tests"  # noqa: S105 - of no server
ORIGIN = "http://localhost"
ROOT = Path(__file__).parents[2]
CONFIGURATION = f"""
[[sources]]
name = "website"
write_keys = ["key"]
[[destinations]]
name = "Mixpanel"
[debugger]
token = "{TOKEN}"
"""
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
ATTEMPTS = 5_000
PARTS = ("messages", "duplicates", "rejected", "quarantine")
QUESTIONS = ("start", "newer?", "older?", "find?id=m1", "charts?seconds=300", "detail/messages/1")


@pytest.fixture(name="client")
def _client(tmp_path: Path) -> Client:
    client = Client(create_app(rebase(parse_configuration(CONFIGURATION), tmp_path)))
    send(client, {"type": "track", "event": "Secret", "userId": 5, "messageId": "m1"})
    return client


HOSTILE = (
    b'{"a":' + b"[" * 4_000,
    b'{"a":' + b"[" * 1_900 + b"]" * 1_900 + b"}",  # how deep a parser goes depends on the version of Python
    b'{"token":' + b'{"a":' * 600 + b"1" + b"}" * 601,
    b'{"token":1' + b"0" * 4_000 + b"}",
)


class Broken(io.BytesIO):
    """A body that cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, _: int | None = -1) -> bytes:
        raise self.error


@pytest.fixture(name="inside")
def _inside(client: Client) -> Client:
    assert enter(client).status_code == 200
    return client


def enter(client: Client, token: str = TOKEN, **options: Any) -> TestResponse:
    headers = {"Origin": options.pop("origin", ORIGIN)}
    return client.post("/debugger/session", json={"token": token}, headers=headers, **options)


def send(client: Client, *messages: Any, key: str = "key") -> None:
    assert client.post("/v1/batch", json={"batch": messages, "writeKey": key}).status_code == 200


def ask(client: Client, question: str, **values: Any) -> Any:
    response = client.get(f"/debugger/api/{question}", query_string=values)
    assert response.status_code == 200, response.text
    return response.json


def whole_charts(client: Client, seconds: int) -> Any:
    while (charts := ask(client, "charts", seconds=seconds))["isPartial"]:
        pass
    return charts


class TestMounting:
    def test_without_a_token_the_debugger_is_off(self, tmp_path: Path) -> None:
        text = CONFIGURATION.partition("[debugger]")[0]
        client = Client(create_app(rebase(parse_configuration(text), tmp_path)))
        for path in ("/debugger", "/debugger/", "/debugger/api/start", "/debugger/style.css"):
            assert client.get(path).status_code == 404

    def test_the_tracking_api_is_as_it_was(self, client: Client) -> None:
        assert client.get("/health").status_code == 200
        assert client.get("/nothing").get_json()["code"] == "not_found"
        assert client.post("/v1/track", json={"userId": "u", "event": "e"}, auth=("key", "")).status_code == 200

    def test_its_address_is_a_folder(self, client: Client) -> None:
        response = client.get("/debugger")
        assert (response.status_code, response.headers["Location"]) == (308, "debugger/"), (
            "relative: a proxy may add to it"
        )

    def test_a_token_of_the_environment(self) -> None:
        configuration = parse_configuration(CONFIGURATION.replace(TOKEN, "env:OUR_TOKEN"))
        with pytest.raises(ConfigurationError, match="environment variable OUR_TOKEN is not set"):
            read_debugger_token(configuration, {})
        assert read_debugger_token(configuration, {"OUR_TOKEN": TOKEN}) == TOKEN
        assert TOKEN not in repr(parse_configuration(CONFIGURATION))

    @pytest.mark.parametrize("token", ["secret", "env:SHORT"])
    def test_a_token_that_is_guessed_soon(self, token: str) -> None:
        configuration = parse_configuration(CONFIGURATION.replace(TOKEN, token))
        with pytest.raises(ConfigurationError, match=r"debugger\.token: a token needs at least 12"):
            read_debugger_token(configuration, {"SHORT": "secret"})

    def test_an_invalid_token_is_reported_at_the_start(self, run: Callable[..., Any], tmp_path: Path) -> None:
        config = tmp_path / "own.toml"
        config.write_text(CONFIGURATION.replace(TOKEN, "secret"))
        result = run("serve", "--config", config, "--bind", "127.0.0.1:0")
        assert result.exit_code == 2
        assert "a token needs at least 12 characters, this one has 6" in result.stderr

    def test_the_wheel_has_the_page(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = tmp_path.glob("*.whl")
        page = ROOT / "adapters" / "trackcore_debugger" / "page"
        expected = {f"trackcore_debugger/page/{file.name}" for file in page.iterdir()}
        assert len(expected) > 10
        assert expected <= set(zipfile.ZipFile(wheel).namelist())


class TestAccess:
    """Off until a token is configured; no access from another origin or in a frame."""

    def test_without_a_session_there_is_nothing(self, client: Client) -> None:
        response = client.get("/debugger/")
        assert response.status_code == 401
        assert "token" in response.text
        for question in QUESTIONS:
            response = client.get(f"/debugger/api/{question}")
            assert (response.status_code, response.get_json()["code"]) == (401, "no_session")
            assert "Secret" not in response.text
        response = client.post("/debugger/api/repair/rejected/1", headers={"Origin": ORIGIN})
        assert response.status_code == 401

    @pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "é" * 20])
    def test_a_wrong_token(self, client: Client, token: str) -> None:
        response = enter(client, token)
        assert (response.status_code, response.get_json()["code"]) == (403, "wrong_token")
        assert "Set-Cookie" not in response.headers

    @pytest.mark.parametrize("body", [b"", b"[]", b'{"token": 5}', b'{"token": "\xff"}', b"x" * 10_000, *HOSTILE])
    @pytest.mark.parametrize("path", ["session", "api/session"])
    def test_a_malformed_token(self, client: Client, path: str, body: bytes) -> None:
        response = client.post(f"/debugger/{path}", data=body, headers={"Origin": ORIGIN})
        assert (response.status_code, response.get_json()["code"]) == (400, "bad_body")

    def test_a_body_that_cannot_be_read(self, client: Client) -> None:
        """Each server raises different exceptions for a malformed chunk, and a connection may break."""
        for error in (ValueError("a chunk"), OSError("reset"), RuntimeError("?")):
            environ = {"wsgi.input": Broken(error), "wsgi.input_terminated": True}
            response = client.post("/debugger/session", environ_overrides=environ, headers={"Origin": ORIGIN})
            assert (response.status_code, response.get_json()["code"]) == (400, "bad_body")

    def test_the_cookie(self, client: Client) -> None:
        cookie = enter(client).headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        assert "Path=" not in cookie, "the browser takes the folder that it sees"
        assert "Secure" not in cookie
        secure = enter(client, origin="https://localhost", base_url="https://localhost")
        assert "; Secure" in secure.headers["Set-Cookie"]

    def test_a_session_ends(self, inside: Client) -> None:
        ask(inside, "start")
        inside.delete("/debugger/session", headers={"Origin": ORIGIN})
        assert inside.get("/debugger/api/start").status_code == 401

    @pytest.mark.parametrize(
        ("path", "method", "headers"),
        [
            ("api/start", "GET", {"Origin": "http://evil.example"}),
            ("api/start", "GET", {"Sec-Fetch-Site": "cross-site"}),
            ("api/start", "GET", {"Sec-Fetch-Site": "same-site"}),
            ("api/start", "GET", {"Sec-Fetch-Site": "none"}),
            ("api/session", "POST", {}),
            ("api/session", "POST", {"Origin": "null"}),
            ("api/session", "POST", {"Origin": "https://localhost"}),
            ("api/repair/rejected/1", "POST", {"Sec-Fetch-Site": "same-origin"}),
            ("", "GET", {"Sec-Fetch-Dest": "iframe"}),
            ("", "GET", {"Sec-Fetch-Dest": "object"}),
        ],
    )
    def test_another_origin(self, inside: Client, path: str, method: str, headers: dict[str, str]) -> None:
        response = inside.open(f"/debugger/{path}", method=method, headers=headers)
        assert (response.status_code, response.get_json()["code"]) == (403, "foreign")

    def test_its_own_page(self, inside: Client) -> None:
        own = {"Sec-Fetch-Site": "same-origin", "Origin": ORIGIN}
        assert inside.get("/debugger/api/start", headers=own).status_code == 200
        typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}
        assert "listbox" in inside.get("/debugger/", headers=typed).text

    @pytest.mark.parametrize("path", ["", "main.js", "api/start", "api/none", "none", "../config.py", "api/session"])
    def test_every_answer_is_guarded(self, inside: Client, path: str) -> None:
        headers = inside.get(f"/debugger/{path}").headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers

    def test_a_file_is_loaded_once(self, client: Client) -> None:
        response = client.get("/debugger/main.js")
        assert response.content_type == "text/javascript; charset=utf-8"
        again = client.get("/debugger/main.js", headers={"If-None-Match": response.headers["ETag"]})
        assert again.status_code == 304


class TestGate:
    def request(self, cookie: str) -> Request:
        return Request(EnvironBuilder(headers=[("Cookie", f"{COOKIE}={cookie}")]).get_environ())

    def test_a_session_holds_for_a_time_and_cannot_be_made_longer(self) -> None:
        now = 1_000_000.0
        auth = SessionAuth(TOKEN, None, b"k" * 32, lambda: now)
        cookie = auth.sign_in(TOKEN)
        assert cookie is not None
        assert auth.has_session(self.request(cookie))
        expires, _, signature = cookie.partition(".")
        for forged in (f"{int(expires) + 1}.{signature}", f"{expires}.", expires, "", "9" * 50, f"{expires}.é"):
            assert not auth.has_session(self.request(forged))
        now += SESSION_SECONDS
        assert not auth.has_session(self.request(cookie))

    def test_a_session_of_a_clock_that_was_ahead_is_none(self) -> None:
        """A session is limited by its length: it is not extended by the time that the clock was ahead."""
        now = 1_000_000.0 + 86_400
        auth = SessionAuth(TOKEN, None, b"k" * 32, lambda: now)
        cookie = auth.sign_in(TOKEN)
        assert cookie is not None
        now -= 60
        assert auth.has_session(self.request(cookie)), "a clock may be set by a little"
        now -= 86_400
        assert not auth.has_session(self.request(cookie))

    def test_another_token_means_other_sessions(self) -> None:
        cookie = SessionAuth.for_token(TOKEN).sign_in(TOKEN)
        assert cookie is not None
        assert SessionAuth.for_token(TOKEN).has_session(self.request(cookie)), "they outlive a restart"
        assert not SessionAuth.for_token(TOKEN + "2").has_session(self.request(cookie))

    def test_a_one_time_token_opens_once(self) -> None:
        token = OneTimeToken()
        auth = SessionAuth.for_one_time(token)
        assert auth.sign_in("wrong") is None
        assert auth.sign_in(token.text) is not None
        assert auth.sign_in(token.text) is None


class TestAnswers:
    def test_the_start_of_the_page(self, inside: Client) -> None:
        start = ask(inside, "start")
        assert start["cursors"] == {"messages": 1, "duplicates": 0, "rejected": 0, "quarantine": 0}
        assert (start["sources"], start["writeKeys"]) == (["website"], {"website": "key"})
        assert start["destinations"] == [{"name": "Mixpanel", "isDelivered": False}]
        assert start["codes"]["event_not_defined"] == "A track message must name its `event`."

    def test_new_rows(self, inside: Client) -> None:
        cursors = ask(inside, "start")["cursors"]
        assert ask(inside, "newer", **cursors)["rows"] == []
        send(
            inside,
            {"type": "page", "userId": "u"},
            {"type": "page"},
            {"type": "track", "event": "x", "messageId": "m1"},
        )
        send(inside, {"type": "track", "event": "x", "userId": "u", "messageId": "m1"})
        send(inside, {"type": "page", "userId": "u"}, key="nobody's-key-at-all")
        rows: list[Any] = []
        for _ in range(ATTEMPTS):  # rows that the pages of a process share may be a little old
            found = ask(inside, "newer", **cursors)
            rows += found["rows"]
            cursors = found["cursors"]
            if len(rows) >= 5:
                break
        outcomes = sorted(row["outcome"] for row in rows)
        assert outcomes == ["accepted", "duplicate", "quarantined", "rejected", "rejected"]
        assert rows[0]["source"] == "nobody's-key-at-all"
        assert len({(row["part"], row["seq"]) for row in rows}) == 5

    def test_charts_come_with_new_rows(self, inside: Client) -> None:
        cursors = ask(inside, "start")["cursors"]
        assert "charts" not in ask(inside, "newer", **cursors)
        found = ask(inside, "newer", **cursors, charts=300)
        assert found["charts"]["bucketSeconds"] == 5
        response = inside.get("/debugger/api/newer", query_string={**cursors, "charts": "x"})
        assert response.get_json()["code"] == "bad_query"

    def test_new_rows_that_match_a_filter(self, inside: Client) -> None:
        cursors = ask(inside, "start")["cursors"]
        send(inside, {"type": "page", "userId": "ann"}, {"type": "page", "userId": "bob"}, {"type": "page"})
        (row,) = ask(inside, "newer", **cursors, user="ann")["rows"]
        assert row["user"] == "ann"
        (row,) = ask(inside, "newer", **cursors, code="no_user_anon_id")["rows"]
        assert row["outcome"] == "rejected"

    def test_rows_beyond_the_limit_are_counted(self, inside: Client) -> None:
        cursors = ask(inside, "start")["cursors"]
        for _ in range(3):
            send(inside, *[{"type": "page", "userId": "u"}] * 100)
        listed = skipped = 0
        for _ in range(ATTEMPTS):
            found = ask(inside, "newer", **cursors)
            listed, skipped, cursors = listed + len(found["rows"]), skipped + found["skipped"], found["cursors"]
            if listed + skipped >= 300:
                break
        assert listed + skipped == 300
        assert listed >= 100

    def test_pruned_rows_are_not_counted_as_skipped(self, inside: Client, tmp_path: Path) -> None:
        send(inside, {"type": "page"}, {"type": "page", "userId": "u"})
        for _ in prune(tmp_path / "trackcore.db", datetime.now(UTC) + timedelta(days=1)):
            pass
        cursors = ask(inside, "start")["cursors"]
        send(inside, {"type": "page"}, {"type": "page", "userId": "u"})
        for _ in range(ATTEMPTS):
            found = ask(inside, "newer", **cursors)
            if found["rows"]:
                break
        assert (len(found["rows"]), found["skipped"]) == (2, 0)

    @pytest.mark.parametrize("filters", [{}, {"user": "u"}])
    def test_another_log_is_reported(self, inside: Client, tmp_path: Path, filters: dict[str, str]) -> None:
        """A damaged log is moved aside at a start: a page that stays open learns that its numbers are invalid."""
        send(inside, {"type": "page", "userId": "u"})
        cursors = ask(inside, "start")["cursors"]
        assert not ask(inside, "newer", **cursors, **filters)["isAnotherLog"]
        other = Client(create_app(rebase(parse_configuration(CONFIGURATION), tmp_path / "other")))
        enter(other)
        send(other, {"type": "page", "userId": "u"})
        assert ask(other, "newer", **cursors, **filters)["isAnotherLog"]
        cursors = ask(other, "start")["cursors"]
        assert not ask(other, "newer", **cursors, **filters)["isAnotherLog"]

    @pytest.mark.parametrize("filters", [{}, {"user": "u"}])
    def test_a_longer_log_in_its_place_is_reported(
        self, inside: Client, tmp_path: Path, filters: dict[str, str]
    ) -> None:
        """Its last numbers have not decreased, but the records that have them were never listed."""
        send(inside, {"type": "page", "userId": "u"})
        begun = ask(inside, "start")
        question = {**begun["cursors"], "log": begun["log"], **filters}
        assert not ask(inside, "newer", **question)["isAnotherLog"]
        other = Client(create_app(rebase(parse_configuration(CONFIGURATION), tmp_path / "other")))
        send(other, *[{"type": "page", "userId": "u"}] * 5)
        back_up(tmp_path / "other" / "trackcore.db", tmp_path / "backup.db")
        put_in_place(tmp_path / "trackcore.db", tmp_path / "backup.db")
        assert any(ask(inside, "newer", **question)["isAnotherLog"] for _ in range(ATTEMPTS))
        begun = ask(inside, "start")
        rows = ask(inside, "older", **dict.fromkeys(PARTS, 6))["rows"]
        assert sorted(row["seq"] for row in rows) == [1, 2, 3, 4, 5]
        question = {**begun["cursors"], "log": begun["log"], **filters}
        assert not ask(inside, "newer", **question)["isAnotherLog"]

    @pytest.mark.parametrize("part", ["messages", "rejected"])
    def test_a_rewound_log_that_has_grown_past_the_page_is_reported(
        self, inside: Client, tmp_path: Path, part: str
    ) -> None:
        """A backup is restored, and newer messages have numbers that the page has listed already."""
        bad = {"type": "track", "userId": "u"}
        item = {"type": "page", "userId": "u"} if part == "messages" else bad
        send(inside, item)
        backup = tmp_path / "backup.db"
        back_up(tmp_path / "trackcore.db", backup)
        send(inside, item, item)
        begun = ask(inside, "start")
        put_in_place(tmp_path / "trackcore.db", backup)
        again = Client(create_app(rebase(parse_configuration(CONFIGURATION), tmp_path)))
        send(again, item, item, item)
        enter(again)
        assert ask(again, "newer", **begun["cursors"], log=begun["log"])["isAnotherLog"]
        restarted = ask(again, "start")
        assert restarted["cursors"][part] == begun["cursors"][part] + 1
        assert not ask(again, "newer", **restarted["cursors"], log=restarted["log"])["isAnotherLog"]

    def test_a_server_that_was_started_again_writes_on_in_the_same_log(self, inside: Client, tmp_path: Path) -> None:
        send(inside, {"type": "page", "userId": "u"})
        begun = ask(inside, "start")
        again = Client(create_app(rebase(parse_configuration(CONFIGURATION), tmp_path)))
        enter(again)
        send(again, {"type": "page", "userId": "u"})
        found = ask(again, "newer", **begun["cursors"], log=begun["log"])
        assert not found["isAnotherLog"]
        assert [row["seq"] for row in found["rows"]] == [3]
        assert found["log"] != begun["log"]
        assert not ask(again, "newer", **found["cursors"], log=found["log"])["isAnotherLog"]

    def test_a_number_that_is_an_id_is_found_once(self, inside: Client) -> None:
        send(inside, {"type": "page", "userId": "u", "messageId": "2"})
        assert [row["seq"] for row in ask(inside, "find", id="2")["rows"]] == [2]

    def test_stories(self, inside: Client) -> None:
        send(inside, {"type": "track", "userId": "u", "writeKey": "a-key-that-is-secret"})
        send(inside, {"type": "page", "userId": "u"}, key="nobody's-key-at-all")
        send(inside, {"type": "track", "event": "x", "userId": "u", "messageId": "m1"})
        message = ask(inside, "detail/messages/1")
        assert message["destinations"][0]["because"] == "by_default"
        assert json.loads(message["payload"])["event"] == "Secret"
        rejected = ask(inside, "detail/rejected/1")
        assert (rejected["code"], rejected["repairedAs"]) == ("event_not_defined", None)
        quarantined = ask(inside, "detail/quarantine/1")
        assert (quarantined["code"], quarantined["endpoint"]) == ("unknown_source", "batch")
        assert "secret" not in json.dumps(rejected)
        assert quarantined["writeKey"] == "nobody's-key-at-all", "it is public, and names the app to look for"
        duplicate = ask(inside, "detail/duplicates/1")
        assert (duplicate["outcome"], duplicate["duplicateOf"]) == ("duplicate", 1)
        assert duplicate["source"]["because"] == "the `writeKey` of the batch belongs to it"

    @pytest.mark.parametrize("name", ["writeKey", "write_key"])
    def test_the_bytes_as_received(self, inside: Client, name: str) -> None:
        """The detail has the raw bytes as received, also of the newest stored messages, from memory."""
        item = b'{ "type": "page", "userId": 7,  "messageId": "m2", "writeKey": "a-key-of-this", "x": "\\ud800" }'
        item = item.replace(b"writeKey", name.encode())
        for _ in range(2):
            inside.post("/v1/batch", data=b'{"batch": [%b], "writeKey": "key"}' % item)
        for place in ("messages/2", "duplicates/1"):
            detail = ask(inside, f"detail/{place}")
            assert detail["received"]["bytes"] == len(item)
            assert detail["received"]["payload"] == item.decode().replace("a-key-of-this", "a-ke…")
            assert detail["storedBytes"] == len(detail["payload"].encode())
            assert json.loads(detail["payload"])["userId"] == "7"
            assert "a-key-of-this" not in json.dumps(detail)

    def test_each_of_the_same_id_has_its_own_bytes(self, inside: Client) -> None:
        items = [{"type": "page", "userId": "u", "messageId": "m2", "n": number} for number in range(3)]
        send(inside, *items)
        found = [ask(inside, f"detail/{place}")["received"] for place in ("messages/2", "duplicates/1", "duplicates/2")]
        assert [json.loads(received["payload"])["n"] for received in found] == [0, 1, 2]

    def test_after_a_restart(self, inside: Client, tmp_path: Path) -> None:
        """Duplicates are in the log; their received bytes are not, so the detail omits them."""
        send(inside, {"type": "page", "userId": "u", "messageId": "m1"})
        another = Client(create_app(rebase(parse_configuration(CONFIGURATION), tmp_path)))
        enter(another)
        start = ask(another, "start")["cursors"]
        assert start["duplicates"] == 1
        older = ask(another, "older", **{part: seq + 1 for part, seq in start.items()})
        assert sorted(row["outcome"] for row in older["rows"]) == ["accepted", "duplicate"]
        for place in ("messages/1", "duplicates/1"):
            detail = ask(another, f"detail/{place}")
            assert "received" not in detail
            assert detail["payload"]

    def test_duplicates_are_filtered(self, inside: Client) -> None:
        send(inside, *[{"type": "page", "userId": user, "messageId": "m1"} for user in ("ann", "bob")])
        cursors = {part: seq + 1 for part, seq in ask(inside, "start")["cursors"].items()}
        (row,) = ask(inside, "older", **cursors, user="bob")["rows"]
        assert (row["outcome"], row["user"]) == ("duplicate", "bob")
        assert len(ask(inside, "older", **cursors, parts="duplicates")["rows"]) == 2
        assert [row["outcome"] for row in ask(inside, "older", **cursors, code="id_from_number")["rows"]] == [
            "accepted"
        ]

    def test_a_row_describes_a_message_of_any_size(self, inside: Client) -> None:
        """With batch-level fields, a stored message may have twice the bytes that are allowed for the message alone."""
        text = "x" * 30_000
        batch = [{"type": "track", "event": "Large", "userId": "u2", "properties": {"text": text}}]
        body = {"batch": batch, "context": {"text": text}, "writeKey": "key"}
        assert inside.post("/v1/batch", json=body).status_code == 200
        (row,) = ask(inside, "find", id=2)["rows"]
        assert (row["type"], row["name"], row["user"]) == ("track", "Large", "u2")

    def test_a_row_describes_a_message_as_intake_read_it(self, inside: Client) -> None:
        body = b'{"type":"track","userId":"u3","event":5,"properties":{"text":"\\ud800"},"writeKey":"key"}'
        assert inside.post("/v1/track", data=body).status_code == 200
        begun = ask(inside, "start")["cursors"]
        (row,) = ask(inside, "older", **{part: seq + 1 for part, seq in begun.items()}, parts="rejected")["rows"]
        assert (row["type"], row["name"], row["user"]) == ("track", "5", "u3")

    def test_batch_level_fields(self, inside: Client) -> None:
        inside.post("/v1/batch", json={"batch": [{}], "context": {"a": 1}, "writeKey": "key"})
        assert ask(inside, "detail/rejected/1")["batch"].replace(" ", "") == '{"context":{"a":1}}'

    @pytest.mark.parametrize(
        "path", ["detail/messages/99", "detail/none/1", "detail/messages/x", "detail/rejected/1", "x"]
    )
    def test_missing_records(self, inside: Client, path: str) -> None:
        assert inside.get(f"/debugger/api/{path}").status_code == 404

    @pytest.mark.parametrize(
        "question",
        ["newer", "newer?messages=-1", "older?messages=x", "charts", "charts?seconds=0", "find?id=" + "x" * 300],
    )
    def test_a_query_that_cannot_be_read(self, inside: Client, question: str) -> None:
        response = inside.get(f"/debugger/api/{question}")
        assert (response.status_code, response.get_json()["code"]) == (400, "bad_query")

    def test_a_wrong_method(self, inside: Client) -> None:
        own = {"Origin": ORIGIN}
        assert inside.post("/debugger/api/start", headers=own).status_code == 405
        assert inside.get("/debugger/api/repair/rejected/1").status_code == 405
        assert inside.put("/debugger/session", headers=own).status_code == 405

    def test_charts(self, inside: Client) -> None:
        send(inside, {"type": "page"})
        charts = whole_charts(inside, 300)
        assert sum(charts["messages"]["website"]) == 1
        assert sum(charts["rejected"]["no_user_anon_id"]) == 1
        assert len(charts["clockSkew"]) == 60

    def test_how_far_destinations_are_behind(self, tmp_path: Path) -> None:
        text = CONFIGURATION.replace('name = "Mixpanel"', 'name = "Files"\nkind = "file"\nfolder = "out"')
        client = Client(create_app(rebase(parse_configuration(text), tmp_path)))
        enter(client)
        send(client, {"type": "page"})
        (lag,) = whole_charts(client, 300)["delivery"]
        assert lag == {"destination": "Files", "lagSeconds": 0.0, "waiting": 0, "isFailing": False, "deadLetters": 0}
        send(client, {"type": "page", "userId": "u"}, {"type": "page", "userId": "u"})
        (lag,) = whole_charts(client, 600)["delivery"]
        assert (lag["waiting"], lag["isFailing"]) == (2, False)

    def test_repair(self, inside: Client) -> None:
        send(inside, {"type": "track", "userId": "u"})
        repair = inside.post("/debugger/api/repair/rejected/1", headers={"Origin": ORIGIN}).get_json()
        assert (repair["outcome"], repair["code"]) == ("refused", "event_not_defined")
        assert inside.post("/debugger/api/repair/messages/1", headers={"Origin": ORIGIN}).status_code == 404

    def test_a_log_that_is_gone(self, inside: Client, tmp_path: Path) -> None:
        (tmp_path / "trackcore.db").unlink()
        response = inside.get("/debugger/api/start")
        assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")


class TestOlder:
    """Listing back in time, over parts with separate numbers, misses nothing and repeats nothing."""

    @pytest.fixture(autouse=True)
    def _fill(self, tmp_path: Path) -> None:
        sink = SqliteSink(tmp_path / "trackcore.db")
        sink.store([envelope(number) for number in range(1, 251)], rejected=[rejected(n) for n in range(0, 260, 2)])
        sink.store([envelope(5_000, repaired=True)])
        sink.store([envelope(number) for number in range(251, 301)], quarantined=[quarantined(n) for n in (3, 290)])
        sink.close()

    def walk(self, inside: Client, **wanted: Any) -> list[Any]:
        cursors = {part: seq + 1 for part, seq in ask(inside, "start")["cursors"].items()}
        rows: list[Any] = []
        for _ in range(100):
            found = ask(inside, "older", **cursors, **wanted)
            rows += found["rows"]
            if found["isEnd"]:
                return rows
            assert found["cursors"] != cursors, "each answer gets further"
            cursors = found["cursors"]
        raise AssertionError("the listing does not end")

    def test_all_of_it(self, inside: Client) -> None:
        rows = self.walk(inside)
        assert len(rows) == 302 + 130 + 2
        assert len({(row["part"], row["seq"]) for row in rows}) == len(rows)

    def test_the_newest_come_first(self, inside: Client) -> None:
        """Except for a reprocessed message, which has the time of its first reception."""
        times = [row["at"] for row in self.walk(inside) if "repaired" not in row["codes"]]
        assert times == sorted(times, reverse=True)

    def test_a_filter(self, inside: Client) -> None:
        assert [row["outcome"] for row in self.walk(inside, code="repaired")] == ["accepted"]
        assert len(self.walk(inside, parts="rejected")) == 130
        assert len(self.walk(inside, parts="none")) == 0
        assert len(self.walk(inside, text='"number":7}')) == 1


def envelope(number: int, *, repaired: bool = False) -> Envelope:
    warning = MessageWarning(code=WarningCode.REPAIRED, message="again")
    return Envelope(
        source="website",
        message_id=f"n{number}",
        call="page",
        user_id="u",
        anonymous_id=None,
        received_at=START + timedelta(seconds=1 if repaired else number),
        destinations=(),
        warnings=(warning,) if repaired else (),
        payload=b'{"type":"page","number":%d}' % number,
    )


def rejected(number: int) -> RejectedRecord:
    at = START + timedelta(seconds=number)
    return RejectedRecord(source="website", received_at=at, code="no_type", message="m", path="type", payload=b"{}")


def quarantined(number: int) -> QuarantinedRequest:
    return QuarantinedRequest(
        received_at=START + timedelta(seconds=number),
        endpoint="batch",
        write_key=WriteKey("nobody's"),
        client_ip=None,
        client_side=False,
        payload=b"{}",
    )


def test_serve_prints_a_link_on_loopback_only(serve: Callable[..., Any], tmp_path: Path) -> None:
    """Loopback only in the zero-configuration run, which prints the link with the one-time token."""
    served = serve()
    (line,) = [line for line in served.stderr().splitlines() if " Debugger: " in line]
    assert f" Debugger: http://127.0.0.1:{served.port}/debugger/#" in line
    served.terminate()
    config = tmp_path / "own.toml"
    config.write_text('[[sources]]\nname = "website"\nwrite_keys = ["key"]\n')
    served = serve("--config", str(config))
    assert "Debugger" not in served.stderr()
    assert served.get("/debugger/") == 404


class TestMemory:
    """The newest messages of a process are kept as received, up to a limit."""

    def test_the_oldest_make_room(self) -> None:
        watched = RecordingSink(MemorySink(), 10_000)
        messages = [msgspec.structs.replace(envelope(number), received=b"x" * 1_000) for number in range(20)]
        for message in messages:
            watched.store([message])
        remembered = [watched.received(message.message_id, message.payload) is not None for message in messages]
        assert remembered == [False] * 14 + [True] * 6

    def test_a_request_larger_than_all(self) -> None:
        watched = RecordingSink(MemorySink(), 10_000)
        watched.store([msgspec.structs.replace(envelope(1), received=b"x" * 20_000)])
        assert watched.received("n1", envelope(1).payload) is None
        watched.store([msgspec.structs.replace(envelope(2), received=b"x")])
        assert watched.received("n2", envelope(2).payload) == b"x"

    def test_messages_that_could_not_be_stored_are_not_kept(self) -> None:
        class Full(MemorySink):
            def store(self, *_: object, **__: object) -> list[Outcome]:
                raise SinkUnavailable(cause=Cause.FULL, detail="full")

        watched = RecordingSink(Full())
        with pytest.raises(SinkUnavailable):
            watched.store([msgspec.structs.replace(envelope(1), received=b"x")])
        assert watched.received("n1", envelope(1).payload) is None


def test_a_search_goes_on_where_the_time_was_over(tmp_path: Path) -> None:
    """A search ends at a deadline, and the next one continues from there."""
    sink = SqliteSink(tmp_path / "trackcore.db")
    sink.store([envelope(number) for number in range(2_000)])
    sink.close()
    configuration = rebase(parse_configuration(CONFIGURATION), tmp_path)
    recording = RecordingSink(backend_of(configuration).make_sink())
    reader = _reader(configuration, backend_of(configuration), create_collector(configuration, recording), recording)
    reader = attrs.evolve(reader, budget=lambda: Deadline(0))
    cursors = {"messages": 2_001, "duplicates": 0, "rejected": 0, "quarantine": 0}
    answers = 0
    rows: list[Any] = []
    is_end = False
    while not is_end:
        found = reader.older(cursors, Search(text='"number":3}'))
        rows += found.rows
        cursors, is_end, answers = dict(found.cursors), found.is_end, answers + 1
    assert answers == 20
    assert [json.loads(bytes(row))["seq"] for row in rows] == [4]
