"""The bar that a command shows on a terminal while it reads a long log."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr

import pytest
from trackcore_server.cli import _progress
from trackcore_server.cli._progress import CountProgress, SearchProgress

Shown = Callable[[], str]

_END = b"(end)"
_REMOVED = "\x1b[1A\x1b[2K"
"""How a terminal is told to clear the line of the bar."""


@contextmanager
def terminal() -> Iterator[Shown]:
    """Make standard error a terminal, and yield what returns the text that was written to it."""
    screen, program = pty.openpty()

    def read() -> str:
        os.write(program, _END)  # a terminal delivers a little later
        text = b""
        while not text.endswith(_END):
            text += os.read(screen, 1 << 16)
        return text.removesuffix(_END).decode()

    with open(program, "w", encoding="utf-8") as stderr, redirect_stderr(stderr):  # noqa: PTH123 - a descriptor
        yield read
    os.close(screen)


@pytest.fixture(autouse=True)
def _known_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "_PATIENCE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
class TestSearch:
    def test_a_long_search_shows_how_far_it_is_and_what_it_found(self) -> None:
        with terminal() as shown:
            with SearchProgress("Searching", writes_to_terminal=False) as progress:
                progress.examined(1_000_000, 5_000_000)
                progress.step_aside()
                progress.examined(4_000_000, 5_000_000)
                progress.examined(5_000_000, 5_000_000)
            text = shown()
        assert "Searching" in text
        assert "━" in text
        assert "1 found" in text
        assert text.endswith(_REMOVED)

    def test_it_makes_room_for_records_on_the_same_terminal(self) -> None:
        with terminal() as shown:
            with SearchProgress("Searching", writes_to_terminal=True) as progress:
                progress.examined(1_000_000, 5_000_000)
                assert "Searching" in shown()
                progress.step_aside()
                assert shown().endswith(_REMOVED)
                progress.examined(5_000_000, 5_000_000)
            assert shown() == ""


def test_a_short_search_shows_nothing() -> None:
    with terminal() as shown:
        with SearchProgress("Searching", writes_to_terminal=False) as progress:
            progress.examined(1, 1)
        assert shown() == ""


def test_a_count_shows_its_text() -> None:
    with terminal() as shown:
        with CountProgress("Replaying", 4) as progress:
            progress.show(2, "2 messages")
            progress.show(4, "4 messages")
        text = shown()
    assert "Replaying" in text
    assert "4 messages" in text


@pytest.mark.usefixtures("impatient")
def test_without_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress("Searching", writes_to_terminal=False) as progress:
        progress.examined(1, 5_000_000)
    assert capsys.readouterr().err == ""
