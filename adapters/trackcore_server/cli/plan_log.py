"""`trackcore plan infer` and `plan replay`: plans and the messages of the log."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import attrs
import click

from trackcore import JSONObject, Query, StoredMessage
from trackcore.plans import Violation
from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS, format_option, location_options, since_option
from trackcore_server.cli._output import Column, cell_text, make_writer
from trackcore_server.cli._plans import FORMS, load_checked_plan, plan_argument, plans_extra
from trackcore_server.cli._progress import CountProgress
from trackcore_server.config.deployment import find_deployment
from trackcore_server.storage.backends import backend_of

_PROGRESS_MESSAGES = 1_000
_MAX_ROWS = 10_000
_INDEX_OF_ARRAY = re.compile(r"\[\d+\]")

_INFER_EXAMPLES = """\b
Examples:
  trackcore plan infer --since 30d > plan.yaml
  trackcore plan infer --source website --to segment > plan.json
"""
_REPLAY_EXAMPLES = """\b
Examples:
  trackcore plan replay plan.yaml --since 7d
  trackcore plan replay plan.yaml --format jsonl | jq .violations
"""


@click.command(epilog=_INFER_EXAMPLES, short_help="Make a plan from the log.")
@location_options
@click.option("--source", metavar="NAME", help="Only messages of this source.")
@since_option("Only messages", "  [default: all]")
@click.option("--to", "form", type=click.Choice(FORMS), default="yaml", show_default=True, help="The form of the plan.")
def infer(*, config: Path | None, data: Path | None, source: str | None, since: datetime | None, form: str) -> None:
    """Make a plan from the messages in the log: events and properties, with the types and counts seen.

    The plan accepts all of these messages. A property is required if all of at least 10 messages have it. An object
    with more than 200 names is left open, since such names are data. The plan contains no value of any message.
    """
    with plans_extra():
        from trackcore_plans import Form, Inference, write_plan  # noqa: PLC0415 - of an extra
    inference = Inference()
    for stored in _messages(config, data, Query(source=source, since=since), "Reading"):
        inference.add(stored.message)
    text, notes = write_plan(inference.document(source or "Messages of the log"), Form(form))
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
    if inference.dropped:
        notes.append(f"{inference.dropped:,} messages of further events are missing: a plan has at most 2,000 rules")
    for note in (*notes, f"{inference.messages:,} messages"):
        click.echo(visible(note), err=True)


@click.command(epilog=_REPLAY_EXAMPLES, short_help="Check the messages in the log against a plan.")
@plan_argument()
@location_options
@click.option("--source", metavar="NAME", help="Only messages of this source.")
@since_option("Only messages", "  [default: all]")
@format_option()
def replay(
    *,
    plan: Path,
    config: Path | None,
    data: Path | None,
    source: str | None,
    since: datetime | None,
    output_format: str | None,
) -> None:
    """Show what a plan would have said of the messages in the log. Nothing is changed.

    The table counts violations, the most frequent first. A JSON line is a message with violations: `seq`, `source`,
    `type`, `event`, `messageId`, and `violations` with `kind`, `path`, `rule` and `sentence`.

    Exit code: 0 if all messages are as planned, 1 if not, 2 if the plan or the log cannot be used.
    """
    checked = load_checked_plan(plan)
    counts = _Counts()
    writer = make_writer(output_format, _COLUMNS)
    backend = backend_of(find_deployment(config=config, data=data).configuration)
    is_table = not _is_lines(output_format)
    for stored in _messages(config, data, Query(source=source, since=since), "Checking"):
        violations = checked.check(stored.message)
        counts.add(stored, violations)
        if violations and not is_table:
            writer.write(_line(stored, backend.place(stored.seq), violations))
    for record in counts.records() if is_table else ():
        writer.write(record)
    writer.flush()
    click.echo(f"{counts.messages:,} messages, {counts.violating:,} not as planned", err=True)
    sys.exit(FINDINGS if counts.violating else 0)


def _messages(config: Path | None, data: Path | None, query: Query, title: str) -> Iterator[StoredMessage]:
    """Yield the messages of the log that match, with a progress bar."""
    log = backend_of(find_deployment(config=config, data=data).configuration).open_log()
    with CountProgress(title, log.totals().messages) as progress:
        for count, stored in enumerate(log.messages(query), 1):
            yield stored
            if count % _PROGRESS_MESSAGES == 0:
                progress.show(count, f"{count:,} messages")


def _is_lines(output_format: str | None) -> bool:
    return output_format == "jsonl" or (output_format is None and not sys.stdout.isatty())


def _line(stored: StoredMessage, place: int | str, violations: tuple[Violation, ...]) -> JSONObject:
    message = stored.message
    named = {"event": message["event"]} if "event" in message else {}
    listed = [
        {"kind": found.kind, "path": found.path, "rule": found.rule, "sentence": found.sentence} for found in violations
    ]
    identity = {"seq": place, "source": stored.source, "type": stored.call, **named}
    return {**identity, "messageId": message.get("messageId"), "violations": listed}


@attrs.define
class _Counts:
    """Counts violations of the same rule, at the same place, of the same kind."""

    messages: int = attrs.field(init=False, default=0)
    violating: int = attrs.field(init=False, default=0)
    _seen: Counter[tuple[str, ...]] = attrs.field(init=False, factory=Counter)
    _last: dict[tuple[str, ...], str] = attrs.field(init=False, factory=dict)

    def add(self, stored: StoredMessage, violations: tuple[Violation, ...]) -> None:
        self.messages += 1
        self.violating += bool(violations)
        for found in violations:
            subject = found.rule or f"{stored.call} {stored.message.get('event', '')}"
            key = (subject, found.kind, _INDEX_OF_ARRAY.sub("[]", found.path))
            if key in self._seen or len(self._seen) < _MAX_ROWS:
                self._seen[key] += 1
                self._last[key] = found.sentence

    def records(self) -> Iterator[JSONObject]:
        """Yield the rows of the table."""
        for (subject, kind, path), count in self._seen.most_common():
            last = self._last[subject, kind, path]
            yield {"count": count, "rule": subject, "kind": kind, "path": path, "last": last}


_COLUMNS = (
    Column(title="count", cell=lambda record: f"{record['count']:,}", width=10),
    Column(title="rule", ratio=3),
    Column(title="kind", width=23),
    Column(title="path", ratio=2),
    Column(title="last", cell=lambda record: cell_text(record["last"]), ratio=5),
)
