"""`trackcore explain`: why a message came out as it did, or what would become of one that was never sent."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click

from trackcore import Call, JSONObject, LogUnavailable, RejectionExplanation
from trackcore.masking import mask_write_keys
from trackcore.text.jsontext import parse_value
from trackcore_server.cli._options import FINDINGS, Failure, location_options
from trackcore_server.cli._output import is_terminal, write_line
from trackcore_server.cli._render import render
from trackcore_server.config.deployment import Deployment, find_deployment
from trackcore_server.files.documents import read_documents
from trackcore_server.inspection.explainer import NEW_ID, Explainer
from trackcore_server.inspection.json_lines import (
    duplicate_record,
    payload_text,
    quarantined_record,
    rejected_record,
)
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


@click.command(epilog=_EXAMPLES, short_help="Tell why a message came out as it did.")
@click.argument("what", metavar="SEQ|MESSAGE_ID|-")
@location_options
@click.option("--rejected", "part", flag_value="rejected", help="SEQ is that of a rejected message.")
@click.option("--duplicate", "part", flag_value="duplicates", help="SEQ is that of a duplicate.")
@click.option("--quarantine", "part", flag_value="quarantine", help="SEQ is that of a quarantined request.")
@click.option("--source", metavar="NAME", help="With -: whose message it is.  [default: as its write key says]")
@click.option("--type", "call", type=click.Choice(get_args(Call)), help="With -: what a message is that does not say.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["json", "text"]),
    help="json: one JSON object a line.  [default: text on a terminal, else json]",
)
def explain(
    *,
    what: str,
    config: Path | None,
    data: Path | None,
    part: str | None,
    source: str | None,
    call: Call | None,
    output_format: str | None,
) -> None:
    """Tell how a message came by its source, its time, its ids, its warnings and its destinations.

    What is meant is a sequence number, as `trackcore events` and `trackcore rejected` list it, or a messageId; or `-`
    for messages on standard input, which are judged as the server would judge them now, and not stored.

    Exit code: 0, or 1 when a message on standard input would be rejected.
    """
    deployment = find_deployment(config=config, data=data)
    is_text = output_format == "text" or (output_format is None and is_terminal())
    if what == _STDIN:
        if part is not None:
            raise click.UsageError("--rejected, --duplicate and --quarantine are about the log, not standard input")
        stories = list(_unsent(deployment, call, source))
    else:
        if source is not None or call is not None:
            raise click.UsageError("--source and --type are for messages on standard input")
        stories = list(_stored(deployment, what, part))
    for story in stories:
        _write(story, is_text=is_text)
    sys.stdout.buffer.flush()
    if what == _STDIN and any(story["outcome"] == "rejected" for story in stories):
        sys.exit(FINDINGS)


def _write(story: JSONObject, *, is_text: bool) -> None:
    if not is_text:
        write_line(sys.stdout.buffer, story)
        return
    text = io.StringIO()
    render(story, text)
    lines = (line.rstrip() for line in text.getvalue().split("\n")[:-1])  # a grid pads its right side
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def _stored(deployment: Deployment, what: str, part: str | None) -> Iterator[JSONObject]:
    """Find a message in the log: by its number, else by its id."""
    log = backend_of(deployment.configuration).browser()
    explainer = Explainer(deployment.configuration)
    seq = int(what) if what.isascii() and what.isdecimal() and len(what) <= _SEQ_DIGITS else None
    if part == "rejected":
        if seq is not None and (rejected := log.one("rejected", seq)) is not None:
            yield rejected_record(rejected) | explainer.rejected(rejected).as_json() | {"part": part}
            return
    elif part == "duplicates":
        if seq is not None and (duplicate := log.one("duplicates", seq)) is not None:
            original = log.seq_of(duplicate.source, duplicate.message["messageId"])
            yield duplicate_record(duplicate, explainer, original) | {"message": duplicate.message}
            return
    elif part == "quarantine":
        if seq is not None and (quarantined := log.one("quarantine", seq)) is not None:
            record = quarantined_record(quarantined)
            yield record | explainer.quarantined(quarantined).as_json() | {"part": part}
            return
    else:
        messages = [found] if seq is not None and (found := log.one("messages", seq)) else log.with_message_id(what)
        for stored in messages:
            story = explainer.message(stored).as_json()
            yield {"part": "messages", "seq": stored.seq, **story, "message": stored.message}
        if messages:
            return
    where = _CALLED[part]
    known = "" if part else " or the messageId"
    raise Failure(f"{log.path}: there is no {where} with the number{known} {what!r}")


_SEQ_DIGITS = 15
_CALLED = {
    None: "stored message",
    "duplicates": "duplicate",
    "rejected": "rejected message",
    "quarantine": "quarantined request",
}


def _unsent(deployment: Deployment, call: Call | None, source: str | None) -> Iterator[JSONObject]:
    names = [known.name for known in deployment.configuration.sources]
    if source is not None and source not in names:
        raise Failure(f"there is no source {source!r}; the configuration has {', '.join(names) or 'none'}")
    log = backend_of(deployment.configuration).browser()
    explainer = Explainer(deployment.configuration)
    documents = list(read_documents(sys.stdin.buffer))
    if not documents:
        raise Failure("standard input is empty; give it a message, or a batch, as JSON")

    def find_duplicate(source_name: str, message_id: str) -> int | None:
        if message_id == NEW_ID:
            return None
        try:
            return log.seq_of(source_name, message_id)
        except LogUnavailable:  # there is none yet, so nothing in it
            return None

    for document in documents:
        for unsent in explainer.unsent(document, call=call, source=source, find_duplicate=find_duplicate):
            story = {"part": "unsent", "line": document.line, **unsent.story.as_json()}
            if unsent.index is not None:
                story["index"] = unsent.index
            if isinstance(unsent.story, RejectionExplanation):
                yield story | payload_text(mask_write_keys(unsent.payload))
            else:
                yield story | {"message": parse_value(unsent.payload)}
