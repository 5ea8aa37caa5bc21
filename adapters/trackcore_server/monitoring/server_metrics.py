"""All metrics of a server: those that its processes count, and those that are measured when they are asked for.

A log that counts by itself is asked for messages and rejections: its numbers are right whatever has happened to a
worker between a commit and its own counting, and they count what other processes have stored, such as an import.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version

import attrs
from trackcore_sqlite import Received

from trackcore import Mark, MetricValue, Outcome, Reason, TrackcoreError
from trackcore.support import METRICS_BY_NAME, REASONS_OF_REQUESTS, UNKNOWN, Labels, outcome_of, read_values
from trackcore_server.config.configuration import Configuration
from trackcore_server.process.shared_cells import SharedMemory
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import open_state

MOST_COUNTED = 100_000
"""How many messages of a backlog are examined, which takes a tenth of a second; all others count as waiting."""

MESSAGES, REJECTED = "trackcore_messages_total", "trackcore_rejected_total"

_OUTCOMES_OF_LOG = {Outcome.STORED, Outcome.DUPLICATE, "rejected", "blocked"}

log = logging.getLogger("trackcore.metrics")


@attrs.define(eq=False)
class ServerMetrics:
    """Reads the metrics of a server.  Values that cannot be read now are left out, which is logged once."""

    _configuration: Configuration
    _memory: SharedMemory
    _backend: Backend = attrs.field(init=False)
    _failed: set[str] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._backend = backend_of(self._configuration)

    def values(self) -> list[MetricValue]:
        """Return all values, as they are now."""
        counted = read_values(self._memory.segments())
        received = self._unless_it_fails(self._received)
        if received is not None:
            counted = [value for value in counted if not _is_of_log(value)]
        parts = (self._of_log, self._of_disk, self._of_delivery)
        measured = [value for part in parts for value in self._unless_it_fails(part) or ()]
        build = _value("trackcore_build_info", 1, version("trackcore"))
        return [build, *(received or ()), *counted, *measured]

    def _received(self) -> list[MetricValue] | None:
        received = self._backend.received()
        return None if received is None else values_of(received)

    def _of_log(self) -> Iterator[MetricValue]:
        size = self._backend.size()
        if size is not None:
            yield _value("trackcore_log_messages", size.messages)
            yield _value("trackcore_log_bytes", size.size)

    def _of_disk(self) -> Iterator[MetricValue]:
        found = os.statvfs(self._configuration.folder)
        yield _value("trackcore_disk_free_bytes", found.f_bavail * found.f_frsize)

    def _of_delivery(self) -> Iterator[MetricValue]:
        if not self._configuration.delivered:
            return
        now = datetime.now(UTC)
        with closing(open_state(self._configuration, self._backend)) as state:
            for destination in self._configuration.delivered:
                name = destination.name
                status = state.status(name, now)
                yield _value("trackcore_dead_letters", 0 if status is None else status.dead_letters, name)
                behind = self._backend.backlog(name, state.mark(name) or Mark(), most=MOST_COUNTED)
                yield _value("trackcore_delivery_lag_messages", behind.waiting, name)
                if behind.oldest is not None:
                    yield _value("trackcore_delivery_lag_seconds", max((now - behind.oldest).total_seconds(), 0), name)
                elif not behind.waiting:
                    yield _value("trackcore_delivery_lag_seconds", 0, name)

    def _unless_it_fails(self, read: Callable[[], Iterable[MetricValue] | None]) -> list[MetricValue] | None:
        """Return what was read; None if there is nothing to read here."""
        try:
            values = read()
            return None if values is None else list(values)
        except (TrackcoreError, OSError) as error:
            text = str(error)
            if text not in self._failed:
                log.warning("some metrics cannot be read now: %s", text)
                self._failed = {text}
            return []


def values_of(received: Iterable[Received]) -> list[MetricValue]:
    """Return the messages and the rejections that a log has received."""
    messages: Counter[Labels] = Counter()
    rejected: Counter[Labels] = Counter()
    for source, call, outcome, number in received:
        name = UNKNOWN if source is None else source
        if call is not None:
            messages[name, call, outcome] += number
        elif outcome != Reason.PLAN_OMITTED:  # the message itself was stored
            rejected[name, outcome] += number
            if outcome not in REASONS_OF_REQUESTS:
                messages[name, UNKNOWN, outcome_of(outcome)] += number
    return [
        *(_value(MESSAGES, number, *labels) for labels, number in sorted(messages.items())),
        *(_value(REJECTED, number, *labels) for labels, number in sorted(rejected.items())),
    ]


def _is_of_log(value: MetricValue) -> bool:
    """Return whether a log counts this too: everything except messages that it never gets."""
    return value.metric.name == REJECTED or (value.metric.name == MESSAGES and value.labels[-1] in _OUTCOMES_OF_LOG)


def _value(name: str, number: float, *labels: str) -> MetricValue:
    return MetricValue(metric=METRICS_BY_NAME[name], labels=labels, value=number)
