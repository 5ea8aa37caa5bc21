"""The responses, and the fate of the messages: rejections, strictness, failures, keys, addresses."""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
import string
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import (
    CLIENT_IP,
    GIF_START,
    KEY,
    STRICT_KEY,
    UNKNOWN_KEY,
    FailingSink,
    Server,
    basic,
    call_app,
    envelope,
    serve,
    track,
    unavailable,
)
from hypothesis import given
from hypothesis import strategies as st
from trackcore_sqlite import SqliteSink

from trackcore import Cause, Limits, MemorySink, SinkUnavailable

SUCCESS = b'{"success": true}'
STRICT = {**KEY, "X-Strict-Mode": "1"}
MIXED = {
    "batch": [
        track(messageId="good"),
        {"type": "track", "userId": "u", "messageId": "no event"},
        7,
        track(userId={"a": 1}, messageId=9),
        track(userId=None, messageId="nobody"),
        {"type": "page", "anonymousId": "a", "messageId": "good too"},
    ]
}


class TestSuccess:
    """Every request that could be parsed is answered exactly 200 with a JSON object whose `success` is true (R1)."""

    def test_exactly(self, server: Server) -> None:
        answer = server.post("/v1/batch", {"batch": [track()]})
        assert (answer.status, answer.body) == (200, SUCCESS)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(SUCCESS))
        assert "location" not in answer.headers

    def test_it_means_committed(self, server: Server) -> None:
        """`200` means committed (R5): another reader of the file sees the message."""
        for n in range(5):
            server.post("/v1/track", track(messageId=f"m{n}"))
            assert [message["messageId"] for message in server.messages] == [f"m{k}" for k in range(n + 1)]

    def test_a_duplicate_is_a_success(self, server: Server) -> None:
        """De-duplication by (source, messageId); a duplicate is a success (R16)."""
        for headers in (KEY, {**KEY, "X-Retry-Count": "1"}, {"Authorization": basic("second")}):
            assert (
                server.post("/v1/batch", {"batch": [track(messageId="m"), track(messageId="n")]}, headers=headers).body
                == SUCCESS
            )
        assert [message["messageId"] for message in server.messages] == ["m", "n"]
        server.post("/v1/batch", {"batch": [track(messageId="m")]}, headers={"Authorization": basic("app1")})
        assert [entry.source for entry in server.entries] == ["website", "website", "app"]

    def test_ids_are_made_where_there_are_none(self, server: Server) -> None:
        """MessageId absent -> made by the server (R16)."""
        server.post("/v1/batch", {"batch": [track(), track(messageId=None), track(messageId=""), track(messageId=5)]})
        assert [message["messageId"] for message in server.messages] == ["server-1", "server-2", "server-3", "5"]


class TestVerdicts:
    """Rejection is per message.  The 200 body then also carries `code: "partial"`, `message`, `accepted`, `rejected:
    [{index, messageId, code, message, path, limit?, actual?}]` (R3).
    """

    def test_the_body(self, server: Server) -> None:
        answer = server.post("/v1/batch", MIXED)
        assert answer.status == 200
        body = answer.json
        assert set(body) == {"success", "code", "message", "accepted", "rejected"}
        assert (body["success"], body["code"], body["accepted"]) == (True, "partial", 2)
        assert isinstance(body["message"], str)
        found = [(v["index"], v["messageId"], v["code"], v["path"]) for v in body["rejected"]]
        assert found == [
            (1, "no event", "event_not_defined", "event"),
            (2, None, "message_not_object", ""),
            (3, "9", "id_not_string", "userId"),
            (4, "nobody", "no_user_anon_id", ""),
        ]
        for verdict in body["rejected"]:
            assert set(verdict) == {"index", "messageId", "code", "message", "path"}
            assert isinstance(verdict["message"], str)
            assert verdict["message"]

    def test_the_neighbours_are_stored(self, server: Server) -> None:
        server.post("/v1/batch", MIXED)
        assert [message["messageId"] for message in server.messages] == ["good", "good too"]
        assert [json.loads(record.payload) for record in server.log.rejected()] == MIXED["batch"][1:5]

    def test_limit_and_actual_where_there_are_some(self) -> None:
        (verdict,) = serve(MemorySink()).post("/v1/batch", {"batch": [track(messageId="x" * 101)]}).json["rejected"]
        assert (verdict["limit"], verdict["actual"]) == (100, 101)

    def test_a_single_bad_message_is_a_200(self, server: Server) -> None:
        """A well-formed call with a bad message gets a 200 that reports the rejection (R1, R3)."""
        answer = server.post("/v1/track", {"userId": "u"})
        assert (answer.status, answer.json["success"], answer.json["accepted"]) == (200, True, 0)
        assert [verdict["code"] for verdict in answer.json["rejected"]] == ["event_not_defined"]
        assert server.messages == []

    def test_duplicates_count_as_accepted(self, server: Server) -> None:
        for _ in range(2):
            assert server.post("/v1/batch", MIXED).json["accepted"] == 2

    def test_a_batch_of_nothing_but_bad_ones(self, server: Server) -> None:
        answer = server.post("/v1/batch", {"batch": [None, [], "x"]})
        assert (answer.status, answer.json["accepted"], len(answer.json["rejected"])) == (200, 0, 3)


class TestStrict:
    """`strict` (per source, or header `X-Strict-Mode: 1`): same processing, but any rejection answers 400 and an
    unknown key 401 (R4).
    """

    @pytest.mark.parametrize("headers", [STRICT, STRICT_KEY, {**STRICT_KEY, "X-Strict-Mode": "1"}])
    def test_a_rejection_is_a_400(self, server: Server, headers: dict[str, str]) -> None:
        answer = server.post("/v1/batch", MIXED, headers=headers)
        assert answer.status == 400
        body = answer.json
        assert (body["success"], body["accepted"], len(body["rejected"])) == (False, 2, 4)
        assert isinstance(body["code"], str)
        assert isinstance(body["message"], str)
        assert [message["messageId"] for message in server.messages] == ["good", "good too"]
        assert server.log.totals().rejected == 4

    @pytest.mark.parametrize("headers", [STRICT, STRICT_KEY])
    def test_a_good_request_is_a_200(self, server: Server, headers: dict[str, str]) -> None:
        assert server.post("/v1/batch", {"batch": [track()]}, headers=headers).body == SUCCESS

    @pytest.mark.parametrize("key", [{}, UNKNOWN_KEY])
    def test_an_unknown_key_is_a_401(self, server: Server, key: dict[str, str]) -> None:
        answer = server.post("/v1/batch", {"batch": [track()]}, headers={**key, "X-Strict-Mode": "1"})
        assert answer.status == 401
        assert (answer.json["success"], answer.json["code"]) == (False, "unknown_source")
        assert isinstance(answer.json["message"], str)
        assert server.log.totals().quarantined == 1

    @pytest.mark.parametrize("value", ["0", "", "false", "2"])
    def test_only_by_1(self, value: str) -> None:
        server = serve(MemorySink())
        assert server.post("/v1/batch", MIXED, headers={**KEY, "X-Strict-Mode": value}).status == 200
        assert server.post("/v1/batch", MIXED, headers={"X-Strict-Mode": value}).status == 200


UNAVAILABLE = [(Cause.UNAVAILABLE, 503), (Cause.FULL, 507), (Cause.OVERLOADED, 429)]


class TestCannotStore:
    """Cannot store now: 503 (507 when the disk is full, 429 when overloaded) with integer `Retry-After` between 1 and
    300.  Never 200 for something not stored (R5).
    """

    @pytest.mark.parametrize(("cause", "status"), UNAVAILABLE)
    @pytest.mark.parametrize("retry_after", [1, 7, 300])
    @pytest.mark.parametrize(
        ("method", "path", "body", "headers"),
        [
            ("POST", "/v1/batch", {"batch": [track()]}, KEY),
            ("POST", "/v1/track", track(), KEY),
            ("POST", "/v1/batch", MIXED, KEY),
            ("POST", "/v1/batch", {"batch": [1]}, STRICT),
            ("POST", "/v1/track", track(), UNKNOWN_KEY),
            ("POST", "/v1/track", track(), {}),
            ("GET", "/ready", {}, {}),
        ],
    )
    def test_status_and_headers(
        self, *, cause: Cause, status: int, retry_after: int, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> None:
        server = serve(FailingSink(unavailable(cause=cause, retry_after=retry_after)))
        answer = call_app(server.app, path, json.dumps(body).encode(), method=method, headers=headers)
        assert answer.status == status
        assert answer.headers["retry-after"] == answer.headers["x-ratelimit-reset"] == str(retry_after)
        assert answer.json["success"] is False
        assert isinstance(answer.json["code"], str)
        assert isinstance(answer.json["message"], str)
        assert b"secret" not in answer.body

    def test_the_default_is_within_bounds(self) -> None:
        answer = serve(FailingSink(unavailable(cause=Cause.UNAVAILABLE))).post("/v1/track", track())
        assert 1 <= int(answer.headers["retry-after"]) <= 300

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (unavailable(cause=Cause.FULL), "disk_full"),
            (unavailable(cause=Cause.OVERLOADED), "overloaded"),
            (unavailable(cause=Cause.UNAVAILABLE), "unavailable"),
            (unavailable(cause=Cause.UNAVAILABLE, reason="locked"), "locked"),
        ],
    )
    def test_ready_names_the_reason_in_one_word(self, error: SinkUnavailable, reason: str) -> None:
        """Without internals: the detail goes to the log."""
        answer = serve(FailingSink(error)).get("/ready")
        assert answer.json["reason"] == reason
        assert error.detail not in answer.body.decode()
        assert "reason" not in serve(FailingSink(error)).post("/v1/t", track()).json

    def test_a_real_log_that_cannot_be_written_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "damaged.db").write_bytes(b"not a log, and longer than a header" * 99)
        (tmp_path / "file").write_text("")
        sink = SqliteSink(tmp_path / "log.db")
        server = serve(sink)
        assert server.get("/ready").status == 200
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            busy = serve(SqliteSink(tmp_path / "log.db", busy_timeout=0.01))
            assert busy.get("/ready").json["reason"] == "locked"
        server.post("/v1/t", track())
        (tmp_path / "log.db").rename(tmp_path / "elsewhere.db")
        assert server.post("/v1/t", track()).status == 503
        others = [serve(SqliteSink(tmp_path / name)) for name in ("damaged.db", "file/x.db")]
        found = [one.get("/ready").json["reason"] for one in (server, *others)]
        assert found == ["gone", "damaged", "unwritable"]
        sink.close()

    def test_a_real_disk_that_is_full(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        server.post("/v1/track", track(messageId="before"))
        assert isinstance(server.sink, SqliteSink)
        assert server.sink._writer._file._connection is not None
        server.sink._writer._file._connection.execute("PRAGMA max_page_count = 1")
        monkeypatch.setattr(server.sink._writer, "close", lambda: None)
        big = track(messageId="big", properties={"pad": "x" * 30_000})
        answer = server.post("/v1/track", big)
        assert (answer.status, answer.json["code"]) == (507, "disk_full")
        monkeypatch.undo()
        server.sink.close()
        assert server.post("/v1/track", big).body == SUCCESS
        assert [message["messageId"] for message in server.messages] == ["before", "big"]

    def test_a_refused_body_is_still_refused(self) -> None:
        """A request that cannot be stored gets a status that makes clients retry, or a 400; never a 200."""
        answer = serve(FailingSink(unavailable(cause=Cause.FULL))).post("/v1/batch", b"{")
        assert answer.status in {400, 507}

    def test_health_and_options_do_not_need_the_sink(self) -> None:
        server = serve(FailingSink(unavailable(cause=Cause.FULL)))
        assert server.get("/health").status == 200
        assert server.get("/v1/projects/k/settings").status == 200
        assert server.post("/v1/m", {}).status == 200
        assert call_app(server.app, "/v1/t", method="OPTIONS").status == 200


class TestInternalErrors:
    """500 is JSON too, and never shows internals (R2)."""

    @pytest.mark.parametrize(("method", "path"), [("POST", "/v1/track"), ("POST", "/v1/batch"), ("GET", "/ready")])
    def test_a_fault_of_ours(self, method: str, path: str, caplog: pytest.LogCaptureFixture) -> None:
        body = json.dumps({**track(), "batch": [track()]}).encode()
        server = serve(FailingSink(RuntimeError("secret detail")))
        answer = call_app(server.app, path, body, method=method, headers=KEY)
        assert answer.status == 500
        assert (answer.json["success"], answer.json["code"]) == (False, "internal_error")
        assert isinstance(answer.json["message"], str)
        for internal in (b"secret", b"RuntimeError", b"Traceback", b".py"):
            assert internal not in answer.body
        assert "RuntimeError at exchange.py:" in caplog.text, "the operator must see the error and its place"
        assert "secret detail" not in caplog.text, "the text of an exception may quote a setting"


class TestUnknownKeys:
    """Missing or unknown write key: 200, nothing is routed or stored among messages; the request is kept in a bounded
    quarantine (R6).
    """

    @pytest.mark.parametrize(
        ("headers", "body_key", "found"),
        [
            ({}, None, None),
            (UNKNOWN_KEY, None, "nobody's"),
            ({}, "unknown", "unknown"),
            ({"Authorization": basic("")}, None, None),
            ({"Authorization": "Bearer abc123"}, None, None),
            ({"Authorization": "Basic ***"}, None, None),
            ({"Authorization": basic("ABC123")}, None, "ABC123"),
            ({"Authorization": basic("abc12")}, None, "abc12"),
        ],
    )
    def test_quarantine(self, server: Server, headers: dict[str, str], body_key: str | None, found: str | None) -> None:
        body = {"batch": [track(messageId="m")], **({"writeKey": body_key} if body_key else {})}
        answer = server.post("/v1/b", body, headers=headers)
        assert (answer.status, answer.body) == (200, SUCCESS)
        assert server.messages == []
        (request,) = server.log.quarantined()
        assert (request.endpoint, request.write_key) == ("batch", found)
        assert (request.client_ip, request.client_side) == (CLIENT_IP, True)
        assert json.loads(request.payload) == body

    def test_a_single_call(self, server: Server) -> None:
        server.post("/v1/page", b'{"userId":  "u"}', headers={})
        (request,) = server.log.quarantined()
        assert (request.endpoint, request.client_side, request.payload) == ("page", False, b'{"userId":  "u"}')

    def test_nothing_is_rejected_for_it(self, server: Server) -> None:
        assert server.post("/v1/batch", MIXED, headers={}).body == SUCCESS
        totals = server.log.totals()
        assert (totals.messages, totals.rejected, totals.quarantined) == (0, 0, 1)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestWriteKeys:
    """Write key: Basic user name (also without the colon), else body `writeKey` (envelope, then item), else
    `?writeKey=` on beacon and pixel.  Header wins; a mismatch is a warning.  The stored message never contains a write
    key (R10).
    """

    @pytest.mark.parametrize(
        "header",
        [
            "Basic YWJjMTIzOg==",
            "Basic YWJjMTIz",
            "basic YWJjMTIzOg==",
            "BASIC YWJjMTIzOg==",
            "Basic   YWJjMTIzOg==  ",
            "Basic YWJjMTIzOg",
            f"Basic {_b64('abc123:a password')}",
            f"Basic {_b64('abc123:::')}",
        ],
    )
    def test_forms_of_the_header(self, server: Server, header: str) -> None:
        server.post("/v1/track", track(), headers={"Authorization": header})
        assert [entry.source for entry in server.entries] == ["website"]

    def test_not_ascii_and_url_safe(self, server: Server) -> None:
        encoded = base64.b64encode("schlüssel:".encode()).decode().rstrip("=")
        server.post("/v1/track", track(), headers={"Authorization": f"Basic {encoded}"})
        server.post("/v1/track", track(), headers={"Authorization": f"Basic {encoded.translate({43: 45, 47: 95})}"})
        assert [entry.source for entry in server.entries] == ["website", "website"]

    @pytest.mark.parametrize("key", ["abc123", "abc123:", "abc123:secret"])
    def test_the_header_of_jitsu(self, server: Server, key: str) -> None:
        server.post("/v1/track", track(), headers={"X-Write-Key": key})
        assert [entry.source for entry in server.entries] == ["website"]

    @pytest.mark.parametrize("mask", ["abc123:***", "***"])
    @pytest.mark.parametrize("path", ["/api/s/track", "/api/s/s2s/track", "/v1/batch"])
    def test_a_masked_key_of_jitsu_is_no_key(self, server: Server, path: str, mask: str) -> None:
        """Jitsu puts `id:***` into the body, and the key itself into the header: that is not a mismatch."""
        message = track(writeKey=mask)
        body = {"batch": [message], "writeKey": mask} if path == "/v1/batch" else message
        assert server.post(path, body, headers={"X-Write-Key": "abc123:secret"}).body == SUCCESS
        (entry,) = server.entries
        assert (entry.source, entry.warnings, "writeKey" in entry.message) == ("website", (), False)

    @pytest.mark.parametrize(
        ("header", "envelope_key", "item_key", "source", "warned"),
        [
            ("app1", None, None, "app", False),
            (None, "app1", None, "app", False),
            (None, None, "app1", "app", False),
            ("app1", "app1", "app1", "app", False),
            ("app1", "abc123", None, "app", True),
            ("app1", None, "abc123", "app", True),
            ("app1", "nobody's", None, "app", True),
            ("app1", None, "nobody's", "app", True),
            (None, "app1", "abc123", "app", True),
            (None, "app1", "app1", "app", False),
        ],
    )
    def test_precedence(
        self,
        *,
        server: Server,
        header: str | None,
        envelope_key: str | None,
        item_key: str | None,
        source: str,
        warned: bool,
    ) -> None:
        item = track(**({"writeKey": item_key} if item_key else {}))
        body = {"batch": [item], **({"writeKey": envelope_key} if envelope_key else {})}
        server.post("/v1/batch", body, headers={"Authorization": basic(header)} if header else {})
        (entry,) = server.entries
        assert entry.source == source
        assert [warning["code"] for warning in entry.warnings] == (["write_key_mismatch"] if warned else [])
        assert "writeKey" not in entry.message

    FOREIGN = (
        basic("staging:hunter2"),
        "Bearer eyJhbGciOi.x.y",
        "Basic abc123",
        "Basic oUAUW1JHKcFjqCQGeTuKcVKX2Bt5G7zS",
        'Digest username="x"',
        "Token abc123",
    )

    @pytest.mark.parametrize("path", ["/v1/t", "/v1/track", "/v1/batch"])
    @pytest.mark.parametrize("header", FOREIGN)
    def test_a_header_that_is_meant_for_somebody_else_hides_no_key(
        self, server: Server, header: str, path: str
    ) -> None:
        """A site under construction is behind Basic authentication, and browsers send that header too."""
        message = track(writeKey="app1")
        body = {"batch": [message]} if path == "/v1/batch" else message
        headers = {"Authorization": header, "X-Strict-Mode": "1"}
        assert server.post(path, body, headers=headers).body == SUCCESS
        (entry,) = server.entries
        assert (entry.source, "writeKey" in entry.message) == ("app", False)
        is_other_key = header == basic("staging:hunter2")
        assert [warning["code"] for warning in entry.warnings] == (["write_key_mismatch"] if is_other_key else [])

    def test_nor_does_a_custom_header(self, server: Server) -> None:
        server.post("/v1/t", track(writeKey="app1"), headers={"X-Write-Key": "nope"})
        server.post("/v1/t", track(), headers={"X-Write-Key": "abc123", "Authorization": basic("staging")})
        assert [entry.source for entry in server.entries] == ["app", "website"]

    def test_an_unknown_key_hides_no_key_in_the_query(self, server: Server) -> None:
        server.post("/beacon/v1/batch", {"batch": [track()]}, query="writeKey=app1", headers=UNKNOWN_KEY)
        server.get("/v1/pixel/page", query="writeKey=%20abc123%0A&userId=u1", headers=UNKNOWN_KEY)
        assert [entry.source for entry in server.entries] == ["app", "website"]

    @pytest.mark.parametrize("strict", [False, True])
    def test_where_no_key_is_known_one_is_kept(self, server: Server, *, strict: bool) -> None:
        headers = {**UNKNOWN_KEY, **({"X-Strict-Mode": "1"} if strict else {})}
        answer = server.post("/v1/batch", {"batch": [track()]}, headers=headers)
        assert (answer.status, server.messages) == (401 if strict else 200, [])
        assert [request.write_key for request in server.log.quarantined()] == ["nobody's"]

    @pytest.mark.parametrize(
        ("header", "query", "body_key", "kept"),
        [
            ("new", "", None, "new"),
            (None, "writeKey=new", None, "new"),
            (None, "", "new", "new"),
            ("new", "", "old", "new"),
            (None, "writeKey=new", "old", "new"),
        ],
    )
    def test_the_user_of_a_staging_site_is_not_kept_where_there_is_a_key(
        self, server: Server, header: str | None, query: str, body_key: str | None, kept: str
    ) -> None:
        headers = {"Authorization": basic("stagingadmin:hunter2")} | ({"X-Write-Key": header} if header else {})
        body = {"batch": [track()]} | ({"writeKey": body_key} if body_key else {})
        server.post("/beacon/v1/batch", body, query=query, headers=headers)
        (request,) = server.log.quarantined()
        assert request.write_key == kept
        assert b"stagingadmin" not in Path(server.log.path).read_bytes()

    def test_the_401_names_a_field_that_was_probably_meant(self, server: Server) -> None:
        strict = {"X-Strict-Mode": "1"}
        told = server.post("/v1/track", track(write_key="abc123"), headers=strict).json["message"]
        assert told.endswith("is in quarantine; found 'write_key'; did you mean `writeKey`?")
        told = server.post("/v1/track", track(write_key="abc123"), headers=strict | UNKNOWN_KEY).json["message"]
        assert told.endswith("is in quarantine.")

    def test_what_is_refused_as_a_whole_is_kept_for_the_source_that_is_known(self, server: Server) -> None:
        server.post("/v1/track", b'{"writeKey":"app1","userId":NaN}', headers=UNKNOWN_KEY)
        assert [record.source for record in server.log.rejected()] == ["app"]

    @pytest.mark.parametrize(
        ("header", "body_key"),
        [(_b64("abc123\n"), None), (_b64("abc123:\n"), None), (None, "abc123\n"), (None, " abc123")],
    )
    def test_white_space_around_a_key_is_none_of_it(
        self, server: Server, header: str | None, body_key: str | None
    ) -> None:
        message = track(**({} if body_key is None else {"writeKey": body_key}))
        server.post("/v1/track", message, headers={} if header is None else {"Authorization": f"Basic {header}"})
        (entry,) = server.entries
        assert (entry.source, entry.warnings) == ("website", ())

    @pytest.mark.parametrize("key", [None, "", 5, True, [], {}])
    def test_a_key_in_the_body_that_is_none(self, server: Server, key: Any) -> None:
        assert server.post("/v1/batch", {"batch": [track(writeKey=key)], "writeKey": key}).body == SUCCESS
        assert "writeKey" not in server.only

    def test_a_single_call(self, server: Server) -> None:
        """Browsers have the key in each event."""
        assert server.post("/v1/t", track(writeKey="app1"), headers={}).body == SUCCESS
        (entry,) = server.entries
        assert (entry.source, "writeKey" in entry.message) == ("app", False)

    def test_no_key_anywhere_in_the_log(self, server: Server) -> None:
        body = {"batch": [track(writeKey="abc123"), track()], "writeKey": "abc123", "context": {"locale": "de"}}
        server.post("/beacon/v1/batch", body, query="writeKey=abc123")
        assert len(server.messages) == 2
        assert "abc123" not in json.dumps(server.messages)

    def test_beacon(self, server: Server) -> None:
        """RudderStack JS uses `sendBeacon` when the user leaves a page, which cannot set headers."""
        for path in ("/beacon/v1/batch", "/beacon/v1/batch/"):
            answer = server.post(path, {"batch": [track(messageId=path)]}, query="writeKey=app1", headers={})
            assert answer.body == SUCCESS
        assert [entry.source for entry in server.entries] == ["app", "app"]

    @pytest.mark.parametrize(
        ("headers", "body_key", "source"), [(KEY, None, "website"), ({}, "abc123", "website"), ({}, None, "app")]
    )
    def test_the_query_comes_last(
        self, server: Server, headers: dict[str, str], body_key: str | None, source: str
    ) -> None:
        body = {"batch": [track()], **({"writeKey": body_key} if body_key else {})}
        server.post("/beacon/v1/batch", body, query="writeKey=app1", headers=headers)
        (entry,) = server.entries
        assert entry.source == source

    @pytest.mark.parametrize(("headers", "body_key"), [(KEY, None), ({}, "abc123")])
    def test_another_key_in_the_query_is_a_warning(
        self, server: Server, headers: dict[str, str], body_key: str | None
    ) -> None:
        body = {"batch": [track()], **({"writeKey": body_key} if body_key else {})}
        server.post("/beacon/v1/batch", body, query="writeKey=app1", headers=headers)
        (entry,) = server.entries
        assert [warning["code"] for warning in entry.warnings] == ["write_key_mismatch"]

    @pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/v1/import"])
    def test_the_query_is_ignored_elsewhere(self, server: Server, path: str) -> None:
        server.post(path, {"batch": [track()]}, query="writeKey=abc123", headers={})
        assert server.messages == []
        assert [request.write_key for request in server.log.quarantined()] == [None]

    @pytest.mark.parametrize("path", ["/v1/track", "/v1/t"])
    def test_also_for_single_calls(self, server: Server, path: str) -> None:
        server.post(path, track(), query="writeKey=abc123", headers={})
        assert server.messages == []

    @pytest.mark.parametrize("query", ["writeKey=", "writekey=abc123", "write_key=abc123", "writeKey", "", "%ff&=&&"])
    def test_no_key_in_the_query(self, server: Server, query: str) -> None:
        assert server.post("/beacon/v1/batch", {"batch": [track()]}, query=query, headers={}).body == SUCCESS
        assert server.messages == []

    @pytest.mark.parametrize("query", ["\x80", "\xff=\xff", "writeKey=\xe9", "x=%ff\x80"])
    def test_a_query_that_is_no_utf8(self, server: Server, query: str) -> None:
        """A message must not be lost if its key is elsewhere."""
        assert server.post("/beacon/v1/batch", {"batch": [track()]}, query=query).body == SUCCESS
        assert len(server.messages) == 1


CLIENT_ROUTES = ("/v1/b", "/b", "/v1/batch/b", "/beacon/v1/batch")
SERVER_ROUTES = ("/v1/batch", "/v1/import")


class TestAddresses:
    """`context.ip`: filled from the connection when `context.direct` is true, and on client routes when absent; never
    on server routes.  Behind proxies only as many hops as configured are believed (R18).
    """

    @staticmethod
    def _ip(server: Server, path: str, message: dict[str, Any], **environ: Any) -> Any:
        body = message if path[-2:-1] == "/" and path not in CLIENT_ROUTES else {"batch": [message]}
        assert server.post(path, body, environ=environ).body == SUCCESS
        return server.only.get("context", {}).get("ip", "none")

    @pytest.mark.parametrize("path", [*CLIENT_ROUTES, "/v1/t"])
    def test_client_routes(self, server: Server, path: str) -> None:
        assert self._ip(server, path, track()) == CLIENT_IP

    @pytest.mark.parametrize(
        ("forwarded", "stored"),
        [
            ("203.0.113.7:51008", "203.0.113.7"),
            ("[2001:DB8:0::1]:443", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ('for="[2001:db8::1]:80";proto=https', "2001:db8::1"),
            ("unknown", None),
            ("_hidden", None),
            ("6.6.6.6, unknown", None),
            ("unknown, 203.0.113.7:1", "203.0.113.7"),
        ],
    )
    def test_behind_a_proxy_it_is_a_canonical_address_or_none(self, forwarded: str, stored: str | None) -> None:
        """In a message, in a pixel, and with a request in quarantine."""
        sink = MemorySink()
        server = serve(sink, proxy_hops=1)
        headers = {**KEY, "X-Forwarded-For": forwarded}
        server.post("/v1/t", track(), headers=headers)
        server.get("/v1/pixel/page", "userId=u", headers=headers)
        server.post("/v1/t", track(), headers={"X-Forwarded-For": forwarded})
        contexts = [json.loads(kept.payload).get("context", {}) for kept in sink.envelopes]
        assert [context.get("ip") for context in contexts] == [stored, stored]
        assert [request.client_ip for request in sink.quarantined] == [stored]

    @pytest.mark.parametrize("letter", "itpsga")
    def test_client_routes_of_one_letter(self, server: Server, letter: str) -> None:
        message = {"userId": "u", "event": "E", "groupId": "g", "previousId": "p"}
        assert self._ip(server, f"/v1/{letter}", message) == CLIENT_IP

    @pytest.mark.parametrize("path", SERVER_ROUTES)
    def test_server_routes(self, server: Server, path: str) -> None:
        assert self._ip(server, path, track(context={"locale": "de"})) == "none"

    @pytest.mark.parametrize("call", ["identify", "track", "page", "screen", "group", "alias"])
    def test_server_routes_of_one_call(self, server: Server, call: str) -> None:
        server.post(f"/v1/{call}", {"userId": "u", "event": "E", "groupId": "g", "previousId": "p"})
        assert "context" not in server.only

    @pytest.mark.parametrize("path", [*SERVER_ROUTES, *CLIENT_ROUTES])
    def test_direct(self, server: Server, path: str) -> None:
        assert self._ip(server, path, track(context={"direct": True})) == CLIENT_IP

    @pytest.mark.parametrize("direct", [False, None, "true", 1, {}])
    def test_direct_is_true_and_nothing_else(self, server: Server, direct: Any) -> None:
        assert self._ip(server, "/v1/batch", track(context={"direct": direct})) == "none"

    def test_direct_of_the_batch(self, server: Server) -> None:
        server.post("/v1/batch", {"batch": [track()], "context": {"direct": True}})
        assert server.only["context"]["ip"] == CLIENT_IP

    @pytest.mark.parametrize("ip", ["1.2.3.4", "0.0.0.0", "192.168.0.1, 192.168.0.44", "::1"])
    @pytest.mark.parametrize("path", ["/v1/b", "/v1/batch"])
    def test_one_that_is_given_stays(self, server: Server, path: str, ip: str) -> None:
        """`0.0.0.0` asks that none be collected."""
        assert self._ip(server, path, track(context={"ip": ip, "direct": True})) == ip

    def test_one_that_the_batch_gives_stays(self, server: Server) -> None:
        server.post("/v1/b", {"batch": [track()], "context": {"ip": "1.2.3.4"}})
        assert server.only["context"]["ip"] == "1.2.3.4"

    def test_a_connection_without_an_address(self, server: Server) -> None:
        """As from a Unix socket."""
        assert self._ip(server, "/v1/b", track(context={"locale": "de"}), REMOTE_ADDR="") == "none"

    @pytest.mark.parametrize(
        ("hops", "forwarded", "expected"),
        [
            (0, "198.51.100.7", CLIENT_IP),
            (0, "1.1.1.1, 198.51.100.7", CLIENT_IP),
            (1, None, CLIENT_IP),
            (1, "198.51.100.7", "198.51.100.7"),
            (1, "6.6.6.6, 198.51.100.7", "198.51.100.7"),
            (2, "6.6.6.6, 198.51.100.7, 10.0.0.1", "198.51.100.7"),
            (2, "198.51.100.7", CLIENT_IP),
        ],
    )
    def test_behind_proxies(self, sqlite_sink: SqliteSink, hops: int, forwarded: str | None, expected: str) -> None:
        """Addresses to the left of the trusted hops were written by the client, and may be forged."""
        server = serve(sqlite_sink, proxy_hops=hops)
        environ = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
        assert self._ip(server, "/v1/t", track(), **environ) == expected

    @pytest.mark.parametrize("header", ["X_REAL_IP", "CLIENT_IP", "FORWARDED", "X_CLUSTER_CLIENT_IP"])
    def test_other_headers_are_not_believed(self, server: Server, header: str) -> None:
        assert self._ip(server, "/v1/t", track(), **{f"HTTP_{header}": "6.6.6.6"}) == CLIENT_IP


def test_a_source_above_the_advised_rate_is_shown_not_refused(caplog: pytest.LogCaptureFixture) -> None:
    """No hard rate limit: a source above 500 requests/s is counted and shown, not refused (R20)."""
    server = serve(MemorySink(), limits=Limits(advised_requests_per_second=5))
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            server.post("/v1/track", track())
        assert "website" not in caplog.text
        statuses = {server.post("/v1/track", track()).status for _ in range(20)}
    assert statuses == {200}
    assert caplog.text.count("website") == 1


# Anything at all

STATUSES = {200, 400, 401, 404, 405, 429, 501, 503, 507}
_PATHS = st.sampled_from(
    ["/v1/track", "/v1/t/", "//v1/batch", "/v1/b", "/v1/m", "/v1/pixel/page", "/beacon/v1/batch", "/health", "/ready",
     "/v1/projects/k/settings"]
) | st.text(string.printable[:95] + "\xff", max_size=20).map(lambda text: f"/{text}")  # fmt: skip
_LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20)
_HEADERS = st.dictionaries(
    st.sampled_from(
        ["Authorization", "Content-Encoding", "Content-Type", "Content-Length", "X-Strict-Mode", "Origin", "Host",
         "X-Write-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "Cookie",
         "Access-Control-Request-Headers", "Transfer-Encoding", "Expect"]
    ),
    _LATIN | st.sampled_from(["gzip", "Basic YWJjMTIzOg==", "1", "Basic \xff", "chunked", "5", "-1"]),
    max_size=4,
)  # fmt: skip
_BODIES = st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["batch", "type", "userId", "event", "context", "integrations", "timestamp", "writeKey"]),
            inner | st.sampled_from(["track", "page", "abc123"]),
            max_size=5,
        )
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())


@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", "BREW"]),
    path=_PATHS,
    query=st.text(string.printable[:95], max_size=20) | _LATIN.map(lambda text: f"data={text}"),
    headers=_HEADERS,
    body=_BODIES,
    hops=st.integers(0, 2),
    terminated=st.booleans(),
)
def test_whatever_comes_is_answered(
    *, method: str, path: str, query: str, headers: dict[str, str], body: bytes, hops: int, terminated: bool
) -> None:
    """Any bytes, headers and path: the response is JSON or the image, with a documented status; no crash."""
    environ: dict[str, Any] = {"wsgi.input_terminated": True} if terminated else {}
    answer = call_app(
        serve(MemorySink(), proxy_hops=hops).app,
        path,
        body,
        method=method,
        query=query,
        headers={**KEY, **headers},
        environ=environ,
        validate=False,
    )
    assert answer.status in STATUSES
    assert not any("\n" in value for value in answer.headers.values())
    if method == "HEAD":
        assert answer.body == b""
    elif answer.headers["content-type"] == "image/gif":
        assert answer.body.startswith(GIF_START)
        assert answer.status == 200
    else:
        assert answer.json["success" if answer.status != 200 else next(iter(answer.json))] is not None
    if answer.status != 200 and method != "HEAD":
        assert answer.json["success"] is False
        assert isinstance(answer.json["code"], str)
        assert isinstance(answer.json["message"], str)


@given(body=_BODIES, path=st.sampled_from(["/v1/track", "/v1/batch", "/v1/t", "/v1/alias"]))
def test_what_is_acknowledged_is_kept(body: bytes, path: str) -> None:
    """Nothing vanishes (R7): accepted messages are stored, all others are among the rejected ones."""
    sink = MemorySink()
    sink.store([envelope("other", source="other")])
    answer = serve(sink).post(path, body)
    stored = len(sink.envelopes) - 1
    if answer.status == 400:
        assert [record.payload for record in sink.rejected] == [body]
        assert stored == 0
    else:
        assert answer.status == 200
        told = answer.json.get("rejected", [])
        assert len(sink.rejected) == len(told)
        assert [record.code for record in sink.rejected] == [verdict["code"] for verdict in told]
        if told:
            assert stored <= answer.json["accepted"]
