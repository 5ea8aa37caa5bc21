"""`trackcore destinations`: the delivery status of each destination."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from trackcore_delivery import DeliveredDestination, DestinationStatus, State

from trackcore import Destination, JSONObject, Mark, TrackcoreError, format_timestamp
from trackcore_server.cli._options import format_option, location_options
from trackcore_server.cli._output import Column, make_writer, to_the_second
from trackcore_server.cli._tables import tables_of
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.deployment import find_deployment
from trackcore_server.config.warehouse import WarehouseDestination
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import is_delivering, open_state

_EXAMPLES = """\b
Examples:
  trackcore destinations
  trackcore destinations --format jsonl | jq 'select(.lagSeconds > 60)'
"""


@click.command(epilog=_EXAMPLES)
@location_options
@format_option()
def destinations(*, config: Path | None, data: Path | None, output_format: str | None) -> None:
    """Show the state, the lag and the last error of each destination.

    State: `delivering`; `failing`, while it is retried; `stopped`, if no process delivers; `not delivered`, if it has
    no kind. The lag is how many messages wait for it, and for how many seconds the first of them has waited.
    `logChange` describes how the log was last replaced or rewound, and where delivery went on. Messages are held back
    if a destination fails to accept those of one user while it accepts those of others.

    With a log in Kafka, the lag is the number of messages, for any destination, after the committed offset of its
    consumer group, and `lagSeconds` is unknown. Of a warehouse (`postgres`, `parquet`, `duckdb`), `tables`, `rows` and
    `discards` count what is there; large tables by an estimate. Everything else covers only the process that delivers
    with this data folder; the state is `not here` if no such process runs.
    """
    configuration = find_deployment(config=config, data=data).configuration
    is_running = is_delivering(configuration)
    backend = backend_of(configuration)
    backend.open_log()  # reports wrong settings of its client now
    writer = make_writer(output_format, _COLUMNS)
    with closing(open_state(configuration, backend)) as state:
        for destination in configuration.destinations:
            idle = None if is_running else backend.idle
            writer.write(_record(destination, configuration, backend, state, idle=idle))
    writer.flush()
    if not configuration.destinations:
        click.echo("the configuration has no destinations", err=True)


def _record(
    destination: Destination, configuration: Configuration, backend: Backend, state: State, *, idle: str | None
) -> JSONObject:
    record: JSONObject = {"destination": destination.name, "kind": None, "state": "not delivered"}
    if not isinstance(destination, DeliveredDestination):
        return record
    now = datetime.now(UTC)
    status = state.status(destination.name, now) or DestinationStatus(name=destination.name)
    behind = backend.backlog(destination.name, state.mark(destination.name) or Mark())
    waiting, oldest = behind.waiting, behind.oldest
    lag = 0.0 if oldest is None else round(max(0.0, (now - oldest).total_seconds()), 1)
    log_change, log_changed_at = state.log_change(destination.name) or (None, None)
    if behind.change is not None:
        log_change, log_changed_at = str(behind.change), now
    record.update(
        kind=destination.kind,
        state=idle or ("failing" if status.failing_since else "delivering"),
        lagMessages=waiting,
        lagSeconds=None if waiting and oldest is None else lag,
        rate=round(status.rate, 1),
        delivered=status.delivered,
        deliveredAt=_time_text(status.delivered_at),
        deadLetters=status.dead_letters,
        deadLettersDropped=status.dead_dropped,
        heldUsers=status.held_users,
        heldMessages=status.held_messages,
        failingSince=_time_text(status.failing_since),
        nextTryAt=_time_text(status.next_try_at),
        lastError=status.last_error,
        lastErrorAt=_time_text(status.last_error_at),
        logChange=log_change,
        logChangedAt=_time_text(log_changed_at),
        **_table_counts(destination, configuration),
    )
    return record


def _table_counts(destination: DeliveredDestination, configuration: Configuration) -> JSONObject:
    """Return how much a warehouse has, or why that is unknown; nothing for another destination."""
    if not isinstance(destination, WarehouseDestination):
        return {}
    try:
        found = tables_of(destination, configuration)
    except TrackcoreError as error:
        return {"tables": None, "rows": None, "discards": None, "tablesUnknown": str(error)}
    return {
        "tables": len(found),
        "rows": sum(table.rows for table in found),
        "discards": sum(table.discards for table in found),
    }


def _time_text(time: datetime | None) -> str | None:
    return None if time is None else format_timestamp(time)


def _number(name: str, unit: str = "") -> Any:
    return lambda record: "" if record.get(name) is None else f"{record[name]:,}{unit}"


def _error(record: JSONObject) -> str:
    found = [
        (record.get("lastErrorAt"), record.get("lastError")),
        (record.get("logChangedAt"), record.get("logChange")),
    ]
    at, what = max(((at, what) for at, what in found if at and what), default=("", ""))
    return f"{to_the_second(at)} {what}".strip()


def _dead(record: JSONObject) -> str:
    if "deadLetters" not in record:
        return ""
    dropped = record["deadLettersDropped"]
    return f"{record['deadLetters']:,}" + (f" (+{dropped:,} dropped)" if dropped else "")


def _held(record: JSONObject) -> str:
    """Return how many messages of how many users are held back: `41 of 2`."""
    return f"{record['heldMessages']:,} of {record['heldUsers']:,}" if record.get("heldUsers") else ""


_COLUMNS = (
    Column(title="destination", width=12),
    Column(title="kind", width=8),
    Column(title="state", width=13),
    Column(title="waiting", cell=_number("lagMessages"), width=10, is_number=True),
    Column(title="lag", cell=_number("lagSeconds", " s"), width=11, is_number=True),
    Column(title="rate", cell=_number("rate", "/s"), width=9, is_number=True),
    Column(title="delivered", cell=_number("delivered"), width=12, is_number=True),
    Column(title="held", cell=_held, width=9),
    Column(title="dead", cell=_dead, width=12),
    Column(title="last error (UTC)", cell=_error),
)
