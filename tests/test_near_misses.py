"""Ids that show nothing, and names that are nearly right."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from support import RECEIVED_AT, SOURCE, CountingIds, take_in

from trackcore import (
    Collector,
    InvalidMessage,
    InvalidRequest,
    JSONObject,
    MemorySink,
    MessagesRejected,
    Origin,
    Page,
    Reason,
    WarningCode,
    decode_message,
    encode_message,
)

BLANK_TEXTS = ["   ", "\0", "\t\r\n", "\xa0", "\xad", "\u034f", " \0\xa0\t\u034f ", "\u200b\u3164", "\u2800", "\ufeff"]
SHOWN_TEXTS = [" a ", "\0a", "\ue000", "\U0001f600", "\u0600", "名", "-", "0"]


class TestBlanks:
    """A message id, user id, anonymous id, group id, previous id or event name of white space alone is absent."""

    @pytest.mark.parametrize("text", BLANK_TEXTS)
    @pytest.mark.parametrize("unknown", [{}, {"unknown": 1}], ids=["fast", "careful"])
    def test_a_blank_message_id_is_made_anew(self, text: str, unknown: dict[str, Any]) -> None:
        (envelope,) = take_in({"batch": [{"type": "page", "userId": "u", "messageId": text, **unknown}]}).envelopes
        assert envelope.message_id != text
        assert envelope.message_id

    @pytest.mark.parametrize("text", BLANK_TEXTS)
    @pytest.mark.parametrize(
        ("call", "name", "reason"),
        [
            ("page", "userId", Reason.NO_USER_ANON_ID),
            ("page", "anonymousId", Reason.NO_USER_ANON_ID),
            ("track", "event", Reason.EVENT_NOT_DEFINED),
            ("group", "groupId", Reason.NO_GROUP_ID),
            ("alias", "previousId", Reason.NO_PREVIOUS_ID),
        ],
    )
    def test_a_required_one_that_is_blank_is_missing(self, text: str, call: str, name: str, reason: Reason) -> None:
        message = {"type": call, name: text} | ({} if reason is Reason.NO_USER_ANON_ID else {"userId": "u"})
        (rejection,) = take_in({"batch": [message]}).rejections
        assert rejection.error.reason is reason
        with pytest.raises(InvalidMessage) as caught:
            decode_message(json.dumps(message).encode())
        assert caught.value.reason is reason

    @pytest.mark.parametrize("text", SHOWN_TEXTS)
    def test_an_id_that_shows_anything_is_kept_as_it_is(self, text: str) -> None:
        (envelope,) = take_in({"batch": [{"type": "page", "userId": text, "messageId": text}]}).envelopes
        assert (envelope.user_id, envelope.message_id) == (text, text)


NEAR_KEYS = [
    "write_key",
    "WriteKey",
    "writekey",
    "write-key",
    "WRITE KEY",
    "__writeKey__",
    "write\u2003Key",
    "write\u212aey",
]


class TestNearlyAWriteKey:
    """A value under almost the name of `writeKey` is the credential of a source: no message keeps it."""

    @pytest.mark.parametrize("name", NEAR_KEYS)
    @pytest.mark.parametrize("value", ["secret", ["secret"], {"a": "secret"}])
    def test_it_is_dropped_with_a_warning(self, name: str, value: Any) -> None:
        message = {"type": "track", "userId": "u", "event": "e", "mine": 1, name: value}
        for intake in (take_in({"batch": [message]}), take_in(message, endpoint="track")):
            (envelope,) = intake.envelopes
            assert b"secret" not in envelope.payload
            assert msgspec.json.decode(envelope.payload)["mine"] == 1
            (warning,) = envelope.warnings
            assert (warning.code, warning.path) == (WarningCode.FIELD_NEAR_MISS, name)
            assert "did you mean `writeKey`?" in warning.message
            assert "secret" not in warning.message

    def test_all_of_them(self) -> None:
        message = {"type": "page", "userId": "u", **dict.fromkeys(NEAR_KEYS, "secret")}
        (envelope,) = take_in({"batch": [message], **dict.fromkeys(NEAR_KEYS, "secret")}).envelopes
        assert b"secret" not in envelope.payload
        assert [warning.path for warning in envelope.warnings] == ["write_key"] * 2

    @pytest.mark.parametrize("name", NEAR_KEYS)
    def test_the_codec_drops_it(self, name: str) -> None:
        decoded = decode_message(json.dumps({"type": "page", "userId": "u", "mine": 1, name: "secret"}).encode())
        assert decoded.extra == {"mine": 1}
        assert b"secret" not in encode_message(Page(user_id="u", extra={"mine": 1, name: "secret"}))
        assert b"mine" in encode_message(Page(user_id="u", extra={"mine": 1, name: "secret"}))

    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({"batch": [], "write_key": "k"}, "write_key"),
            ({"batch": [5, {"write_key": None}, {"type": "page", "WriteKey": "k"}]}, "WriteKey"),
            ({"batch": [{"other": "\ud800", "WriteKey": "k"}]}, "WriteKey"),
        ],
    )
    def test_a_request_without_a_key_is_reported_of_it(self, body: JSONObject, name: str) -> None:
        intake = take_in(json.dumps(body).encode(), origin=Origin())
        assert (intake.source, intake.write_key) == (None, None)
        assert intake.hint == f"; found '{name}'; did you mean `writeKey`?"

    @pytest.mark.parametrize(
        "body",
        [
            {"batch": [], "write_key": None},
            {"batch": [], "write_key": "***"},
            {"batch": [{"write_key": 5}]},
            {"batch": [{"my_write_key": "k"}]},
            {"batch": [], "write_key": "k", "writeKey": "nobody's"},
        ],
    )
    def test_one_that_would_not_have_helped_is_not_named(self, body: JSONObject) -> None:
        assert take_in(body, origin=Origin()).hint == ""

    def test_the_receipt_says_so(self) -> None:
        collector = Collector(
            sources=[SOURCE], sink=MemorySink(), clock=lambda: RECEIVED_AT, new_message_id=CountingIds()
        )
        receipt = collector.receive(b'{"userId":"u","write_key":"k"}', endpoint="page")
        with pytest.raises(MessagesRejected, match=r"no source; found 'write_key'; did you mean `writeKey`\?$"):
            receipt.raise_for_rejections()


class TestNearMisses:
    """A field whose name is a near miss of a known one is kept as it is, with a warning that names the intended one.

    One of `writeKey` alone is not kept.
    """

    @pytest.mark.parametrize(
        ("name", "known"),
        [
            ("timeStamp", "timestamp"),
            ("user_id", "userId"),
            ("messageID", "messageId"),
            ("sent-at", "sentAt"),
            ("ANONYMOUSID", "anonymousId"),
            (" properties", "properties"),
            ("Original Timestamp", "originalTimestamp"),
        ],
    )
    def test_it_is_kept_with_a_warning(self, name: str, known: str) -> None:
        (envelope,) = take_in({"batch": [{"type": "track", "userId": "u", "event": "e", name: "x"}]}).envelopes
        (warning,) = envelope.warnings
        assert (warning.code, warning.path) == (WarningCode.FIELD_NEAR_MISS, name)
        assert f"did you mean `{known}`?" in warning.message
        assert msgspec.json.decode(envelope.payload)[name] == "x"

    @pytest.mark.parametrize("name", ["group_id", "time", "users", "_metadata", "user.id", "userId" + "_" * 40])
    def test_other_names_are_none(self, name: str) -> None:
        (envelope,) = take_in({"batch": [{"type": "track", "userId": "u", "event": "e", name: "x"}]}).envelopes
        assert not envelope.warnings

    def test_a_batch_has_them_too(self) -> None:
        body = {"batch": [{"type": "page", "userId": "u"}] * 2, "sent_at": "2020-01-01T00:00:00Z", "other": 1}
        for envelope in take_in(body).envelopes:
            assert [warning.path for warning in envelope.warnings] == ["sent_at"]

    def test_each_field_is_warned_of_once(self) -> None:
        """Warnings are stored with each message: a small body must not become a large log."""
        names = {"sent" + "_" * count + "at": 1 for count in range(1, 20)} | {"Write_Key": 1}
        for envelope in take_in({"batch": [{"type": "page", "userId": "u", **names}], **names}).envelopes:
            assert [warning.path for warning in envelope.warnings] == ["sent_at", "Write_Key"] * 2

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ({"type": "page", "user_id": "u"}, "found 'user_id'; did you mean `userId`?"),
            ({"type": "page", "AnonymousId": "u"}, "found 'AnonymousId'; did you mean `anonymousId`?"),
            ({"type": "track", "userId": "u", "Event": "e"}, "found 'Event'; did you mean `event`?"),
            ({"type": "group", "userId": "u", "groupID": 1}, "found 'groupID'; did you mean `groupId`?"),
            ({"type": "alias", "userId": "u", "previous_id": "p"}, "found 'previous_id'; did you mean `previousId`?"),
            ({"Type": "page", "userId": "u"}, "found 'Type'; did you mean `type`?"),
        ],
    )
    def test_a_rejection_that_the_right_name_would_have_prevented_says_so(self, message: Any, expected: str) -> None:
        (rejection,) = take_in({"batch": [message]}).rejections
        assert expected in rejection.error.detail
        with pytest.raises(InvalidMessage, match=re.escape(expected)):
            decode_message(json.dumps(message).encode())

    def test_an_empty_one_would_not_have(self) -> None:
        (rejection,) = take_in({"batch": [{"type": "page", "user_id": None}]}).rejections
        assert "found" not in rejection.error.detail

    def test_a_batch_by_almost_its_name_says_so(self) -> None:
        with pytest.raises(InvalidRequest, match=r"not nothing; found 'Batch'; did you mean `batch`\?"):
            take_in({"Batch": []})
