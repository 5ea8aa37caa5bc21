"""Memory in which several processes count, so that one of them can read what all have counted.

It is a file in memory, made by the first process of a server, and inherited by the others: no file is left behind, a
full disk does no harm, and what a killed process has counted stays.  It consists of *segments*.  A process counts in
one of its own, so no two write the same number; the next process that gets the segment goes on from the numbers in it.

A segment has the cells first, 8 bytes each, and then the list of its series, a line of JSON for each:

    ["trackcore_requests_total", ["/v1/batch", "200"], 16]

A line is complete with its line break, which is written last; so a reader needs no lock.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import threading
from collections.abc import Iterator

import attrs

from trackcore import METRICS, Metric, MetricKind
from trackcore.support import METRICS_BY_NAME, Labels

CELLS = 1 << 16
"""How many numbers a segment has."""

SEGMENT_BYTES = 1 << 22
"""The size of a segment; only what is used of it takes memory."""

_CELL_BYTES = 8 * CELLS
_LONGEST_LINE = 1 << 16
_OVERFLOW = 0
"""The first cells, for series that find no room; nobody reads them."""

_FIRST = max(metric.cells for metric in METRICS)

log = logging.getLogger("trackcore.server")


class SharedCells:
    """The numbers of one segment: `trackcore.support.Cells`."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.values = memoryview(memory)[:_CELL_BYTES].cast("d")
        self._lock = threading.Lock()
        self._series: dict[tuple[Metric, Labels], int] = {}
        self._free = _FIRST
        self._end = _CELL_BYTES
        for name, labels, place in self._lines():
            metric = METRICS_BY_NAME[name]
            self._series[metric, tuple(labels)] = place
            self._free = place + metric.cells

    def allocate(self, metric: Metric, labels: Labels) -> int:
        """See `Cells.allocate`."""
        with self._lock:
            place = self._series.get((metric, labels))
            if place is None:
                place = self._series[metric, labels] = self._append(metric, labels)
            return place

    def series(self) -> Iterator[tuple[Metric, Labels, int]]:
        """See `Cells.series`."""
        return iter([(*key, place) for key, place in self._series.items() if place != _OVERFLOW])

    def take_over(self) -> None:
        """Begin to count where another process has ended: nothing of it is in progress any more."""
        for metric, _, place in self.series():
            if metric.kind is MetricKind.GAUGE:
                self.values[place] = 0.0

    def _append(self, metric: Metric, labels: Labels) -> int:
        line = json.dumps([metric.name, labels, self._free]).encode()
        is_full = self._free + metric.cells > CELLS or self._end + _LONGEST_LINE >= SEGMENT_BYTES
        if is_full or len(line) >= _LONGEST_LINE:
            log.warning("there is no room for more series of %s", metric.name)
            return _OVERFLOW
        place, end = self._free, self._end + len(line)
        self._memory[self._end : end] = line
        self._memory[end : end + 1] = b"\n"
        self._free, self._end = place + metric.cells, end + 1
        return place

    def _lines(self) -> Iterator[tuple[str, list[str], int]]:
        """Yield the lines.  Nothing behind the last one is read: that would take memory for it."""
        while self._memory[self._end]:
            end = self._memory.find(b"\n", self._end, self._end + _LONGEST_LINE)
            if end < 0:  # it is being written
                return
            yield json.loads(self._memory[self._end : end])
            self._end = end + 1


@attrs.frozen
class SharedMemory:
    """The memory of a server.  `descriptor` is the open file, which is passed on to other processes."""

    descriptor: int

    @classmethod
    def create(cls) -> SharedMemory:
        """Make the memory in the process that starts the others."""
        return cls(os.memfd_create("trackcore-metrics"))

    def reserve(self, number: int) -> None:
        """Make room for a segment.  Only the process that has made the memory may do so."""
        if os.fstat(self.descriptor).st_size < (number + 1) * SEGMENT_BYTES:
            os.ftruncate(self.descriptor, (number + 1) * SEGMENT_BYTES)

    def segment(self, number: int) -> SharedCells:
        """Return the segment of this number, which is this process's own from now on."""
        cells = self._cells(number)
        cells.take_over()
        return cells

    def segments(self) -> list[SharedCells]:
        """Return all segments, to be read."""
        return [self._cells(number) for number in range(os.fstat(self.descriptor).st_size // SEGMENT_BYTES)]

    def _cells(self, number: int) -> SharedCells:
        return SharedCells(mmap.mmap(self.descriptor, SEGMENT_BYTES, offset=number * SEGMENT_BYTES))
