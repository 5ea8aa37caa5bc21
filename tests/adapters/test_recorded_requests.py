"""Requests of real SDKs, byte for byte, and the messages stored for them, field by field.

`vectors/sdk-captures` holds recordings of published packages.  The expected messages are computed from
the recorded body, by rules that are written out again here and use nothing of the code under test.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import (
    CLIENT_IP,
    KEY,
    NOON,
    NOON_TEXT,
    SDK_KEY,
    VECTORS,
    Answer,
    Server,
    call_app,
    track,
    zipped,
)

from trackcore import Query

CAPTURES = sorted((VECTORS / "sdk-captures").glob("*.json"))
SUCCESS = b'{"success": true}'
SINGLE = {"i": "identify", "t": "track", "p": "page", "s": "screen", "g": "group", "a": "alias"}


class Capture:
    """A recorded request."""

    def __init__(self, file: Path) -> None:
        recorded = json.loads(file.read_text("utf-8"))
        method, path, _ = recorded["request_line"].split()
        assert method == "POST"
        self.path: str = path
        self.headers = {name.lower(): value for name, value in recorded["headers"]}
        self.text: str = recorded["body"]
        self.body = self.text.encode()
        assert len(self.body) == recorded["decoded_len"]

    def send(self, server: Server) -> Answer:
        """Send it as recorded; compressed again if it was compressed, so its length may differ."""
        sent = zipped(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        headers = {**self.headers, "content-length": str(len(sent))}
        return call_app(server.app, self.path, sent, headers=headers)

    @property
    def has_messages(self) -> bool:
        return self.path != "/v1/m"

    @property
    def is_json(self) -> bool:
        return not re.search(r"\b(NaN|Infinity)\b", self.text)


# The expected messages, by plain rules


def _time(text: str) -> datetime:
    """Parse a time as these SDKs write it: with one-digit months, with offsets, with or without a fraction."""
    match = re.fullmatch(r"(\d{4})-(\d+)-(\d+)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    assert match, text
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    time = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    time += timedelta(microseconds=int((fraction or "0").ljust(6, "0")[:6]))
    if zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        time += offset if zone[0] == "-" else -offset
    return time


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03}Z"


def _characters(value: Any) -> Any:
    """Replace unpaired surrogates with U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_characters(inner) for inner in value]
    if isinstance(value, dict):
        return {_characters(key): _characters(inner) for key, inner in value.items()}
    return value


_TEXTS = {"page": ("name", "category"), "screen": ("name", "category"), "track": ("event",)}
_IDS = {"group": ("groupId",), "alias": ("previousId",)}
_OBJECTS = {
    "identify": ("traits",),
    "group": ("traits",),
    "track": ("properties",),
    "page": ("properties",),
    "screen": ("properties",),
}


def _expected(item: Mapping[str, Any], envelope: Mapping[str, Any], call: str, *, client_side: bool) -> dict[str, Any]:
    message: dict[str, Any] = _characters(copy.deepcopy(dict(item)))
    message["type"] = call
    message.pop("writeKey", None)
    for name in ("userId", "anonymousId", "messageId", *_IDS.get(call, ())):
        value = message.get(name)
        if value is None or value == "":
            message.pop(name, None)
        elif not isinstance(value, str):
            message[name] = str(value)
    for name in ("context", "integrations", *_OBJECTS.get(call, ())):
        if message.get(name) in (None, []):
            message.pop(name, None)
    for name in _TEXTS.get(call, ()):
        if message.get(name) in (None, ""):
            message.pop(name, None)
    if client_side and "ip" not in message.get("context", {}):
        message.setdefault("context", {})["ip"] = CLIENT_IP
    sent_at = item.get("sentAt", envelope.get("sentAt"))
    original = item.get("timestamp", item.get("originalTimestamp"))
    message["sentAt"] = sent_at
    message["originalTimestamp"] = original
    message["timestamp"] = _text(NOON - (_time(sent_at) - _time(original)))
    message["receivedAt"] = NOON_TEXT
    return message


def _has_user(item: Mapping[str, Any]) -> bool:
    return any(item.get(name) not in (None, "") for name in ("userId", "anonymousId"))


def _exactly(value: Any) -> str:
    """Return a text that is the same for equal JSON only: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, indent=1)


def _params(keep: Any) -> list[Any]:
    captures = [(file, Capture(file)) for file in CAPTURES]
    return [pytest.param(capture, id=file.stem) for file, capture in captures if keep(capture)]


class TestRecordings:
    def test_there_are_25(self) -> None:
        assert len(CAPTURES) == 25
        assert len(_params(lambda capture: not capture.is_json)) == 2
        assert len(_params(lambda capture: not capture.has_messages)) == 2

    @pytest.mark.parametrize("capture", _params(lambda capture: capture.has_messages and capture.is_json))
    def test_stored_field_by_field(self, server: Server, capture: Capture) -> None:
        """Every request of a real SDK is stored completely; a message that cannot be stored is kept as rejected."""
        body = json.loads(capture.text)
        single = SINGLE.get(capture.path.rsplit("/", 1)[1])
        items, envelope = ([body], {}) if single else (body["batch"], body)
        good = [item for item in items if _has_user(item)]
        bad = [index for index, item in enumerate(items) if not _has_user(item)]

        answer = capture.send(server)

        assert answer.status == 200
        if bad:
            assert (answer.json["success"], answer.json["code"]) == (True, "partial")
            assert answer.json["accepted"] == len(good)
            told = [(verdict["index"], verdict["messageId"], verdict["code"]) for verdict in answer.json["rejected"]]
            assert told == [(index, items[index]["messageId"], "no_user_anon_id") for index in bad]
        else:
            assert answer.body == SUCCESS
        expected = [_expected(item, envelope, single or item["type"], client_side=single is not None) for item in good]
        assert [_exactly(message) for message in server.messages] == [_exactly(message) for message in expected]
        assert [json.loads(record.payload) for record in server.log.rejected()] == [items[index] for index in bad]
        for entry, message in zip(server.entries, expected, strict=True):
            assert (entry.source, entry.call, entry.received_at) == ("website", message["type"], NOON)

    @pytest.mark.parametrize("capture", _params(lambda capture: capture.has_messages and capture.is_json))
    def test_sent_once_more(self, server: Server, capture: Capture) -> None:
        """SDKs resend after a timeout: the same answer, and nothing is stored twice."""
        first = capture.send(server)
        before = server.messages
        assert capture.send(server) == first
        assert server.messages == before

    @pytest.mark.parametrize("capture", _params(lambda capture: not capture.is_json))
    def test_python_with_nan(self, server: Server, capture: Capture) -> None:
        """NaN/Infinity: 400 `invalid_json` with the byte position (R19); the body is kept whole (R7)."""
        answer = capture.send(server)
        assert answer.status == 400
        assert (answer.json["success"], answer.json["code"]) == (False, "invalid_json")
        assert isinstance(answer.json["message"], str)
        nan = capture.body.index(b"NaN")
        assert nan <= answer.json["position"] <= nan + 1
        server.sink.check_ready()
        kept = [(record.source, record.code, record.payload) for record in server.log.rejected()]
        assert kept == [("website", "invalid_json", capture.body)]
        assert server.messages == []

    @pytest.mark.parametrize("capture", _params(lambda capture: not capture.has_messages))
    def test_metrics(self, server: Server, capture: Capture) -> None:
        """`/v1/m` is accepted and dropped."""
        answer = capture.send(server)
        assert (answer.status, answer.body) == (200, SUCCESS)
        server.sink.check_ready()
        totals = server.log.totals()
        assert totals.messages + totals.rejected + totals.quarantined == 0

    def test_a_few_literally(self, server: Server) -> None:
        """Known results, in case the rules above are wrong in the same way as the code."""
        by_name = {file.stem: Capture(file) for file in CAPTURES}
        by_name["n-_rudderstack_rudder-sdk-node.000"].send(server)
        by_name["php.000"].send(server)
        rudder, php, *_ = server.messages
        assert rudder == {
            "type": "identify",
            "userId": "12345",
            "traits": {"email": "a@b.co"},
            "context": {
                "traits": {"email": "a@b.co"},
                "library": {"name": "analytics-node", "version": "3.0.13"},
            },
            "channel": "server",
            "_metadata": {"nodeVersion": "20.20.2"},
            "messageId": "87e25c30-c359-4ff3-ae55-6427f18883e0",
            "originalTimestamp": "2026-11-23T05:53:40.037Z",
            "sentAt": "2026-11-23T05:53:40.037Z",
            "timestamp": NOON_TEXT,
            "receivedAt": NOON_TEXT,
        }
        assert php == {
            "type": "identify",
            "userId": "12345",
            "traits": {"email": "a@b.co", "n": None},
            "context": {"library": {"name": "analytics-php", "version": "3.8.2", "consumer": "LibCurl"}},
            "messageId": "42329f24-7e3d-4b4d-879b-3b56de5ed3dd",
            "originalTimestamp": "2026-11-23T00:57:40-05:00",
            "sentAt": "2026-11-23T00:57:40-05:00",
            "timestamp": NOON_TEXT,
            "receivedAt": NOON_TEXT,
        }

    def test_the_historical_message_of_node_literally(self, server: Server) -> None:
        Capture(VECTORS / "sdk-captures" / "n-_segment_analytics-node.000.json").send(server)
        by_event = {message.get("event"): message for message in server.messages}
        assert by_event["string ts"] == {
            "type": "track",
            "event": "string ts",
            "properties": {},
            "integrations": {},
            "anonymousId": "anon-1",
            "context": {"library": {"name": "@segment/analytics-node", "version": "3.1.0"}},
            "messageId": "node-next-1795413215488-4e369504-7c66-4d3c-9cf8-d8cda6614ae8",
            "_metadata": {"nodeVersion": "v20.20.2", "jsRuntime": "node"},
            "originalTimestamp": "2015-2-02T00:30:08.276Z",
            "sentAt": "2026-11-23T05:53:35.506Z",
            "timestamp": _text(NOON - (_time("2026-11-23T05:53:35.506Z") - _time("2015-02-02T00:30:08.276Z"))),
            "receivedAt": NOON_TEXT,
        }
        assert by_event["anon evt"]["integrations"] == {"All": False, "Mixpanel": {"x": 1}}
        assert by_event["anon evt"]["context"]["ip"] == "1.2.3.4"


def _cautions(server: Server) -> list[str]:
    return [warning["code"] for entry in server.entries for warning in entry.warnings]


class TestQuirks:
    """Peculiarities of single SDKs."""

    @pytest.mark.parametrize("escape", [rb"\ud800", rb"\uDFFF", rb"\ud83d"])
    def test_python_and_node_send_lone_surrogates(self, server: Server, escape: bytes) -> None:
        """Replaced by U+FFFD with a warning (R19)."""
        body = rb'{"batch": [{"type":"track","event":"a' + escape + rb'b","userId":"u"},{"type":"page","userId":"v"}]}'
        assert server.post("/v1/batch", body).body == SUCCESS
        assert [message.get("event") for message in server.messages] == ["a\ufffdb", None]
        assert [[warning["code"] for warning in entry.warnings] for entry in server.entries] == [
            ["surrogate_replaced"],
            [],
        ]

    def test_python_writes_real_pairs_as_escapes(self, server: Server) -> None:
        server.post("/v1/batch", rb'{"batch": [{"type":"track","event":"\u00e9\ud83d\ude00","userId":"u"}]}')
        assert server.only["event"] == "é😀"
        assert _cautions(server) == []

    @pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
    def test_python_sends_nan(self, server: Server, constant: bytes) -> None:
        body = b'{"batch": [{"type": "track", "event": "E", "userId": "u", "properties": {"x": ' + constant + b"}}]}"
        answer = server.post("/v1/batch", body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_json")
        assert [record.payload for record in server.log.rejected()] == [body]

    def test_python_sends_integers_beyond_64_bits(self, server: Server) -> None:
        server.post("/v1/batch", {"batch": [track(properties={"big": 2**70, "small": -(2**70)})]})
        assert server.only["properties"] == {"big": 2**70, "small": -(2**70)}

    @pytest.mark.parametrize(
        ("sent", "stored"), [(12345, "12345"), (0, "0"), (-7, "-7"), (2**70, str(2**70)), (12345.0, "12345")]
    )
    def test_ruby_and_php_send_numeric_ids(self, server: Server, sent: float, stored: str) -> None:
        """Converted to its decimal text with a warning (R12): 12345 and "12345" are the same user."""
        server.post("/v1/import", {"batch": [track(userId=sent), track(userId=None, anonymousId=sent)]})
        first, second = server.messages
        assert (first["userId"], second["anonymousId"]) == (stored, stored)
        assert _cautions(server) == ["id_from_number"] * 2
        assert len(list(server.log.messages(Query(user=stored)))) == 2

    def test_python_and_legacy_node_send_numeric_group_ids(self, server: Server) -> None:
        items = [{"type": "group", "groupId": 42, "userId": "u"}, {"type": "alias", "previousId": 99, "userId": "u"}]
        server.post("/v1/batch", {"batch": items})
        assert [message.get("groupId", message.get("previousId")) for message in server.messages] == ["42", "99"]

    def test_php_sends_an_empty_array_for_integrations(self, server: Server) -> None:
        """`[]` in place of an object means absent (R13); `[]` inside is unchanged."""
        server.post("/v1/batch", {"batch": [track(integrations=[], properties={"list": []}, context=[])]})
        assert "integrations" not in server.only
        assert "context" not in server.only
        assert server.only["properties"] == {"list": []}

    def test_browsers_and_python_send_null_user_ids(self, server: Server) -> None:
        """`""` and `null` are absent (R12)."""
        server.post("/v1/t", track(userId=None, anonymousId="a"))
        server.post("/v1/batch", {"batch": [track(userId="u", anonymousId=None)]})
        first, second = server.messages
        assert ("userId" in first, first["anonymousId"]) == (False, "a")
        assert ("anonymousId" in second, second["userId"]) == (False, "u")

    def test_ruby_sends_pages_with_an_empty_name(self, server: Server) -> None:
        """`name: ""` means absent (R13)."""
        server.post("/v1/import", {"batch": [{"type": "page", "name": "", "category": "", "userId": "u"}]})
        assert "name" not in server.only
        assert "category" not in server.only
        assert _cautions(server) == []

    def test_rust_sends_null_traits_and_no_type(self, server: Server) -> None:
        server.post("/v1/identify", {"userId": "u", "traits": None, "context": None, "integrations": None})
        assert set(server.only) == {"type", "userId", "messageId", "timestamp", "receivedAt"}

    @pytest.mark.parametrize(
        ("sent", "stored"),
        [
            ("2024-05-06T11:00:00.1234567Z", "2024-05-06T11:00:00.123Z"),
            ("2024-05-06T13:00:00.9999999+02:00", "2024-05-06T11:00:00.999Z"),
        ],
    )
    def test_dotnet_sends_seven_fraction_digits(self, server: Server, sent: str, stored: str) -> None:
        server.post("/v1/import", {"batch": [track(timestamp=sent)]})
        assert (server.only["timestamp"], server.only["originalTimestamp"]) == (stored, sent)
        assert _cautions(server) == []

    def test_go_sends_context_and_message_id_with_the_batch(self, server: Server) -> None:
        """Envelope `messageId` is not copied into items; the context is merged, and theirs wins (R14)."""
        library = {"library": {"name": "analytics-go", "version": "3.0.0"}}
        body = {
            "messageId": "of-the-batch",
            "sentAt": "2024-05-06T11:59:00.123456789+00:00",
            "batch": [track(timestamp="2024-05-06T11:58:00Z"), track(context={"ip": "1.2.3.4"})],
            "context": library,
        }
        assert server.post("/v1/batch", body).body == SUCCESS
        first, second = server.messages
        assert (first["messageId"], second["messageId"]) == ("server-1", "server-2")
        assert (first["context"], second["context"]) == (library, {**library, "ip": "1.2.3.4"})
        assert first["sentAt"] == "2024-05-06T11:59:00.123456789+00:00"
        assert first["timestamp"] == "2024-05-06T11:59:00.126Z"

    def test_legacy_node_sends_a_timestamp_with_the_batch(self, server: Server) -> None:
        """Envelope `timestamp` is not copied into items; `sentAt` is, unless the item has its own (R14)."""
        body = {"batch": [track(), track(sentAt="2024-05-06T11:00:00Z")], "timestamp": "2001-01-01T00:00:00Z",
                "sentAt": "2024-05-06T11:59:59Z"}  # fmt: skip
        server.post("/v1/batch", body)
        first, second = server.messages
        assert (first["timestamp"], "originalTimestamp" in first) == (NOON_TEXT, False)
        assert (first["sentAt"], second["sentAt"]) == ("2024-05-06T11:59:59Z", "2024-05-06T11:00:00Z")

    def test_kotlin_sends_chunked_gzip_as_text(self, server: Server) -> None:
        body = json.dumps({"batch": [track()], "sentAt": "2024-05-06T11:59:59.000Z", "writeKey": SDK_KEY}).encode()
        answer = server.post(
            "/v1/b",
            zipped(body),
            headers={"Content-Type": "text/plain", "Content-Encoding": "gzip", "Transfer-Encoding": "chunked"},
            environ={"CONTENT_LENGTH": None, "wsgi.input_terminated": True},
        )
        assert answer.body == SUCCESS
        assert server.only["context"] == {"ip": CLIENT_IP}

    def test_csharp_sends_no_content_type(self, server: Server) -> None:
        body = json.dumps({"batch": [track()], "writeKey": SDK_KEY}).encode()
        answer = server.post("/v1/b", zipped(body), headers={"Content-Encoding": "gzip"})
        assert answer.body == SUCCESS
        assert [entry.source for entry in server.entries] == ["website"]

    def test_rudderstack_node_sends_gzip_as_a_form(self, server: Server) -> None:
        body = json.dumps({"batch": [track(originalTimestamp="2024-05-06T11:00:00Z")]}).encode()
        headers = {**KEY, "Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
        assert server.post("/v1/batch", zipped(body), headers=headers).body == SUCCESS
        assert server.only["timestamp"] == "2024-05-06T11:00:00.000Z"

    def test_java_doubles_the_slash_of_its_endpoint(self, server: Server) -> None:
        body = {"batch": [track()], "sequence": 1, "context": {"library": {"name": "analytics-java"}}}
        answer = server.post("//v1/import/", body)
        assert (answer.status, answer.json) == (200, {"success": True})
        assert server.only["context"] == {"library": {"name": "analytics-java"}}

    def test_node_sends_one_digit_months_as_given(self, server: Server) -> None:
        """The API page's own `2015-2-02T...` (R15)."""
        server.post("/v1/batch", {"batch": [track(timestamp="2015-2-02T00:30:08.276Z")]})
        assert server.only["originalTimestamp"] == "2015-2-02T00:30:08.276Z"
        assert server.only["timestamp"] == "2015-02-02T00:30:08.276Z"
        assert _cautions(server) == []

    def test_node_sends_empty_user_ids_and_groups_without_a_user(self, server: Server) -> None:
        items = [track(userId=""), {"type": "group", "groupId": "g"}, {"type": "alias", "previousId": "p"}, track()]
        answer = server.post("/v1/batch", {"batch": items}).json
        assert answer["accepted"] == 1
        assert [verdict["code"] for verdict in answer["rejected"]] == ["no_user_anon_id"] * 3

    def test_clients_that_say_when_it_was_received(self, server: Server) -> None:
        """A client's `receivedAt` is overwritten (R15)."""
        server.post("/v1/batch", {"batch": [track(receivedAt="1999-01-01T00:00:00Z", version=9, projectId="p")]})
        assert server.only["receivedAt"] == NOON_TEXT

    def test_a_clock_that_is_wrong_by_years(self, server: Server) -> None:
        """Timestamp = receivedAt - (sentAt - originalTimestamp) (R15)."""
        body = {"batch": [track(timestamp="2031-01-01T00:00:00.000Z")], "sentAt": "2031-01-01T00:00:05.000Z"}
        server.post("/v1/batch", body)
        assert server.only["timestamp"] == "2024-05-06T11:59:55.250Z"

    @pytest.mark.parametrize("time", ["yesterday", "2024-13-01T00:00:00Z", {}, [], True])
    def test_a_time_that_cannot_be_read(self, server: Server, time: Any) -> None:
        """An unparsable time is a warning, never a rejection (R15)."""
        assert server.post("/v1/batch", {"batch": [track(timestamp=time)]}).body == SUCCESS
        assert server.only["timestamp"] == NOON_TEXT
        assert _cautions(server) == ["timestamp_unparsable"]
