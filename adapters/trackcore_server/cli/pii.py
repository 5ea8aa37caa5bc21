"""`trackcore pii scan`: likely personal data in the log, as counts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import attrs
import click

from trackcore import Log, LogUnavailable, Query
from trackcore.privacy import PiiScan
from trackcore_server.cli._options import format_option, location_options, since_option
from trackcore_server.cli._output import Column, make_writer
from trackcore_server.cli._progress import CountProgress
from trackcore_server.config.deployment import find_deployment
from trackcore_server.storage.backends import backend_of

_EXAMPLES = """\b
Examples:
  trackcore pii scan
  trackcore pii scan --source website --since 7d --format jsonl
"""
_STEP = 1_000


@click.group(epilog=_EXAMPLES)
def pii() -> None:
    """Find likely personal data in the log."""


@pii.command(epilog=_EXAMPLES, short_help="Report likely personal data in the log, as counts.")
@location_options
@click.option("--source", metavar="NAME", help="Only messages of this source.")
@since_option("Only messages")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N messages.  [default: all]")
@format_option()
def scan(
    *,
    config: Path | None,
    data: Path | None,
    source: str | None,
    since: datetime | None,
    limit: int | None,
    output_format: str | None,
) -> None:
    """Report the fields of messages that likely have personal data, and in how many places each was found.

    A field is reported by its name (the names of Segment's Privacy Portal) or by its value: an e-mail address, a card
    number whose check digit is correct, an IBAN, an IP address, a token. No value is shown. A JSON line has `path`,
    `kind`, `level` (`red` or `yellow`), `by` (`name` or `value`) and `count`. Such fields can be masked, by
    `[[sources.mask]]` in the configuration.
    """
    log = backend_of(find_deployment(config=config, data=data).configuration).open_log()
    found = _scan(log, Query(source=source, since=since, limit=limit))
    writer = make_writer(output_format, _COLUMNS)
    for finding in found.findings():
        writer.write(attrs.asdict(finding))
    writer.flush()
    click.echo(f"{found.messages:,} messages examined", err=True)


def _scan(log: Log, query: Query) -> PiiScan:
    found = PiiScan()
    with CountProgress("Scanning", _total(log)) as progress:
        for stored in log.messages(query):
            found.add(stored.message)
            if found.messages % _STEP == 0:
                progress.show(found.messages, f"{found.messages:,} messages")
    return found


def _total(log: Log) -> int | None:
    try:
        return log.totals().messages
    except LogUnavailable:
        return None


_COLUMNS = (
    Column(title="path", ratio=3),
    Column(title="kind", width=18),
    Column(title="level", width=7),
    Column(title="by", width=6),
    Column(title="count", width=10),
)
