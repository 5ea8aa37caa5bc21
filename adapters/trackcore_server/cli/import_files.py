"""`trackcore import`: store historical messages from files in the log.

An interrupted import continues where it stopped.  Two things ensure that: messages that are in the log already are
duplicates in any case, and the progress of each file is noted after every chunk, so that finished chunks are skipped.
A note is identified by the file's path, size and time of change, and is deleted when the file is done.

A note contains the position of the log, and is valid only for a log that has grown from that position: a log that was
restored from a backup, or replaced, may lack imported messages.  The position is read after a chunk and noted after the
next one: the sink detects a replaced log, so until then it was the log that had received the chunk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import attrs
import click
import msgspec
from trackcore_sqlite import Head

from trackcore import Call, LogUnavailable, Sink, SinkUnavailable, Source, resolvers_for
from trackcore.privacy import PrivacyRules
from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS, UNUSABLE, Failure, call_option, location_options
from trackcore_server.cli._progress import ReadingProgress
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.config.deployment import find_deployment
from trackcore_server.config.privacy_rules import privacy_rules
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


@click.command("import", epilog=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@location_options
@click.option("--source", metavar="NAME", help="The source of the messages.  [default: the only source]")
@call_option("The type of single messages.  [default: their `type`]")
def import_files(
    *, files: tuple[str, ...], config: Path | None, data: Path | None, source: str | None, call: Call | None
) -> None:
    """Store the messages of files in the log, with their original times, as if they had arrived over HTTP.

    A file contains one JSON document per line, or a single document over several lines; a single document may also be
    an array of messages. It may be compressed by gzip. An object with `batch` is a batch, any other object a message.

    `timestamp` is kept; if it is missing, `originalTimestamp` is used, or else the archived `receivedAt`. Spellings
    such as `timeStamp` or `received_at` are accepted. A message without any of these times is rejected, as is one whose
    time cannot be parsed. `sentAt` is kept, but corrects nothing.

    Messages whose messageId is in the log already are not stored twice; messages without a messageId get one derived
    from their content, and from how often the same content occurred before in the file. So an import can be repeated at
    any time, and an interrupted one continues where it stopped. Destinations with a `max_age` do not get older
    messages.

    Exit code: 0 if everything is in the log, 1 if messages were rejected (`trackcore rejected` lists them) or a
    compressed file is truncated, 2 if a file cannot be read (the others are imported) or the log cannot be written.
    """
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    sink = backend.make_sink()
    importer = Importer(
        source=(found := _source(configuration, source)),
        resolver=resolvers_for([found], configuration.destinations)[found.name],
        sink=sink,
        limits=configuration.limits,
        call=call,
        privacy=privacy_rules(configuration).get(found.name, PrivacyRules()),
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
                detail = f"{browser.path}: {error}; {_summary(importer.counts)} so far; run it again to continue"
                raise Failure(detail) from error
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
        raise Failure("no source is configured, so no message can be stored")
    if name is None:
        raise click.UsageError(f"several sources are configured; choose one by --source: {', '.join(sources)}")
    if name not in sources:
        raise click.UsageError(f"unknown source {name!r}{nearest(name, list(sources))}")
    return sources[name]


def _import_file(name: str, importer: Importer, notes: _Notes) -> bool:
    """Import a file; return whether it was read to its end."""
    with ExitStack() as stack:
        file = stack.enter_context(opened(name))
        key = "" if name == STDIN else _Notes.key(Path(name), importer)
        progress = stack.enter_context(ReadingProgress(name, file))
        done = notes.line(key, importer.sink)
        if done:
            click.echo(f"{visible(name)}: continuing after line {done:,}", err=True)
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
            progress.update()
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
    rejected = counts.rejected.total()
    return f"{counts.stored:,} stored, {counts.duplicates:,} in the log already, {rejected:,} rejected"


class _Note(NamedTuple):
    """The last imported line of a file, and the position of the log at that time."""

    line: int
    log: Head


_decoder = msgspec.json.Decoder(dict[str, _Note])


@attrs.frozen
class _Notes:
    """Notes of the progress of files, in a file beside the log.  A lost note only costs time."""

    _path: Path
    _log: Browser

    @staticmethod
    def key(file: Path, importer: Importer) -> str:
        """Return the key of an import: the same unchanged file, into the same source."""
        status = file.stat()
        return json.dumps(
            [str(file.resolve()), status.st_size, status.st_mtime_ns, importer.source.name, importer.call]
        )

    def after(self, line: int) -> _Note | None:
        """Make a note that a file is imported up to a line into the current log; None if the log cannot be read."""
        try:
            return _Note(line, self._log.head())
        except LogUnavailable:
            return None

    def line(self, key: str, sink: Sink) -> int:
        """Return the last line of a file that is in the log of a sink, 0 if none is.  Raises `SinkUnavailable`."""
        note = self._read().get(key)
        if note is None:
            return 0
        sink.check_ready()  # it keeps the log open from here on, so it detects a replaced one
        try:
            return note.line if self._log.has_grown_from(note.log.stretch, note.log.ends) else 0
        except LogUnavailable:
            return 0

    def set(self, key: str, note: _Note | None) -> None:
        """Store the note of a file; None deletes it, since the file is done."""
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
            return {}  # or in the format before notes had log positions
