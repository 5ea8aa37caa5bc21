"""The English of docstrings, comments, strings and documents: the phrases that no engineer would write."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "docs")

PHRASES = (
    r"\A\s*(?:Gives?|Tells?|Says?|Hear|Be told)\b(?! up\b)",  # Return, Report, Raise, Build, or a noun
    r"(?:\A\s*|(?<=[.;!?]\s)\s*)(?:What|Who|Whoever) (?![^.;!?]*\?)",  # name the thing: "the rejected message"
    r"(?i:(?<![-\w])mend(?:s|ed|ing)?\b)",  # normalize, repair, fix
    r"(?i:\bbut for\b|\b(?:of )?no use\b)",  # except for, unusable
    r"(?i:(?<!there\s)\b(?:is|are|was|were|be) no (?!longer\b|more\b|less\b|other\b|\w+er than\b))",  # is not a
    r"(?i:\bnone of (?:ours|theirs|its own)\b|\bof ours\b|\bno business of\b|\bin the guise of\b)",
    r"(?i:\blikewise\b|\banew\b|\bfor good\b|\bof late\b|\bas yet\b|\bby now\b|\bso does nothing else\b)",
    r"(?i:\bstands? for\b)",  # is used instead, represents
    r"(?i:\bhears?\b|\bheard\b|\b(?:is|are|was|were|be|been) told\b(?! to\b| apart\b))",  # receives, is reported
)
HABITS = re.compile("|".join(PHRASES).replace(" ", r"\s+"))
CODE = re.compile(r"^```.*?^```|`[^`]*`|^#+ .*?$|^ +|^\s*CREATE TABLE .*", re.DOTALL | re.MULTILINE)
"""Fences, code spans and headings; indentation; and SQL, whose comments are in the files of users."""


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each text of a file with its first line; of tests only the docstrings."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, source
        return
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    is_test = path.is_relative_to(ROOT / "tests")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (not is_test or id(node) in docstrings):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not is_test:
            yield token.start[0], token.string.lstrip("# ")


def habits(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the phrase of each habit in a file."""
    for line, text in texts_of(path):
        prose = CODE.sub(lambda code: "\n" * code[0].count("\n"), text)
        for found in HABITS.finditer(prose):
            yield line + prose.count("\n", 0, found.end()), " ".join(found[0].split())


@pytest.mark.parametrize("place", ["trackcore", "adapters", "benchmarks", "tests", *DOCUMENTS])
def test_no_habit_comes_back(place: str) -> None:
    files = [path for path in sorted((ROOT / place).rglob("*")) if path.suffix in {".py", ".md"}] or [ROOT / place]
    shown = [f"{file.relative_to(ROOT)}:{line}: {phrase}" for file in files for line, phrase in habits(file)]
    assert not shown, "\n".join(shown)


def test_the_check_sees_what_it_should(tmp_path: Path) -> None:
    path = tmp_path / "words.py"
    path.write_text('"""Give a number.\n\nWho is mended\nis `of no use`."""\n# likewise\nX = f"{1} is no list"\n')
    assert sorted(habits(path)) == [(1, "Give"), (3, "Who"), (3, "mended"), (5, "likewise"), (6, "is no")]
