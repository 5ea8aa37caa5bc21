"""The form of the pages: short, unpadded, linked, and each within reach."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pages import DOCS, README, ROOT, Page, all_pages, page, read_page

PAGES = [pytest.param(each, id=each.name) for each in all_pages()]
PADDED = re.compile(r"(?:^|\|)  | {2}\||-{4,}")
CODE = re.compile(r"`[^`]*`")


def anchors(target: Page) -> Iterator[str]:
    """Yield the anchors of the headings, as GitHub and MyST build them."""
    for heading in (heading for part in included(target) for heading in part.headings):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def included(target: Page) -> Iterator[Page]:
    """Yield a page, and those that it includes."""
    yield target
    for name in re.findall(r"^```\{include\} (.*)$", target.text, re.MULTILINE):
        yield read_page((target.path.parent / name).resolve())


class TestReadme:
    """Issue: "README of at most 200 lines, no line over 140 columns"."""

    def test_it_is_short(self) -> None:
        lines = README.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 200
        assert [line for line in lines if len(line) > 140] == []

    def test_its_figures_are_those_of_the_page_on_performance(self) -> None:
        figures = {row[:2] for table in page("explanation/performance").tables for row in table.rows}
        (table,) = read_page(README).tables_under("How fast and how safe")
        assert len(table.rows) == 5
        assert set(table.rows) <= figures


@pytest.mark.parametrize("each", PAGES)
def test_tables_are_not_padded(each: Page) -> None:
    """The padding of the tables was a third of the old README."""
    in_tables = [line for line in each.text.splitlines() if line.startswith("|")]
    assert [line for line in in_tables if PADDED.search(CODE.sub("code", line))] == []


@pytest.mark.parametrize("each", PAGES)
def test_links_lead_somewhere(each: Page) -> None:
    for link in each.links:
        if re.match(r"https?://|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (each.path.parent / name).resolve() if name else each.path
        assert target.exists(), link
        assert not anchor or anchor in anchors(read_page(target)), link


def test_every_page_is_in_a_table_of_contents() -> None:
    """`poe docs` fails as well, and names the page."""
    listed = {DOCS / "index.md"}
    for each in (page("index"), page("reference/python/index")):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", each.text, re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {each.path.parent / f"{name}.md" for name in names}
    assert listed == {path for path in DOCS.rglob("*.md") if "_build" not in path.parts}


def test_every_package_has_a_page_of_its_api() -> None:
    packages = {path.parent.name for path in ROOT.glob("adapters/trackcore_*/__init__.py")} - {"trackcore_command"}
    packages |= {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("trackcore/**/__init__.py")}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (DOCS / "reference/python").glob("trackcore*.md")}
    assert pages.keys() == packages
    assert [name for name, text in pages.items() if f".. automodule:: {name}\n" not in text] == []


def test_the_check_sees_padding() -> None:
    assert PADDED.search("| a   | b |")
    assert PADDED.search("| ---- | --- |")
    assert not PADDED.search("| a | | b |")


def test_no_page_has_a_template_left() -> None:
    assert [each.name for each in all_pages() if "@@" in each.text] == []
