"""`trackcore destinations`: how each destination is doing."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from trackcore_delivery import DeliveredDestination, DestinationStatus, State

from trackcore import Destination, JSONObject, Mark, format_timestamp
from trackcore_server.cli._options import format_option, location_options
from trackcore_server.cli._output import Column, make_writer
from trackcore_server.config.deployment import find_deployment
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import delivery_lock, open_state

_EXAMPLES = """\b
Examples:
  trackcore destinations
  trackcore destinations --format jsonl | jq 'select(.lagSeconds > 60)'
"""


@click.command(epilog=_EXAMPLES, short_help="Show how each destination is doing.")
@location_options
@format_option
def destinations(*, config: Path | None, data: Path | None, output_format: str | None) -> None:
    """Show of each destination its state, how far it is behind, and what went wrong last.

    State: `delivering`; `failing`, and it is tried again; `stopped`, since no process delivers; `not delivered`, since
    it has no kind. The lag is how many messages wait for it, and for how many seconds the first of them has waited.
    `logChange` says what was found when the log was last another one than before, or rewound, and from where delivery
    went on.
    Held back are the messages of users whose messages it fails to take while it takes those of others.

    With a log in Kafka the lag is how many messages, of whatever destination, lie behind what its consumer group has
    committed, and `lagSeconds` is not known. Everything else is of the process that delivers with this data folder
    alone; `not here` says that there is none.
    """
    configuration = find_deployment(config=config, data=data).configuration
    is_owned = delivery_lock(configuration).owner() is not None
    backend = backend_of(configuration)
    writer = make_writer(output_format, _COLUMNS)
    with closing(open_state(configuration, backend)) as state:
        for destination in configuration.destinations:
            writer.write(_record(destination, backend, state, idle=None if is_owned else backend.idle))
    writer.flush()
    if not configuration.destinations:
        click.echo("there are no destinations in the configuration", err=True)


def _record(destination: Destination, backend: Backend, state: State, *, idle: str | None) -> JSONObject:
    record: JSONObject = {"destination": destination.name, "kind": None, "state": "not delivered"}
    if not isinstance(destination, DeliveredDestination):
        return record
    now = datetime.now(UTC)
    standing = state.standing(destination.name, now) or DestinationStatus(name=destination.name)
    behind = backend.backlog(destination.name, state.mark(destination.name) or Mark())
    waiting, oldest = behind.waiting, behind.oldest
    lag = 0.0 if oldest is None else round(max(0.0, (now - oldest).total_seconds()), 1)
    log_change, log_changed_at = state.log_change(destination.name) or (None, None)
    if behind.change is not None:
        log_change, log_changed_at = str(behind.change), now
    record.update(
        kind=destination.kind,
        state=idle or ("failing" if standing.failing_since else "delivering"),
        lagMessages=waiting,
        lagSeconds=None if waiting and oldest is None else lag,
        rate=round(standing.rate, 1),
        delivered=standing.delivered,
        deliveredAt=_told(standing.delivered_at),
        deadLetters=standing.dead_letters,
        deadLettersDropped=standing.dead_dropped,
        heldUsers=standing.held_users,
        heldMessages=standing.held_messages,
        failingSince=_told(standing.failing_since),
        nextTryAt=_told(standing.next_try_at),
        lastError=standing.last_error,
        lastErrorAt=_told(standing.last_error_at),
        logChange=log_change,
        logChangedAt=_told(log_changed_at),
    )
    return record


def _told(time: datetime | None) -> str | None:
    return None if time is None else format_timestamp(time)


def _number(name: str, unit: str = "") -> Any:
    return lambda record: "" if record.get(name) is None else f"{record[name]:,}{unit}"


_TROUBLES = (("lastError", "lastError"), ("logChanged", "logChange"))


def _error(record: JSONObject) -> str:
    found = [
        (record.get("lastErrorAt"), record.get("lastError")),
        (record.get("logChangedAt"), record.get("logChange")),
    ]
    at, what = max(((at, what) for at, what in found if at and what), default=("", ""))
    return f"{at[:19].replace('T', ' ')} {what}".strip()


def _dead(record: JSONObject) -> str:
    if "deadLetters" not in record:
        return ""
    dropped = record["deadLettersDropped"]
    return f"{record['deadLetters']:,}" + (f" (+{dropped:,} dropped)" if dropped else "")


def _held(record: JSONObject) -> str:
    """Return how much is held back, as `41 of 2`: messages of users."""
    return f"{record['heldMessages']:,} of {record['heldUsers']:,}" if record.get("heldUsers") else ""


_COLUMNS = (
    Column(title="destination", cell=lambda record: str(record["destination"]), ratio=2),
    Column(title="kind", cell=lambda record: record["kind"] or "", width=8),
    Column(title="state", cell=lambda record: str(record["state"]), width=13),
    Column(title="waiting", cell=_number("lagMessages"), width=10),
    Column(title="lag", cell=_number("lagSeconds", " s"), width=11),
    Column(title="rate", cell=_number("rate", "/s"), width=9),
    Column(title="delivered", cell=_number("delivered"), width=12),
    Column(title="held", cell=_held, width=9),
    Column(title="dead", cell=_dead, ratio=1),
    Column(title="last error (UTC)", cell=_error, ratio=5),
)
