from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from trackcore import Alias, Batch, Group, Identify, Message, Page, Screen, Track, WriteKey
from trackcore.fields import fields_of

ALL: list[Message] = [
    Identify(),
    Track(event="e"),
    Page(),
    Screen(),
    Group(group_id="g"),
    Alias(previous_id="p"),
]


@pytest.mark.parametrize("message", ALL)
class TestEveryMessage:
    def test_it_is_frozen(self, message: Message) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            message.user_id = "u"  # type: ignore[misc]

    def test_each_of_its_fields_is_described_and_is_required_where_it_has_no_default(self, message: Message) -> None:
        described = fields_of(type(message))
        defaults = {field.name: field.default for field in attrs.fields(type(message))}
        assert defaults.keys() - {field.name for field in described} == {"extra"}
        assert all(bool(field.missing) == (defaults[field.name] is attrs.NOTHING) for field in described)

    def test_it_has_slots(self, message: Message) -> None:
        assert not hasattr(message, "__dict__")

    def test_everything_optional_is_absent(self, message: Message) -> None:
        values = attrs.asdict(message)
        required = {"event": "e", "group_id": "g", "previous_id": "p"}
        assert values.pop("extra") == {}
        assert {name: value for name, value in values.items() if value is not None}.items() <= required.items()

    def test_it_compares_by_value_and_type(self, message: Message) -> None:
        assert message == attrs.evolve(message)
        assert message != attrs.evolve(message, user_id="u")
        assert [other for other in ALL if other == message] == [message]

    def test_fields_are_given_by_name(self, message: Message) -> None:
        with pytest.raises(TypeError):
            type(message)("u")  # type: ignore[call-arg]


@pytest.mark.parametrize("message_type", [Track, Group, Alias])
def test_what_the_call_requires_is_required(message_type: Callable[..., Message]) -> None:
    with pytest.raises(TypeError):
        message_type(user_id="u")


def test_two_messages_never_share_extra() -> None:
    assert Page().extra is not Page().extra


class TestTimes:
    @pytest.mark.parametrize("name", ["timestamp", "original_timestamp", "sent_at", "received_at"])
    def test_a_datetime_becomes_wire_text(self, name: str) -> None:
        time = datetime(2012, 12, 2, 1, 30, 8, 276_999, tzinfo=timezone(timedelta(hours=1)))
        times: dict[str, Any] = {name: time}
        assert getattr(Page(**times), name) == "2012-12-02T00:30:08.276Z"

    def test_a_time_without_a_zone_is_refused_rather_than_taken_for_local(self) -> None:
        with pytest.raises(ValueError, match="has no time zone"):
            Page(timestamp=datetime(2012, 12, 2))  # noqa: DTZ001

    def test_a_time_that_is_none_in_utc_is_refused(self) -> None:
        with pytest.raises(ValueError, match="outside the years 1 to 9999"):
            Page(timestamp=datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))

    def test_text_is_kept_verbatim(self) -> None:
        assert Page(timestamp="2015-2-02T00:30:08.276Z").timestamp == "2015-2-02T00:30:08.276Z"

    def test_a_batch_takes_datetimes_too(self) -> None:
        batch = Batch(messages=[], sent_at=datetime(2012, 12, 2, tzinfo=UTC))
        assert batch.sent_at == "2012-12-02T00:00:00.000Z"


def test_a_batch_keeps_any_iterable_as_a_tuple() -> None:
    messages: list[Message] = [Page(), Screen()]
    batch = Batch(messages=iter(messages), write_key=WriteKey("k"))
    assert batch.messages == (Page(), Screen())
