"""`trackcore events`: the stored messages, listed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import click

from trackcore import JSONObject, Query, StoredMessage
from trackcore_server.cli._options import (
    columns_option,
    format_option,
    listing_options,
    location_options,
    message_options,
)
from trackcore_server.cli._output import (
    Column,
    CsvWriter,
    Writer,
    cell_text,
    counted,
    is_terminal,
    listing_limit,
    make_writer,
    time_cell,
)
from trackcore_server.cli._progress import SearchProgress
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.deployment import find_deployment
from trackcore_server.files.columns import ALL_COLUMNS, MessageColumn
from trackcore_server.inspection.json_lines import event_record
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.backends import backend_of

POLL_SECONDS = 0.5
"""How often `--follow` looks for new messages."""

_EXAMPLES = """\b
Examples:
  trackcore events
  trackcore events --event "Item Purchased" --user user-1 --since 2h
  trackcore events --columns time,event,user_id,properties.revenue
  trackcore events --since 2026-01-01 --until 2026-02-01 --limit 20
  trackcore events --follow --format jsonl | jq .message.event
"""


@click.command(epilog=_EXAMPLES)
@location_options
@message_options
@click.option("--user", metavar="ID", help="Only messages with this userId or anonymousId.")
@click.option("--code", metavar="CODE", help="Only messages with a warning of this code, such as plan_wrong_type.")
@listing_options
@format_option("jsonl", "table", "csv")
@columns_option("Show these columns: names of the view `events`, or paths in the message such as properties.price.")
@click.option("--follow", is_flag=True, help="Keep listing new messages until interrupted.")
@click.option("--explain", is_flag=True, help="Show why each destination was chosen or not.")
def events(
    *,
    config: Path | None,
    data: Path | None,
    source: str | None,
    call: str | None,
    event: str | None,
    user: str | None,
    code: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    output_format: str | None,
    columns: Sequence[MessageColumn] | None,
    follow: bool,
    explain: bool,
) -> None:
    """List the messages in the log, oldest first.

    A JSON line has `seq`, `source`, `destinations` (their names), `warnings` (fields that were normalized or ignored)
    and `message` (as stored, with wire names); with --explain also `decisions`, one for each destination; with
    --columns only those. `seq` is the number of the message; with a log in Kafka it is a string of partition and
    offset: "3-1042". CSV has the columns of the view `events` of the log in SQLite, unless --columns names others.
    """
    if explain and (columns or output_format == "csv"):
        raise click.UsageError("--explain needs the format jsonl or table, without --columns")
    deployment = find_deployment(config=config, data=data)
    backend = backend_of(deployment.configuration)
    decisions = _decisions_of(deployment.configuration) if explain else None
    query = Query(
        source=source,
        call=call,
        event=event,
        user=user,
        code=code,
        since=since,
        until=until,
        limit=listing_limit(limit),
    )
    writer = _make_writer(output_format, columns, is_explained=explain, is_growing=follow)
    with SearchProgress("Searching", writes_to_terminal=is_terminal()) as progress:
        tail = backend.open_log(progress.examined).tail(query)

        def show() -> None:
            for stored in tail.read():
                record = event_record(stored, backend.place(stored.seq))
                progress.step_aside()
                writer.write(record if decisions is None else {**record, "decisions": decisions(stored)})
            writer.flush()

        try:
            show()
            while follow:
                time.sleep(POLL_SECONDS)
                show()
        except KeyboardInterrupt:  # how `--follow` ends, so it is not a failure
            if not follow:
                raise
    if not progress.found and (output_format == "table" or is_terminal()):
        click.echo(_nothing(backend), err=True)


def _decisions_of(configuration: Configuration) -> Callable[[StoredMessage], list[JSONObject]]:
    from trackcore_server.inspection.explainer import Explainer  # noqa: PLC0415 - it needs the whole pipeline

    return Explainer(configuration).decisions


def _make_writer(
    output_format: str | None, columns: Sequence[MessageColumn] | None, *, is_explained: bool, is_growing: bool
) -> Writer:
    if output_format == "csv":
        return CsvWriter(sys.stdout.buffer, columns or ALL_COLUMNS)
    shown: Sequence[Column] = _EXPLAINED_COLUMNS if is_explained else _EVENT_COLUMNS
    if columns:
        shown = [Column(title=column.name, cell=column.text) for column in columns]
    return make_writer(output_format, shown, of_message=columns, is_growing=is_growing)


def _nothing(backend: Backend) -> str:
    stored = backend.open_log().totals().messages
    return f"no message matches; the log has {counted(stored, 'message')}" if stored else "the log has no messages yet"


# Columns of the table


def _message_field(*names: str) -> Callable[[JSONObject], str]:
    """Make a cell that shows the first of these fields that the message has."""
    return lambda record: next((cell_text(value) for name in names if (value := record["message"].get(name))), "")


def _warnings(record: JSONObject) -> str:
    return ", ".join(f"{warning['code']} ({warning['path']})".removesuffix(" ()") for warning in record["warnings"])


def _decisions(record: JSONObject) -> str:
    return ", ".join(
        f"{'+' if decision['chosen'] else '-'}{decision['destination']} ({decision['because']})"
        for decision in record["decisions"]
    )


def _event_columns(destinations: Column) -> tuple[Column, ...]:
    return (
        Column(title="seq", width=8),
        Column(title="received (UTC)", cell=time_cell(_message_field("receivedAt")), width=19),
        Column(title="source", width=9),
        Column(title="type", cell=_message_field("type"), width=8),
        Column(title="event / name", cell=_message_field("event", "name", "groupId", "previousId"), ratio=3),
        Column(title="user", cell=_message_field("userId", "anonymousId"), ratio=3),
        destinations,
        Column(title="warnings", cell=_warnings, ratio=2),
    )


_EVENT_COLUMNS = _event_columns(
    Column(title="destinations", cell=lambda record: ", ".join(record["destinations"]), ratio=3)
)
_EXPLAINED_COLUMNS = _event_columns(Column(title="destinations (because)", cell=_decisions, ratio=6))
