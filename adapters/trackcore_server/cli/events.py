"""`trackcore events` and `trackcore rejected`: the log, listed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click

from trackcore import Call, JSONObject, Log, Query
from trackcore_server.cli._options import listing_options, location_options
from trackcore_server.cli._output import ON_TERMINAL, Column, is_terminal, make_writer
from trackcore_server.cli._retry import retry
from trackcore_server.config.deployment import find_deployment
from trackcore_server.inspection.explainer import Explainer
from trackcore_server.inspection.json_lines import event_record, quarantined_record, rejected_record
from trackcore_server.storage.backends import backend_of

POLL_SECONDS = 0.5
"""How often `--follow` looks for new messages."""

_EVENTS_EXAMPLES = """\b
Examples:
  trackcore events
  trackcore events --type track --user user-1 --since 2h
  trackcore events --follow --format jsonl | jq .message.event
"""
_REJECTED_EXAMPLES = """\b
Examples:
  trackcore rejected --since 1d
  trackcore rejected --code event_not_defined --format jsonl | jq -r .payload
  trackcore rejected --quarantine
  trackcore rejected --quarantine --retry
"""


@click.command(epilog=_EVENTS_EXAMPLES, short_help="List stored messages.")
@location_options
@click.option("--source", metavar="NAME", help="Only messages of this source.")
@click.option("--type", "call", type=click.Choice(get_args(Call)), help="Only messages of this type.")
@click.option("--user", metavar="ID", help="Only messages with this userId or anonymousId.")
@listing_options
@click.option("--follow", is_flag=True, help="Then wait for new messages, until interrupted.")
@click.option("--explain", is_flag=True, help="Say for each destination why it was chosen or not.")
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

    A line of JSON has `seq`, `source`, `destinations` (the names it goes to), `warnings` (what was mended or ignored)
    and `message` (as stored, wire names); with --explain also `decisions`, one for each destination. `seq` is the
    number of the message; in Kafka it is text, its partition and offset: "3-1042".
    """
    deployment = find_deployment(config=config, data=data)
    backend = backend_of(deployment.configuration)
    explainer = Explainer(deployment.configuration) if explain else None
    writer = make_writer(output_format, _EXPLAINED_COLUMNS if explain else _EVENT_COLUMNS)

    tail = backend.open_log().tail(Query(source=source, call=call, user=user, since=since, limit=_limit(limit)))

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
    except KeyboardInterrupt:  # how `--follow` ends, and then no failure
        if not follow:
            raise


@click.command(epilog=_REJECTED_EXAMPLES, short_help="List rejected messages, or quarantined requests.")
@location_options
@click.option("--source", metavar="NAME", help="Only those of this source.")
@click.option("--code", metavar="CODE", help="Only those with this reason code, such as event_not_defined.")
@listing_options
@click.option("--quarantine", is_flag=True, help="List requests whose write key belongs to no source instead.")
@click.option("--seq", type=click.IntRange(min=1), metavar="N", help="Only the one with this number.")
@click.option(
    "--retry", "again", is_flag=True, help="Receive them again, now that the configuration is mended, and tell."
)
def rejected(
    *,
    config: Path | None,
    data: Path | None,
    source: str | None,
    code: str | None,
    since: datetime | None,
    limit: int | None,
    output_format: str | None,
    quarantine: bool,
    seq: int | None,
    again: bool,
) -> None:
    """List what was rejected and why, oldest first.

    A line of JSON has `seq`, `source`, `receivedAt`, `code`, `message`, `path` and `payload`, the text as it was
    received but for its write keys, which are masked; where it is not UTF-8 it is in base64, and `encoding` says so.
    What its batch said for all messages is in `batch`, as text too; of an import also the `type` that was said for all
    and the `messageId` that was made.

    With --quarantine: `seq`, `receivedAt`, `endpoint`, `writeKey` (masked), `clientIp` and `payload` of each request
    that came without a write key, or with one that no source has.

    With --retry they go through intake again, with the time of their first reception: `part`, `seq`, `outcome`
    (`repaired`, `partial`, `refused`), how many messages are `stored`, were stored before (`duplicates`) and are
    `rejected`, and for these `code` and `detail`. Doing it twice stores nothing twice. The messages are marked with the
    warning `repaired`. Exit code: 1 when any is still refused.
    """
    if quarantine and (source or code):
        raise click.UsageError("a quarantined request has no source and no code; leave out --source and --code")
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    log = backend.open_log()

    def find(limit: int | None) -> Iterable[Any]:
        if seq is not None:
            record = backend.browser().one("quarantine" if quarantine else "rejected", seq)
            return [] if record is None else [record]
        if quarantine:
            return log.quarantined(Query(since=since, limit=limit))
        return log.rejected(Query(source=source, code=code, since=since, limit=limit))

    found = find(limit if again else _limit(limit))
    if again:
        backend.require_reprocessing()
        retry(configuration, found, output_format)
        return
    writer = make_writer(output_format, _QUARANTINE_COLUMNS if quarantine else _REJECTED_COLUMNS)
    to_record = quarantined_record if quarantine else rejected_record
    for stored in found:
        writer.write(to_record(stored))
    writer.flush()
    if is_terminal():
        _tell_dropped(log, quarantine=quarantine)


def _limit(limit: int | None) -> int | None:
    return ON_TERMINAL if limit is None and is_terminal() else limit


def _tell_dropped(log: Log, *, quarantine: bool) -> None:
    totals = log.totals()
    dropped = totals.quarantined_dropped if quarantine else totals.rejected_dropped
    if dropped:
        click.echo(f"{dropped} older ones were dropped to make room", err=True)


# Columns: what a table shows of a record


def _field(name: str) -> Callable[[JSONObject], str]:
    return lambda record: _text(record[name])


def _message_field(*names: str) -> Callable[[JSONObject], str]:
    """Show the first of these fields that the message has."""
    return lambda record: next((_text(value) for name in names if (value := record["message"].get(name))), "")


def _time(cell: Callable[[JSONObject], str]) -> Callable[[JSONObject], str]:
    """Show a time of the wire to the second: `2012-12-02 00:30:08`."""
    return lambda record: cell(record)[:19].replace("T", " ")


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _destinations(record: JSONObject) -> str:
    return ", ".join(record["destinations"])


def _warnings(record: JSONObject) -> str:
    return ", ".join(f"{warning['code']} ({warning['path']})".removesuffix(" ()") for warning in record["warnings"])


def _decisions(record: JSONObject) -> str:
    return ", ".join(
        f"{'+' if decision['chosen'] else '-'}{decision['destination']} ({decision['because']})"
        for decision in record["decisions"]
    )


def _event_columns(destinations: Column) -> tuple[Column, ...]:
    return (
        Column(title="seq", cell=_field("seq"), width=10),
        Column(title="received (UTC)", cell=_time(_message_field("receivedAt")), width=19),
        Column(title="source", cell=_field("source"), width=9),
        Column(title="type", cell=_message_field("type"), width=8),
        Column(title="event / name", cell=_message_field("event", "name", "groupId", "previousId"), ratio=3),
        Column(title="user", cell=_message_field("userId", "anonymousId"), ratio=3),
        destinations,
        Column(title="warnings", cell=_warnings, ratio=2),
    )


_EVENT_COLUMNS = _event_columns(Column(title="destinations", cell=_destinations, ratio=3))
_EXPLAINED_COLUMNS = _event_columns(Column(title="destinations (because)", cell=_decisions, ratio=6))
_REJECTED_COLUMNS = (
    Column(title="seq", cell=_field("seq"), width=7),
    Column(title="received (UTC)", cell=_time(_field("receivedAt")), width=19),
    Column(title="source", cell=_field("source"), width=9),
    Column(title="code", cell=_field("code"), width=22),
    Column(title="path", cell=_field("path"), ratio=1),
    Column(title="message", cell=_field("message"), ratio=3),
    Column(title="payload", cell=_field("payload"), ratio=3),
)
_QUARANTINE_COLUMNS = (
    Column(title="seq", cell=_field("seq"), width=7),
    Column(title="received (UTC)", cell=_time(_field("receivedAt")), width=19),
    Column(title="endpoint", cell=_field("endpoint"), width=8),
    Column(title="write key", cell=_field("writeKey"), width=9),
    Column(title="client", cell=_field("clientIp"), width=15),
    Column(title="payload", cell=_field("payload"), ratio=1),
)
