"""`trackcore rejected`: rejected messages and quarantined requests, listed or reprocessed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from trackcore import Log, Query
from trackcore_server.app import create_collector
from trackcore_server.cli._options import FINDINGS, format_option, listing_options, location_options
from trackcore_server.cli._output import (
    Column,
    counted,
    field_cell,
    is_terminal,
    listing_limit,
    make_writer,
    time_cell,
)
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.deployment import find_deployment
from trackcore_server.inspection.json_lines import quarantined_record, rejected_record
from trackcore_server.inspection.reprocess import Reprocessor
from trackcore_server.storage.backends import backend_of

_EXAMPLES = """\b
Examples:
  trackcore rejected --since 1d
  trackcore rejected --code event_not_defined --format jsonl | jq -r .payload
  trackcore rejected --quarantine
  trackcore rejected --quarantine --retry
"""


@click.command(epilog=_EXAMPLES)
@location_options
@click.option("--source", metavar="NAME", help="Only messages of this source.")
@click.option("--code", metavar="CODE", help="Only messages with this reason code, such as event_not_defined.")
@listing_options
@format_option()
@click.option(
    "--quarantine", is_flag=True, help="List quarantined requests instead: their write key matches no source."
)
@click.option("--seq", type=click.IntRange(min=1), metavar="N", help="Only the record with this number.")
@click.option(
    "--retry", "again", is_flag=True, help="Reprocess them with the current configuration and report the results."
)
@click.option(
    "--restore",
    is_flag=True,
    help="With --retry: store messages from which a tracking plan omitted values once more, with them.",
)
def rejected(
    *,
    config: Path | None,
    data: Path | None,
    source: str | None,
    code: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    output_format: str | None,
    quarantine: bool,
    seq: int | None,
    again: bool,
    restore: bool,
) -> None:
    """List rejected messages and the reasons, oldest first.

    A JSON line has `seq`, `source`, `receivedAt`, `code`, `message`, `path` and `payload`: the text as received, with
    write keys masked. If it is not UTF-8, it is encoded in base64 and `encoding` is `base64`. `batch` is the text of
    the batch-level fields; for an import it also has the `type` given for all messages and the generated `messageId`.

    With --quarantine: `seq`, `receivedAt`, `endpoint`, `writeKey` (masked), `clientIp` and `payload` of each request
    without a write key, or with one that matches no source.

    With --retry the records are reprocessed, with their original `receivedAt`. A JSON line has `part`, `seq`, `outcome`
    (`repaired`, `partial`, `refused`), the number of messages `stored`, stored before (`duplicates`) and `rejected`,
    and `code` and `detail` of the rejection. A second run stores nothing twice. The messages get the warning
    `repaired`. Exit code: 1 if any record is still rejected.

    A message from which a tracking plan omitted values is in the log already, and may be at its destinations. It is
    `refused`; with --restore it is stored once more, with the values, under an id that begins with `restored-`.
    """
    if restore and not again:
        raise click.UsageError("--restore needs --retry")
    if quarantine and (source or code):
        raise click.UsageError("quarantined requests have neither source nor code; leave out --source and --code")
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    log = backend.open_log()

    def find(limit: int | None) -> Iterable[Any]:
        if seq is not None:
            record = backend.browser().one("quarantine" if quarantine else "rejected", seq)
            return [] if record is None else [record]
        if quarantine:
            return log.quarantined(Query(since=since, until=until, limit=limit))
        return log.rejected(Query(source=source, code=code, since=since, until=until, limit=limit))

    found = find(limit if again else listing_limit(limit))
    if again:
        backend.browser()  # only a log that has one can be reprocessed
        _retry(configuration, found, output_format, restore=restore)
        return
    columns, what = (
        (_QUARANTINE_COLUMNS, "quarantined requests") if quarantine else (_REJECTED_COLUMNS, "rejected messages")
    )
    is_chosen = any(each is not None for each in (source, code, since, until, seq))
    writer = make_writer(output_format, columns, none=f"no {what}" + (" match" if is_chosen else ""))
    to_record = quarantined_record if quarantine else rejected_record
    for stored in found:
        writer.write(to_record(stored))
    writer.flush()
    if is_terminal():
        _show_dropped(log, quarantine=quarantine)


def _retry(configuration: Configuration, records: Iterable[Any], output_format: str | None, *, restore: bool) -> None:
    """Reprocess records, write the result of each as soon as it is stored, and exit with 1 if any is still rejected."""
    reprocessor = Reprocessor(create_collector(configuration))
    writer = make_writer(output_format, _RETRY_COLUMNS)
    outcomes: Counter[str] = Counter()
    try:
        for record in records:
            result = reprocessor.repair(record, restore=restore)
            outcomes[result.outcome] += 1
            writer.write(result.as_json())
    finally:
        writer.flush()
    summary = ", ".join(f"{outcomes[outcome]} {words}" for outcome, words in _OUTCOMES.items() if outcomes[outcome])
    click.echo(summary or "nothing to reprocess", err=True)
    if outcomes["refused"] or outcomes["partial"]:
        sys.exit(FINDINGS)


_OUTCOMES = {"repaired": "repaired", "partial": "partly repaired", "refused": "still rejected"}


def _show_dropped(log: Log, *, quarantine: bool) -> None:
    totals = log.totals()
    dropped = totals.quarantined_dropped if quarantine else totals.rejected_dropped
    if dropped:
        click.echo(f"{counted(dropped, 'older record')} dropped to make room", err=True)


_BEGINNING = (
    Column(title="seq", width=7),
    Column(title="received (UTC)", cell=time_cell(field_cell("receivedAt")), width=19),
)
_REJECTED_COLUMNS = (
    *_BEGINNING,
    Column(title="source", width=9),
    Column(title="code", width=22),
    Column(title="path", ratio=1),
    Column(title="message", ratio=3),
    Column(title="payload", ratio=3),
)
_QUARANTINE_COLUMNS = (
    *_BEGINNING,
    Column(title="endpoint", width=8),
    Column(title="write key", cell=field_cell("writeKey"), width=9),
    Column(title="client", cell=field_cell("clientIp"), width=15),
    Column(title="payload", ratio=1),
)
_RETRY_WIDTHS = {"part": 10, "seq": 7, "outcome": 8, "stored": 6, "duplicates": 10, "rejected": 8, "code": 22}
_RETRY_COLUMNS = (
    *(Column(title=name, width=width) for name, width in _RETRY_WIDTHS.items()),
    Column(title="detail", ratio=1),
)
