"""The cache for what is computed from the text of a client."""

from __future__ import annotations

import pytest

from trackcore.caching import MAX_TEXT_BYTES, cached_by_text


class Counting:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, ...]] = []

    def __call__(self, *texts: bytes) -> bytes:
        self.calls.append(texts)
        if b"!" in texts:
            raise ValueError
        return b"".join(texts)


class TestCachedByText:
    def test_a_result_is_computed_once_for_the_same_texts(self) -> None:
        counting = Counting()
        cached = cached_by_text(counting)
        assert [cached(b"a", b"b"), cached(b"a", b"b"), cached(b"ab", b"")] == [b"ab"] * 3
        assert counting.calls == [(b"a", b"b"), (b"ab", b"")]

    def test_as_many_results_are_kept_as_asked_for(self) -> None:
        counting = Counting()
        cached = cached_by_text(counting, 2)
        for text in (b"a", b"b", b"c", b"c", b"a"):
            cached(text)
        assert counting.calls == [(b"a",), (b"b",), (b"c",), (b"a",)]

    def test_results_of_long_texts_are_not_kept(self) -> None:
        counting = Counting()
        cached = cached_by_text(counting)
        for size in (MAX_TEXT_BYTES, MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1, MAX_TEXT_BYTES + 1):
            cached(b"x" * size)
        assert [len(text) for (text,) in counting.calls] == [MAX_TEXT_BYTES, MAX_TEXT_BYTES + 1, MAX_TEXT_BYTES + 1]

    def test_errors_are_not_kept(self) -> None:
        counting = Counting()
        cached = cached_by_text(counting)
        for _ in range(2):
            with pytest.raises(ValueError):  # noqa: PT011 - it has no message
                cached(b"!")
        assert len(counting.calls) == 2
