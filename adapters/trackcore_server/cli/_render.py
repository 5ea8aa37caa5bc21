"""The explanation of a message as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TextIO

from rich.table import Table
from rich.text import Text

from trackcore import JSONObject
from trackcore.text import visible
from trackcore_server.cli._table import text_console

_MAX_LINES = 60
_PAYLOAD_CHARS = 2_000
_COLOURS = {"accepted": "green", "duplicate": "yellow", "rejected": "red", "quarantined": "magenta"}

Row = tuple[str, Text]


def render(explanation: JSONObject, stream: TextIO) -> None:
    """Write an explanation as text; it is in the JSON form of `trackcore.explanation.reports`."""
    console = text_console(stream)
    console.print(_headline(explanation))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold", min_width=12)
    table.add_column(overflow="fold")
    for label, text in _rows(explanation):
        table.add_row(label, text)
    console.print(table)
    console.print()


def _headline(explanation: JSONObject) -> Text:
    part, seq = explanation["part"], explanation.get("seq")
    place = f"{_PARTS[part]} {seq}" if seq is not None else f"{_PARTS[part]}, line {explanation['line']}"
    if "index" in explanation:
        place += f", [{explanation['index']}]"
    outcome = explanation["outcome"]
    code = f" {explanation['code']}" if outcome == "rejected" else ""
    return Text.assemble((f"{place}: ", "bold"), (f"{outcome}{visible(code)}", _COLOURS.get(outcome, "")))


_PARTS = {
    "messages": "message",
    "duplicates": "duplicate",
    "rejected": "rejected",
    "quarantine": "quarantine",
    "unsent": "standard input",
}


def _rows(explanation: JSONObject) -> Iterator[Row]:
    outcome = explanation["outcome"]
    if outcome in ("accepted", "duplicate"):
        yield from _accepted(explanation)
    elif outcome == "rejected":
        yield from _rejected(explanation)
    else:
        yield from _quarantined(explanation)
    yield from _content(explanation)


def _accepted(explanation: JSONObject) -> Iterator[Row]:
    if explanation["outcome"] == "duplicate":
        original = "deleted since" if explanation["duplicateOf"] is None else f"message {explanation['duplicateOf']}"
        yield "duplicate", _text(f"this source sent this messageId before ({original}); it is stored once")
    source = explanation["source"]
    yield "source", _text(f"{source['name']}: {source['because']}")
    yield "type", _text(explanation["type"])
    if explanation["retryCount"]:
        yield "retry", _text(f"attempt {explanation['retryCount'] + 1:,} of its client (X-Retry-Count)")
    coerced = explanation["coerced"]
    yield from _listed(
        "ids", (f"{n} {v}{' (came as a number)' if n in coerced else ''}" for n, v in explanation["ids"].items())
    )
    time = explanation["time"]
    yield "time", _text(f"{time['rule']}: {time['sentence']}")
    for name in ("receivedAt", "sentAt", "originalTimestamp", "timestamp"):
        yield "", _text(f"{name:<18} {time[name] or 'none'}")
    if time["clockSkewSeconds"] is not None:
        yield "", _text(f"{'clock skew':<18} {time['clockSkewSeconds']:+,.3f} s (sentAt - receivedAt)")
    yield from _listed("from batch", explanation["inherited"])
    yield from _listed("destinations", map(_destination, explanation["destinations"]))
    for table in explanation.get("tables", ()):
        yield (
            "table",
            _text(f"{table['destination']}: {table['schema']}.{table['table']} ({', '.join(table['columns'])})"),
        )
    for one in explanation.get("discards", ()):
        column = f"{one['table']}.{one['column']}".rstrip(".")
        yield "discarded", _text(f"{one['destination']}: {column}: {one['reason']}: {one['value']}")
    for name, detail in explanation.get("discardsUnknown", {}).items():
        yield "discarded", _text(f"{name}: unknown: {detail}")
    for warning in explanation["warnings"]:
        where = f" at {warning['path']}" if warning["path"] else ""
        yield "warning", _text(f"{warning['code']}{where}: {warning['message']}")
        if "rule" in warning:
            yield "", _text(f"rule: {warning['rule']}")
        yield from _about(warning)


def _destination(explanation: JSONObject) -> str:
    options = f", with {json.dumps(explanation['options'])}" if "options" in explanation else ""
    sign = "+" if explanation["chosen"] else "-"
    return f"{sign} {explanation['destination']}: {explanation['sentence']} ({explanation['because']}{options})"


def _rejected(explanation: JSONObject) -> Iterator[Row]:
    yield "why", _text(explanation["message"])
    if "source" in explanation:
        yield "source", _text(explanation["source"]["name"])
    for label, name in (("received", "receivedAt"), ("path", "path"), ("found", "found"), ("allowed", "allowed")):
        if explanation.get(name):
            yield label, _text(explanation[name])
    if "limit" in explanation:
        actual = f", this is {explanation['actual']:,}" if "actual" in explanation else ""
        yield "limit", _text(f"{explanation['limit']:,} {explanation['unit']}{actual}")
    if "excerpt" in explanation:
        before, after = map(visible, explanation["excerpt"])
        text = Text.assemble(before, (after[:1] or "(the end)", "bold red reverse"), after[1:])
        yield f"byte {explanation['position']:,}", text
    yield from _about(explanation)


def _quarantined(explanation: JSONObject) -> Iterator[Row]:
    yield "why", _text(explanation["message"])
    yield "received", _text(explanation["receivedAt"])
    yield "endpoint", _text(explanation["endpoint"])
    yield "write key", _text(explanation["writeKey"] or "none")
    yield from _about(explanation)


def _about(entry: JSONObject) -> Iterator[Row]:
    for label, name in (("  it means", "meaning"), ("  sent by", "senders"), ("  to do", "remedy"), ("  see", "link")):
        if entry.get(name):
            yield label, _text(entry[name])


def _content(explanation: JSONObject) -> Iterator[Row]:
    if "batch" in explanation:
        yield "its batch", _beginning(explanation["batch"])
    if "message" in explanation and isinstance(explanation["message"], dict):
        lines = json.dumps(explanation["message"], indent=2, ensure_ascii=False).splitlines()
        shown = [visible(line) for line in lines[:_MAX_LINES]]
        if len(lines) > _MAX_LINES:
            shown.append(f"… and {len(lines) - _MAX_LINES} more lines; --format json has all")
        yield "message", Text("\n".join(shown))
    elif "payload" in explanation:
        yield "payload", _beginning(explanation["payload"])


def _beginning(text: str) -> Text:
    rest = f"… and {len(text) - _PAYLOAD_CHARS:,} more characters" if len(text) > _PAYLOAD_CHARS else ""
    return Text(visible(text[:_PAYLOAD_CHARS]) + rest)


def _listed(label: str, lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        yield label, _text(line)
        label = ""


def _text(text: str) -> Text:
    return Text(visible(text))
