"""The line of a setting in the text of a configuration.

Theory.  `tomllib` keeps no positions, but it tells where statements end: the first lines of a text are TOML by
themselves exactly if no statement is cut.  So the statement that sets a value is the one before which the lines do not
have the value, and after which they have it.  Nothing of TOML is read twice by rules of our own, so a line is right or
there is none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_index = re.compile(r"\[(\d+)\]\.?").match


def line_of(text: str, path: str) -> int | None:
    r"""Return the line on which a setting, or the innermost table around it that is there, begins; None if none is.

    >>> line_of('[server]\nbind = "x"\n', "server.bind"), line_of("[server]", "server.workers"), line_of("", "log")
    (2, 1, None)
    """
    lines = text.replace("\r\n", "\n").split("\n")
    steps = _steps_to(_parsed(lines), path)
    return _begin_of(lines, steps) if steps else None


def _begin_of(lines: Sequence[str], steps: Sequence[str | int]) -> int:
    """Search the last line before which no statement is cut and the value is not there."""
    before, end = 0, len(lines)
    while end - before > 1:
        middle = place = (before + end) // 2
        while place < end and (document := _parsed(lines[:place])) is None:
            place += 1
        if place == end or _has(document, steps):
            end = middle
        else:
            before = place
    return before + 1


def _parsed(lines: Sequence[str]) -> Any:
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:
        return None


def _has(value: Any, steps: Sequence[str | int]) -> bool:
    try:
        for step in steps:
            value = value[step]
    except (KeyError, IndexError):
        return False
    return True


def _steps_to(value: Any, path: str) -> Sequence[str | int]:
    """Return the names and numbers of a path, as far as they are there and can be read in one way only."""
    steps: list[str | int] = []
    while path:
        step: str | int
        if isinstance(value, dict):
            names = [name for name in value if path == name or path.startswith((f"{name}.", f"{name}["))]
            if len(names) != 1:
                break
            step, path = names[0], path[len(names[0]) :].removeprefix(".")
        else:
            match = _index(path) if isinstance(value, list) else None
            if match is None or int(match[1]) >= len(value):
                break
            step, path = int(match[1]), path[match.end() :]
        steps.append(step)
        value = value[step]
    return steps
