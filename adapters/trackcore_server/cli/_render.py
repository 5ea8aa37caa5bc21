"""The story of a message as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TextIO

from rich.table import Table
from rich.text import Text

from trackcore import JSONObject
from trackcore.text.visible import visible
from trackcore_server.cli._output import text_console

_MAX_LINES = 60
_PAYLOAD_CHARS = 2_000
_COLOURS = {"accepted": "green", "duplicate": "yellow", "rejected": "red", "quarantined": "magenta"}

Row = tuple[str, Text]


def render(story: JSONObject, stream: TextIO) -> None:
    """Write a story, in the JSON form that `trackcore.explanation.reports` gives it, as text."""
    console = text_console(stream)
    console.print(_headline(story))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold", min_width=12)
    table.add_column(overflow="fold")
    for label, text in _rows(story):
        table.add_row(label, text)
    console.print(table)
    console.print()


def _headline(story: JSONObject) -> Text:
    part, seq = story["part"], story.get("seq")
    place = f"{_PARTS[part]} {seq}" if seq is not None else f"{_PARTS[part]}, line {story['line']}"
    if "index" in story:
        place += f", [{story['index']}]"
    outcome = story["outcome"]
    code = f" {story['code']}" if outcome == "rejected" else ""
    return Text.assemble((f"{place}: ", "bold"), (f"{outcome}{visible(code)}", _COLOURS.get(outcome, "")))


_PARTS = {
    "messages": "message",
    "duplicates": "duplicate",
    "rejected": "rejected",
    "quarantine": "quarantine",
    "unsent": "standard input",
}


def _rows(story: JSONObject) -> Iterator[Row]:
    outcome = story["outcome"]
    if outcome in ("accepted", "duplicate"):
        yield from _kept(story)
    elif outcome == "rejected":
        yield from _refused(story)
    else:
        yield from _quarantined(story)
    yield from _content(story)


def _kept(story: JSONObject) -> Iterator[Row]:
    if story["outcome"] == "duplicate":
        original = "it is gone by now" if story["duplicateOf"] is None else f"message {story['duplicateOf']}"
        yield "duplicate", _text(f"this source has sent this messageId before: {original}; it is stored once")
    source = story["source"]
    yield "source", _text(f"{source['name']}: {source['because']}")
    yield "type", _text(story["type"])
    coerced = story["coerced"]
    yield from _listed(
        "ids", (f"{n} {v}{' (came as a number)' if n in coerced else ''}" for n, v in story["ids"].items())
    )
    time = story["time"]
    yield "time", _text(f"{time['rule']}: {time['sentence']}")
    for name in ("receivedAt", "sentAt", "originalTimestamp", "timestamp"):
        yield "", _text(f"{name:<18} {time[name] or 'none'}")
    if time["clockSkewSeconds"] is not None:
        yield "", _text(f"{'clock skew':<18} {time['clockSkewSeconds']:+,.3f} s (sentAt - receivedAt)")
    yield from _listed("from batch", story["inherited"])
    yield from _listed("destinations", map(_destination, story["destinations"]))
    for warning in story["warnings"]:
        where = f" at {warning['path']}" if warning["path"] else ""
        yield "warning", _text(f"{warning['code']}{where}: {warning['message']}")
        yield from _about(warning)


def _destination(story: JSONObject) -> str:
    options = f", with {json.dumps(story['options'])}" if "options" in story else ""
    sign = "+" if story["chosen"] else "-"
    return f"{sign} {story['destination']}: {story['sentence']} ({story['because']}{options})"


def _refused(story: JSONObject) -> Iterator[Row]:
    yield "why", _text(story["message"])
    if "source" in story:
        yield "source", _text(story["source"]["name"])
    for label, name in (("received", "receivedAt"), ("path", "path"), ("found", "found"), ("allowed", "allowed")):
        if story.get(name):
            yield label, _text(story[name])
    if "limit" in story:
        actual = f", this is {story['actual']:,}" if "actual" in story else ""
        yield "limit", _text(f"{story['limit']:,} {story['unit']}{actual}")
    if "excerpt" in story:
        before, after = map(visible, story["excerpt"])
        text = Text.assemble(before, (after[:1] or "(the end)", "bold red reverse"), after[1:])
        yield f"byte {story['position']:,}", text
    yield from _about(story)


def _quarantined(story: JSONObject) -> Iterator[Row]:
    yield "why", _text(story["message"])
    yield "received", _text(story["receivedAt"])
    yield "endpoint", _text(story["endpoint"])
    yield "write key", _text(story["writeKey"] or "none")
    yield from _about(story)


def _about(entry: JSONObject) -> Iterator[Row]:
    for label, name in (("  it means", "meaning"), ("  sent by", "senders"), ("  to do", "remedy"), ("  see", "link")):
        if entry.get(name):
            yield label, _text(entry[name])


def _content(story: JSONObject) -> Iterator[Row]:
    if "batch" in story:
        yield "its batch", _beginning(story["batch"])
    if "message" in story and isinstance(story["message"], dict):
        lines = json.dumps(story["message"], indent=2, ensure_ascii=False).splitlines()
        shown = [visible(line) for line in lines[:_MAX_LINES]]
        if len(lines) > _MAX_LINES:
            shown.append(f"… and {len(lines) - _MAX_LINES} more lines; --format json has all")
        yield "message", Text("\n".join(shown))
    elif "payload" in story:
        yield "payload", _beginning(story["payload"])


def _beginning(text: str) -> Text:
    rest = f"… and {len(text) - _PAYLOAD_CHARS:,} more characters" if len(text) > _PAYLOAD_CHARS else ""
    return Text(visible(text[:_PAYLOAD_CHARS]) + rest)


def _listed(label: str, lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        yield label, _text(line)
        label = ""


def _text(text: str) -> Text:
    return Text(visible(text))
