"""`trackcore tables`: the tables of warehouses."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from trackcore import JSONObject, TrackcoreError
from trackcore_server.cli._options import Failure, format_option, location_options
from trackcore_server.cli._output import Column, make_writer
from trackcore_server.cli._tables import tables_of
from trackcore_server.cli._warehouses import chosen_warehouses, destination_option
from trackcore_server.config.deployment import find_deployment

_EXAMPLES = """\b
Examples:
  trackcore tables
  trackcore tables --format jsonl | jq 'select(.discards > 0)'
"""


@click.command(epilog=_EXAMPLES)
@location_options
@destination_option(required=False)
@format_option()
def tables(*, config: Path | None, data: Path | None, destination: str | None, output_format: str | None) -> None:
    """List the tables of warehouses (`postgres`, `parquet` and `duckdb`), with their rows and discards.

    `discards` are values that a table does not have as they were sent; they are in the table `_discards`. If `isExact`
    is false, `rows` is an estimate: that of PostgreSQL for more than about 100,000 rows, or, with `discards`, one from
    50 of the Parquet files of a table that has more.

    Exit code: 0, or 2 if a warehouse cannot be read now; the others are listed.
    """
    configuration = find_deployment(config=config, data=data).configuration
    writer = make_writer(output_format, _COLUMNS)
    errors: list[str] = []
    for warehouse in chosen_warehouses(configuration, destination):
        try:
            found = tables_of(warehouse, configuration)
        except TrackcoreError as error:
            errors.append(f"{warehouse.name}: {error}")
            continue
        for info in found:
            writer.write({"destination": warehouse.name, **_record(attrs.asdict(info))})
        if not found:
            click.echo(f"{warehouse.name}: no tables yet; they are made when the first messages arrive", err=True)
    writer.flush()
    if errors:
        raise Failure("\n".join(errors))


def _record(info: JSONObject) -> JSONObject:
    return {("isExact" if name == "is_exact" else name): value for name, value in info.items()}


def _rows(record: JSONObject) -> str:
    return f"{'' if record['isExact'] else 'about '}{record['rows']:,}"


_COLUMNS = (
    Column(title="destination", ratio=2),
    Column(title="schema", ratio=2),
    Column(title="table", ratio=4),
    Column(title="columns", width=8),
    Column(title="rows", cell=_rows, width=18),
    Column(title="discards", cell=lambda record: f"{record['discards']:,}", width=12),
)
