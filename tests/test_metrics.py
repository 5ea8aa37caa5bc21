"""The numbers of a collector: `collector.metrics`."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore import METRICS, Collector, InvalidRequest, MemorySink, MetricKind, Metrics, Source
from trackcore.support import METRICS_BY_NAME

Values = dict[tuple[str, ...], float]


def make_collector() -> Collector:
    numbers = iter(range(1_000_000))
    return Collector(
        sources=[Source(name="site", write_keys=("key",)), Source(name="app", write_keys=("other",))],
        sink=MemorySink(),
        clock=lambda: datetime(2026, 1, 31, 12, tzinfo=UTC),
        new_message_id=lambda: f"id-{next(numbers)}",
    )


def values_of(metrics: Metrics, name: str) -> Values:
    return {value.labels: value.value for value in metrics.values() if value.metric.name == name}


def send(collector: Collector, key: str, *messages: object, **shared: object) -> None:
    collector.receive(json.dumps({"batch": messages, "writeKey": key, **shared}).encode())


PAGE = {"type": "page", "userId": "u"}
TRACK = {"type": "track", "userId": "u", "event": "E"}


class TestMessages:
    """`trackcore_messages_total` by source, call and outcome; `trackcore_rejected_total` by source and reason."""

    def test_outcomes(self) -> None:
        collector = make_collector()
        send(collector, "key", PAGE, {**TRACK, "messageId": "m"}, {**TRACK, "messageId": "m"}, {"type": "page"})
        send(collector, "other", PAGE)
        assert values_of(collector.metrics, "trackcore_messages_total") == {
            ("site", "page", "stored"): 1,
            ("site", "track", "stored"): 1,
            ("site", "track", "duplicate"): 1,
            ("site", "?", "rejected"): 1,
            ("app", "page", "stored"): 1,
        }
        assert values_of(collector.metrics, "trackcore_rejected_total") == {("site", "no_user_anon_id"): 1}

    def test_requests_that_are_rejected_as_a_whole(self) -> None:
        collector = make_collector()
        send(collector, "no such key", PAGE)
        for body in (b'{"writeKey": "key", ', b"{"):
            with pytest.raises(InvalidRequest):
                collector.receive(body)
        assert values_of(collector.metrics, "trackcore_messages_total") == {}
        assert values_of(collector.metrics, "trackcore_rejected_total") == {
            ("?", "unknown_source"): 1,
            ("site", "invalid_json"): 1,
            ("?", "invalid_json"): 1,
        }

    @given(st.lists(st.sampled_from([PAGE, TRACK, {"type": "page"}, {**PAGE, "messageId": "m"}, 1]), max_size=12))
    def test_totals_equal_the_log(self, messages: list[object]) -> None:
        collector = make_collector()
        send(collector, "key", *messages)
        send(collector, "key", *messages)
        totals: dict[str, float] = defaultdict(float)
        for labels, number in values_of(collector.metrics, "trackcore_messages_total").items():
            totals[labels[2]] += number
        sink = collector.sink
        assert isinstance(sink, MemorySink)
        assert totals["stored"] == len(sink.envelopes)
        assert totals["rejected"] == len(sink.rejected)
        assert sum(totals.values()) == 2 * len(messages)


class TestHistograms:
    def test_the_skew_of_the_clock(self) -> None:
        """`sentAt` of a request minus its time of reception; a request without it is not counted."""
        collector = make_collector()
        send(collector, "key", PAGE, TRACK, sentAt="2026-01-31T12:00:05Z")
        send(collector, "key", PAGE)
        (value,) = (one for one in collector.metrics.values() if one.metric.name == "trackcore_clock_skew_seconds")
        assert (value.labels, value.value, value.total) == (("site",), 1, 5)
        assert [value.metric.bounds[place] for place, number in enumerate(value.buckets) if number] == [10]

    @given(st.lists(st.floats(0, 1e9), max_size=20))
    def test_each_value_lies_in_one_bucket(self, seconds: list[float]) -> None:
        metrics = Metrics()
        for one in seconds:
            metrics.count_request(route="/v1/batch", status=200, seconds=one)
        found = [one for one in metrics.values() if one.metric.kind is MetricKind.HISTOGRAM]
        for value in found:
            at_most = 0.0
            for bound, number in zip(value.metric.bounds, value.buckets, strict=False):
                at_most += number
                assert at_most == len([one for one in seconds if one <= bound])
            assert value.value == len(seconds)
            assert value.total == pytest.approx(sum(seconds))
        assert len(found) == bool(seconds)

    def test_a_request_in_progress(self) -> None:
        metrics = Metrics()
        metrics.begin_request()
        metrics.begin_request()
        metrics.end_request()
        assert values_of(metrics, "trackcore_requests_in_progress") == {(): 1}


def test_the_names_of_the_table() -> None:
    """Counters end in `_total`, and each metric has a sentence."""
    assert list(METRICS_BY_NAME) == [metric.name for metric in METRICS]
    assert {metric.name.endswith("_total") for metric in METRICS if metric.kind is MetricKind.COUNTER} == {True}
    assert all(metric.help.endswith(".") for metric in METRICS if metric.name != "trackcore_build_info")
    assert all(tuple(sorted(metric.bounds)) == metric.bounds for metric in METRICS)
