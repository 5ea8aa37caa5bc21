"""The README and the pages of `docs/`, taken apart for the tests that hold them to the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SOURCE = '[[sources]]\nname = "website"\nwrite_keys = ["abc123"]\n'
_FILE = re.compile(r"# ([\w./]+\.py)\n")


@attrs.frozen
class Fence:
    """A block of code: its language, the heading above it, and its text."""

    language: str
    heading: str
    text: str

    @property
    def file_name(self) -> str | None:
        """The name of the file that the block is, if its first line is a comment with one."""
        found = _FILE.match(self.text)
        return found and found[1]


@attrs.frozen
class Table:
    """A table: the heading above it, and its rows below the titles, each cell as Markdown."""

    heading: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@attrs.frozen
class Page:
    """A file of Markdown."""

    path: Path
    text: str
    tokens: tuple[Token, ...] = attrs.field(repr=False)

    @property
    def name(self) -> str:
        """The path from the root of the project."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def headings(self) -> list[str]:
        """The headings, in their order."""
        return [self.tokens[place + 1].content for place, token in enumerate(self.tokens) if _is_heading(token)]

    @property
    def links(self) -> list[str]:
        """The targets of links and images."""
        children = [child for token in self.tokens for child in token.children or ()]
        return [str(child.attrGet("href") or child.attrGet("src")) for child in children if child.type in _LINKS]

    @property
    def inline_code(self) -> list[str]:
        """The code within the text."""
        return [child.content for token in self.tokens for child in token.children or () if child.type == "code_inline"]

    @property
    def fences(self) -> list[Fence]:
        """The blocks of code, except for the directives of Sphinx."""
        found = [Fence(token.info, heading, token.content) for heading, _, token in self._parts("fence")]
        return [fence for fence in found if not fence.language.startswith("{")]

    @property
    def tables(self) -> list[Table]:
        """The tables."""
        return [Table(heading, *self._rows(place)) for heading, place, _ in self._parts("table_open")]

    def fence(self, language: str, heading: str | None = None) -> str:
        """Return the only block of a language, under a heading."""
        (found,) = [each.text for each in self.fences if each.language == language and heading in {None, each.heading}]
        return found

    def tables_under(self, heading: str) -> list[Table]:
        """Return the tables under a heading."""
        found = [table for table in self.tables if table.heading == heading]
        assert found, f"no table under {heading!r} of {self.name}"
        return found

    def _parts(self, kind: str) -> Iterator[tuple[str, int, Token]]:
        """Yield each token of a kind with the heading above it and its place."""
        heading = ""
        for place, token in enumerate(self.tokens):
            if _is_heading(token):
                heading = self.tokens[place + 1].content
            elif token.type == kind:
                yield heading, place, token

    def _rows(self, place: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        rows: list[list[str]] = []
        for token in self.tokens[place:]:
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(token.content)
        titles, *body = map(tuple, rows)
        return titles, tuple(body)


_LINKS = {"link_open", "image"}


def _is_heading(token: Token) -> bool:
    return token.type == "heading_open"


@cache
def read_page(path: Path) -> Page:
    """Read a page."""
    text = path.read_text(encoding="utf-8")
    return Page(path, text, tuple(MarkdownIt("commonmark").enable("table").parse(text)))


def page(name: str) -> Page:
    """Return a page of `docs/` by its path there, without the suffix."""
    return read_page(DOCS / f"{name}.md")


def all_pages() -> list[Page]:
    """Return the README, its neighbours and every page of `docs/`."""
    roots = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    pages = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
    return [read_page(path) for path in (*roots, *pages)]


def code_in(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def as_whole(text: str) -> str:
    """Return a configuration that a server would start with: add a source if it has none."""
    return text if "[[sources]]" in text else SOURCE + text
