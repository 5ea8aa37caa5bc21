"""The output of benchmarks: a table for people, JSON on request, and the machine."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

_PLAIN_WIDTH = 260
"""Columns of output that is not a terminal: nothing is to be cut."""


@attrs.frozen(kw_only=True)
class Goal:
    """One target of a benchmark: `measured` is to be at least, or at most, `bound`."""

    name: str
    measured: float
    bound: float
    at_most: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


@attrs.frozen(kw_only=True)
class Report:
    """The results of a benchmark.  The names of columns contain their units; `rows` are printed in their order."""

    title: str
    rows: Sequence[dict[str, Any]]
    goals: Sequence[Goal] = ()
    settings: dict[str, Any] = attrs.field(factory=dict)

    def tell(self, *, as_json: bool) -> None:
        """Print it: a table, or one JSON document."""
        if as_json:
            print(json.dumps(self._document(), indent=2))
            return
        console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
        console.print(_table(self.title, self.rows))
        if self.goals:
            console.print(_table("Targets", [_goal_row(goal) for goal in self.goals]))
        told = {**self.settings, **machine()}
        console.print("; ".join(f"{name}: {value}" for name, value in told.items()), style="dim", soft_wrap=True)

    def _document(self) -> dict[str, Any]:
        goals = [{**attrs.asdict(goal), "is_met": goal.is_met} for goal in self.goals]
        return {
            "benchmark": self.title,
            "rows": list(self.rows),
            "goals": goals,
            "settings": self.settings,
            "machine": machine(),
        }


def machine() -> dict[str, Any]:
    """Print where and when this was measured."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()}",
    }


def middle(values: Sequence[float]) -> float:
    """Return the median, so that rounds on a busy machine do not count."""
    return statistics.median(values)


def _goal_row(goal: Goal) -> dict[str, Any]:
    return {
        "goal": goal.name,
        "measured": f"{goal.measured:.2f}{goal.unit}",
        "wanted": f"{'<=' if goal.at_most else '>='} {goal.bound:g}{goal.unit}",
        "met": "yes" if goal.is_met else "NO",
    }


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        is_text = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else str(value)
