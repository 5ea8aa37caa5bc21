"""A cache for what is computed from the text of a client: a client cannot make its memory grow."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

MAX_TEXT_BYTES = 1_000
"""How long the texts of one call may be together, so that its result is kept."""


def cached_by_text(
    function: Callable[..., T], size: int = 1_000, max_text_bytes: int = MAX_TEXT_BYTES
) -> Callable[..., T]:
    """Return a function of texts with a cache of its last `size` results.  Errors are not kept."""
    cached = lru_cache(size)(function)

    def call(*texts: bytes) -> T:
        return (cached if sum(map(len, texts)) <= max_text_bytes else function)(*texts)

    return call
