"""The speed of delivery to a local webhook, its cost, and its effect on the rate of intake.

    python benchmarks/delivery.py                       a million messages, then intake with and without delivery
    python benchmarks/delivery.py --messages 100000 --seconds 5

The webhook reads requests, counts and answers, in its own process; it does not parse.  The processor time and the
memory are those of the delivering process, from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Envelope, format_timestamp

COMMAND = [sys.executable, "-m", "trackcore_server.cli"]
TICKS = os.sysconf("SC_CLK_TCK")
USERS = 1_000


def main() -> None:
    """Run the chosen measurements, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement of intake")
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of intake with and without delivery, in turn"
    )
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    measure_delivery(options.messages)
    measure_intake(options.seconds, options.rounds)


# Delivery


def measure_delivery(count: int) -> None:
    """Deliver `count` messages that are already in the log."""
    with tempfile.TemporaryDirectory() as name, webhook() as (port, received):
        folder = Path(name)
        configure(folder, port)
        fill(folder / "trackcore.db", count)
        process = subprocess.Popen([*COMMAND, "deliver", "--data", name], stderr=subprocess.DEVNULL)
        memory = []
        started = time.monotonic()
        while received.value < count:
            time.sleep(0.2)
            memory.append(resident_mebibytes(process.pid))
        seconds = time.monotonic() - started
        processor = processor_seconds(process.pid)
        process.terminate()
        process.wait()
    middle = statistics.median(memory)
    print(f"delivery: {count:,} messages in {seconds:.1f} s: {count / seconds:,.0f} messages/s (start included)")
    print(f"  processor: {processor:.1f} s, {1e6 * processor / count:.1f} us for each message")
    print(f"  memory: {middle:.0f} MiB in the middle, {memory[-1]:.0f} MiB at the end, {max(memory):.0f} MiB at most")


def fill(path: Path, count: int) -> None:
    """Store messages for the webhook in a log."""
    sink = SqliteSink(path)
    now = datetime.now(UTC)
    text = format_timestamp(now)
    for start in range(0, count, 5_000):
        sink.store([envelope(number, now, text) for number in range(start, min(start + 5_000, count))])
    sink.close()


def envelope(number: int, now: datetime, text: str) -> Envelope:
    """Build a message as it is stored."""
    user = f"user-{number % USERS}"
    payload = json.dumps(message(number) | {"timestamp": text, "receivedAt": text}).encode()
    return Envelope("website", f"message-{number}", "track", user, None, now, ("There",), (), payload)


def message(number: int) -> dict[str, Any]:
    """Build a message as a client sends it, of about 300 bytes."""
    return {
        "type": "track",
        "messageId": f"message-{number}",
        "userId": f"user-{number % USERS}",
        "event": "Item Purchased",
        "properties": {"revenue": 14.99, "currency": "USD", "sku": f"sku-{number % 97}", "quantity": 1},
        "context": {
            "ip": "203.0.113.9",
            "library": {"name": "analytics-python", "version": "2.4.0"},
            "locale": "en-GB",
        },
    }


# Intake


def measure_intake(seconds: float, rounds: int) -> None:
    """Measure intake with and without delivery, in turn, so that other load on the machine affects both."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * rounds):
        delivers = bool(number % 2)
        rates[delivers].append(intake_rate(seconds, delivers=delivers))
    without, with_delivery = (statistics.median(rates[delivers]) for delivers in (False, True))
    for label, median, all_of_them in (("alone", without, rates[False]), ("with delivery", with_delivery, rates[True])):
        print(f"intake {label}: {median:,.0f} messages/s ({', '.join(f'{rate:,.0f}' for rate in all_of_them)})")
    print(f"  that is {100 * with_delivery / without:.0f} %")


def intake_rate(seconds: float, *, delivers: bool) -> float:
    """Return the messages per second that a server accepts at full load."""
    with tempfile.TemporaryDirectory() as name, webhook() as (hook_port, received):
        folder = Path(name)
        configure(folder, hook_port)
        stderr = folder / "stderr"
        option = "--deliver" if delivers else "--no-deliver"
        command = [*COMMAND, "serve", "--bind", "127.0.0.1:0", "--data", name, option]
        with stderr.open("wb") as stream:
            server = subprocess.Popen(command, stderr=stream)
        while not (found := re.search(r"Listening on http://127\.0\.0\.1:(\d+)", stderr.read_text())):
            time.sleep(0.05)
        sent, elapsed = load(int(found[1]), seconds)
        assert SqliteLog(folder / "trackcore.db").last_seq() == sent
        if delivers:
            print(f"  delivered meanwhile: {received.value:,} of {sent:,}")
        server.terminate()
        server.wait()
        return sent / elapsed


def load(port: int, seconds: float) -> tuple[int, float]:
    """Post batches of ten over eight connections for `seconds`; return the number of accepted messages."""
    counts = [0] * 8
    end = time.monotonic() + seconds

    def client(place: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        headers = {"Content-Type": "application/json", "Authorization": "Basic a2V5Og=="}
        number = place * 10_000_000
        while time.monotonic() < end:
            body = json.dumps({"batch": [message(number + index) for index in range(10)]})
            connection.request("POST", "/v1/batch", body, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == HTTPStatus.OK, response.status
            number += 10
            counts[place] += 10
        connection.close()

    started = time.monotonic()
    threads = [threading.Thread(target=client, args=(place,)) for place in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts), time.monotonic() - started


# The webhook


@contextmanager
def webhook() -> Iterator[tuple[int, Any]]:
    """Run a webhook in its own process; yield its port and the number of messages it has received."""
    context = get_context("spawn")
    received = context.Value("Q", 0)
    listening = socket.create_server(("127.0.0.1", 0))
    process = context.Process(target=receive, args=(listening, received), daemon=True)
    process.start()
    try:
        yield listening.getsockname()[1], received
    finally:
        process.kill()
        process.join()
        listening.close()


def receive(listening: socket.socket, received: Any) -> None:
    """Answer requests until killed, counting messages."""
    while True:
        connection, _ = listening.accept()
        stream = connection.makefile("rb")
        while line := stream.readline():
            length = 0
            while line != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                line = stream.readline()
            received.value += stream.read(length).count(b'"messageId"')
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def configure(folder: Path, port: int) -> None:
    """Write the configuration: one source, one webhook."""
    (folder / "trackcore.toml").write_text(
        '[[sources]]\nname = "website"\nwrite_keys = ["key"]\n'
        f'[[destinations]]\nname = "There"\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/"\n'
    )


# Processes


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
