"""The blocks of code are correct: the Python runs, configurations start a server, and commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from adapter_helpers import KEY, serve, track
from click.testing import CliRunner
from pages import ROOT, Page, all_pages, as_whole, page
from patience import PATIENCE
from trackcore_server import create_collector, parse_configuration
from trackcore_server.cli._main import main
from trackcore_server.config.configuration import rebase
from trackcore_server.config.debugger_token import TOKEN_CHARS, read_debugger_token
from trackcore_server.config.privacy_rules import KEY_CHARS
from trackcore_server.delivery.service import check_destinations
from trackcore_testing import TrackingServer

from trackcore import MemorySink, Source
from trackcore.text.jsontext import parse_value

PAGES = [each for each in all_pages() if each.name not in {"docs/testing.md", "CHANGELOG.md"}]  # tests/testkit has one
ADDRESS = "http://127.0.0.1:8080"
WITHOUT_ARGUMENTS = {"explain", "import", "prune", "validate", "COMMAND"}
"""Commands that may stand alone within the text, although they need arguments."""
BEFORE_COMMANDS = {"|", "&&", ";", "--", "CONTAINER"}
DATABASE_URL = "postgresql://user:password@db.example.com/analytics"
TOKEN = "x" * max(TOKEN_CHARS, KEY_CHARS)


def blocks(language: str, *, of_files: bool = False) -> list[Any]:
    """Return the blocks of a language as parameters, each named for its page and heading."""
    found = [(each, fence) for each in PAGES for fence in each.fences if fence.language == language]
    return [
        pytest.param(fence.text, id=f"{each.name} {fence.heading} {place}")
        for place, (each, fence) in enumerate(found)
        if of_files or fence.file_name is None
    ]


def run(code: str, folder: Path) -> None:
    """Run a block in its own interpreter and an empty folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


class TestPython:
    @pytest.mark.parametrize("code", blocks("python"))
    def test_it_runs(self, code: str, tmp_path: Path) -> None:
        """A block that sends to a server sends to one in memory, which must accept it."""
        if ADDRESS not in code:
            run(code, tmp_path)
            return
        with (
            TrackingServer(sources=[Source(name="website", write_keys=["abc123"])], timeout=PATIENCE) as server,
            server.collecting() as tracking,
        ):
            run(code.replace(ADDRESS, server.url), tmp_path)
            tracking.assert_tracked("Item Purchased", user_id="019mr8mf4r", count=1)
            assert tracking.unexpected_rejections() == ""

    def test_it_passes_a_strict_type_checker(self, tmp_path: Path) -> None:
        """Two exceptions: Flask documents an assignment to a method, and Segment's SDK has no types."""
        for number, block in enumerate(blocks("python")):
            (tmp_path / f"block_{number}.py").write_text(block.values[0])
        options = ["--strict", "--disable-error-code=method-assign", "--disable-error-code=import-untyped"]
        options += [f"--cache-dir={tmp_path}", "--config-file="]
        command = [sys.executable, "-m", "mypy", *options, "."]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout

    @pytest.mark.parametrize("code", blocks("python", of_files=True))
    def test_it_is_formatted(self, code: str) -> None:
        command = [sys.executable, "-m", "ruff", "format", "--check", "-"]
        ran = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def test_delivery_as_a_library_needs_no_server(self) -> None:
        assert "trackcore_server" not in page("guides/function-destination").fence("python")


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_is_a_configuration(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server would start with it if the environment had its variables."""
    for name in re.findall(r'"env:(\w+)"', text):
        monkeypatch.setenv(name, DATABASE_URL if name.endswith("_URL") else TOKEN)
    (tmp_path / "plan.yaml").write_text("events: []")
    configuration = rebase(parse_configuration(as_whole(text)), tmp_path)
    check_destinations(configuration)
    assert read_debugger_token(configuration) in {TOKEN, None}
    create_collector(configuration)


@pytest.mark.parametrize("text", blocks("json"))
def test_json_is_json(text: str) -> None:
    assert isinstance(parse_value(text.encode()), dict)


class TestAnswers:
    """The answers that are shown are those of the code."""

    API = page("reference/http-api")

    def test_the_validated_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The output shown for `trackcore validate` is its output for the file shown."""
        validate = page("guides/validate")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "messages.jsonl").write_text(validate.fence("jsonl"))
        result = CliRunner().invoke(main, ["validate", "messages.jsonl"])
        assert result.exit_code == 1
        assert result.stdout + result.stderr == validate.fence("text")

    def test_the_partial_answer(self) -> None:
        body = {"batch": [track(), {"type": "track", "event": "E"}]}
        answer = serve(MemorySink()).post("/v1/batch", body, headers=KEY)
        shown = self.API.fence("json", "Rejections in a 200")
        assert (answer.status, answer.json) == (200, parse_value(shown.encode()))

    def test_the_answer_to_malformed_json(self) -> None:
        answer = serve(MemorySink()).post("/v1/batch", b'{"batch": [,]}', headers=KEY)
        assert (answer.status, answer.json) == (400, parse_value(self.API.fence("json", "Error answers").encode()))


def words_of(line: str) -> Iterator[list[str]]:
    """Yield the words of each `trackcore` command in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    words = list(lexer)
    for place, word in enumerate(words):
        is_first = place == 0 or words[place - 1] in BEFORE_COMMANDS
        if len(words) > place + 1 and (word.endswith("/bin/trackcore") or (word == "trackcore" and is_first)):
            rest = words[place + 1 :]
            end = next((index for index, word in enumerate(rest) if set(word) <= set("|&;>")), len(rest))
            yield rest[:end]


def commands(each: Page) -> Iterator[list[str]]:
    """Yield the words of each `trackcore` command line of a page, in a block or within the text."""
    blocks_of_shell = (fence.text.splitlines() for fence in each.fences if fence.language == "sh")
    for line in (*(line for lines in blocks_of_shell for line in lines), *each.inline_code):
        if "trackcore" in line:
            yield from words_of(line)


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=" ".join(words)) for each in PAGES for words in commands(each)]
)
def test_commands_exist_with_their_options(words: list[str]) -> None:
    name, *arguments = words
    assert isinstance(main, click.Group)
    if arguments or name not in WITHOUT_ARGUMENTS:
        main.commands[name].make_context(name, arguments)


def test_every_command_is_named_on_some_page() -> None:
    assert isinstance(main, click.Group)
    assert main.commands.keys() <= {words[0] for each in all_pages() for words in commands(each)}
