"""The guide on testing, `docs/testing.md`, taken apart for the tests that run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from markdown_it import MarkdownIt

GUIDE = Path(__file__).parents[1] / "docs" / "testing.md"


@attrs.frozen(kw_only=True)
class Fence:
    """A block of code under a heading."""

    heading: str
    language: str
    text: str


@attrs.frozen(kw_only=True)
class Row:
    """A row of a table under a heading, its cells as Markdown."""

    heading: str
    cells: Sequence[str]


def fences(heading: str, language: str) -> list[str]:
    """Return the blocks of code in a language under a heading, in their order."""
    found = [
        part.text
        for part in _parts()
        if isinstance(part, Fence) and (part.heading, part.language) == (heading, language)
    ]
    assert found, f"nothing in {language} under {heading!r}"
    return found


def rows(heading: str) -> list[Sequence[str]]:
    """Return the rows of the tables under a heading, without their heads."""
    return [part.cells for part in _parts() if isinstance(part, Row) and part.heading == heading]


def _parts() -> Iterator[Fence | Row]:
    heading = ""
    cells: list[str] | None = None
    tokens = MarkdownIt("commonmark").enable("table").parse(GUIDE.read_text(encoding="utf-8"))
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            heading = following.content
        elif token.type == "fence":
            yield Fence(heading=heading, language=token.info, text=token.content)
        elif token.type == "tr_open":
            cells = []
        elif token.type == "td_open" and following is not None and cells is not None:
            cells.append(following.content)
        elif token.type == "tr_close" and cells:
            yield Row(heading=heading, cells=cells)
