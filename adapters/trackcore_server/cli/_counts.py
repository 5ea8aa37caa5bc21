"""`trackcore stats --by`: the counts of groups as JSON, CSV or a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter

import click

from trackcore import JSONObject, Query, format_timestamp
from trackcore_server.cli._output import (
    Column,
    CsvWriter,
    bytes_text,
    counted,
    field_cell,
    is_terminal,
    make_writer,
    time_cell,
    write_line,
)
from trackcore_server.cli._progress import SearchProgress
from trackcore_server.files.columns import MessageColumn
from trackcore_server.inspection.counting import GROUPINGS, MOST_GROUPS, Count, Counting
from trackcore_server.storage.backend import Backend


def show_counts(backend: Backend, by: str, *, since: datetime | None, output_format: str | None) -> None:
    """Count the messages received since a time by event, source or day, and print the counts."""
    counting = Counting(by)
    with SearchProgress("Counting", writes_to_terminal=False) as progress:
        for stored in backend.open_log(progress.examined).payloads(Query(since=since)):
            counting.add(stored)
    counts = counting.counts()
    total = sum(count.messages for count in [*counts, *filter(None, [counting.others])])
    names = GROUPINGS[by][0]
    rows = [_record(names, count, total) for count in counts]
    if output_format == "csv":
        _write_csv(names, rows)
    elif output_format == "table" or (output_format is None and is_terminal()):
        _write_table(names, rows, total)
    else:
        others = None if counting.others is None else _record((), counting.others, total)
        found = {"by": by, "since": since and format_timestamp(since), "messages": total, "counts": rows}
        write_line(sys.stdout.buffer, found | {"others": others})
    if counting.others is not None:
        others_text = counted(counting.others.messages, "message")
        click.echo(f"more than {MOST_GROUPS:,} groups; {others_text} of further ones are counted together", err=True)


def _record(names: Sequence[str], count: Count, total: int) -> JSONObject:
    return {
        **dict(zip(names, count.group, strict=True)),
        "messages": count.messages,
        "share": round(count.messages / total, 6),
        "bytes": count.size,
        "first": format_timestamp(count.first),
        "last": format_timestamp(count.last),
    }


def _write_csv(names: Sequence[str], rows: Sequence[JSONObject]) -> None:
    titles = (*names, "messages", "share", "bytes", "first", "last")
    writer = CsvWriter(sys.stdout.buffer, [MessageColumn(title, itemgetter(title)) for title in titles])
    for row in rows:
        writer.write(row)
    writer.flush()


def _write_table(names: Sequence[str], rows: Sequence[JSONObject], total: int) -> None:
    columns = [
        *(Column(title=_TITLES.get(name, name), cell=field_cell(name)) for name in names),
        Column(title="messages", cell=lambda row: f"{row['messages']:,}", width=10, is_number=True),
        Column(title="share", cell=lambda row: f"{row['share']:.1%}", width=6, is_number=True),
        Column(title="size", cell=lambda row: bytes_text(row["bytes"]), width=10, is_number=True),
        Column(title="first (UTC)", cell=time_cell(field_cell("first")), width=19),
        Column(title="last (UTC)", cell=time_cell(field_cell("last")), width=19),
    ]
    writer = make_writer("table", columns, none="no messages")
    for row in rows:
        writer.write(row)
    writer.flush()
    click.echo(f"{counted(total, 'message')} in {counted(len(rows), 'group')}", err=True)


_TITLES = {"call": "type", "event": "event / name"}
