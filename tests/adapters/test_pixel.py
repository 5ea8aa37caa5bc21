"""The pixel: `GET /v1/pixel/<call>`, always a 1x1 GIF and 200."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from adapter_helpers import CLIENT_IP, GIF_START, KEY, Answer, FailingSink, Server, serve, unavailable
from hypothesis import given
from hypothesis import strategies as st

from trackcore import Cause, MemorySink

MESSAGE = {"writeKey": "abc123", "userId": "u", "event": "Email Opened", "properties": {"subject": "é😀??>>>"}}


def assert_image(answer: Answer, *, head: bool = False) -> None:
    assert answer.status == 200
    assert answer.headers["content-type"] == "image/gif"
    assert "no-store" in answer.headers["cache-control"]
    if head:
        assert answer.body == b""
    else:
        assert answer.body.startswith(GIF_START)
        assert answer.body[6:10] == b"\x01\x00\x01\x00", "one pixel by one"
        assert answer.body.endswith(b";")


def encoded(message: Any = MESSAGE) -> str:
    return base64.b64encode(json.dumps(message, ensure_ascii=False).encode()).decode()


class TestData:
    """The message in `data`: base64 of JSON, padded or not, in either alphabet, or the JSON itself (traps 40)."""

    def _stored(self, server: Server, data: str) -> dict[str, Any]:
        query = data if data.startswith("data=") else f"data={data}"
        assert_image(server.get("/v1/pixel/track", query))
        return server.only

    def test_the_samples_use_the_alphabet(self) -> None:
        assert {"+", "/", "="} & set(encoded()) >= {"/", "="} or "+" in encoded()

    @pytest.mark.parametrize(
        "spell",
        [
            lambda text: quote(text, safe=""),
            lambda text: text,
            lambda text: text.rstrip("="),
            lambda text: text.replace("+", "-").replace("/", "_"),
            lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
            lambda text: "data=first&data=" + quote(text, safe=""),
            lambda text: "%20" + quote(text, safe="") + "%0A",
        ],
        ids=["escaped", "plus as space", "unpadded", "url-safe", "url-safe, unpadded", "repeated", "white space"],
    )
    @pytest.mark.parametrize("pad", ["", "~", "~~", "\xff\xfe>>>???"])
    def test_base64(self, server: Server, spell: Any, pad: str) -> None:
        message = {**MESSAGE, "pad": pad}
        stored = self._stored(server, spell(encoded(message)))
        assert stored["properties"] == MESSAGE["properties"]
        assert (stored["type"], stored["userId"], stored["event"], stored["pad"]) == ("track", "u", "Email Opened", pad)
        assert "writeKey" not in stored
        assert stored["context"]["ip"] == CLIENT_IP

    def test_json(self, server: Server) -> None:
        """The base64 encoding is optional."""
        stored = self._stored(server, quote(json.dumps(MESSAGE)))
        assert stored["properties"] == MESSAGE["properties"]

    def test_the_key_may_stand_beside(self, server: Server) -> None:
        message = {key: value for key, value in MESSAGE.items() if key != "writeKey"}
        server.get("/v1/pixel/track", f"writeKey=abc123&data={quote(encoded(message))}")
        assert server.only["userId"] == "u"

    def test_a_header_is_enough(self, server: Server) -> None:
        message = {key: value for key, value in MESSAGE.items() if key != "writeKey"}
        server.get("/v1/pixel/track", f"data={quote(encoded(message))}", headers=KEY)
        assert server.only["userId"] == "u"

    @pytest.mark.parametrize("call", ["identify", "track", "page", "screen", "group", "alias"])
    def test_the_path_decides_the_type(self, server: Server, call: str) -> None:
        message = {**MESSAGE, "type": "nonsense", "groupId": "g", "previousId": "p", "traits": {}}
        assert_image(server.get(f"/v1/pixel/{call}", f"data={quote(encoded(message))}"))
        assert server.only["type"] == call

    def test_the_same_message_twice_is_stored_once(self, server: Server) -> None:
        query = f"data={quote(encoded({**MESSAGE, 'messageId': 'm'}))}"
        for _ in range(2):
            assert_image(server.get("/v1/pixel/track", query))
        assert len(server.messages) == 1


class TestDottedKeys:
    """The message in dotted keys: `properties.subject=Hello`."""

    def test_the_documented_example(self, server: Server) -> None:
        query = (
            "userId=user_123&event=Email Opened&properties.subject=The Electric Daily"
            "&properties.email=jane.kim@example.com&writeKey=abc123"
        )
        assert_image(server.get("/v1/pixel/track", query))
        stored = server.only
        assert (stored["userId"], stored["event"]) == ("user_123", "Email Opened")
        assert stored["properties"] == {"subject": "The Electric Daily", "email": "jane.kim@example.com"}
        assert "writeKey" not in stored

    def test_as_amp_sends_it(self, server: Server) -> None:
        """Every value is text."""
        query = urlencode(
            {
                "writeKey": "abc123",
                "context.library.name": "amp",
                "anonymousId": "amp-1",
                "context.page.url": "https://example.com/?a=1&b=2",
                "context.screen.width": "1024",
                "name": "Home",
            }
        )
        assert_image(server.get("/v1/pixel/page", query))
        assert server.only["context"] == {
            "library": {"name": "amp"},
            "page": {"url": "https://example.com/?a=1&b=2"},
            "screen": {"width": "1024"},
            "ip": CLIENT_IP,
        }
        assert (server.only["anonymousId"], server.only["name"]) == ("amp-1", "Home")

    @pytest.mark.parametrize(
        "query",
        ["x.a=1&x.a.b=2&x.a.b.c=3", "x.a.b.c=3&x.a.b=2&x.a=1", "x.a.b=2&x.a.b.c=3&x.a=1&x=0", "x=0&x.a.b.c=3"],
    )
    def test_keys_that_contradict_each_other(self, server: Server, query: str) -> None:
        """The deeper one wins, in any order."""
        assert_image(server.get("/v1/pixel/page", f"userId=u&writeKey=abc123&{query}"))
        assert server.only["x"] == {"a": {"b": {"c": "3"}}}

    def test_the_last_of_a_repeated_key(self, server: Server) -> None:
        """As in JSON."""
        server.get("/v1/pixel/page", "userId=u&userId=v&writeKey=no&writeKey=abc123&x.a=1&x.a=2")
        assert (server.only["userId"], server.only["x"]) == ("v", {"a": "2"})

    @pytest.mark.parametrize(
        ("text", "value"), [("false", False), ("true", True), ("FALSE", False), ("True", True), ("0", "0"), ("", "")]
    )
    def test_integrations_are_booleans(self, server: Server, text: str, value: Any) -> None:
        """Otherwise `integrations.X=false` would not exclude X: only a boolean does.  Other values stay text."""
        query = f"integrations.X={text}&integrations.Y.on={text}&properties.integrations.Z={text}&properties.a={text}"
        assert_image(server.get("/v1/pixel/page", f"userId=u&writeKey=abc123&{query}"))
        stored = server.only
        assert stored["integrations"] == {"X": value, "Y": {"on": value}}
        assert stored["properties"] == {"integrations": {"Z": text}, "a": text}

    @pytest.mark.parametrize("dots", [1, 60, 63, 64, 65, 66, 200, 500, 5000])
    def test_many_dots(self, server: Server, dots: int) -> None:
        query = f"userId=u&writeKey=abc123&{'a.' * dots}b=1&{'a.' * (dots - 1)}a=2&{'a.' * (dots // 2)}a=3"
        assert_image(server.get("/v1/pixel/page", query))
        server.sink.check_ready()
        totals = server.log.totals()
        assert totals.messages + totals.rejected == 1
        if dots <= 60:
            assert totals.messages == 1

    @pytest.mark.parametrize("keys", [".=1", "..=1", "a.=1", ".a=1", "a..b=1", "=1", "a", "__proto__.x=1", "%00=1"])
    def test_odd_keys(self, server: Server, keys: str) -> None:
        assert_image(server.get("/v1/pixel/page", f"{keys}&userId=u&writeKey=abc123"))
        assert server.only["userId"] == "u"

    @pytest.mark.parametrize(
        "query",
        ["name=Caf\xe9", "name=Caf%E9", 'data={"userId":"u","name":"Caf\xe9"}', "name=Caf%e9&userId=v&Caf\xe9=1"],
    )
    def test_a_query_in_latin_1(self, server: Server, query: str) -> None:
        """Mail programs use other encodings; such bytes are replaced with a warning, and the message is stored."""
        assert_image(server.get("/v1/pixel/page", f"userId=u&{query}", headers=KEY))
        (entry,) = server.entries
        assert entry.message["name"] == "Caf\ufffd"
        assert [warning["code"] for warning in entry.warnings] == ["surrogate_replaced"]

    def test_a_write_key_that_is_not_utf_8_is_kept_in_quarantine(self, server: Server) -> None:
        for query in ("writeKey=\xe9", "writeKey=%FF"):
            assert_image(server.get("/v1/pixel/page", f"userId=u&{query}"))
        assert [request.write_key for request in server.log.quarantined()] == ["\ufffd", "\ufffd"]

    @pytest.mark.parametrize("name", ["Caf\xc3\xa9", "Caf%C3%A9", "Caf\xc3%a9"])
    def test_a_query_in_utf_8_escaped_or_not(self, server: Server, name: str) -> None:
        assert_image(server.get("/v1/pixel/page", f"userId=u&writeKey=abc123&name={name}"))
        (entry,) = server.entries
        assert (entry.message["name"], entry.warnings) == ("Café", ())


class TestRefused:
    """A rejected body of a known source is stored as received, with its reason code."""

    @pytest.mark.parametrize(
        ("data", "code", "payload"),
        [
            ("rubb!sh", "invalid_json", b"rubb!sh"),
            ("rubbish!", "invalid_json", b"rubbish!"),
            ("rubbish", "invalid_json", b"rubbish"),
            ("a b-c", "invalid_json", b"a b-c"),
            ("%FF%fe", "invalid_json", b"\xff\xfe"),
            ("{%22a%22:NaN}", "invalid_json", b'{"a":NaN}'),
            ("[1]", "body_not_object", b"[1]"),
            ("[1", "invalid_json", b"[1"),
            ("null", "body_not_object", b"null"),
            ("true", "body_not_object", b"true"),
            ("1234", "body_not_object", b"1234"),
            ("%EF%BB%BF[]", "body_not_object", b"\xef\xbb\xbf[]"),
            (quote(json.dumps(encoded())), "body_not_object", f'"{encoded()}"'.encode()),
            (quote(encoded([1])), "body_not_object", b"[1]"),
            (quote(encoded("text")), "body_not_object", b'"text"'),
            (quote(encoded()[:-3]), "invalid_json", encoded()[:-3].encode()),
            (quote(base64.b64encode(b'{"a":"\xff"}')), "invalid_json", b'{"a":"\xff"}'),
            ("", "invalid_json", b""),
        ],
    )
    def test_it_is_kept(self, server: Server, data: str, code: str, payload: bytes) -> None:
        assert_image(server.get("/v1/pixel/track", f"data={data}&writeKey=abc123"))
        (record,) = server.log.rejected()
        assert (record.code, record.payload, record.endpoint) == (code, payload, "track")

    @pytest.mark.parametrize("mark", ["%EF%BB%BF", "\xef\xbb\xbf", "%EF%BB%BF%20%0A", "%20%EF%BB%BF"])
    def test_a_byte_order_mark_is_none(self, server: Server, mark: str) -> None:
        """As in any body."""
        assert_image(server.get("/v1/pixel/track", f"data={mark}{quote(json.dumps(MESSAGE))}"))
        marked = base64.b64encode(b"\xef\xbb\xbf" + json.dumps(MESSAGE).encode()).decode()
        assert_image(server.get("/v1/pixel/track", f"data={quote(marked)}"))
        assert [message["event"] for message in server.messages] == [MESSAGE["event"]] * 2


class TestBytesThatAreNotUtf8:
    """Such a byte in `data` is replaced with a warning, and forms no escape with its neighbours."""

    def _event(self, server: Server, text: str) -> str:
        query = 'data={"userId":"u","event":"' + text + '"}'
        assert_image(server.get("/v1/pixel/track", query, headers=KEY))
        (entry,) = server.entries
        assert [warning["code"] for warning in entry.warnings] == ["surrogate_replaced"]
        return str(entry.message["event"])

    @pytest.mark.parametrize(
        ("text", "event"),
        [
            ("a%ffb", "a\ufffdb"),
            ("%ff%fe", "\ufffd\ufffd"),
            ("a\\\\%ffb", "a\\\ufffdb"),
            ("a\\n%ffb", "a\n\ufffdb"),
            ("\\u0041%ff", "A\ufffd"),
            ("\\ud83d\\ude00%ff", "\U0001f600\ufffd"),
            ("%ff\\ud83d\\ude00", "\ufffd\U0001f600"),
            ("\\ud83d%ff", "\ufffd\ufffd"),
            ("\\uD83D%ff%ff", "\ufffd\ufffd\ufffd"),
            ("%ff\\ude00", "\ufffd\ufffd"),
            ("\\ud83d%ff\\ude00", "\ufffd\ufffd\ufffd"),
            ("\\\\ud83d%ff", "\\ud83d\ufffd"),
        ],
    )
    def test_in_a_string(self, server: Server, text: str, event: str) -> None:
        assert self._event(server, text) == event

    @pytest.mark.parametrize("text", ["a\\%ffb", "a\\\\\\%ffb", "\\u00%ff00", '"%ff"', "\\%ff\\%ff"])
    def test_where_no_json_has_one(self, server: Server, text: str) -> None:
        assert_image(server.get("/v1/pixel/track", 'data={"userId":"u","event":"' + text + '"}', headers=KEY))
        assert server.messages == []
        assert [record.code for record in server.log.rejected()] == ["invalid_json"]

    @given(st.lists(st.sampled_from(["\\", "%ff", "\\ud83d", "\\ude00", "u", "d8", "00", '"', "n"]), max_size=8))
    def test_as_if_the_replacement_had_been_sent(self, pieces: list[str]) -> None:
        """The result is the same as for the text with U+FFFD in place of each such byte."""

        def stored(text: str) -> list[str]:
            sink = MemorySink()
            query = 'data={"userId":"u","event":"a' + text + '"}'
            assert_image(serve(sink).get("/v1/pixel/track", query, headers=KEY))
            return [json.loads(envelope.payload)["event"] for envelope in sink.envelopes]

        text = "".join(pieces)
        assert stored(text) == stored(text.replace("%ff", "%ef%bf%bd"))


class TestAlwaysTheImage:
    """Each endpoint always responds with a `200 <empty-gif>`, even if an error occurs; it must not be cached."""

    RUBBISH = (
        "",
        "data",
        "data=",
        "data=%%%",
        "data=a",
        "data=====",
        "data=%FF%FE",
        "data=null",
        "data=[]",
        "data={",
        "data=%7B%22a%22:NaN%7D",
        "data=bnVsbA",
        "data=" + encoded([1]),
        "data=" + encoded({"batch": []}),
        "data=" + encoded({"writeKey": "abc123"}),
        "data=" + encoded({"writeKey": 5, "userId": {}}),
        "data=" + base64.b64encode(b"\xff\xfe\xfd").decode(),
        "data=" + base64.b64encode(b"[" * 5000).decode(),
        "writeKey=abc123",
        "writeKey=abc123&data=%%%",
        "&&&===",
        "%ff=%ff",
    )

    @pytest.mark.parametrize("query", RUBBISH)
    def test_rubbish(self, query: str) -> None:
        sink = MemorySink()
        assert_image(serve(sink).get("/v1/pixel/track", query))
        assert sink.envelopes == []

    @pytest.mark.parametrize("query", RUBBISH)
    def test_rubbish_to_a_strict_source(self, query: str) -> None:
        headers = {**KEY, "X-Strict-Mode": "1"}
        assert_image(serve(MemorySink()).get("/v1/pixel/track", query, headers=headers))

    @pytest.mark.parametrize(
        "error", [unavailable(cause=Cause.FULL), unavailable(cause=Cause.OVERLOADED), RuntimeError("secret detail")]
    )
    @pytest.mark.parametrize("query", [f"data={encoded()}", "data=%%%&writeKey=abc123", "userId=u"])
    def test_when_the_sink_fails(self, error: Exception, query: str) -> None:
        assert_image(serve(FailingSink(error)).get("/v1/pixel/track", query))

    def test_an_unknown_key(self, server: Server) -> None:
        assert_image(server.get("/v1/pixel/track", "userId=u&event=E&writeKey=unknown"))
        (request,) = server.log.quarantined()
        assert (request.endpoint, request.write_key, request.client_side) == ("track", "unknown", True)
        assert json.loads(request.payload)["event"] == "E"

    def test_what_is_rejected_is_kept(self, server: Server) -> None:
        assert_image(server.get("/v1/pixel/track", "userId=u&writeKey=abc123"))
        assert [record.code for record in server.log.rejected()] == ["event_not_defined"]

    def test_one_that_is_too_large(self, server: Server) -> None:
        assert_image(server.get("/v1/pixel/page", f"userId=u&writeKey=abc123&x={'y' * 40_000}"))
        assert [record.code for record in server.log.rejected()] == ["message_too_large"]

    def test_head(self, server: Server) -> None:
        """HEAD without body."""
        assert_image(server.get("/v1/pixel/track", f"data={quote(encoded())}", method="HEAD"), head=True)

    @given(st.text(st.characters(max_codepoint=255), max_size=40))
    def test_anything(self, query: str) -> None:
        answer = serve(MemorySink()).get("/v1/pixel/track", query, validate=False)
        assert_image(answer)

    @given(st.binary(max_size=40))
    def test_any_bytes_in_base64(self, data: bytes) -> None:
        answer = serve(MemorySink()).get("/v1/pixel/page", f"data={quote(base64.b64encode(data))}&writeKey=abc123")
        assert_image(answer)

    @given(st.dictionaries(st.text("a.", max_size=6), st.text("12", max_size=2), max_size=6))
    def test_any_dotted_keys(self, query: dict[str, str]) -> None:
        sink = MemorySink()
        sent = {**query, "userId": "u", "writeKey": "abc123"}
        assert_image(serve(sink).get("/v1/pixel/page", urlencode(sent)))
        (stored,) = sink.envelopes
        message = json.loads(stored.payload)
        deepest = [key for key in query if not any(other.startswith(f"{key}.") for other in query)]
        for key in deepest:
            value = message
            for part in key.split("."):
                value = value[part]
            assert value == query[key]
