"""The option --retry of `trackcore rejected`: reprocess the listed records and report the results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

import click

from trackcore import StoredQuarantined, StoredRejected
from trackcore_server.app import create_collector
from trackcore_server.cli._options import FINDINGS
from trackcore_server.cli._output import Column, field_cell, make_writer
from trackcore_server.config.configuration import Configuration
from trackcore_server.inspection.reprocess import Reprocessor


def retry(
    configuration: Configuration, records: Iterable[StoredRejected | StoredQuarantined], output_format: str | None
) -> None:
    """Reprocess records, write the result of each, and exit with 1 if any of them is still rejected.

    Raises:
        SinkUnavailable: the log cannot be written; the results written before are stored.
    """
    reprocessor = Reprocessor(create_collector(configuration))
    writer = make_writer(output_format, _COLUMNS)
    outcomes: Counter[str] = Counter()
    try:
        for record in records:
            result = reprocessor.repair(record)
            outcomes[result.outcome] += 1
            writer.write(result.as_json())
    finally:
        writer.flush()
    summary = ", ".join(f"{outcomes[outcome]} {words}" for outcome, words in _OUTCOMES.items() if outcomes[outcome])
    click.echo(summary or "nothing to reprocess", err=True)
    if outcomes["refused"] or outcomes["partial"]:
        sys.exit(FINDINGS)


_OUTCOMES = {"repaired": "repaired", "partial": "partly repaired", "refused": "still rejected"}


def _cell(name: str) -> Column:
    width = _WIDTHS.get(name)
    return Column(title=name, cell=field_cell(name), width=width, ratio=1 if width is None else None)


_WIDTHS = {"part": 10, "seq": 7, "outcome": 8, "stored": 6, "duplicates": 10, "rejected": 8, "code": 22}
_COLUMNS = tuple(map(_cell, (*_WIDTHS, "detail")))
