from __future__ import annotations

import attrs
import pytest
from support import accept, reject, take_in

from trackcore import DEFAULT_LIMITS, InvalidRequest, Limits, Reason

FIELDS = [field.name for field in attrs.fields(Limits)]


def test_the_defaults() -> None:
    assert attrs.asdict(DEFAULT_LIMITS) == {
        "request_bytes": 524_288,
        "message_bytes": 32_768,
        "shared_bytes": 8_388_608,
        "batch_messages": 2_500,
        "message_id_chars": 100,
        "depth": 64,
        "advised_requests_per_second": 500,
    }
    assert Limits() == DEFAULT_LIMITS


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_is_positive(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_depth_stays_far_below_any_stack() -> None:
    assert Limits(depth=128).depth == 128
    with pytest.raises(ValueError, match="depth"):
        Limits(depth=129)


class TestEveryLimitCanBeSet:
    def test_request_bytes(self) -> None:
        body = b'{"batch":[]}'
        assert take_in(body, limits=Limits(request_bytes=len(body))).rejections == []
        with pytest.raises(InvalidRequest) as caught:
            take_in(body, limits=Limits(request_bytes=len(body) - 1))
        assert caught.value == InvalidRequest(
            reason=Reason.BODY_TOO_LARGE, detail="the request is larger than 11 bytes", limit=11, actual=12
        )

    def test_message_bytes(self) -> None:
        item = b'{"type":"page","userId":"u"}'
        assert accept(item, limits=Limits(message_bytes=len(item)))
        assert reject(item, limits=Limits(message_bytes=len(item) - 1)).error.reason is Reason.MESSAGE_TOO_LARGE

    def test_shared_bytes(self) -> None:
        body = {"batch": [{"type": "page", "userId": "u"}] * 3, "context": {"a": 1}, "integrations": {"All": True}}
        shared = 3 * (len('{"a":1}') + len('{"All":true}'))
        assert len(take_in(body, limits=Limits(shared_bytes=shared)).envelopes) == 3
        intake = take_in(body, limits=Limits(shared_bytes=shared - 1))
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.MESSAGE_TOO_LARGE] * 3
        assert (intake.rejections[0].error.limit, intake.rejections[0].error.actual) == (shared - 1, shared)

    def test_what_is_shared_is_no_larger_than_a_message(self) -> None:
        body = {"batch": [{"type": "page", "userId": "u"}], "context": {"a": "x" * 92}}
        assert len(take_in(body, limits=Limits(message_bytes=100)).envelopes) == 1
        intake = take_in(body, limits=Limits(message_bytes=99))
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.MESSAGE_TOO_LARGE]

    def test_the_time_of_sending_is_shared_too(self) -> None:
        """Copied into each of 2,500 messages, a `sentAt` of 400 KB would make a gigabyte of one request."""
        body = {"batch": [{"type": "page", "userId": "u"}] * 3, "sentAt": "x" * 98}
        assert len(take_in(body, limits=Limits(shared_bytes=300)).envelopes) == 3
        intake = take_in(body, limits=Limits(shared_bytes=299))
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.MESSAGE_TOO_LARGE] * 3
        assert take_in(body | {"sentAt": "x" * 40_000}).envelopes == []

    def test_batch_messages(self) -> None:
        item = {"type": "page", "userId": "u"}
        intake = take_in({"batch": [item] * 3}, limits=Limits(batch_messages=2))
        assert len(intake.envelopes) == 2
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.TOO_MANY_MESSAGES]

    def test_message_id_chars(self) -> None:
        item = {"type": "page", "userId": "u", "messageId": "éé"}
        assert accept(item, limits=Limits(message_id_chars=2)).message_id == "éé"
        assert reject(item, limits=Limits(message_id_chars=1)).error.reason is Reason.MESSAGE_ID_TOO_LONG

    def test_depth(self) -> None:
        item = {"type": "page", "userId": "u", "properties": {"a": {}}}
        assert accept(item, limits=Limits(depth=2))
        assert reject(item, limits=Limits(depth=1)).error.reason is Reason.TOO_DEEP

    def test_the_deepest_setting_works(self) -> None:
        text = b'{"type":"page","userId":"u","properties":' + b'{"a":' * 127 + b"{}" + b"}" * 128
        assert accept(text, limits=Limits(depth=128), context={"ip": "1.2.3.4"})
        assert reject(text.replace(b"{}", b"[{}]"), limits=Limits(depth=128)).error.reason is Reason.TOO_DEEP
