"""`trackcore events`: the stored messages, listed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from trackcore import JSONObject, Query
from trackcore_server.cli._options import call_option, listing_options, location_options
from trackcore_server.cli._output import Column, cell_text, listing_limit, make_writer, time_cell
from trackcore_server.config.deployment import find_deployment
from trackcore_server.inspection.explainer import Explainer
from trackcore_server.inspection.json_lines import event_record
from trackcore_server.storage.backends import backend_of

POLL_SECONDS = 0.5
"""How often `--follow` looks for new messages."""

_EXAMPLES = """\b
Examples:
  trackcore events
  trackcore events --type track --user user-1 --since 2h
  trackcore events --follow --format jsonl | jq .message.event
"""


@click.command(epilog=_EXAMPLES, short_help="List stored messages.")
@location_options
@click.option("--source", metavar="NAME", help="Only messages of this source.")
@call_option("Only messages of this type.")
@click.option("--user", metavar="ID", help="Only messages with this userId or anonymousId.")
@listing_options
@click.option("--follow", is_flag=True, help="Keep listing new messages until interrupted.")
@click.option("--explain", is_flag=True, help="Show why each destination was chosen or not.")
def events(
    *,
    config: Path | None,
    data: Path | None,
    source: str | None,
    call: str | None,
    user: str | None,
    since: datetime | None,
    limit: int | None,
    output_format: str | None,
    follow: bool,
    explain: bool,
) -> None:
    """List the messages in the log, oldest first.

    A JSON line has `seq`, `source`, `destinations` (their names), `warnings` (fields that were normalized or ignored)
    and `message` (as stored, with wire names); with --explain also `decisions`, one for each destination. `seq` is the
    number of the message; with a log in Kafka it is a string of partition and offset: "3-1042".
    """
    deployment = find_deployment(config=config, data=data)
    backend = backend_of(deployment.configuration)
    explainer = Explainer(deployment.configuration) if explain else None
    writer = make_writer(output_format, _EXPLAINED_COLUMNS if explain else _EVENT_COLUMNS)

    tail = backend.open_log().tail(Query(source=source, call=call, user=user, since=since, limit=listing_limit(limit)))

    def show() -> None:
        for stored in tail.read():
            record = event_record(stored, backend.place(stored.seq))
            writer.write(record if explainer is None else {**record, "decisions": explainer.decisions(stored)})
        writer.flush()

    try:
        show()
        while follow:
            time.sleep(POLL_SECONDS)
            show()
    except KeyboardInterrupt:  # how `--follow` ends, so it is not a failure
        if not follow:
            raise


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
        Column(title="seq", width=10),
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
