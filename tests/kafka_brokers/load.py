"""Senders that behave as SDKs do: each batch is sent until the response is 200, with the same messageIds each time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.client import HTTPException

import attrs
from kafka_helpers import send
from served import Served
from trackcore_kafka import KafkaLog

_BATCH = 10
_PAUSE_SECONDS = 0.1


@attrs.define
class Load:
    """Some senders, each for another user, that number their messages.

    `served` may be replaced while they run.
    """

    served: Served
    senders: int = 4
    answers: Counter[str] = attrs.field(init=False, factory=Counter)
    retry_after: set[str | None] = attrs.field(init=False, factory=set)
    acknowledged: dict[str, list[str]] = attrs.field(init=False, factory=dict)
    longest_wait: float = attrs.field(init=False, default=0.0)
    _stop: threading.Event = attrs.field(init=False, factory=threading.Event)
    _threads: list[threading.Thread] = attrs.field(init=False, factory=list)

    @property
    def count(self) -> int:
        """The number of messages acknowledged so far."""
        return sum(map(len, self.acknowledged.values()))

    def start(self) -> None:
        """Begin to send."""
        for number in range(self.senders):
            user = f"user-{number}"
            self.acknowledged[user] = []
            self._threads.append(threading.Thread(target=self._send_all, args=(user,), daemon=True))
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Stop when each sender's last batch is acknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a sender waits without end"

    def check(self, log: KafkaLog) -> int:
        """Check that each acknowledged message is there once, in order for each user; return the number of copies."""
        found: dict[str, list[str]] = {user: [] for user in self.acknowledged}
        for stored in log.messages():
            found[stored.message["userId"]].append(stored.message["messageId"])
        assert found == self.acknowledged
        return log.totals().messages - self.count

    def _send_all(self, user: str) -> None:
        number = 0
        while not self._stop.is_set():
            ids = [f"{user}-{number + index}" for index in range(_BATCH)]
            self._send({"batch": [{"type": "track", "userId": user, "event": "E", "messageId": id_} for id_ in ids]})
            self.acknowledged[user].extend(ids)
            number += _BATCH

    def _send(self, body: object) -> None:
        began = time.monotonic()
        while not self._is_answered(body):
            time.sleep(_PAUSE_SECONDS)
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)

    def _is_answered(self, body: object) -> bool:
        try:
            answer = send(self.served, body)
        except (OSError, HTTPException, ValueError) as error:
            self.answers[type(error).__name__] += 1
            return False
        self.answers[str(answer.status)] += 1
        if answer.status != 200:
            self.retry_after.add(answer.retry_after)
        return answer.status == 200
