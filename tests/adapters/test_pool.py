"""Pooled connections notice that their file was replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from adapter_helpers import envelope, run_python
from trackcore_sqlite import SqliteBrowser, SqliteSink, UnusableLog


def fill(path: Path, *ids: str) -> None:
    sink = SqliteSink(path)
    sink.store([envelope(one) for one in ids])
    sink.close()


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    fill(tmp_path / "log.db", "a")
    return tmp_path / "log.db"


def open_files(path: Path) -> int:
    return sum(os.path.realpath(entry) == str(path) for entry in Path("/proc/self/fd").glob("*"))


class TestKeptOpen:
    def test_it_sees_what_is_new(self, path: Path) -> None:
        browser = SqliteBrowser(path, keep_open=True)
        assert browser.ends()["messages"] == 1
        version = browser.version()
        assert browser.version() == version
        fill(path, "b")
        assert browser.version() != version
        assert browser.ends()["messages"] == 2
        browser.close()

    def test_it_opens_once(self, path: Path) -> None:
        browser = SqliteBrowser(path, keep_open=True)
        for _ in range(5):
            browser.ends()
        assert open_files(path) == 1
        browser.close()
        assert open_files(path) == 0
        assert browser.ends()["messages"] == 1, "it opens again"
        browser.close()

    def test_otherwise_no_file_outlives_its_use(self, path: Path) -> None:
        assert SqliteBrowser(path).ends()["messages"] == 1
        assert open_files(path) == 0

    def test_a_file_that_is_gone(self, path: Path) -> None:
        browser = SqliteBrowser(path, keep_open=True)
        browser.ends()
        path.unlink()
        with pytest.raises(UnusableLog, match="there is no log here"):
            browser.ends()
        assert open_files(path) == 0

    def test_another_file_in_its_place(self, path: Path, tmp_path: Path) -> None:
        browser = SqliteBrowser(path, keep_open=True)
        browser.ends()
        fill(tmp_path / "other.db", "x", "y", "z")
        (tmp_path / "other.db").rename(path)
        assert browser.ends()["messages"] == 3
        browser.close()

    def test_a_fork_does_not_use_what_its_parent_opened(self, path: Path) -> None:
        """SQLite: "Do not open an SQLite database connection, then fork(), then try to use it in the child process."

        https://www.sqlite.org/howtocorrupt.html, section 2.6
        """
        script = """
import os, sys
from trackcore_sqlite import SqliteBrowser

browser = SqliteBrowser(sys.argv[1], keep_open=True)
number, _ = browser.version()
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
print(browser.version()[0] != number)
browser.close()
"""
        assert run_python(script, path).split() == ["True", "True"]
