"""The tables of `trackcore stats`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from trackcore import JSONObject
from trackcore.explanation import duration_text
from trackcore.plans import PLAN_WARNINGS
from trackcore.text import visible
from trackcore_server.cli._output import bytes_text, counted
from trackcore_server.cli._table import text_console, text_table


def show_tables(found: JSONObject) -> None:
    """Print what was counted and measured."""
    console = text_console(sys.stdout)
    for table in _tables(found):
        console.print(table)
        console.print()


def _tables(found: JSONObject) -> Iterator[Table | Text]:
    rate = found["rate"]
    yield Text(f"{found['since'][:19]}Z to {found['until'][:19]}Z: {counted(found['messages'], 'message')}")
    if found["messages"]:
        scale = f"each bar {duration_text(timedelta(seconds=rate['seconds']))}, maximum {max(rate['counts']):,}"
        yield Text(f"messages, {scale}:\n{spark(rate['counts'])}")
    if found["groups"]:
        rows = [
            (
                group["source"],
                group["type"],
                f"{group['count']:,}",
                *map(bytes_text, (group["bytes"], group["largest"])),
                f"{group['retried']:,}",
            )
            for group in found["groups"]
        ]
        yield _table(("source", "type", ">messages", ">size", ">largest", ">retried"), rows)
    measured = [(name, found[key], unit) for name, key, unit in _MEASURED if found[key] is not None]
    if measured:
        titles = ("sample", ">p1", ">p10", ">median", ">p90", ">p99", ">max", "p1 to p99")
        yield _table(titles, [_measured_row(*row) for row in measured])
    violations = {code: count for code, count in found["warnings"].items() if code in PLAN_WARNINGS}
    others = {code: count for code, count in found["warnings"].items() if code not in PLAN_WARNINGS}
    by_code = {"warning": others, "violation of the plan": violations, "rejected": found["rejected"]}
    for title, counts in by_code.items():
        if counts:
            yield _table((title, ">count"), [(code, f"{count:,}") for code, count in counts.items()])


_MEASURED = (("size", "size", "B"), ("clock skew", "clockSkew", "s"))


def spark(counts: Sequence[int]) -> str:
    """Draw numbers as a row of bars, the highest for the largest; zero is blank."""
    most = max(counts, default=0)
    return "".join(_BLOCKS[-(-count * (len(_BLOCKS) - 1) // most) if most else 0] for count in counts)


_BLOCKS = " ▁▂▃▄▅▆▇█"


def _measured_row(name: str, values: JSONObject, unit: str) -> tuple[str, ...]:
    digits = 3 if unit == "s" else 0
    shown = (f"{values[key]:,.{digits}f}" for key in ("p1", "p10", "median", "p90", "p99", "most"))
    return (f"{name} ({unit})", *shown, spark(values["histogram"]))


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = text_table(padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
