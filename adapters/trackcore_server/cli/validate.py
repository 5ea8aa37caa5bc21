"""`trackcore validate`: check messages and batches in files as the server would."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import click

from trackcore import Call
from trackcore.plans import Plan
from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS, UNUSABLE, call_option
from trackcore_server.cli._plans import load_checked_plan, plan_option
from trackcore_server.cli._progress import ReadingProgress
from trackcore_server.cli._validation_reports import FORMATS, Report
from trackcore_server.files.inputs import ForeignEncoding, opened
from trackcore_server.files.validation import ValidationResult, validate_document

_EXAMPLES = """\b
Examples:
  trackcore validate messages.jsonl
  trackcore validate --type track event.json
  trackcore validate --format json messages.jsonl.gz
  trackcore validate --plan plan.yaml messages.jsonl
  trackcore validate --format junit messages.jsonl > report.xml
"""


@click.command(epilog=_EXAMPLES)
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@call_option("The type of single messages.  [default: their `type`]")
@plan_option
@click.option(
    "--format",
    "output_format",
    type=click.Choice(list(FORMATS)),
    metavar="FORMAT",
    default="text",
    help="text: a line for each finding; json: a line of JSON for each; github: annotations of GitHub Actions; junit: "
    "an XML document for CI servers.  [default: text]",
)
@click.option("--json", "output_format", flag_value="json", help="The same as --format json.")
def validate(*, files: tuple[str, ...], call: Call | None, plan: Path | None, output_format: str) -> None:
    """Check messages and batches against the rules of the API, as the server does.

    A file contains one JSON document per line, or a single document over several lines; a single document may also be
    an array of messages. It may be compressed by gzip. An object with `batch` is a batch, any other object a message.
    `-` is standard input.

    Each finding is a line `FILE:LINE: path: code: text`; a warning reports a field that would be normalized or ignored.
    As JSON it has `file`, `line`, `index` (in a batch or an array), `path`, `code`, `message`, `limit`, `actual`,
    `rule` and `severity`. GitHub shows annotations beside the lines of the files; in JUnit's XML each rejection is a
    failure.

    With --plan, messages that would be stored are also checked against a tracking plan. Each violation is a finding,
    with a code that begins with `plan_`.

    Exit code: 0 if all messages would be stored as planned, 1 if any would be rejected or violates the plan, or a
    compressed file is truncated, 2 if a file or the plan cannot be read.
    """
    checked = None if plan is None else load_checked_plan(plan)
    report = FORMATS[output_format](sys.stdout.buffer)
    counts = _Counts()
    exit_code = 0
    for name in files:
        before = counts.messages
        try:
            fault = _validate_file(name, call, checked, report, counts)
            exit_code = max(exit_code, 0 if fault is None else FINDINGS)
        except BrokenPipeError:
            raise
        except (OSError, ForeignEncoding) as error:
            exit_code = UNUSABLE
            fault = getattr(error, "strerror", None) or str(error)
            click.echo(f"{visible(name)}: {fault}", err=True)
        report.end_file(name, counts.messages - before, fault)
    report.end()
    click.echo(counts.summary(), err=True)
    sys.exit(exit_code or (FINDINGS if counts.rejected or counts.violating else 0))


def _validate_file(name: str, call: Call | None, plan: Plan | None, report: Report, counts: _Counts) -> str | None:
    """Validate the documents of a file; return why it was not read to its end, if it was not."""
    with opened(name) as file, ReadingProgress(name, file) as progress:
        for document in file.documents():
            result = validate_document(document, call, plan)
            counts.add(result)
            progress.update()
            if result.findings:
                with progress.aside():
                    report.add(name, document.line, result)
    if file.fault is not None:
        click.echo(f"{visible(name)}: {file.fault}; {counts.summary()} so far", err=True)
    return file.fault


@attrs.define
class _Counts:
    """Counts results."""

    messages: int = attrs.field(init=False, default=0)
    rejected: int = attrs.field(init=False, default=0)
    warnings: int = attrs.field(init=False, default=0)
    violating: int = attrs.field(init=False, default=0)

    def add(self, result: ValidationResult) -> None:
        self.messages += result.messages
        self.rejected += result.rejected
        self.violating += result.violating
        self.warnings += sum(finding.severity == "warning" for finding in result.findings)

    def summary(self) -> str:
        violating = f"{self.violating} not as planned, " if self.violating else ""
        counted = f"{_count(self.messages, 'message')}, {self.rejected} rejected"
        return f"{counted}, {violating}{_count(self.warnings, 'warning')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
