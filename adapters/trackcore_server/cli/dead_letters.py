"""`trackcore dead-letters`: what could not be delivered, why, and what is to become of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click
import msgspec
from trackcore_delivery import DeadLetter, State

from trackcore import JSONObject, format_timestamp
from trackcore_server.cli._options import format_option, location_options
from trackcore_server.cli._output import ON_TERMINAL, Column, is_terminal, make_writer
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.config.deployment import find_deployment
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import delivery_lock, open_state

_PAGE = 1_000

_EXAMPLES = """\b
Examples:
  trackcore dead-letters
  trackcore dead-letters --destination CRM --format jsonl | jq .reason
  trackcore dead-letters --destination CRM --retry
"""


@click.command(epilog=_EXAMPLES, short_help="List, retry or drop what could not be delivered.")
@location_options
@click.option("--destination", metavar="NAME", help="Only those of this destination.")
@click.option("--retry", is_flag=True, help="Send them once more.")
@click.option("--drop", is_flag=True, help="Delete them.  The messages stay in the log.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the oldest N.  [default: 50 on a terminal, else all]"
)
@format_option
def dead_letters(
    *,
    config: Path | None,
    data: Path | None,
    destination: str | None,
    retry: bool,
    drop: bool,
    limit: int | None,
    output_format: str | None,
) -> None:
    """List the messages that a destination refused, or did not take within its retry window, oldest first.

    A line of JSON has `id`, `destination`, `diedAt`, `reason`, `isRetried` (it waits to be sent once more), `seq`,
    `source` and `message`. With a log in Kafka they are those of the processes that deliver with this data folder.
    """
    if retry and drop:
        raise click.UsageError("--retry and --drop exclude each other")
    if (retry or drop) and limit is not None:
        raise click.UsageError("--limit is for listing: --retry and --drop take all of them")
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    with closing(open_state(configuration, backend)) as state:
        check_destination(destination, configuration, state)
        if drop:
            click.echo(f"{state.drop_dead_letters(destination):,} dropped", err=True)
        elif retry:
            count = state.retry_dead_letters(destination, datetime.now(UTC))
            click.echo(f"{count:,} will be sent once more{when_delivered(configuration)}", err=True)
        else:
            _list(state, destination, limit, output_format, backend.place)


def check_destination(name: str | None, configuration: Configuration, state: State) -> None:
    """Check that there is, or was, a destination of this name that is delivered to.  Raises `click.UsageError`."""
    known = {destination.name for destination in configuration.delivered}.union(state.names())
    if name is not None and name not in known:
        raise click.UsageError(f"there is no destination {name!r} that is delivered to{nearest(name, sorted(known))}")


def when_delivered(configuration: Configuration) -> str:
    """Say when something that was asked for will happen, if that is not at once."""
    if delivery_lock(configuration).owner() is not None:
        return ""
    return " as soon as `trackcore serve` or `trackcore deliver` runs: nobody delivers now"


def _list(
    state: State,
    destination: str | None,
    limit: int | None,
    output_format: str | None,
    place: Callable[[int], int | str],
) -> None:
    if limit is None and is_terminal():
        limit = ON_TERMINAL
    writer = make_writer(output_format, _COLUMNS)
    for letter in islice(_all(state, destination), limit):
        writer.write(_record(letter, place))
    writer.flush()


def _all(state: State, destination: str | None) -> Iterator[DeadLetter]:
    after = 0
    while page := state.dead_letters(destination, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _record(letter: DeadLetter, place: Callable[[int], int | str]) -> JSONObject:
    return {
        "id": letter.id,
        "destination": letter.destination,
        "diedAt": format_timestamp(letter.died_at),
        "reason": letter.reason,
        "isRetried": letter.retried_at is not None,
        "seq": place(letter.message.position),
        "source": letter.message.source,
        "message": msgspec.json.decode(letter.message.payload),
    }


def _what(record: JSONObject) -> str:
    message = record["message"]
    return str(message.get("event") or message.get("name") or message["type"])


_COLUMNS = (
    Column(title="id", cell=lambda record: str(record["id"]), width=7),
    Column(title="died (UTC)", cell=lambda record: record["diedAt"][:19].replace("T", " "), width=19),
    Column(title="destination", cell=lambda record: str(record["destination"]), ratio=2),
    Column(title="seq", cell=lambda record: str(record["seq"]), width=9),
    Column(title="type / event", cell=_what, ratio=2),
    Column(title="retry", cell=lambda record: "waits" if record["isRetried"] else "", width=5),
    Column(title="reason", cell=lambda record: str(record["reason"]), ratio=6),
)
