"""The table of SDKs for `docs/reference/sdks.md`, made from test results: `python tests/sdk/report.py`.

    report.py                print the table
    report.py --write FILE   put it between the two markers of a file
    report.py --check FILE   exit 1 if the file has a different table

Rows and notes are data; a feature counts as working only by a test result.  A live test records it at its green end
(`results.record`); the recordings are replayed when the table is made, by the tests that compare them field by field.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import attrs
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from sdk.results import RESULTS

START = "<!-- sdk-table:start -->"
END = "<!-- sdk-table:end -->"

REPLAY = Path(__file__).parents[1] / "adapters" / "test_recorded_requests.py"

# The features that tests show, with their words and order in the table.
WORDS: Mapping[str, str] = {
    "calls": "six calls",
    "four calls": "its four calls",
    "gzip": "gzip",
    "inline settings": "inline settings",
    "five calls": "its five calls",
    "snippet": "snippet from this server",
    "consent": "consent",
    "batching": "batching",
    "beacon": "beacon",
    "leaving batching": "leaving with a batch",
    "leaving keepalive": "leaving with keepalive",
    "leaving plain": "leaving without",
    "outage": "503",
    "outage in order": "503 in order",
    "overload": "429",
    "refused": "400",
    "NaN": "NaN",
}


@attrs.frozen(kw_only=True)
class Version:
    """One version of an SDK: its notes, and the prefix of its recordings' file names."""

    notes: str = ""
    recordings: str | None = None
    is_live: bool = True


@attrs.frozen(kw_only=True)
class Sdk:
    """One SDK in its versions."""

    title: str
    package: str
    versions: Mapping[str, Version]


SDKS: tuple[Sdk, ...] = (
    Sdk(
        title="Python",
        package="segment-analytics-python",
        versions={
            "2.4.0": Version(
                notes="after a 503 or 429 it puts the batch behind newer ones; the recording has NaN, which is a 400",
                recordings="v-seg-2.4.0",
            ),
            "2.3.5": Version(
                notes="write key in the body only; the recording has NaN, which is a 400", recordings="v-seg-2.3.5"
            ),
            "2.2.3": Version(),
        },
    ),
    Sdk(title="Python", package="analytics-python", versions={"1.4.post1": Version()}),
    Sdk(
        title="Node",
        package="@segment/analytics-node",
        versions={
            "3.1.0": Version(notes="sends batches side by side", recordings="n-_segment_analytics-node"),
            "2.3.0": Version(notes="write key in the body only; sends batches side by side"),
            "1.3.0": Version(notes="sends batches side by side"),
        },
    ),
    Sdk(
        title="Node",
        package="analytics-node",
        versions={
            "6.2.0": Version(notes="retries three times, within two seconds", recordings="n-analytics-node"),
        },
    ),
    Sdk(
        title="Browser",
        package="@segment/analytics-next",
        versions={
            "1.84.3": Version(
                notes="preflighted; headless Chromium, page of another origin",
                recordings="b-_segment_analytics-next-std",
            ),
            "1.83.0": Version(notes="not preflighted; batching mode speaks HTTPS only", recordings="b-next183-std"),
        },
    ),
    Sdk(
        title="Consent wrapper",
        package="@segment/analytics-consent-tools",
        versions={"2.0.3": Version(notes="around analytics-next 1.84.3, both as opt-in and as opt-out")},
    ),
    Sdk(
        title="RudderStack browser",
        package="@rudderstack/analytics-js",
        versions={"3.34.1": Version(notes="no screen; leaves out null; sends no X-Retry-Count")},
    ),
    Sdk(
        title="RudderStack Node",
        package="@rudderstack/rudder-sdk-node",
        versions={
            "3.0.13": Version(
                notes="retries three times, within two seconds", recordings="n-_rudderstack_rudder-sdk-node"
            ),
        },
    ),
    Sdk(
        title="RudderStack Python",
        package="rudder-sdk-python",
        versions={"2.1.9": Version(notes="puts the traits of an identify into `context.traits`")},
    ),
    Sdk(
        title="Hightouch Python",
        package="events-sdk-python",
        versions={"0.0.4": Version(notes="write key in the body only")},
    ),
    Sdk(
        title="Customer.io Node",
        package="@customerio/cdp-analytics-node",
        versions={"0.5.9": Version(notes="sends no `sentAt`, so clock skew is not corrected")},
    ),
    Sdk(
        title="Jitsu Node",
        package="@jitsu/js",
        versions={"1.11.0": Version(notes="different paths; no screen, alias or retry")},
    ),
    Sdk(
        title="Ruby",
        package="analytics-ruby",
        versions={"2.5.0": Version(notes="sends ids that are numbers", recordings="rb", is_live=False)},
    ),
    Sdk(
        title="PHP",
        package="analytics-php (LibCurl)",
        versions={"3.8.2": Version(notes="writes empty objects as `[]`", recordings="php", is_live=False)},
    ),
)


def table() -> str:
    """Make the table from the results of the last run, and the sentence below it with the number of recordings."""
    replayed = _replay()
    rows = [("SDK", "version", "tested", "what works", "notes"), *_rows(_shown(), replayed)]
    counted = (
        f"{sum(replayed.values())} of {len(replayed)} recorded requests are answered and stored as they should be."
    )
    return f"{as_table(rows)}\n\n{counted}"


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows, the first with the titles, as a Markdown table without padding."""
    titles, *body = rows
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *body)]
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def _shown() -> dict[tuple[str, str], set[str]]:
    shown: dict[tuple[str, str], set[str]] = {}
    for file in RESULTS.glob("*.json"):
        result = json.loads(file.read_bytes())
        shown.setdefault((result["package"], result["version"]), set()).add(result["shown"])
    return shown


class _Verdicts:
    """A pytest plugin that records for each recording whether all its tests are green."""

    def __init__(self) -> None:
        self.green: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        recording = report.nodeid.partition("[")[2].removesuffix("]")
        if recording:
            self.green[recording] = self.green.get(recording, True) and report.passed


def _replay() -> Mapping[str, bool]:
    verdicts = _Verdicts()
    with redirect_stdout(io.StringIO()):
        pytest.main(["-p", "no:cacheprovider", "-k", "TestRecordings", str(REPLAY)], plugins=[verdicts])
    return verdicts.green


def _rows(shown: Mapping[tuple[str, str], set[str]], replayed: Mapping[str, bool]) -> Iterator[Sequence[str]]:
    for sdk in SDKS:
        for number, version in sdk.versions.items():
            tested, works = [], []
            if version.is_live:
                found = shown.get((sdk.package, number), set())
                tested.append("live")
                works.extend([words for name, words in WORDS.items() if name in found] or ["not run"])
            if version.recordings:
                green = [is_green for name, is_green in replayed.items() if name.startswith(f"{version.recordings}.")]
                tested.append("recorded")
                works.append(f"{sum(green)} of {len(green)} recorded")
            yield f"{sdk.title}: `{sdk.package}`", number, ", ".join(tested), ", ".join(works), version.notes


def replaced(text: str, new_table: str) -> str:
    """Return the text with the table between its markers replaced."""
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
