"""The cost of the worst requests: processor time and extra memory for each hostile body within the limits.

Every case runs in a fresh process, on the whole app and a real log: once after a small ordinary request for memory (the
rise of the resident size), then a few times for processor time, of which the least is reported.

    python benchmarks/worst_case.py [CASE...] [--json]

It exits 1 when a case is above a target.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from hostile_requests import CASES, Attack, honest_small
from trackcore_sqlite import SqliteSink
from trackcore_wsgi import TrackingApp

from trackcore import Collector, Destination, Source

TARGET_MILLISECONDS = 100
"""Processor time for one request."""

TARGET_MEGABYTES = 10
"""Memory for one request above the initial memory of the process."""

_RUNS = 3
_PATIENCE_SECONDS = 120
_MEMORY_CEILING = 3 << 30


def measure(name: str) -> dict[str, Any]:
    """Measure one case in this process, which must be a fresh one."""
    attack = CASES[name]()
    with tempfile.TemporaryDirectory() as folder:
        sink = SqliteSink(Path(folder) / "trackcore.db")
        app = TrackingApp(_collector(sink))
        _call(app, honest_small())
        with _memory() as memory:
            status, answer = _call(app, attack)
        times = []
        for _ in range(_RUNS):
            start = time.process_time()
            _call(app, attack)
            times.append(time.process_time() - start)
            if times[-1] > 1:
                break
        sink.close()
    return {
        "case": name,
        "body_kb": round((len(attack.body) + len(attack.query)) / 1000, 1),
        "status": status,
        "answer_kb": round(answer / 1000, 1),
        "cpu_ms": round(1000 * min(times), 1),
        "memory_mb": round(memory[0] / 1e6, 1),
    }


def _collector(sink: SqliteSink) -> Collector:
    ids = count()
    names = [*(f"D{number}" for number in range(10)), "GoogleAnalyticsFour"]
    return Collector(
        sources=[Source(name="website", write_keys=("abc123",))],
        destinations=[Destination(name=name) for name in names],
        sink=sink,
        clock=lambda: datetime.now(UTC),
        new_message_id=lambda: f"server-{next(ids)}",
    )


@contextmanager
def _memory() -> Iterator[list[int]]:
    """Return the highest rise of the resident size, in bytes."""
    result: list[int] = []
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    before = _resident("VmRSS")
    yield result
    result.append(max(0, _resident("VmHWM") - before))


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _call(app: TrackingApp, attack: Attack) -> tuple[int, int]:
    """Call the app as a server does; return the status and the size of the response."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": attack.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": attack.path,
        "QUERY_STRING": attack.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "203.0.113.9",
        "CONTENT_LENGTH": str(len(attack.body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(attack.body),
        "wsgi.errors": sys.stderr,
        **attack.headers,
    }
    statuses: list[str] = []

    def start_response(status: str, _: object, __: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    size = sum(map(len, app(environ, start_response)))
    return int(statuses[0].split()[0]), size


def run(name: str) -> dict[str, Any]:
    """Measure one case in its own process, with a limit on time and memory."""

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_CEILING, _MEMORY_CEILING))

    command = [sys.executable, __file__, "--measure", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False, preexec_fn=limit_memory
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        found = {"case": name, "status": f"> {_PATIENCE_SECONDS} s"}
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or ["died"])[-1]
        found = {"case": name, "status": last[:60]}
    return found


def is_within_targets(found: dict[str, Any]) -> bool:
    """Return whether a measurement meets both targets."""
    return bool(
        found.get("cpu_ms", TARGET_MILLISECONDS + 1) <= TARGET_MILLISECONDS
        and found.get("memory_mb", TARGET_MEGABYTES + 1) <= TARGET_MEGABYTES
        and found["status"] < 500  # noqa: PLR2004
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="the cases to run (default: all)")
    parser.add_argument("--json", action="store_true", help="write each measurement as a line of JSON")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return 0
    unknown = set(arguments.cases) - CASES.keys()
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    failed = 0
    if not arguments.json:
        print(f"{'case':34} {'body kB':>9} {'status':>6} {'answer kB':>9} {'CPU ms':>8} {'MB more':>8}")
    for name in arguments.cases or CASES:
        found = run(name)
        good = is_within_targets(found)
        failed += not good
        if arguments.json:
            print(json.dumps(found), flush=True)
        elif "cpu_ms" in found:
            print(
                f"{name:34} {found['body_kb']:9} {found['status']:6} {found['answer_kb']:9} {found['cpu_ms']:8}"
                f" {found['memory_mb']:8}{'' if good else '  <- above target'}",
                flush=True,
            )
        else:
            print(f"{name:34} {found['status']}  <- above target", flush=True)
    if failed and not arguments.json:
        print(f"{failed} above {TARGET_MILLISECONDS} ms or {TARGET_MEGABYTES} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
