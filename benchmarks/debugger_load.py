"""The intake lost to five open debugger pages, and the duration of each of their queries.

    python benchmarks/debugger_load.py FOLDER [--rounds N] [--seconds S] [--pace BATCHES]

FOLDER is a data folder with a log of any size, and a `trackcore.toml` whose first source has a write key and
that has a `[debugger] token` in plain text.  Rounds with and without pages alternate, because machines are noisy.  If
clients, pages and server share few cores, the rate depends on the clients as much as on the server: then compare the
CPU time of the server for each message, at a pace (batches a second of each client) that it can sustain.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import tomllib
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

PAGES = 5
FILTERS = (
    {},
    {"event": "Load"},
    {"user": "user-1"},
    {"text": "XXX"},
    {"path": "properties.text", "concern": "warning"},
)
"""The filters of the pages: one lists everything, the others search all that comes."""
CLIENTS = 4
BATCH = 20
POLL_SECONDS = 0.4
BUSY_POLL_SECONDS = 1.5
CHART_POLLS = 2
OLDER_POLLS = 25
NAMES_POLLS = 50
"""How often a person scrolls back, and types a name of an event; a page by itself does neither after it is open."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--look", metavar="HOST:PORT")  # this script starts itself again, as five pages
    arguments = parser.parse_args()
    configuration = tomllib.loads((arguments.folder / "trackcore.toml").read_text())
    if arguments.look:
        look(arguments.look, configuration["debugger"]["token"])
        return
    key = configuration["sources"][0]["write_keys"][0]
    with serve(arguments.folder) as (process, address):
        rates: dict[bool, list[float]] = {False: [], True: []}
        costs: dict[bool, list[float]] = {False: [], True: []}
        load(address, key, 2.0, arguments.pace)
        for turn in range(2 * arguments.rounds):
            with_pages = turn % 2 == 1
            pages = start_pages(arguments.folder, address) if with_pages else None
            used = cpu_seconds(process.pid)
            rates[with_pages].append(load(address, key, arguments.seconds, arguments.pace))
            messages = rates[with_pages][-1] * arguments.seconds
            costs[with_pages].append(1e6 * (cpu_seconds(process.pid) - used) / messages)
            if pages is not None:
                pages.terminate()
                print(pages.communicate()[0], end="")
        process.terminate()
    print("messages/s alone:  ", *(f"{rate:7,.0f}" for rate in rates[False]))
    print("messages/s watched:", *(f"{rate:7,.0f}" for rate in rates[True]))
    print(f"lost with {PAGES} pages: {-change(rates):.1f} %, the median of {len(rates[True])} pairs of rounds")
    print("CPU of the server, µs a message, alone:  ", *(f"{cost:6.1f}" for cost in costs[False]))
    print("CPU of the server, µs a message, watched:", *(f"{cost:6.1f}" for cost in costs[True]))
    print(f"more with {PAGES} pages: {change(costs):.1f} %, the median of these pairs")


def change(found: dict[bool, list[float]]) -> float:
    """Return the increase with pages in percent: the median over rounds, each compared with the one just before."""
    pairs = zip(found[False], found[True], strict=True)
    return statistics.median(100 * (watched / alone - 1) for alone, watched in pairs)


class serve:  # noqa: N801 - used as a function
    """Start a server for a folder, as a context manager."""

    def __init__(self, folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "trackcore_server.cli",
            "serve",
            "--data",
            str(folder),
            "--bind",
            "127.0.0.1:0",
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"Listening on http://(\S+)", line):
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return self.process, found[1]
        raise SystemExit("the server did not start")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its workers."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def load(address: str, key: str, seconds: float, pace: float) -> float:
    """Send batches at a pace, or as fast as they are answered, and return the messages per second."""
    end = time.monotonic() + seconds
    counts = [0] * CLIENTS
    headers = {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}
    item = {"type": "track", "event": "Load", "userId": "user-1", "properties": {"text": "x" * 400}}
    body = json.dumps({"batch": [item] * BATCH, "sentAt": "2026-01-31T12:00:00Z"}).encode()

    started = time.monotonic()

    def send(place: int) -> None:
        connection = HTTPConnection(address)
        while time.monotonic() < end:
            connection.request("POST", "/v1/batch", body, headers)
            connection.getresponse().read()
            counts[place] += BATCH
            if pace:
                time.sleep(max(started + counts[place] / BATCH / pace - time.monotonic(), 0))

    threads = [threading.Thread(target=send, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def start_pages(folder: Path, address: str) -> subprocess.Popen[str]:
    """Start another process that sends the requests of five pages, and wait until all of them are open."""
    command = [sys.executable, __file__, str(folder), "--look", address]
    pages = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert pages.stdout is not None
    pages.stdout.readline()
    return pages


def look(address: str, token: str) -> None:
    """Run five pages until killed, and print the response times at the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    times: dict[str, list[float]] = {}
    opened = threading.Barrier(PAGES + 1)
    for place in range(PAGES):
        page = (address, token, times, place, opened)
        threading.Thread(target=be_a_page, args=page, daemon=True).start()
    opened.wait()
    print(f"  {PAGES} pages are open", flush=True)
    signal.sigwait([signal.SIGTERM])
    for name, taken in sorted(times.items()):
        taken.sort()
        last = taken[int(len(taken) * 0.95)]
        print(f"  {name:8} {len(taken):4} answers, median {statistics.median(taken):6.1f} ms, p95 {last:6.1f} ms")


def be_a_page(address: str, token: str, times: dict[str, list[float]], place: int, opened: threading.Barrier) -> None:
    """Send the requests of an open page at its rate: new messages, charts, and sometimes older ones, and events."""
    origin = f"http://{address}"
    connection = HTTPConnection(address)
    connection.request("POST", "/debugger/api/session", json.dumps({"token": token}).encode(), {"Origin": origin})
    answer = connection.getresponse()
    answer.read()
    cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def ask(name: str, **values: Any) -> Any:
        started = time.perf_counter()
        connection.request("GET", f"/debugger/api/{name}?{urlencode(values)}", headers={"Cookie": cookie})
        found = json.loads(connection.getresponse().read())
        times.setdefault(name, []).append(1_000 * (time.perf_counter() - started))
        return found

    filters = FILTERS[place]
    time.sleep(place / PAGES * POLL_SECONDS)
    cursors = ask("start")["cursors"]
    back = {part: seq + 1 for part, seq in cursors.items()}
    opened.wait()
    poll = 0
    while True:
        found = ask("newer", **cursors, **filters, **({"charts": 300} if poll % CHART_POLLS == 0 else {}))
        cursors = found["cursors"]
        if poll % OLDER_POLLS == 0:
            back = ask("older", **back, **filters)["cursors"]
        if poll % NAMES_POLLS == 0:
            ask("names")
        poll += 1
        time.sleep(BUSY_POLL_SECONDS if found["skipped"] else POLL_SECONDS)


if __name__ == "__main__":
    main()
