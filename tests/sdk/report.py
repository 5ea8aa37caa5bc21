"""The table of SDKs for the README, made from what the tests have shown: `python tests/sdk/report.py`.

    report.py                     print the table
    report.py --write README.md   put it between the two markers of a file
    report.py --check README.md   exit 1 if the file has another one

Rows and notes are data; what works is only what a test has said (`results.tell`) at its green end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from sdk.results import RESULTS

START = "<!-- sdk-table:start -->"
END = "<!-- sdk-table:end -->"

LIVE = "live"
RECORDED = "recorded"

CAPTURES = Path(__file__).parents[1] / "vectors" / "sdk-captures"

# What a test shows, in the order and the words of the table.
WORDS: Mapping[str, str] = {
    "calls": "all six calls",
    "gzip": "gzip",
    "inline settings": "inline settings",
    "batching": "batching",
    "leaving batching": "a batch on page leave",
    "leaving keepalive": "keepalive on page leave",
    "leaving plain": "page leave without keepalive",
    "leaving beacon": "sendBeacon on page leave",
    "outage": "outage (503)",
    "outage in order": "outage (503, in order)",
    "overload": "overload (429)",
    "refused": "stops on 400",
}


@attrs.frozen(kw_only=True)
class Row:
    """One row: an SDK and its versions, each with what is to be said of it."""

    title: str
    package: str
    notes: Mapping[str, str]


LIVE_ROWS: tuple[Row, ...] = (
    Row(
        title="Python",
        package="segment-analytics-python",
        notes={
            "2.4.0": "after a 503 or 429 it puts the batch behind newer ones",
            "2.3.5": "write key in the body only",
            "2.2.3": "",
        },
    ),
    Row(title="Python", package="analytics-python", notes={"1.4.post1": ""}),
    Row(
        title="Node",
        package="@segment/analytics-node",
        notes={
            "3.1.0": "batches are sent side by side",
            "2.3.0": "write key in the body only; batches are sent side by side",
            "1.3.0": "batches are sent side by side",
        },
    ),
    Row(title="Node", package="analytics-node", notes={"6.2.0": "retries three times, within two seconds"}),
    Row(
        title="Browser",
        package="@segment/analytics-next",
        notes={
            "1.84.3": "preflighted; headless Chromium, page of another origin",
            "1.83.0": "not preflighted; batching mode speaks HTTPS only",
        },
    ),
    Row(
        title="RudderStack Node",
        package="@rudderstack/rudder-sdk-node",
        notes={"3.0.13": "retries three times, within two seconds"},
    ),
    Row(
        title="Customer.io Node",
        package="@customerio/cdp-analytics-node",
        notes={"0.5.9": "sends no `sentAt`, so clock skew is not corrected"},
    ),
)


@attrs.frozen(kw_only=True)
class Recorded:
    """An SDK that cannot be installed here, of which requests are recorded and replayed by other tests."""

    title: str
    package: str
    version: str
    captures: str
    notes: str


RECORDED_ROWS: tuple[Recorded, ...] = (
    Recorded(
        title="Ruby", package="analytics-ruby", version="2.5.0", captures="rb", notes="sends ids that are numbers"
    ),
    Recorded(
        title="PHP",
        package="analytics-php (LibCurl)",
        version="3.8.2",
        captures="php",
        notes="writes empty objects as `[]`",
    ),
)


def table() -> str:
    """Make the table from the results of the last run."""
    rows = [("SDK", "version", "tested", "what works", "notes"), ("---",) * 5, *_live(_shown()), *_recorded()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _shown() -> dict[tuple[str, str], set[str]]:
    shown: dict[tuple[str, str], set[str]] = {}
    for file in RESULTS.glob("*.json"):
        result = json.loads(file.read_bytes())
        shown.setdefault((result["package"], result["version"]), set()).add(result["shown"])
    return shown


def _live(shown: Mapping[tuple[str, str], set[str]]) -> Iterator[Sequence[str]]:
    for row in LIVE_ROWS:
        for version, notes in row.notes.items():
            found = shown.get((row.package, version), set())
            works = list(dict.fromkeys(words for name, words in WORDS.items() if name in found))
            yield f"{row.title}: `{row.package}`", version, LIVE, ", ".join(works) or "not run", notes


def _recorded() -> Iterator[Sequence[str]]:
    for row in RECORDED_ROWS:
        count = len(list(CAPTURES.glob(f"{row.captures}.*.json")))
        works = f"{count} recorded request{'s' * (count != 1)} replayed" if count else "no recording"
        yield f"{row.title}: `{row.package}`", row.version, RECORDED, works, row.notes


def replaced(text: str, new_table: str) -> str:
    """Give the text with the table between its markers replaced."""
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"the file has no {START} and {END}")
    return f"{head}{START}\n{new_table}\n{END}{tail}"


def main(arguments: Sequence[str]) -> int:
    """Print the table, write it or check it; return the exit code."""
    if not arguments:
        sys.stdout.write(f"{table()}\n")
        return 0
    if len(arguments) != 2 or arguments[0] not in ("--write", "--check"):
        sys.stderr.write(f"{__doc__}\n")
        return 2
    action, file = arguments[0], Path(arguments[1])
    text = file.read_text()
    wanted = replaced(text, table())
    if action == "--write":
        file.write_text(wanted)
    elif wanted != text:
        sys.stderr.write(
            f"{file} has another table of SDKs: run tests/sdk, then {Path(__file__).name} --write {file}\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
