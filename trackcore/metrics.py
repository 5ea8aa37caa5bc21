"""Metrics: the table of what is counted, and the numbers that one process counts in.

Theory.  A number lies in a *cell*, and a series (a metric with its labels) in one cell, or in as many as its histogram
has buckets, and one more for the sum.  Counting adds to a cell, and nothing else: the cells may be a list, or memory
that several processes share (`Cells`).  There is no clock here: durations are passed in.

Labels are bounded: sources and destinations are those of the configuration, routes, calls, outcomes and reasons are
closed sets.  A write key, the name of an event or the id of a user is never a label.  A request of no known source
counts for the source `?`, as does a message of no known call.

Under CPython's lock an addition to a cell is not interrupted, so threads need no other lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import count
from typing import Any, Protocol, TypeAlias

import attrs

from trackcore.errors import Reason
from trackcore.receipts import PendingReceipt
from trackcore.sinks import Envelope, Outcome

UNKNOWN = "?"
"""The label of a source or a call that is not known."""

UNKNOWN_SOURCE = "unknown_source"
"""The reason of a request whose write key belongs to no source, beside those of `Reason`."""

REASONS_OF_REQUESTS = frozenset(
    {
        Reason.INVALID_JSON,
        Reason.BODY_NOT_OBJECT,
        Reason.BODY_TOO_LARGE,
        Reason.BATCH_NOT_ARRAY,
        Reason.INVALID_ENCODING,
        Reason.INCOMPLETE_BODY,
        UNKNOWN_SOURCE,
    }
)
"""The reasons for which a whole request is rejected: its messages are not known, and so not counted."""


class MetricKind(StrEnum):
    """How the value of a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@attrs.frozen(kw_only=True, eq=False)
class Metric:
    """One metric: its name as it is exposed, its labels, and the upper bounds of the buckets of a histogram."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def cells(self) -> int:
        """How many cells a series takes: of a histogram its buckets, one for all above them, and the sum."""
        return len(self.bounds) + 2 if self.kind is MetricKind.HISTOGRAM else 1


_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0)
_NUMBERS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_500.0)
_SKEWS = (-86_400.0, -3_600.0, -60.0, -10.0, -1.0, 0.0, 1.0, 10.0, 60.0, 3_600.0, 86_400.0)

METRICS: tuple[Metric, ...] = (
    Metric(
        name="trackcore_requests_total",
        kind=_COUNTER,
        labels=("route", "status"),
        help="Requests that were answered, by route and HTTP status.",
    ),
    Metric(
        name="trackcore_request_duration_seconds",
        kind=_HISTOGRAM,
        labels=("route",),
        bounds=_SECONDS,
        help="Time from the head of a request to its response.",
    ),
    Metric(
        name="trackcore_request_size_bytes",
        kind=_HISTOGRAM,
        labels=("route",),
        bounds=_SIZES,
        help="Size of a request body, as it was received.",
    ),
    Metric(name="trackcore_requests_in_progress", kind=_GAUGE, help="Requests that are not answered yet."),
    Metric(
        name="trackcore_messages_total",
        kind=_COUNTER,
        labels=("source", "call", "outcome"),
        help="Messages by outcome: stored, duplicate, rejected, blocked by a tracking plan, suppressed.",
    ),
    Metric(
        name="trackcore_rejected_total",
        kind=_COUNTER,
        labels=("source", "reason"),
        help="Rejected messages, and requests that were rejected as a whole, by the code of the reason.",
    ),
    Metric(
        name="trackcore_batch_messages",
        kind=_HISTOGRAM,
        bounds=_NUMBERS,
        help="Messages of a request.",
    ),
    Metric(
        name="trackcore_commit_seconds",
        kind=_HISTOGRAM,
        bounds=_SECONDS,
        help="Time of a commit of the log, the wait for other processes included.",
    ),
    Metric(
        name="trackcore_commit_messages",
        kind=_HISTOGRAM,
        bounds=_NUMBERS,
        help="Messages that were committed together.",
    ),
    Metric(
        name="trackcore_clock_skew_seconds",
        kind=_HISTOGRAM,
        labels=("source",),
        bounds=_SKEWS,
        help="How far the clock of a client is ahead: sentAt of a request minus its time of reception.",
    ),
    Metric(
        name="trackcore_sdk_retries_total",
        kind=_COUNTER,
        labels=("source",),
        help="Requests that an SDK sent again, by its X-Retry-Count.",
    ),
    Metric(name="trackcore_log_messages", kind=_GAUGE, help="Messages in the log."),
    Metric(name="trackcore_log_bytes", kind=_GAUGE, help="Size of the log on the disk."),
    Metric(name="trackcore_disk_free_bytes", kind=_GAUGE, help="Free space of the file system that has the log."),
    Metric(
        name="trackcore_delivery_lag_messages",
        kind=_GAUGE,
        labels=("destination",),
        help="Messages that wait for a destination; of a long backlog an upper bound.",
    ),
    Metric(
        name="trackcore_delivery_lag_seconds",
        kind=_GAUGE,
        labels=("destination",),
        help="For how long the first message that waits for a destination has waited.",
    ),
    Metric(
        name="trackcore_delivery_attempts_total",
        kind=_COUNTER,
        labels=("destination", "result"),
        help="Requests to a destination by result: delivered, rejected permanently, or to be retried.",
    ),
    Metric(
        name="trackcore_delivery_seconds",
        kind=_HISTOGRAM,
        labels=("destination",),
        bounds=_SECONDS,
        help="Time of a request to a destination.",
    ),
    Metric(
        name="trackcore_dead_letters",
        kind=_GAUGE,
        labels=("destination",),
        help="Messages that could not be delivered, and are kept.",
    ),
    Metric(
        name="trackcore_plan_violations_total",
        kind=_COUNTER,
        labels=("source", "kind"),
        help="Violations of the tracking plan of a source, by kind.",
    ),
    Metric(
        name="trackcore_build_info", kind=_GAUGE, labels=("version",), help="1, with the version of trackcore as label."
    ),
)
"""Every metric.  Those of the log, the disk and the backlog are measured when they are asked for."""

METRICS_BY_NAME = {metric.name: metric for metric in METRICS}

Labels: TypeAlias = tuple[str, ...]


@attrs.frozen(kw_only=True)
class MetricValue:
    """The value of one series.

    For a histogram `value` is the number of observations, `buckets` how many of them lie in each bucket (the last one
    is for all above the bounds), and `total` their sum.
    """

    metric: Metric
    labels: Labels = ()
    value: float
    buckets: tuple[float, ...] = ()
    total: float = 0.0


class Numbers(Protocol):
    """Numbers by their places."""

    def __getitem__(self, place: int, /) -> float: ...

    def __setitem__(self, place: int, number: float, /) -> None: ...


class Cells(Protocol):
    """The numbers that a process counts in."""

    @property
    def values(self) -> Numbers:
        """The numbers.  The object stays the same one."""

    def allocate(self, metric: Metric, labels: Labels) -> int:
        """Return the first cell of a series, which is given its cells if it has none yet."""

    def series(self) -> Iterable[tuple[Metric, Labels, int]]:
        """Return each series with its first cell."""


@attrs.frozen
class LocalCells:
    """Numbers of this process alone."""

    values: defaultdict[int, float] = attrs.field(init=False, factory=lambda: defaultdict(float))
    _series: dict[tuple[Metric, Labels], int] = attrs.field(init=False, factory=dict)
    _places: count[int] = attrs.field(init=False, factory=lambda: count(0, max(metric.cells for metric in METRICS)))

    def allocate(self, metric: Metric, labels: Labels) -> int:
        """See `Cells.allocate`."""
        return self._series.setdefault((metric, labels), next(self._places))

    def series(self) -> Iterator[tuple[Metric, Labels, int]]:
        """See `Cells.series`."""
        return iter([(*key, place) for key, place in self._series.copy().items()])


def _adder(name: str, cells: Cells) -> Callable[..., None]:
    """Return the function that adds to a counter, or to a gauge: a closure, since it costs less than a method."""
    values, places = cells.values, _Places(METRICS_BY_NAME[name], cells)

    def add(labels: tuple[Any, ...] = (), amount: float = 1.0) -> None:
        values[places[labels]] += amount

    return add


def _observer(name: str, cells: Cells) -> Callable[[tuple[Any, ...], float], None]:
    """Return the function that counts a value in its bucket."""
    values, places = cells.values, _Places(METRICS_BY_NAME[name], cells)
    bounds = METRICS_BY_NAME[name].bounds
    total = len(bounds) + 1

    def observe(labels: tuple[Any, ...], value: float) -> None:
        place = places[labels]
        values[place + bisect_left(bounds, value)] += 1.0
        values[place + total] += value

    return observe


class _Places(dict[tuple[Any, ...], int]):
    """The first cells of the series of a metric by their labels; those of a new one are allocated."""

    def __init__(self, metric: Metric, cells: Cells) -> None:
        super().__init__()
        self._metric, self._cells = metric, cells

    def __missing__(self, labels: tuple[Any, ...]) -> int:
        place = self[labels] = self._cells.allocate(self._metric, tuple(map(str, labels)))
        return place


@attrs.define(eq=False, slots=False)
class Metrics:
    """The numbers of one process.

    >>> metrics = Metrics()
    >>> metrics.count_request(route="/v1/track", status=200, seconds=0.004)
    >>> first, *others = metrics.values()
    >>> first.metric.name, first.labels, first.value
    ('trackcore_requests_total', ('/v1/track', '200'), 1.0)
    """

    cells: Cells = attrs.field(factory=LocalCells)

    def __attrs_post_init__(self) -> None:
        self._add_requests = _adder("trackcore_requests_total", self.cells)
        self._observe_durations = _observer("trackcore_request_duration_seconds", self.cells)
        self._observe_sizes = _observer("trackcore_request_size_bytes", self.cells)
        self._add_in_progress = _adder("trackcore_requests_in_progress", self.cells)
        self._add_messages = _adder("trackcore_messages_total", self.cells)
        self._add_rejected = _adder("trackcore_rejected_total", self.cells)
        self._observe_batches = _observer("trackcore_batch_messages", self.cells)
        self._observe_skews = _observer("trackcore_clock_skew_seconds", self.cells)
        self._add_retries = _adder("trackcore_sdk_retries_total", self.cells)
        self._add_violations = _adder("trackcore_plan_violations_total", self.cells)
        self._observe_commit_seconds = _observer("trackcore_commit_seconds", self.cells)
        self._observe_commit_messages = _observer("trackcore_commit_messages", self.cells)
        self._add_attempts = _adder("trackcore_delivery_attempts_total", self.cells)
        self._observe_attempt_seconds = _observer("trackcore_delivery_seconds", self.cells)

    def values(self) -> list[MetricValue]:
        """Return all numbers as plain values."""
        return read_values([self.cells])

    def begin_request(self) -> None:
        """Count a request that is in progress from now on."""
        self._add_in_progress()

    def end_request(self) -> None:
        """Count a request that is not in progress any more."""
        self._add_in_progress(amount=-1.0)

    def count_request(self, *, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered.  The route is one of a closed set."""
        self._add_requests((route, status))
        self._observe_durations((route,), seconds)

    def count_body(self, *, route: str, size: int) -> None:
        """Count the body of a request, by its size in bytes as received."""
        self._observe_sizes((route,), size)

    def count_commit(self, seconds: float, messages: int) -> None:
        """Count a commit of the log."""
        self._observe_commit_seconds((), seconds)
        self._observe_commit_messages((), messages)

    def count_attempt(self, *, destination: str, result: str, seconds: float) -> None:
        """Count a request to a destination.  The result is one of a closed set."""
        self._add_attempts((destination, result))
        self._observe_attempt_seconds((destination,), seconds)

    def count_stored(self, pending: PendingReceipt, outcomes: Sequence[Outcome]) -> None:
        """Count the messages of a request once it is stored, by the outcomes of all its messages."""
        source = UNKNOWN if pending.source is None else pending.source.name
        if envelopes := pending.messages:
            self._count_outcomes(envelopes, outcomes)
        if pending.source is not None and pending.error is None:
            self._observe_batches((), len(pending.envelopes) + len(pending.rejections))
        if pending.clock_skew is not None:
            self._observe_skews((source,), pending.clock_skew.total_seconds())
        if pending.retry_count:
            self._add_retries((source,))
        for kind in pending.violations:
            self._add_violations((source, kind))
        for rejection in pending.rejections:
            self.count_rejected(source, rejection.error.reason)
        if pending.error is not None:
            self.count_rejected(source, pending.error.reason)
        if pending.quarantined:
            self.count_rejected(source, UNKNOWN_SOURCE)

    def count_rejected(self, source: str, reason: str) -> None:
        """Count a rejected message, or request."""
        self._add_rejected((source, reason))
        if reason not in REASONS_OF_REQUESTS:
            self._add_messages((source, UNKNOWN, outcome_of(reason)))

    def _count_outcomes(self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome]) -> None:
        first = envelopes[0]
        if len(envelopes) == 1:
            self._add_messages((first.source, first.call, outcomes[0]))
            return
        found = zip([one.source for one in envelopes], [one.call for one in envelopes], outcomes, strict=False)
        for labels, number in Counter(found).items():
            self._add_messages(labels, number)


def outcome_of(reason: str) -> str:
    """Return the outcome of a message that was rejected for a reason."""
    return "blocked" if reason == Reason.PLAN_BLOCKED else "rejected"


def read_values(counted: Iterable[Cells]) -> list[MetricValue]:
    """Return the values of all series, added up over several sets of cells, in the order of the table."""
    sums: dict[tuple[Metric, Labels], list[float]] = {}
    for cells in counted:
        for metric, labels, place in cells.series():
            known = sums.setdefault((metric, labels), [0.0] * metric.cells)
            for number in range(metric.cells):
                known[number] += cells.values[place + number]
    order = {metric: number for number, metric in enumerate(METRICS)}
    return [_value(*key, sums[key]) for key in sorted(sums, key=lambda key: (order[key[0]], key[1]))]


def _value(metric: Metric, labels: Labels, numbers: list[float]) -> MetricValue:
    if metric.kind is not MetricKind.HISTOGRAM:
        return MetricValue(metric=metric, labels=labels, value=numbers[0])
    *buckets, total = numbers
    return MetricValue(metric=metric, labels=labels, value=sum(buckets), buckets=tuple(buckets), total=total)
