"""The rule by which readers find duplicates, compared with the sentence that states it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trackcore_kafka.deduplication import Acknowledged, DuplicateWindow, identity

_LOGS = st.lists(st.sampled_from("abcdef"), max_size=40)
_SIZES = st.integers(1, 12)


def _decide(log: list[str], size: int, *, begin: int = 0) -> list[bool]:
    """Return the decisions of a reader that begins at an offset."""
    window = DuplicateWindow(size)
    decisions = [window.is_duplicate(offset, log[offset].encode()) for offset in range(max(0, begin - size), len(log))]
    return decisions[begin - max(0, begin - size) :]


class TestWindow:
    """The message at offset n is a duplicate if, and only if, the same id is at an offset n - window to n - 1."""

    @given(log=_LOGS, size=_SIZES)
    def test_the_rule(self, log: list[str], size: int) -> None:
        expected = [found in log[max(0, offset - size) : offset] for offset, found in enumerate(log)]
        assert _decide(log, size) == expected

    @given(log=_LOGS, size=_SIZES, begin=st.integers(0, 40))
    def test_every_reader_decides_alike_wherever_it_begins(self, log: list[str], size: int, begin: int) -> None:
        assert _decide(log, size, begin=min(begin, len(log))) == _decide(log, size)[begin:]

    @given(log=_LOGS, size=_SIZES, gaps=st.lists(st.integers(1, 5), min_size=40, max_size=40))
    def test_gaps_between_offsets_count(self, log: list[str], size: int, gaps: list[int]) -> None:
        offsets = [sum(gaps[:index]) for index in range(len(log))]
        window = DuplicateWindow(size)
        for offset, found in zip(offsets, log, strict=True):
            near = {log[i] for i, other in enumerate(offsets[: len(log)]) if offset - size <= other < offset}
            assert window.is_duplicate(offset, found.encode()) == (found in near)

    @given(log=_LOGS, size=_SIZES)
    def test_memory_is_bounded_by_its_size(self, log: list[str], size: int) -> None:
        window = DuplicateWindow(size)
        for offset, found in enumerate(log):
            window.is_duplicate(offset, found.encode())
            assert len(window._offsets) <= size + 1


class TestAcknowledged:
    """The ids of the last acknowledged messages, `size` of them at most."""

    def test_the_oldest_are_forgotten(self) -> None:
        known = Acknowledged(2)
        known.add([b"a", b"b"])
        known.add([b"c"])
        assert [key in known for key in (b"a", b"b", b"c")] == [False, True, True]


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "bc"), ("ab", "c")), (("1:a", "b"), ("a", "b")), (("", "1:ab"), ("1:a", "b"))]
)
def test_source_and_id_do_not_run_into_each_other(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert identity(*one) != identity(*other)
