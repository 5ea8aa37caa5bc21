"""`forget` while a server receives and delivers: nobody else notices."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
from click.testing import Result
from patience import PATIENCE, wait_for
from served import Served

ANN, OTHERS = "ann-4d1c8f22", ("bob", "eve")
TOKEN = "a-long-token"  # noqa: S105 - of the test
CONFIGURATION = f"""
[[sources]]
name = "website"
write_keys = ["key"]
[[destinations]]
name = "Files"
kind = "file"
folder = "files"
batch_wait = "0s"
rotate_bytes = 20000
gzip = false
[debugger]
token = "{TOKEN}"
"""
BATCH = 20

Run = Callable[..., Result]
Serve = Callable[..., Served]


@attrs.define
class Load:
    """Sends batches one after the other, each until it is answered 200, and keeps what was acknowledged."""

    _served: Served
    sent: list[dict[str, Any]] = attrs.field(factory=list)
    _is_over: threading.Event = attrs.field(factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send during a block."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join(PATIENCE)

    def wait_for_more(self) -> None:
        """Wait until ten more batches were acknowledged."""
        wanted = len(self.sent) + 10 * BATCH
        wait_for(lambda: len(self.sent) >= wanted)

    def _run(self) -> None:
        for number in count():
            batch = [_message(number * BATCH + place) for place in range(BATCH)]
            while self._served.post("/v1/batch", {"batch": batch}, "key")[0] != 200:
                continue
            self.sent += [one for one in batch if one["userId"] != ANN]
            if self._is_over.is_set():
                return


def _message(number: int) -> dict[str, Any]:
    user = (ANN, *OTHERS)[number % 3]
    return {"type": "track", "event": "E", "userId": user, "messageId": f"m{number}", "properties": {"n": number}}


def rows(folder: Path, last: int) -> list[tuple[Any, ...]]:
    """Return the first rows of other persons in the log, whole."""
    with closing(sqlite3.connect(folder / "trackcore.db")) as connection:
        query = "SELECT * FROM messages WHERE user_id != ? AND seq <= ? ORDER BY seq"
        return connection.execute(query, (ANN, last)).fetchall()


def delivered(folder: Path) -> list[dict[str, Any]]:
    """Return the complete lines of the archive."""
    texts = [path.read_bytes() for path in sorted(folder.glob("files/*.jsonl"))]
    return [json.loads(line) for line in b"".join(texts).splitlines(keepends=True) if line.endswith(b"\n")]


def users_in_debugger(served: Served) -> set[str]:
    """Open the debugger as a page does, and return the users of the latest messages."""
    origin = {"Origin": f"http://127.0.0.1:{served.port}"}
    with closing(HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)) as connection:

        def ask(method: str, path: str, body: str | None = None, **headers: str) -> tuple[str, Any]:
            connection.request(method, f"/debugger/{path}", body, {**origin, **headers})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
            return response.headers["Set-Cookie"] or "", json.loads(answer)

        cookie = ask("POST", "session", json.dumps({"token": TOKEN}))[0].partition(";")[0]
        cursors = ask("GET", "api/start", Cookie=cookie)[1]["cursors"]
        query = urlencode({part: end + 1 for part, end in cursors.items()})
        return {row["user"] for row in ask("GET", f"api/older?{query}", Cookie=cookie)[1]["rows"]}


def test_others_do_not_notice(run: Run, serve: Serve, tmp_path: Path) -> None:
    """No other person's message is changed, lost or doubled; delivery, replay, check and the debugger go on."""
    (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
    served = serve("--config", "trackcore.toml", "--workers", "2")
    load = Load(served)
    with load.running():
        load.wait_for_more()
        assert {ANN, *OTHERS} <= users_in_debugger(served)
        last = len(load.sent) // 2
        before = rows(tmp_path, last)
        result = run("forget", ANN)
        assert (result.exit_code, "bytes: FINISHED" in result.stderr) == (0, True)
        load.wait_for_more()
        wait_for(lambda: users_in_debugger(served) == {*OTHERS})
        assert rows(tmp_path, last) == before
        assert before
    wait_for(lambda: len(delivered(tmp_path)) >= len(load.sent))
    assert [line["messageId"] for line in delivered(tmp_path)] == [message["messageId"] for message in load.sent]
    assert [line["properties"] for line in delivered(tmp_path)] == [message["properties"] for message in load.sent]
    assert run("replay", "--destination", "Files", "--since", "1d").exit_code == 0
    wait_for(lambda: len(delivered(tmp_path)) == 2 * len(load.sent))
    assert served.terminate() == 0
    assert "rewound" not in served.stderr()
    assert run("check").exit_code == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith("stderr")]
    assert [path.name for path in files if ANN.encode() in path.read_bytes()] == []
