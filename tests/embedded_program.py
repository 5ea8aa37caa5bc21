"""An asyncio program that embeds trackcore: `embedded_program.py LOG KEY NAME TASKS`, for the fault tests.

Its tasks send messages to a collector, and send each request again until it is stored.  On standard output it writes
`sent IDS` before a request, and `stored IDS` or `CAUSE IDS` when it is answered.  On standard input it reads a line of
JSON, the requests to be sent first, and runs until the end of the input.  Then it stops gracefully.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from uuid import uuid4

from trackcore_sqlite import SqliteSink

from trackcore import Collector, Origin, SinkUnavailable, Source, WriteKey

_PAUSE_SECONDS = 0.01


def report(event: str, message_ids: list[str]) -> None:
    """Write a line at once, as a whole."""
    os.write(1, f"{event} {' '.join(message_ids)}\n".encode())


def new_requests(name: str) -> Iterator[list[str]]:
    """Yield the message ids of new requests: single messages, and batches of several."""
    for number in count():
        yield [f"{name}-{number}-{index}" for index in range(1 if number % 2 else 1 + number % 7)]


def body_of(message_ids: list[str]) -> bytes:
    """Build a batch of messages of some hundred bytes, so that the log grows over many pages."""
    messages = [
        {"type": "track", "event": "Bought", "userId": "u", "messageId": found, "properties": {"note": found * 20}}
        for found in message_ids
    ]
    return json.dumps({"batch": messages}).encode()


async def send(collector: Collector, message_ids: list[str], origin: Origin) -> None:
    """Send a request until it is stored."""
    body = body_of(message_ids)
    while True:
        report("sent", message_ids)
        try:
            receipt = await collector.receive_async(body, origin=origin)
        except SinkUnavailable as error:
            report(str(error.cause), message_ids)
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            assert receipt.accepted == len(message_ids)
            report("stored", message_ids)
            return


async def main(path: str, key: str, name: str, tasks: int) -> None:
    sink = SqliteSink(path, busy_timeout=1)
    collector = Collector(
        sources=[Source(name="embedded", write_keys=[WriteKey(key)])],
        sink=sink,
        clock=lambda: datetime.now(UTC),
        new_message_id=lambda: str(uuid4()),
    )
    origin = Origin(header_key=WriteKey(key))
    again = deque(json.loads(sys.stdin.readline()))
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)

    async def run(requests: Iterator[list[str]]) -> None:
        while not over.is_set():
            await send(collector, again.popleft() if again else next(requests), origin)

    async with asyncio.TaskGroup() as group:
        for task in range(tasks):
            group.create_task(run(new_requests(f"{name}.{task}")))
    sink.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
