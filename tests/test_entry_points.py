"""The entry points that need no page: docstrings with examples, `python -m trackcore`, and `--help`."""

from __future__ import annotations

import doctest
import importlib
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest
import trackcore_sqlite
from click.testing import CliRunner
from trackcore_server.cli._main import main

import trackcore

WITH_EXAMPLES = (
    trackcore.Collector,
    trackcore.Origin,
    trackcore.Receipt,
    trackcore.Track,
    trackcore_sqlite.open_collector,
)
LINES = 15
CONFIGURATION = """
[[sources]]
name = "site"
write_keys = ["key"]
[[destinations]]
name = "Elsewhere"
"""


def command_names(command: click.Command, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each command."""
    yield names
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from command_names(inner, (*names, name))


class TestExamples:
    """`help(trackcore)` "opens with a 15-line example", and each of the main classes has one."""

    def test_help_opens_with_one(self) -> None:
        text = pydoc.plain(pydoc.render_doc(trackcore))
        _, _, description = text.partition("DESCRIPTION\n")
        lines = list(takewhile(bool, (line.strip() for line in description.splitlines())))
        assert lines[0].startswith(">>> ")
        assert len(lines) <= LINES

    @pytest.mark.parametrize("documented", WITH_EXAMPLES, ids=lambda documented: documented.__name__)
    def test_a_main_name_has_one(self, documented: object) -> None:
        assert "\n    >>> " in str(documented.__doc__)

    @pytest.mark.parametrize("name", ["trackcore", *sorted({each.__module__ for each in WITH_EXAMPLES})])
    def test_they_run(self, name: str) -> None:
        result = doctest.testmod(importlib.import_module(name))
        assert result.attempted
        assert not result.failed


class TestCommand:
    def test_the_package_is_a_command(self) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "trackcore", "--version"], capture_output=True, text=True, check=True
        )
        assert ran.stdout == CliRunner().invoke(main, ["--version"]).stdout

    def test_its_help_names_completion(self) -> None:
        assert "_TRACKCORE_COMPLETE=bash_source" in CliRunner().invoke(main, ["--help"]).stdout

    def test_completion_works(self) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "trackcore_server.cli"],
            env={"_TRACKCORE_COMPLETE": "bash_complete", "COMP_WORDS": "trackcore ev", "COMP_CWORD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.stdout == "plain,events\n"

    @pytest.mark.parametrize("arguments", [["--help"], ["events"], ["stats", "--by", "day"], ["export"]], ids=" ".join)
    def test_a_command_that_reads_imports_no_server_no_client_and_no_table(
        self, arguments: list[str], tmp_path: Path
    ) -> None:
        """It shows its first line within a second: most of that would be imports."""
        (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
        sources = [trackcore.Source(name="site", write_keys=("key",))]
        with trackcore_sqlite.open_collector(tmp_path / "trackcore.db", sources=sources) as collector:
            collector.receive(b'{"userId": "u", "event": "E", "writeKey": "key"}', endpoint="track")
        ran = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "trackcore_server.cli", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if "|" in line}
        assert "click" in imported
        assert imported.isdisjoint(
            {"rich", "urllib3", "ssl", "asyncio", "werkzeug", "gunicorn", "duckdb", "trackcore_sqlite.sink"}
        )

    def test_its_help_says_of_each_command_what_that_does(self) -> None:
        """The table of commands has the sentences, so that no command is imported for them."""
        shown = CliRunner().invoke(main, ["--help"]).stdout
        assert isinstance(main, click.Group)
        for name, command in main.commands.items():
            assert f"  {name} " in shown
            assert " ".join(command.get_short_help_str(limit=200).split()) in " ".join(shown.split())

    @pytest.mark.parametrize("names", list(command_names(main)), ids=" ".join)
    def test_every_help_has_an_example_and_fits(self, names: tuple[str, ...]) -> None:
        shown = CliRunner().invoke(main, [*names, "--help"]).stdout
        assert " ".join(["Examples:\n    trackcore", *names]) in shown
        assert [line for line in shown.splitlines() if len(line) > 80] == []

    @pytest.mark.parametrize("name", list(main.commands) if isinstance(main, click.Group) else ())
    def test_options_are_aligned(self, name: str) -> None:
        """An option that lists its values pushes its own text to the next line: it names them in the text instead."""
        _, _, options = CliRunner().invoke(main, [name, "--help"]).stdout.partition("Options:\n")
        starts = [line for line in options.split("\n\n")[0].splitlines() if line.startswith("  -")]
        assert [line for line in starts if "  " not in line.strip()] == []
