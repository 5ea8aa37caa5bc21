"""`trackcore export`: the stored messages as a file, all of them or those of one person."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

import click
from click.core import ParameterSource

from trackcore import Query
from trackcore_server.cli._options import (
    Failure,
    columns_option,
    location_options,
    message_options,
    since_option,
    until_option,
)
from trackcore_server.cli._output import CsvWriter, LineWriter, Writer, bytes_text, counted, is_terminal
from trackcore_server.cli._progress import SearchProgress
from trackcore_server.cli.persons import write_person
from trackcore_server.config.deployment import find_deployment
from trackcore_server.files.columns import ALL_COLUMNS, MessageColumn
from trackcore_server.files.parquet import parquet_writer
from trackcore_server.inspection.json_lines import event_record
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.backends import backend_of

FORMATS = ("jsonl", "csv", "parquet")

_EXAMPLES = """\b
Examples:
  trackcore export --output messages.parquet
  trackcore export --since 2026-01-01 --format csv > messages.csv
  trackcore export --event Paid --columns time,user_id,properties.revenue
  trackcore export 019mr8mf4r --linked --output person.jsonl
"""


@click.command(epilog=_EXAMPLES)
@click.argument("person", metavar="[ID]", required=False)
@click.option("--anonymous", is_flag=True, help="ID is an anonymousId.  [default: a userId]")
@click.option("--linked", is_flag=True, help="Also the ids that messages in the log link to ID.")
@location_options
@click.option("--user", metavar="ID", help="Only messages with this userId or anonymousId.")
@click.option("--anonymous-id", metavar="ID", help="Only messages with this anonymousId.")
@message_options
@since_option("Only messages")
@until_option("Only messages")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    help="jsonl: one JSON object per line.  [default: by the name of the file, else jsonl]",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="The file.  [default: standard output]")
@columns_option("Export these columns: names of the view `events`, or paths in the message such as properties.price.")
def export(
    *,
    person: str | None,
    anonymous: bool,
    linked: bool,
    config: Path | None,
    data: Path | None,
    user: str | None,
    anonymous_id: str | None,
    source: str | None,
    call: str | None,
    event: str | None,
    since: datetime | None,
    until: datetime | None,
    output_format: str | None,
    output: Path | None,
    columns: Sequence[MessageColumn] | None,
) -> None:
    """Export the messages in the log, oldest first: all of them, or those that the options select.

    A JSON line is that of `trackcore events`. CSV and Parquet have the columns of the view `events` of the log in
    SQLite, unless --columns names others: times are in UTC, and objects are JSON text. Parquet needs the extra
    `parquet` and a file. The file is readable by its owner alone, and appears once it is complete.

    With an ID, everything that the log has of a person, as JSON Lines. Each line has its `part`: `messages`, `rejected`
    or `quarantine`. A message has `destinations`, with its state at each: `sent`, `waiting`, `undeliverable`, or
    `selected` where trackcore does not deliver.
    """
    if person is not None:
        _refuse_selection(click.get_current_context())
        configuration = find_deployment(config=config, data=data).configuration
        with _stream_for(output) as stream:
            write_person(configuration, person, stream, anonymous=anonymous, linked=linked)
        return
    if anonymous or linked:
        raise click.UsageError("--anonymous and --linked need an ID")
    if user is not None and anonymous_id is not None:
        raise click.UsageError("--user matches the anonymousId too; leave out one of --user and --anonymous-id")
    chosen = output_format or _format_of(output)
    if chosen == "parquet" and output is None:
        raise click.UsageError("Parquet needs a file: --output FILE")
    backend = backend_of(find_deployment(config=config, data=data).configuration)
    backend.require_log()
    query = Query(source=source, call=call, event=event, user=user or anonymous_id, since=since, until=until)
    with (
        SearchProgress("Exporting", writes_to_terminal=output is None and is_terminal()) as progress,
        _writer_for(chosen, output, columns, backend) as writer,
    ):
        for stored in backend.open_log(progress.examined).messages(query):
            if anonymous_id in (None, stored.message.get("anonymousId")):
                progress.step_aside()
                writer.write(event_record(stored, backend.place(stored.seq)))
        writer.flush()
    size = "" if output is None else f" to {output}, {bytes_text(output.stat().st_size)}"
    click.echo(f"{counted(progress.found, 'message')} exported{size}", err=True)


def _refuse_selection(context: click.Context) -> None:
    """Refuse options that select messages or their form: everything of a person is JSON Lines."""
    for name in ("user", "anonymous_id", "source", "call", "event", "since", "until", "output_format", "columns"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(each.opts[0] for each in context.command.params if each.name == name)
            raise click.UsageError(f"{option} cannot be used with an ID, whose export is complete")


@contextmanager
def _stream_for(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    with _completed(output) as file, file.open("wb") as stream:
        yield stream


def _format_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.removeprefix(".")
    return suffix if suffix in FORMATS else FORMATS[0]


@contextmanager
def _writer_for(
    output_format: str, output: Path | None, columns: Sequence[MessageColumn] | None, backend: Backend
) -> Iterator[Writer]:
    if output is None:
        yield _text_writer(output_format, sys.stdout.buffer, columns)
        return
    with _completed(output) as file:
        if output_format == "parquet":
            seq_type = "BIGINT" if isinstance(backend.place(0), int) else "VARCHAR"
            with parquet_writer(file, columns or ALL_COLUMNS, seq_type=seq_type) as writer:
                yield writer
        else:
            with file.open("wb") as stream:
                yield _text_writer(output_format, stream, columns)


def _text_writer(output_format: str, stream: BinaryIO, columns: Sequence[MessageColumn] | None) -> Writer:
    return CsvWriter(stream, columns or ALL_COLUMNS) if output_format == "csv" else LineWriter(stream, columns)


@contextmanager
def _completed(file: Path) -> Iterator[Path]:
    """Create a file beside `file` for the owner alone, which replaces `file` at the end of the block."""
    try:
        descriptor, name = mkstemp(prefix=f".{file.name}-", dir=file.parent)
    except OSError as error:
        raise Failure(f"{file}: cannot be written: {error.strerror}") from error
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o600)  # DuckDB creates it again
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
