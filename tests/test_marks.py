"""Marks: whether a position holds in a log, and up to where two logs agree.

The rule: a position in a log means nothing without the log's identity.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count, pairwise
from unittest.mock import patch

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore import LogChanged, Mark, Stretch
from trackcore import marks as marks_module
from trackcore.marks import NEWEST_STRETCHES, decode_mark, encode_mark, mark_at, message_identity


def log_of(end: int, **begins: int) -> list[Stretch]:
    """Make the stretches of a log, by the positions behind which they begin."""
    parts = [*begins.items(), ("", end)]
    return [Stretch(name, after, following) for (name, after), (_, following) in pairwise(parts)]


AB, ABC, OTHER = log_of(20, a=0, b=10), log_of(30, a=0, b=10, c=20), log_of(10, other=0)


def holds(mark: Mark, stretches: Sequence[Stretch], end: int, message: str = "") -> bool:
    stretch = mark_at(mark.position, stretches, "").stretches[-1:]
    beginning = stretches[0].after if stretches else 0
    return mark.holds(end=end, stretch="".join(each.id for each in stretch), message=message, beginning=beginning)


class TestHolding:
    def test_it_holds_in_the_log_it_was_made_in_and_in_what_that_grows_to(self) -> None:
        mark = mark_at(15, AB, "m")
        assert holds(mark, AB, 15, "m")
        assert holds(mark, ABC, 30, "m")

    def test_it_holds_after_its_message_was_deleted(self) -> None:
        assert holds(mark_at(15, AB, "m"), AB, 15)

    def test_it_does_not_hold_behind_the_end_nor_in_another_stretch_nor_at_another_message(self) -> None:
        mark = mark_at(15, AB, "m")
        assert not holds(mark, AB[:1], 14, "m")
        assert not holds(mark, log_of(15, a=0, c=12), 15, "m")
        assert not holds(mark, AB, 15, "another")

    def test_the_beginning_holds_in_each_log(self) -> None:
        assert holds(Mark(), [], 0)
        assert holds(Mark(), OTHER, 10)

    def test_without_a_proof_only_the_end_speaks_against_it(self) -> None:
        assert holds(Mark(position=5), OTHER, 5)
        assert not holds(Mark(position=5), OTHER, 4)
        assert not Mark(position=5).is_proven

    def test_a_position_before_all_that_is_left_holds(self) -> None:
        """There is nothing before it that could have been left out."""
        pruned = log_of(30, c=20)
        assert holds(mark_at(15, AB, "m"), pruned, 30)
        assert holds(mark_at(20, AB, "m"), pruned, 30)
        assert not holds(mark_at(21, log_of(25, a=0, b=10), "m"), pruned, 30)


class TestAgreement:
    def test_logs_agree_to_where_a_stretch_ends_in_one_of_them(self) -> None:
        mark = mark_at(25, ABC, "m")
        assert mark.agrees_up_to(log_of(17, a=0, b=10)) == 17
        assert mark.agrees_up_to(log_of(40, a=0, b=10, d=17)) == 17
        assert mark.agrees_up_to(log_of(40, a=0, d=6)) == 6
        assert mark.agrees_up_to(OTHER) == 0
        assert mark.agrees_up_to([]) == 0

    def test_a_stretch_in_which_the_message_is_another_counts_for_nothing(self) -> None:
        assert mark_at(15, AB, "m").agrees_up_to(AB) == 10
        assert mark_at(5, AB, "m").agrees_up_to(AB) == 0

    def test_the_oldest_stretch_shows_that_it_is_the_same_log(self) -> None:
        """However many there are; and stretches without a message show nothing."""
        log = [Stretch("made", 0, 0), *(Stretch(f"s{at}", at, at + 1) for at in range(100_000))]
        assert mark_at(100_000, log, "m").agrees_up_to([*log[:2], Stretch("new", 1, 50)]) == 1

    def test_so_many_are_kept(self) -> None:
        """All of the newest, then one for each power of two, and the oldest."""
        log = [Stretch(str(at), at, at + 1) for at in range(1_000)]
        kept = [int(stretch.id) for stretch in mark_at(1_000, log, "m").stretches]
        assert kept == [0, 488, 744, 872, 936, 968, *range(1_000 - NEWEST_STRETCHES, 1_000)]


@attrs.define
class _Log:
    """A log: of each message its number, which no other has, and its stretch."""

    messages: tuple[tuple[int, int], ...] = ()
    numbers: "count[int]" = attrs.field(factory=count)

    def append(self, lengths: Sequence[int]) -> None:
        for length in lengths:
            stretch = next(self.numbers)
            self.messages += tuple((next(self.numbers), stretch) for _ in range(length))

    def stretches(self) -> list[Stretch]:
        begins = [at for at, (_, stretch) in enumerate(self.messages) if not at or self.messages[at - 1][1] != stretch]
        return [
            Stretch(str(self.messages[after][1]), after, end) for after, end in pairwise([*begins, len(self.messages)])
        ]

    def page(self, after: int) -> list[Stretch]:
        """Return what a page behind a position has: of before that what a mark there keeps."""
        kept = {stretch.id for stretch in mark_at(after, self.stretches(), "").stretches}
        return [stretch for stretch in self.stretches() if stretch.after >= after or stretch.id in kept]

    def agreed(self, messages: Sequence[tuple[int, int]]) -> int:
        pairs = zip(self.messages, messages, strict=False)
        return next(
            (at for at, (mine, other) in enumerate(pairs) if mine != other), min(len(self.messages), len(messages))
        )


_LENGTHS = st.lists(st.one_of(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=30)


class TestLaw:
    @given(
        history=st.lists(st.tuples(_LENGTHS, st.none() | st.tuples(st.integers(0, 9), st.floats(0, 1))), max_size=4),
        more=_LENGTHS,
        restored=st.tuples(st.integers(0, 9), st.floats(0, 1)),
        after=st.lists(st.integers(1, 40), max_size=3),
        newest=st.sampled_from([1, 2, NEWEST_STRETCHES]),
        cut=st.data(),
    )
    def test_nothing_is_skipped_and_little_is_repeated(
        self,
        *,
        history: list[tuple[list[int], tuple[int, float] | None]],
        more: list[int],
        restored: tuple[int, float],
        after: list[int],
        newest: int,
        cut: st.DataObject,
    ) -> None:
        """Whatever backups were restored before and after the mark was made.

        Of the messages on which both logs agree, fewer are repeated than those by which the log was rewound; at most
        three times as many where the mark is made of what a page has.
        """
        log = _Log()
        backups: list[tuple[tuple[int, int], ...]] = [()]

        def restore(which: tuple[int, float]) -> None:
            backup = backups[which[0] % len(backups)]
            log.messages = backup[: round(len(backup) * which[1])]

        for lengths, which in history:
            log.append(lengths)
            backups.append(log.messages)
            if which is not None:
                restore(which)
        log.append(more)
        backups.append(log.messages)
        read = log.messages
        position = cut.draw(st.integers(1, len(read)))
        behind = cut.draw(st.integers(0, position - 1))
        with patch.object(marks_module, "NEWEST_STRETCHES", newest):  # few, so that short logs will do
            marks = [mark_at(position, log.stretches(), ""), mark_at(position, log.page(behind), "")]
        restore(restored)
        log.append(after)
        agreed = log.agreed(read[:position])
        for mark, factor in zip(marks, (1, 3), strict=True):
            assert mark.is_proven
            assert len(mark.stretches) <= newest + position.bit_length() + 1
            assert decode_mark(position, encode_mark(mark)) == mark
            if holds(mark, log.stretches(), len(log.messages)):
                assert agreed == position
                continue
            found = mark.agrees_up_to(log.stretches())
            assert found <= agreed
            assert agreed - found <= max(factor * (position - agreed) - 1, 0)


@pytest.mark.parametrize("text", ['{"stretches":[["a",0],["b",10]],"message":"m"}', None])
def test_a_proof_of_before_ends_were_kept_is_read(text: str | None) -> None:
    expected = Mark(position=15) if text is None else mark_at(15, AB, "m")
    assert decode_mark(15, text) == expected


def test_messages_have_identities() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    later = noon.replace(microsecond=1_000)
    texts = {message_identity(*parts) for parts in [("a", "b", noon), ("a", "b", later), ("ab", "", noon)]}
    assert len(texts) == 3


def test_a_change_says_what_was_found_and_what_follows() -> None:
    mark = Mark(position=600, stretches=(Stretch("a", 0, 600),))
    assert str(LogChanged(mark=mark, found=Mark(position=400, stretches=(Stretch("a", 0, 600),)), end=450)) == (
        "the log was rewound: it agrees with what was read of it up to 400"
        " (600 is not a position in it any more; it ends at 450); going on behind 400"
    )
    assert str(LogChanged(mark=mark, found=Mark(), end=700)) == (
        "the log is another one than before (600 is not a position in it any more; it ends at 700);"
        " going on with its oldest message"
    )
