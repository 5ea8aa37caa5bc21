"""Helpers of the fault tests: clients that remember their acknowledged messages, and a reader that misses nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Self

import attrs
from adapter_helpers import basic
from patience import PATIENCE, wait_for
from served import Answered, Served
from trackcore_sqlite import SqliteLog, SqliteSink

KEY = "fault-key"
LONGEST_WAIT_SECONDS = 0.1


def message(message_id: str, **fields: Any) -> dict[str, Any]:
    """Build a track message of some hundred bytes, so that the log grows over many pages."""
    return {
        "type": "track",
        "event": "Bought",
        "userId": f"user-of-{message_id}",
        "messageId": message_id,
        "properties": {"note": f"{message_id} " * 20},
        **fields,
    }


def batch(*message_ids: str, **fields: Any) -> dict[str, Any]:
    """Build a batch of such messages."""
    return {"batch": [message(message_id, **fields) for message_id in message_ids]}


@attrs.define
class Ledger:
    """The results of the messages that were sent: each is in exactly one of the sets.

    The response for `acknowledged` was 200, for `refused` another status; `unanswered` had none, so it may be in the
    log or not.
    """

    acknowledged: set[str] = attrs.field(factory=set)
    refused: set[str] = attrs.field(factory=set)
    unanswered: set[str] = attrs.field(factory=set)
    refusals: list[Answered] = attrs.field(factory=list)
    answers: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, repr=False)

    def note(self, message_ids: list[str], answered: Answered | None) -> None:
        """Note the response to a request; None for no response."""
        with self._lock:
            assert self.acknowledged.isdisjoint(message_ids), "a client does not send again what was acknowledged"
            for known in (self.refused, self.unanswered):
                known.difference_update(message_ids)
            if answered is None:
                self.unanswered.update(message_ids)
                return
            self.answers += 1
            if answered.status == 200:
                assert answered.body == {"success": True}, answered
                self.acknowledged.update(message_ids)
            else:
                self.refused.update(message_ids)
                self.refusals.append(answered)

    def wait_for_answers(self, count: int) -> None:
        """Wait for the responses to so many more requests."""
        enough = self.answers + count
        wait_for(lambda: self.answers >= enough)


class Clients:
    """Concurrent clients on persistent connections, as SDKs use them; unacknowledged requests are sent again first.

    They continue over restarts: `send_to` names the current server.  Message ids begin with `name`, so that those of
    successive clients differ.
    """

    def __init__(self, served: Served, ledger: Ledger, *, clients: int = 8, name: str = "c") -> None:
        self.ledger = ledger
        self._name = name
        self.failures: list[BaseException] = []
        self._served = served
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send_to(self, served: Served) -> None:
        self._served = served

    def stop(self) -> None:
        """Let each finish its request, and fail if one has failed."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client hangs"
        assert self.failures == []

    def _run(self, number: int) -> None:
        try:
            self._send_all(number)
        except BaseException as failure:  # noqa: BLE001 - raised by the test
            self.failures.append(failure)

    def _send_all(self, number: int) -> None:
        requests = (_request(f"{self._name}{number}-{turn}", turn) for turn in count())
        again = None
        while not self._is_over.is_set():
            served = self._served
            with closing(HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)) as connection:
                while served is self._served and not self._is_over.is_set():
                    path, body, message_ids = again or next(requests)
                    answered = _ask(connection, path, body)
                    self.ledger.note(message_ids, answered)
                    again = None if answered is not None and answered.status == 200 else (path, body, message_ids)
                    if answered is None:
                        break
            self._is_over.wait(0.01 if again else 0)  # as clients do, and so that a server can start


def _request(name: str, turn: int) -> tuple[str, Any, list[str]]:
    """Build the next request of a client: batches and single messages in turn."""
    if turn % 3 == 0:
        return "/v1/track", message(name), [name]
    message_ids = [f"{name}-{index}" for index in range(1 + turn % 7)]
    return "/v1/batch", batch(*message_ids), message_ids


def _ask(connection: HTTPConnection, path: str, body: Any) -> Answered | None:
    try:
        headers = {"Content-Type": "application/json", "Authorization": basic(KEY)}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return Answered(response.status, dict(response.getheaders()), json.loads(response.read()))
    except (OSError, HTTPException):
        return None


class Follower:
    """A reader that follows the log, and remembers every sequence number that it saw."""

    def __init__(self, path: Path) -> None:
        self.seqs: list[int] = []
        self.failures: list[BaseException] = []
        self._log = SqliteLog(path)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the reader hangs"

    def check(self) -> None:
        """Expect that it saw each number once, in order, without gaps."""
        assert self.failures == []
        self._read()
        assert self.seqs == list(range(1, len(self.seqs) + 1))

    def _run(self) -> None:
        try:
            while not self._is_over.is_set():
                self._read()
                self._is_over.wait(0.02)
        except BaseException as failure:  # noqa: BLE001 - raised by the test
            self.failures.append(failure)

    def _read(self) -> None:
        after = self.seqs[-1] if self.seqs else 0
        self.seqs.extend(entry.seq for entry in self._log.messages(after=after))


def check_log(path: Path, ledger: Ledger) -> None:
    """Expect that the file is whole and holds each acknowledged message once, and nothing twice."""
    acknowledged = set(ledger.acknowledged)  # before the log is read, as more come meanwhile
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT seq, message_id FROM messages ORDER BY seq").fetchall()
    assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
    stored = Counter(message_id for _, message_id in rows)
    assert acknowledged - set(stored) == set(), "acknowledged messages are lost"
    assert {message_id for message_id, times in stored.items() if times > 1} == set(), "messages are stored twice"


def check_settled(path: Path, ledger: Ledger) -> None:
    """Check the log once nothing is sent any more; expect also that no refused message is stored, and each is whole."""
    check_log(path, ledger)
    entries = list(SqliteLog(path).messages())
    stored = {entry.message["messageId"] for entry in entries}
    assert len(stored) == len(entries)
    assert stored & ledger.refused == set(), "messages that were refused are stored"
    assert stored <= ledger.acknowledged | ledger.unanswered, "messages are stored that nobody sent"


def new_log(folder: Path) -> Path:
    """Make a log without messages, in a folder that may exist."""
    folder.mkdir(exist_ok=True)
    with closing(SqliteSink(folder / "trackcore.db")) as sink:
        sink.check_ready()
    return folder / "trackcore.db"


def let_work(ledger: Ledger, random: Random) -> None:
    """Wait for responses, and then for another random moment, at which anything may be under way."""
    ledger.wait_for_answers(random.randint(1, 100))
    threading.Event().wait(random.uniform(0, LONGEST_WAIT_SECONDS))


@contextmanager
def hold_write_lock(path: Path) -> Iterator[None]:
    """Hold the write lock of the log from another process, which releases it at the end of the block."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield
    finally:
        holder.communicate("release\n", timeout=PATIENCE)
        assert holder.returncode == 0


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA busy_timeout = 20000")
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""


def stored_ids(path: Path) -> list[str]:
    """Return the ids in the log, in its order."""
    return [entry.message["messageId"] for entry in SqliteLog(path).messages()]


ESTABLISHED = "01"
"""The state of a connection in /proc/net/tcp."""


def being_served(port: int) -> int:
    """Count the connections to a port that the server has accepted and read completely."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        row[1].endswith(f":{port:04X}") and row[3] == ESTABLISHED and row[4].endswith(":00000000") and row[9] != "0"
        for row in rows
    )
