"""The contract of a sink, kept by each of them alike, for threads and for event loops."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
from adapter_helpers import NOON, at_once, envelope, quarantined_request, rejected_record
from hypothesis import given, settings
from hypothesis import strategies as st
from kept import FACES, Kept, kept_by
from mock_cluster import MockCluster

from trackcore import (
    Envelope,
    MessageWarning,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    WarningCode,
)

STORED, DUPLICATE = Outcome.STORED, Outcome.DUPLICATE


@pytest.fixture(name="kept", params=FACES)
def _kept(request: pytest.FixtureRequest, tmp_path: Path, mock_cluster: MockCluster) -> Iterator[Kept]:
    """An empty sink of each kind, with its log, as threads and as event loops use it."""
    with kept_by(request.param, tmp_path, mock_cluster) as kept:
        yield kept


class TestOutcomes:
    """Returns one outcome for each envelope, in their order."""

    def test_new_messages_are_stored(self, kept: Kept) -> None:
        assert list(kept.sink.store([envelope("a"), envelope("b")])) == [STORED, STORED]
        assert kept.ids() == ["a", "b"]

    def test_order_of_the_outcomes_is_that_of_the_envelopes(self, kept: Kept) -> None:
        kept.sink.store([envelope("b")])
        outcomes = kept.sink.store([envelope("a"), envelope("b"), envelope("c"), envelope("a")])
        assert list(outcomes) == [STORED, DUPLICATE, STORED, DUPLICATE]
        assert kept.ids() == ["b", "a", "c"]

    def test_an_empty_call_does_nothing(self, kept: Kept) -> None:
        assert list(kept.sink.store()) == []
        assert list(kept.sink.store([], rejected=[], quarantined=[])) == []
        kept.sink.store([envelope("a")])
        assert list(kept.sink.store()) == []
        assert kept.ids() == ["a"]

    def test_a_call_without_messages_has_no_outcomes(self, kept: Kept) -> None:
        assert list(kept.sink.store(rejected=[rejected_record()])) == []
        assert list(kept.sink.store(quarantined=[quarantined_request()])) == []

    def test_ready(self, kept: Kept) -> None:
        kept.sink.check_ready()
        kept.sink.store([envelope("a")])
        kept.sink.check_ready()
        assert kept.ids() == ["a"]


class TestDuplicates:
    """A message whose (source, message id) is stored already, or came earlier in the same call, is a duplicate."""

    def test_across_calls(self, kept: Kept) -> None:
        assert list(kept.sink.store([envelope("a")])) == [STORED]
        assert list(kept.sink.store([envelope("a")])) == [DUPLICATE]
        assert kept.ids() == ["a"]

    def test_within_a_call(self, kept: Kept) -> None:
        assert list(kept.sink.store([envelope("a"), envelope("a")])) == [STORED, DUPLICATE]
        assert kept.ids() == ["a"]

    def test_the_very_same_envelope_handed_over_twice(self, kept: Kept) -> None:
        same = envelope("a")
        assert list(kept.sink.store([same])) == [STORED]
        assert list(kept.sink.store([same, same])) == [DUPLICATE, DUPLICATE]
        assert kept.ids() == ["a"]

    def test_the_first_one_is_kept(self, kept: Kept) -> None:
        kept.sink.store([envelope("a", call="page"), envelope("a", call="screen")])
        kept.sink.store([envelope("a", call="group")])
        assert [message.call for message in kept.messages] == ["page"]

    def test_another_source_may_use_the_same_id(self, kept: Kept) -> None:
        outcomes = kept.sink.store([envelope("a"), envelope("a", source="app"), envelope("a", source="app")])
        assert list(outcomes) == [STORED, STORED, DUPLICATE]
        assert (kept.ids("website"), kept.ids("app")) == (["a"], ["a"])

    @pytest.mark.parametrize("other", ["A", "a ", " a", "á", "a\u0301", "a\x00", ""])
    def test_ids_are_compared_exactly(self, kept: Kept, other: str) -> None:
        assert list(kept.sink.store([envelope("a"), envelope(other)])) == [STORED, STORED]
        assert list(kept.sink.store([envelope(other)])) == [DUPLICATE]

    def test_source_and_id_do_not_run_into_each_other(self, kept: Kept) -> None:
        outcomes = kept.sink.store([envelope("bc", source="a"), envelope("c", source="ab")])
        assert list(outcomes) == [STORED, STORED]


class TestWhatIsKept:
    """Everything of a call is kept, with all its fields."""

    def test_a_message(self, kept: Kept) -> None:
        warning = MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="kept as '7'", path="userId")
        payload = {"messageId": "é😀", "userId": "7", "anonymousId": "anon", "type": "page", "n": 2**70}
        original = envelope(
            "é😀",
            source="my app",
            call="page",
            user_id="7",
            anonymous_id="anon",
            destinations=("Mixpanel", "Google Analytics"),
            warnings=(warning,),
            payload=json.dumps(payload).encode(),
        )
        kept.sink.store([original])
        assert kept.messages == [original]

    def test_a_message_with_as_little_as_possible(self, kept: Kept) -> None:
        bare = envelope("a", user_id=None, payload=b'{"messageId": "a"}')
        kept.sink.store([bare])
        assert kept.messages == [bare]

    def test_the_rejected_and_the_quarantined(self, kept: Kept) -> None:
        odd = bytes(range(256))
        rejected = [rejected_record(b"1", code="no_type"), rejected_record(odd, source="app", code="invalid_json")]
        quarantined = [quarantined_request(odd), quarantined_request(b"", write_key=None)]
        nowhere = attrs.evolve(quarantined[0], client_ip=None, client_side=False, endpoint="page")
        outcomes = kept.sink.store([envelope("a")], rejected=rejected, quarantined=[*quarantined, nowhere])
        assert list(outcomes) == [STORED]
        assert kept.ids() == ["a"]
        assert kept.rejected == rejected
        assert kept.quarantined == [*quarantined, nowhere]

    def test_what_an_import_rejected(self, kept: Kept) -> None:
        beside = [b'{"sentAt":"2019","messageId":"import-1"}', b"{}", b""]
        rejected = [attrs.evolve(rejected_record(b"1"), batch=batch, endpoint="import") for batch in beside]
        kept.sink.store(rejected=rejected)
        assert kept.rejected == rejected

    def test_the_rejected_are_no_duplicates_of_each_other(self, kept: Kept) -> None:
        kept.sink.store(rejected=[rejected_record(b"1")] * 2)
        kept.sink.store(rejected=[rejected_record(b"1")])
        assert len(kept.rejected) == 3

    def test_the_rejected_beside_a_duplicate(self, kept: Kept) -> None:
        kept.sink.store([envelope("a")])
        assert list(kept.sink.store([envelope("a")], rejected=[rejected_record()])) == [DUPLICATE]
        assert len(kept.rejected) == 1


class TestThreads:
    """Called from many threads at once."""

    THREADS = 8

    def test_each_message_is_stored_once(self, kept: Kept) -> None:
        def store(thread: int) -> list[Outcome]:
            return [outcome for n in range(20) for outcome in kept.sink.store([envelope(f"{thread}-{n}")])]

        results = at_once(*(partial(store, thread) for thread in range(self.THREADS)))
        assert results == [[STORED] * 20] * self.THREADS
        assert sorted(kept.ids()) == sorted(f"{thread}-{n}" for thread in range(self.THREADS) for n in range(20))

    def test_each_thread_finds_its_own_in_order(self, kept: Kept) -> None:
        def store(thread: int) -> None:
            for n in range(20):
                kept.sink.store([envelope(f"{thread}-{n}")])

        at_once(*(partial(store, thread) for thread in range(self.THREADS)))
        for thread in range(self.THREADS):
            own = [found for found in kept.ids() if found.startswith(f"{thread}-")]
            assert own == [f"{thread}-{n}" for n in range(20)]

    def test_of_racing_duplicates_exactly_one_is_stored(self, kept: Kept) -> None:
        def store() -> list[Outcome]:
            return [outcome for n in range(30) for outcome in kept.sink.store([envelope(f"m{n}")])]

        results = at_once(*[store] * self.THREADS)
        for nth in zip(*results, strict=True):
            assert Counter(nth) == {STORED: 1, DUPLICATE: self.THREADS - 1}
        assert sorted(kept.ids()) == sorted(f"m{n}" for n in range(30))

    def test_each_hears_of_its_own_messages(self, kept: Kept) -> None:
        kept.sink.store([envelope(f"{thread}-old") for thread in range(self.THREADS)])

        def store(thread: int) -> list[Outcome]:
            new = [envelope(f"{thread}-{n}") for n in range(thread)]
            return list(kept.sink.store([*new, envelope(f"{thread}-old")]))

        results = at_once(*(partial(store, thread) for thread in range(self.THREADS)))
        assert results == [[STORED] * thread + [DUPLICATE] for thread in range(self.THREADS)]

    def test_the_rejected_are_all_kept(self, kept: Kept) -> None:
        def store(thread: int) -> None:
            for n in range(10):
                kept.sink.store(rejected=[rejected_record(b"%d-%d" % (thread, n))], quarantined=[quarantined_request()])

        at_once(*(partial(store, thread) for thread in range(self.THREADS)))
        payloads = [record.payload for record in kept.rejected]
        assert sorted(payloads) == sorted(b"%d-%d" % (thread, n) for thread in range(self.THREADS) for n in range(10))
        assert len(kept.quarantined) == 10 * self.THREADS


# Any sequence of calls, against a dict

_ENVELOPES = st.builds(
    envelope,
    st.text("ab\x00é", max_size=2),
    source=st.sampled_from(["website", "app"]),
    call=st.sampled_from(["track", "page"]),
    received_at=st.just(NOON),
)
_CALLS = st.lists(
    st.tuples(
        st.lists(_ENVELOPES, max_size=5),
        st.lists(st.builds(rejected_record, st.binary(max_size=5)), max_size=2),
        st.lists(st.builds(quarantined_request, st.binary(max_size=5)), max_size=2),
    ),
    max_size=6,
)


Calls = list[tuple[list[Envelope], list[RejectedRecord], list[QuarantinedRequest]]]


@pytest.mark.parametrize("face", [face for face in FACES if "Kafka" not in face])
@given(calls=_CALLS)
def test_any_sequence_of_calls_is_that_of_a_dict(mock_cluster: MockCluster, face: str, calls: Calls) -> None:
    """A sink is a dict from (source, message id) to the first message of it, and two lists."""
    _check_against_a_dict(face, mock_cluster, calls)


@pytest.mark.parametrize("face", [face for face in FACES if "Kafka" in face])
@settings(max_examples=15)  # each makes a log, which takes a while
@given(calls=_CALLS)
def test_any_sequence_of_calls_is_that_of_a_dict_in_kafka(mock_cluster: MockCluster, face: str, calls: Calls) -> None:
    """The same law as above."""
    _check_against_a_dict(face, mock_cluster, calls)


def _check_against_a_dict(face: str, mock_cluster: MockCluster, calls: Calls) -> None:
    model: dict[tuple[str, str], Envelope] = {}
    with TemporaryDirectory() as folder, kept_by(face, Path(folder), mock_cluster) as kept:
        for envelopes, rejected, quarantined in calls:
            expected = []
            for sent in envelopes:
                expected.append(DUPLICATE if (sent.source, sent.message_id) in model else STORED)
                model.setdefault((sent.source, sent.message_id), sent)
            assert list(kept.sink.store(envelopes, rejected=rejected, quarantined=quarantined)) == expected
        kept.sink.store(rejected=[rejected_record(b"end")])
        assert [(found.source, found.message_id, found.call) for found in kept.messages] == [
            (first.source, first.message_id, first.call) for first in model.values()
        ]
        assert kept.rejected == [record for _, rejected, _ in calls for record in rejected] + [rejected_record(b"end")]
        assert kept.quarantined == [request for _, _, quarantined in calls for request in quarantined]
