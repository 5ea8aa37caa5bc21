"""Suppression as a law: what is kept is what would have been kept without it, less the messages of the persons."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from strategies import odd_wire_messages, wire_messages

from trackcore import Collector, Destination, MemorySink, Outcome, Source
from trackcore.errors import InvalidRequest
from trackcore.privacy import Subject, SuppressingSink, Suppressions, digest_of, subjects_of

SALT = b"a salt of the tests"
PERSONS = ("ann", "eve", "bob")
NOBODY = Suppressions()


@attrs.define
class ClosableSink(MemorySink):
    def close(self) -> None:
        """Nothing is open."""


def suppressing(*persons: str) -> Suppressions:
    digests = frozenset(digest_of(SALT, Subject(kind, person)) for person in persons for kind in ("user", "anonymous"))
    return Suppressions(salt=SALT, digests=digests)


def received(body: bytes, suppressions: Suppressions) -> tuple[ClosableSink, list[Outcome]]:
    """Receive a body; return what is kept and the outcomes."""
    numbers = count()
    sink = ClosableSink()
    collector = Collector(
        sources=[Source(name="website", write_keys=["key"])],
        destinations=[Destination(name="A"), Destination(name="B", default="off")],
        sink=SuppressingSink(sink, lambda: suppressions),
        clock=lambda: datetime(2026, 1, 31, tzinfo=UTC),
        new_message_id=lambda: f"made-{next(numbers)}",
    )
    try:
        return sink, list(collector.receive(body).outcomes)
    except InvalidRequest:
        return sink, []


def persons() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(("userId", "anonymousId"), st.sampled_from(PERSONS)))


def is_theirs(payload: bytes, some: list[str]) -> bool:
    return any(subject.id in some for subject in subjects_of(json.loads(payload)))


@given(
    batch=st.lists(st.tuples(wire_messages() | odd_wire_messages(), persons()), max_size=5),
    some=st.lists(st.sampled_from(PERSONS), unique=True),
    key=st.sampled_from(["key", "unknown"]),
)
def test_it_never_adds_a_message_a_destination_or_a_field(batch: list[Any], some: list[str], key: str) -> None:
    # Each has an id of its own: a second message of an id is stored where the first one is not.
    messages = [
        {**one, **ids, "messageId": f"m{number}"} if isinstance(one, dict) else one
        for number, (one, ids) in enumerate(batch)
    ]
    body = json.dumps({"batch": messages, "writeKey": key}).encode()
    before, outcomes = received(body, NOBODY)
    after, answers = received(body, suppressing(*some))
    # An envelope is kept whole, or not at all; what is left of the rejected has fewer messages.
    assert after.envelopes == [one for one in before.envelopes if not is_theirs(one.payload, some)]
    assert after.rejected == [one for one in before.rejected if after.rejected.count(one)]
    for kept, one in zip(after.quarantined, before.quarantined, strict=bool(after.quarantined)):
        left = json.loads(kept.payload)["batch"]
        assert [message for message in json.loads(one.payload)["batch"] if message in left] == left
    # The sender cannot tell: as many answers, and none that is not a success.
    assert len(answers) == len(outcomes)
    assert set(answers) <= {*outcomes, Outcome.SUPPRESSED, Outcome.STORED}
