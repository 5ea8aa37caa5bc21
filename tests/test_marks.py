"""Marks: whether a position holds in a log, and up to where two logs agree.

The rule: a position in a log means nothing without the log's identity.
"""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from trackcore import LogChanged, Mark, Stretch
from trackcore.marks import MOST_STRETCHES, mark_at, message_identity

A, B, C, OTHER = Stretch("a", 0), Stretch("b", 10), Stretch("c", 20), Stretch("other", 0)


def holds(mark: Mark, stretches: list[Stretch], end: int, message: str = "") -> bool:
    stretch = mark_at(mark.position, stretches, "").stretches[-1:]
    return mark.holds(end=end, stretch="".join(each.id for each in stretch), message=message)


class TestHolding:
    def test_it_holds_in_the_log_it_was_made_in_and_in_what_that_grows_to(self) -> None:
        mark = mark_at(15, [A, B], "m")
        assert holds(mark, [A, B], 15, "m")
        assert holds(mark, [A, B, C], 30, "m")

    def test_it_holds_after_its_message_was_deleted(self) -> None:
        assert holds(mark_at(15, [A, B], "m"), [A, B], 15)

    def test_it_does_not_hold_behind_the_end_nor_in_another_stretch_nor_at_another_message(self) -> None:
        mark = mark_at(15, [A, B], "m")
        assert not holds(mark, [A, B], 14, "m")
        assert not holds(mark, [A, Stretch("c", 12)], 15, "m")
        assert not holds(mark, [A, B], 15, "another")

    def test_the_beginning_holds_in_each_log(self) -> None:
        assert holds(Mark(), [], 0)
        assert holds(Mark(), [OTHER], 10)

    def test_without_a_proof_only_the_end_speaks_against_it(self) -> None:
        assert holds(Mark(position=5), [OTHER], 5)
        assert not holds(Mark(position=5), [OTHER], 4)
        assert not Mark(position=5).is_proven


class TestAgreement:
    def test_logs_agree_to_where_a_stretch_ends_in_one_of_them(self) -> None:
        mark = mark_at(25, [A, B, C], "m")
        assert mark.agrees_up_to([A, B], 17) == 17
        assert mark.agrees_up_to([A, B, Stretch("d", 17)], 40) == 17
        assert mark.agrees_up_to([A, Stretch("d", 6)], 40) == 6
        assert mark.agrees_up_to([OTHER], 40) == 0
        assert mark.agrees_up_to([], 0) == 0

    def test_a_stretch_in_which_the_message_is_another_counts_for_nothing(self) -> None:
        assert mark_at(15, [A, B], "m").agrees_up_to([A, B], 30) == 10
        assert mark_at(5, [A], "m").agrees_up_to([A], 30) == 0

    @given(
        shared=st.integers(1, 60),
        mine=st.integers(1, 30),
        its=st.integers(0, 30),
        width=st.integers(1, 5),
        cut=st.data(),
    )
    def test_logs_agree_to_where_they_parted(
        self, shared: int, mine: int, its: int, width: int, cut: st.DataObject
    ) -> None:
        """Whatever came into either of them since; unless the parting lies further back than a mark reaches."""
        common = [Stretch(f"s{after}", after) for after in range(0, shared, width)]
        position = cut.draw(st.integers(shared + 1, shared + mine))
        mark = mark_at(position, [*common, Stretch("mine", shared)], "m")
        log = [*common, *([Stretch("its", shared)] if its else [])]
        assert not holds(mark, log, shared + its, "x")
        assert mark.agrees_up_to(log, shared + its) == shared


def test_a_mark_keeps_so_many_stretches() -> None:
    stretches = [Stretch(str(number), number) for number in range(100)]
    assert mark_at(50, stretches, "m").stretches == tuple(stretches[50 - MOST_STRETCHES : 50])


def test_messages_have_identities() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    later = noon.replace(microsecond=1_000)
    texts = {message_identity(*parts) for parts in [("a", "b", noon), ("a", "b", later), ("ab", "", noon)]}
    assert len(texts) == 3


def test_a_change_says_what_was_found_and_what_follows() -> None:
    mark = Mark(position=600, stretches=(A,))
    assert str(LogChanged(mark=mark, found=Mark(position=400, stretches=(A,)), end=450)) == (
        "the log was rewound: it agrees with what was read of it up to 400"
        " (600 is no position in it any more; it ends at 450); going on behind 400"
    )
    assert str(LogChanged(mark=mark, found=Mark(), end=700)) == (
        "the log is another one than before (600 is no position in it any more; it ends at 700);"
        " going on with its oldest message"
    )
