"""`trackcore import`: historical messages out of files, into the log.

An import that was interrupted goes on where it was.  That rests on two things: messages that are in the log already are
duplicates, whatever happened; and how far each file has come is noted with every chunk, so that what is done is not
looked at again.  The note is by the file's path, size and time of change, and goes when the file is done.

A note says how far the log had come, and counts only in a log that has grown from there: a log that was restored from a
backup, or replaced, may lack what was imported.  That is read behind a chunk, and noted after the next one: who stores
finds out if the log was replaced, so up to then it was the one into which the chunk had gone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple, get_args

import attrs
import click
import msgspec
from trackcore_delivery import visible
from trackcore_sqlite import Head

from trackcore import Call, LogUnavailable, Resolver, Sink, SinkUnavailable, Source
from trackcore_server.cli._options import FINDINGS, UNUSABLE, Failure, location_options
from trackcore_server.cli._progress import ReadingProgress
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.config.deployment import find_deployment
from trackcore_server.files.documents import Document
from trackcore_server.files.importer import ImportCounts, Importer, Occurrences
from trackcore_server.files.inputs import STDIN, ForeignEncoding, opened
from trackcore_server.storage.backend import Browser
from trackcore_server.storage.backends import backend_of

_CHUNK_DOCUMENTS = 2_000
_CHUNK_BYTES = 8 << 20

_EXAMPLES = """\b
Examples:
  trackcore import history.jsonl.gz
  trackcore import --source website --type track 2025-*.jsonl
  zcat history.jsonl.gz | trackcore import -
"""


@click.command("import", epilog=_EXAMPLES, short_help="Store historical messages from files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@location_options
@click.option("--source", metavar="NAME", help="Whose messages they are.  [default: the only source]")
@click.option(
    "--type", "call", type=click.Choice(get_args(Call)), help="What single messages are; else each says its `type`."
)
def import_files(
    *, files: tuple[str, ...], config: Path | None, data: Path | None, source: str | None, call: Call | None
) -> None:
    """Store the messages of files in the log, with their own times, as if they had come over HTTP.

    A file holds one JSON document a line, or a single one over as many lines as it likes, compressed by gzip or not; a
    single document may also be an array of messages. An object with `batch` is a batch, any other a message.

    `timestamp` is kept; without it `originalTimestamp` stands for it, else the `receivedAt` of the archive. Names such
    as `timeStamp` or `received_at` are read too. A message without any of them is rejected, and so is one whose time
    cannot be read. `sentAt` is kept, and corrects nothing.

    Messages that are in the log already, by their messageId, are not stored twice; one without messageId gets one made
    of its content, and of how often the same has come in its file. So the same import may be run again at any time,
    and one that was interrupted goes on where it was. Destinations with a `max_age` do not get messages older than it.

    Exit code: 0 when everything is in the log, 1 when messages were rejected (`trackcore rejected` lists them) or a
    compressed file is truncated, 2 when a file cannot be read (the others are imported) or the log not be written.
    """
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    sink = backend.make_sink()
    importer = Importer(
        source=(found := _source(configuration, source)),
        resolver=_resolver(configuration, found),
        sink=sink,
        limits=configuration.limits,
        call=call,
    )
    browser = backend.browser()
    notes = _Notes(browser.path.with_name(f"{browser.path.stem}-import.json"), browser)
    exit_code = 0
    is_whole = True
    with closing(sink):
        for name in files:
            try:
                is_whole &= _import_file(name, importer, notes)
            except BrokenPipeError:
                raise
            except (OSError, ForeignEncoding) as error:
                exit_code = UNUSABLE
                Failure(f"{visible(name)}: {getattr(error, 'strerror', None) or error}").show()
            except SinkUnavailable as error:
                told = f"{browser.path}: {error}; {_summary(importer.counts)} so far; run it again to go on"
                raise Failure(told) from error
    click.echo(_summary(importer.counts), err=True)
    for code, count in importer.counts.rejected.most_common():
        click.echo(f"  {count:,} {code}", err=True)
    for code, count in importer.counts.warnings.most_common():
        click.echo(f"  {count:,} warning: {code}", err=True)
    sys.exit(exit_code or (FINDINGS if importer.counts.rejected or not is_whole else 0))


def _source(configuration: Configuration, name: str | None) -> Source:
    sources = {source.name: source for source in configuration.sources}
    if name is None and len(sources) == 1:
        return configuration.sources[0]
    if not sources:
        raise Failure("no source is configured, so no message could be stored")
    if name is None:
        raise click.UsageError(f"say by --source whose messages they are: {', '.join(sources)}")
    if name not in sources:
        raise click.UsageError(f"there is no source {name!r}{nearest(name, list(sources))}")
    return sources[name]


def _resolver(configuration: Configuration, source: Source) -> Resolver:
    return Resolver(
        destination
        for destination in configuration.destinations
        if source.destinations is None or destination.name in source.destinations
    )


def _import_file(name: str, importer: Importer, notes: _Notes) -> bool:
    """Import a file; return whether it could be read to its end."""
    with ExitStack() as stack:
        file = stack.enter_context(opened(name))
        key = "" if name == STDIN else _Notes.key(Path(name), importer)
        progress = stack.enter_context(ReadingProgress(name, file.size))
        done = notes.line(key, importer.sink)
        if done:
            click.echo(f"{visible(name)}: going on behind line {done:,}", err=True)
        at = 0
        occurrences = Occurrences()
        stored: _Note | None = None
        for documents in _chunks(file.documents()):
            waiting = [document for document in documents if document.line > done]
            importer.skip(documents[: len(documents) - len(waiting)], occurrences)
            if waiting:
                messages = importer.counts.messages
                importer.store(waiting, occurrences)
                if importer.counts.messages > messages:
                    if stored is not None:
                        notes.set(key, stored)
                    stored = notes.after(waiting[-1].line)
            if file.size:
                at, before = file.position(), at
                progress.advance(at - before)
        notes.set(key, None)
    if file.fault is not None:
        click.echo(f"{visible(name)}: {file.fault}; {_summary(importer.counts)} so far", err=True)
    return file.fault is None


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if len(chunk) == _CHUNK_DOCUMENTS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _summary(counts: ImportCounts) -> str:
    rejected = sum(counts.rejected.values())
    return f"{counts.stored:,} stored, {counts.duplicates:,} in the log already, {rejected:,} rejected"


class _Note(NamedTuple):
    """The line up to which a file is done, and how far the log had come then."""

    line: int
    log: Head


_decoder = msgspec.json.Decoder(dict[str, _Note])


@attrs.frozen
class _Notes:
    """Notes of how far files have come, in a file beside the log.  Losing one costs time, nothing else."""

    _path: Path
    _log: Browser

    @staticmethod
    def key(file: Path, importer: Importer) -> str:
        """Give the name of an import: the same file, unchanged, into the same source."""
        status = file.stat()
        return json.dumps(
            [str(file.resolve()), status.st_size, status.st_mtime_ns, importer.source.name, importer.call]
        )

    def after(self, line: int) -> _Note | None:
        """Make the note that a file is done up to a line in the log that is there now, if it can be read."""
        try:
            return _Note(line, self._log.head())
        except LogUnavailable:
            return None

    def line(self, key: str, sink: Sink) -> int:
        """Return the line up to which a file is done in the log that a sink writes.

        Raises:
            SinkUnavailable: it cannot be written now.
        """
        note = self._read().get(key)
        if note is None:
            return 0
        sink.check_ready()  # it has the log open from here on, so it finds out if that is replaced
        try:
            return note.line if self._log.has_grown_from(note.log.stretch, note.log.ends) else 0
        except LogUnavailable:
            return 0

    def set(self, key: str, note: _Note | None) -> None:
        """Note how far a file is done; None when it is done altogether."""
        if not key:
            return
        notes = self._read()
        notes.pop(key, None)
        if note is not None:
            notes[key] = note
        if not notes:
            self._path.unlink(missing_ok=True)
            return
        part = self._path.with_name(f"{self._path.name}.part")
        part.write_bytes(msgspec.json.encode(notes))
        part.replace(self._path)

    def _read(self) -> dict[str, _Note]:
        try:
            return _decoder.decode(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError, ValueError):
            return {}  # of before there were proofs, too
