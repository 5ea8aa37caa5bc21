"""`trackcore explain`: how the server processed a message, or would process one from standard input."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from trackcore import Call, JSONObject, LogUnavailable, Part, RejectionExplanation
from trackcore.support import mask_write_keys
from trackcore.text import parse_value
from trackcore_server.cli._options import FINDINGS, Failure, call_option, format_option, location_options
from trackcore_server.cli._output import is_terminal, write_line
from trackcore_server.cli._render import render
from trackcore_server.cli._tables import explained_tables
from trackcore_server.config.deployment import Deployment, find_deployment
from trackcore_server.files.documents import read_documents
from trackcore_server.inspection.explainer import NEW_ID, Explainer
from trackcore_server.inspection.json_lines import explained_record, payload_text
from trackcore_server.storage.backends import backend_of

_STDIN = "-"

_EXAMPLES = """\b
Examples:
  trackcore explain 42
  trackcore explain --rejected 7
  trackcore explain --duplicate 3
  trackcore explain 0b2cc14e-5e2e-4d2f-a1ca-8d4e33a3a19b
  echo '{"userId": 5, "event": "Paid"}' | trackcore explain --type track -
"""


@click.command(epilog=_EXAMPLES)
@click.argument("what", metavar="SEQ|MESSAGE_ID|-")
@location_options
@click.option("--rejected", "part", flag_value="rejected", help="SEQ is the number of a rejected message.")
@click.option("--duplicate", "part", flag_value="duplicates", help="SEQ is the number of a duplicate.")
@click.option("--quarantine", "part", flag_value="quarantine", help="SEQ is the number of a quarantined request.")
@click.option("--source", metavar="NAME", help="With -: the source of the messages.  [default: by their write key]")
@call_option("With -: the type of messages that omit `type`.")
@format_option("json", "text")
def explain(
    *,
    what: str,
    config: Path | None,
    data: Path | None,
    part: Part | None,
    source: str | None,
    call: Call | None,
    output_format: str | None,
) -> None:
    """Explain how a message got its source, timestamp, ids, warnings and destinations.

    The argument is a sequence number, as listed by `trackcore events` and `trackcore rejected`, or a messageId; or `-`
    for messages on standard input, which are processed as the server would process them now, but not stored.

    Exit code: 0, or 1 if a message on standard input would be rejected.
    """
    deployment = find_deployment(config=config, data=data)
    is_text = output_format == "text" or (output_format is None and is_terminal())
    if what == _STDIN:
        if part is not None:
            raise click.UsageError(
                "--rejected, --duplicate and --quarantine only apply to the log, not to standard input"
            )
        explanations = list(_unsent(deployment, call, source))
    else:
        if source is not None or call is not None:
            raise click.UsageError("--source and --type only apply to messages on standard input")
        explanations = _stored(deployment, what, part)
    for explanation in explanations:
        _write(explanation, is_text=is_text)
    sys.stdout.buffer.flush()
    if what == _STDIN and any(explanation["outcome"] == "rejected" for explanation in explanations):
        sys.exit(FINDINGS)


def _write(explanation: JSONObject, *, is_text: bool) -> None:
    if not is_text:
        write_line(sys.stdout.buffer, explanation)
        return
    text = io.StringIO()
    render(explanation, text)
    lines = (line.rstrip() for line in text.getvalue().split("\n")[:-1])  # a grid pads its right side
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def _stored(deployment: Deployment, what: str, part: Part | None) -> list[JSONObject]:
    """Find a message in the log by its number or its id."""
    log = backend_of(deployment.configuration).browser()
    explainer = Explainer(deployment.configuration)
    # Only stored messages have a messageId that can be looked up: it is not unique, so it may find several.  Each other
    # part is found by its number alone.  A number that finds nothing among the messages is tried as a messageId.
    seq = int(what) if what.isascii() and what.isdecimal() and len(what) <= _SEQ_DIGITS else None
    numbered = None if seq is None else log.one(part or "messages", seq)
    found: Sequence[Any] = [numbered] if numbered else []
    if part is None and not found:
        found = log.with_message_id(what)
    if not found:
        known = "" if part else " or the messageId"
        raise Failure(
            f"{log.path}: no {_NAMES[part or 'messages']} with the number{known} {what!r}; {_LISTED[part]} lists them"
        )
    explained = [explained_record(part or "messages", stored, explainer, log) for stored in found]
    if part is None:
        for one, stored in zip(explained, found, strict=True):
            one.update(explained_tables(stored, deployment.configuration))
    if part in (None, "duplicates"):
        return [one | {"message": stored.message} for one, stored in zip(explained, found, strict=True)]
    return explained


_SEQ_DIGITS = 15
_LISTED = {
    None: "`trackcore events`",
    "rejected": "`trackcore rejected`",
    "quarantine": "`trackcore rejected --quarantine`",
    "duplicates": "the debugger",
}
_NAMES = {
    "messages": "stored message",
    "duplicates": "duplicate",
    "rejected": "rejected message",
    "quarantine": "quarantined request",
}


def _unsent(deployment: Deployment, call: Call | None, source: str | None) -> Iterator[JSONObject]:
    names = [known.name for known in deployment.configuration.sources]
    if source is not None and source not in names:
        raise Failure(f"unknown source {source!r}; configured sources: {', '.join(names) or 'none'}")
    log = backend_of(deployment.configuration).browser()
    explainer = Explainer(deployment.configuration)
    documents = list(read_documents(sys.stdin.buffer))
    if not documents:
        raise Failure("standard input is empty; expected a message or a batch as JSON")

    def find_duplicate(source_name: str, message_id: str) -> int | None:
        if message_id == NEW_ID:
            return None
        try:
            return log.seq_of(source_name, message_id)
        except LogUnavailable:  # the log does not exist yet
            return None

    for document in documents:
        for unsent in explainer.unsent(document, call=call, source=source, find_duplicate=find_duplicate):
            explanation = {"part": "unsent", "line": document.line, **unsent.explanation.as_json()}
            if unsent.index is not None:
                explanation["index"] = unsent.index
            if isinstance(unsent.explanation, RejectionExplanation):
                yield explanation | payload_text(mask_write_keys(unsent.payload))
            else:
                yield explanation | {"message": parse_value(unsent.payload)}
