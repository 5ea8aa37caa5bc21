"""Batch-level fields are stored with rejected messages, so that the batch can be rebuilt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import json_objects
from support import json_bytes, take_in
from trackcore_server.files.import_records import batch_of_one

from trackcore import DEFAULT_LIMITS, Limits
from trackcore.wire.request import parse_request

PAGE = {"type": "page", "userId": "u"}


def batch_fields(body: bytes, limits: Limits = DEFAULT_LIMITS, times: int = 1) -> bytes | None:
    return parse_request(body, "batch", limits).batch_fields(limits, times)


class TestSaidForAll:
    def test_its_source_text(self) -> None:
        body = b'{"batch":[], "context": {"a" : 1e2}, "writeKey":"secret", "sentAt":"now", "integrations": null, "x":1}'
        assert batch_fields(body) == b'{"context":{"a" : 1e2},"integrations":null,"sentAt":"now"}'

    def test_as_received_where_the_body_was_repaired(self) -> None:
        """R19: an unpaired surrogate is replaced in a stored message; a rejected message is kept as received."""
        text = batch_fields(b'{"batch":[{"type":"page"}],"context":{"a":"\\ud800"}}')
        assert text == b'{"context":{"a":"\\ud800"}}'

    def test_a_batch_that_says_nothing_is_still_a_batch(self) -> None:
        assert batch_fields(b'{"batch":[]}') == b"{}"
        assert parse_request(json_bytes(PAGE), "page", DEFAULT_LIMITS).batch_fields(DEFAULT_LIMITS, 1) is None

    @pytest.mark.parametrize(("times", "is_kept"), [(1, True), (10, True), (11, False)])
    def test_it_is_bounded(self, times: int, is_kept: bool) -> None:
        body = json_bytes({"batch": [], "sentAt": "x" * 87})
        assert bool(batch_fields(body, Limits(shared_bytes=1_000), times)) == is_kept

    def test_a_hostile_batch_is_not_kept_many_times(self) -> None:
        intake = take_in({"batch": [{}] * 2_500, "context": {"text": "x" * 30_000}})
        assert len(intake.rejections) == 2_500
        assert intake.batch_fields == b""

    def test_what_is_not_needed_is_not_made(self) -> None:
        assert take_in({"batch": [PAGE], "sentAt": "now"}).batch_fields is None


class TestPuttingTogether:
    @given(st.dictionaries(st.sampled_from(["context", "integrations", "sentAt"]), json_objects()), json_objects())
    def test_a_batch_of_one(self, shared: dict[str, Any], message: dict[str, Any]) -> None:
        body = json_bytes({"batch": [message, {}], **shared})
        text = batch_fields(body)
        assert text is not None
        assert json.loads(batch_of_one(text, json_bytes(message))) == {"batch": [message], **shared}

    def test_several_messages_that_stand_in_one_record(self) -> None:
        """The excess of a batch is reported one by one, except for the last record, which is an array of the rest."""
        intake = take_in({"batch": [PAGE] * 5, "sentAt": "x"}, limits=Limits(batch_messages=1))
        rest = intake.rejections[-1].payload
        assert intake.batch_fields is not None
        assert json.loads(batch_of_one(intake.batch_fields, rest)) == {"batch": [PAGE] * 4, "sentAt": "x"}

    def test_the_rest_of_a_repaired_batch_is_its_text(self) -> None:
        items = b",".join([b'{"type":"page","userId":"\\ud800"}'] * 210)
        intake = take_in(b'{"batch":[%b]}' % items, limits=Limits(batch_messages=100))
        rest = intake.rejections[-1].payload
        assert rest.startswith(b'[{"type":"page","userId":"\\ud800"},')
        assert len(json.loads(rest)) == 11
