"""`trackcore validate`: check messages and batches in files as the server would."""

from __future__ import annotations

import sys
from typing import BinaryIO

import attrs
import click

from trackcore import Call
from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS, UNUSABLE, call_option
from trackcore_server.cli._output import write_line
from trackcore_server.cli._progress import ReadingProgress
from trackcore_server.files.inputs import ForeignEncoding, opened
from trackcore_server.files.validation import Finding, ValidationResult, validate_document

_EXAMPLES = """\b
Examples:
  trackcore validate messages.jsonl
  trackcore validate --type track event.json
  trackcore validate --json messages.jsonl.gz
"""


@click.command(epilog=_EXAMPLES, short_help="Check messages and batches in files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@call_option("The type of single messages.  [default: their `type`]")
@click.option("--json", "as_json", is_flag=True, help="Write each finding as a line of JSON.")
def validate(*, files: tuple[str, ...], call: Call | None, as_json: bool) -> None:
    """Check messages and batches against the rules of the API, as the server does.

    A file contains one JSON document per line, or a single document over several lines; a single document may also be
    an array of messages. It may be compressed by gzip. An object with `batch` is a batch, any other object a message.
    `-` is standard input.

    Each finding is a line `FILE:LINE: path: code: text`; a warning reports a field that would be normalized or ignored.
    With --json it has `file`, `line`, `index` (in a batch or an array), `path`, `code`, `message`, `limit`, `actual`
    and `severity`.

    Exit code: 0 if all messages would be stored, 1 if any would be rejected or a compressed file is truncated, 2 if a
    file cannot be read.
    """
    report = _Report(as_json=as_json, stream=sys.stdout.buffer)
    exit_code = 0
    is_whole = True
    for name in files:
        try:
            is_whole &= _validate_file(name, call, report)
        except BrokenPipeError:
            raise
        except (OSError, ForeignEncoding) as error:
            exit_code = UNUSABLE
            click.echo(f"{visible(name)}: {getattr(error, 'strerror', None) or error}", err=True)
    report.stream.flush()
    click.echo(report.summary(), err=True)
    sys.exit(exit_code or (FINDINGS if report.rejected or not is_whole else 0))


def _validate_file(name: str, call: Call | None, report: _Report) -> bool:
    """Validate the documents of a file; return whether it was read to its end."""
    with opened(name) as file, ReadingProgress(name, file) as progress:
        for document in file.documents():
            result = validate_document(document, call)
            report.count(result)
            progress.update()
            if result.findings:
                with progress.aside():
                    report.write(name, document.line, result)
    if file.fault is not None:
        click.echo(f"{visible(name)}: {file.fault}; {report.summary()} so far", err=True)
    return file.fault is None


@attrs.define(kw_only=True)
class _Report:
    """Counts results and writes findings."""

    as_json: bool
    stream: BinaryIO
    messages: int = attrs.field(init=False, default=0)
    rejected: int = attrs.field(init=False, default=0)
    warnings: int = attrs.field(init=False, default=0)

    def count(self, result: ValidationResult) -> None:
        self.messages += result.messages
        self.rejected += result.rejected
        self.warnings += sum(finding.severity == "warning" for finding in result.findings)

    def write(self, file: str, line: int, result: ValidationResult) -> None:
        for finding in result.findings:
            if self.as_json:
                known = {name: value for name, value in attrs.asdict(finding).items() if value is not None}
                write_line(self.stream, {"file": file, "line": line, **known})
            else:
                text = _finding_text(file, line, finding, is_batch=result.is_batch)
                self.stream.write(f"{visible(text)}\n".encode("utf-8", "replace"))

    def summary(self) -> str:
        return f"{_count(self.messages, 'message')}, {self.rejected} rejected, {_count(self.warnings, 'warning')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _finding_text(file: str, line: int, finding: Finding, *, is_batch: bool) -> str:
    place = "" if finding.index is None else f"{'batch' if is_batch else ''}[{finding.index}]"
    path = f"{place}.{finding.path}".strip(".")
    code = finding.code if finding.severity == "rejected" else f"warning: {finding.code}"
    return ": ".join(part for part in (f"{file}:{line}", path, code, finding.message) if part)
