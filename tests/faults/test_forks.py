"""Processes that fork while the log is used, and are killed: embedding in prefork servers and process pools.

"No connection, lock or thread of a parent is used after a fork; a fork at any moment loses nothing and hangs nobody."
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from adapter_helpers import basic, child_environment, is_sound, python_command, run_python
from fault_helpers import KEY
from patience import PATIENCE, wait_for
from trackcore_sqlite import SqliteLog

PREFORK = """
import os, sys
from itertools import count
from pathlib import Path
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

path, folder = sys.argv[1], Path(sys.argv[2])
sink = SqliteSink(path)
sink.store([envelope(f"parent-{os.getpid()}")])
for _ in range(3):
    if not os.fork():
        name = f"child-{os.getpid()}"
        with (folder / name).open("w") as acknowledged:
            for number in count():
                sink.store([envelope(f"{name}-{number}")])
                print(f"{name}-{number}", file=acknowledged, flush=True)
print("forked", flush=True)
for number in count():
    sink.store([envelope(f"parent-{os.getpid()}-{number}")])
"""

BUSY_PARENT = """
import os, signal, sys, threading
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink, SqliteLog

path, forks = sys.argv[1], int(sys.argv[2])
sink = SqliteSink(path, busy_timeout=60)
sink.store([envelope("first")])
over = threading.Event()
acknowledged = [0] * 4
failures = []

def store(number):
    while not over.is_set():
        sink.store([envelope(f"parent-{number}-{acknowledged[number]}")])
        acknowledged[number] += 1

def read():
    while not over.is_set():
        for _ in SqliteLog(path).messages():
            pass

def run(task, *arguments):
    try:
        task(*arguments)
    except BaseException as failure:
        failures.append(failure)

threads = [threading.Thread(target=run, args=(store, number)) for number in range(4)]
threads.append(threading.Thread(target=run, args=(read,)))
for thread in threads:
    thread.start()
children = []
for fork in range(forks):
    so_far = sum(acknowledged)
    while sum(acknowledged) < so_far + 3:  # another moment each time
        threading.Event().wait(0.001)
    child = os.fork()
    if not child:
        signal.alarm(90)
        try:
            sink.store([envelope(f"child-{fork}")])
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)
print({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children})
over.set()
for thread in threads:
    thread.join()
print(failures)
print(sum(acknowledged))
"""

BUSY_LOOP = """
import asyncio, os, signal, sys, threading
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink

path, forks, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sink = SqliteSink(path, busy_timeout=60)
over = False
acknowledged = [0] * 16
children = []

async def store(number):
    while not over:
        await sink.store_async([envelope(f"parent-{number}-{acknowledged[number]}")])
        acknowledged[number] += 1

def fork(number):
    child = os.fork()
    if not child:
        signal.alarm(90)
        try:
            asyncio.run(sink.store_async([envelope(f"async-{number}")]))
            sink.store([envelope(f"child-{number}")])
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)

async def main():
    global over
    tasks = [asyncio.create_task(store(number)) for number in range(16)]
    for number in range(forks):
        so_far = sum(acknowledged)
        while sum(acknowledged) < so_far + 20 + number % 16:  # another moment each time
            await asyncio.sleep(0)
        if place == "in the loop":
            fork(number)
        else:
            await asyncio.to_thread(fork, number)
    over = True
    await asyncio.gather(*tasks)

asyncio.run(main())
print({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children})
print(sum(acknowledged))
"""

MULTIPROCESSING = """
import multiprocessing, sys
import preloaded
from adapter_helpers import envelope

def main():
    context = multiprocessing.get_context(sys.argv[2])
    if sys.argv[2] == "forkserver":
        context.set_forkserver_preload(["preloaded"])
    preloaded.sink.store([envelope("parent")])
    with context.Pool(3) as pool:
        print(sum(pool.map(preloaded.store, range(60))))
    preloaded.sink.store([envelope("after")])

if __name__ == "__main__":
    main()
"""

PRELOADED = """
import os, sys
from adapter_helpers import envelope
from trackcore_sqlite import SqliteLog, SqliteSink

sink = SqliteSink(os.environ["LOG"])
sink.store([envelope(f"preloaded-{os.getpid()}-{n}") for n in range(200)])
reader = SqliteLog(os.environ["LOG"]).messages()
next(reader)

def store(number):
    return len(sink.store([envelope(f"{number}")]))
"""

APP = """
import os
from datetime import UTC, datetime
from uuid import uuid4
from trackcore import Collector, Source, Track
from trackcore_sqlite import SqliteLog, SqliteSink
from trackcore_wsgi import TrackingApp

sink = SqliteSink(os.environ["LOG"])
collector = Collector(
    sources=[Source(name="w", write_keys=[os.environ["KEY"]])],
    sink=sink,
    clock=lambda: datetime.now(UTC),
    new_message_id=lambda: str(uuid4()),
)
for number in range(200):
    collector.submit(Track(user_id="u", event="loaded", message_id=f"preloaded-{number}"), source="w")
reader = SqliteLog(os.environ["LOG"]).messages()
next(reader)
tracking = TrackingApp(collector)

def app(environ, start_response):
    def start(status, headers, exc_info=None):
        return start_response(status, [*headers, ("X-Process", str(os.getpid()))], exc_info)
    return tracking(environ, start)
"""


def ids_of(path: Path) -> set[str]:
    return {entry.message["messageId"] for entry in SqliteLog(path).messages()}


def use_and_close(path: Path) -> None:
    """Use the log as a process that is, perhaps, the last to close it."""
    run_python(
        "import sys; from trackcore_sqlite import SqliteSink; s = SqliteSink(sys.argv[1]); s.check_ready(); s.close()",
        path,
    )


class TestForks:
    """No connection, lock or thread of a parent is used after a fork; a fork at any moment loses nothing.

    Hundreds of processes take turns at one log here, so they wait for it longer than a server would.
    """

    def test_children_go_on_when_their_parent_is_killed(self, tmp_path: Path, is_long: bool) -> None:
        path, folder = tmp_path / "log.db", tmp_path / "acknowledged"
        folder.mkdir()
        for _ in range(20 if is_long else 2):
            parent = subprocess.Popen(
                python_command(PREFORK, path, folder),
                env=child_environment(),
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                assert parent.stdout is not None
                assert parent.stdout.readline() == b"forked\n"
                wait_for(lambda: len(acknowledged(folder)) > 60)
                parent.kill()
                parent.wait(PATIENCE)
                use_and_close(path)
                more = len(acknowledged(folder)) + 60
                wait_for(lambda more=more: len(acknowledged(folder)) > more)  # type: ignore[misc]
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(parent.pid, signal.SIGKILL)
                parent.communicate(timeout=PATIENCE)
            wait_for(lambda parent=parent: not group_lives(parent.pid))  # type: ignore[misc]
            assert acknowledged(folder) <= ids_of(path)
            assert is_sound(path)
            for file in folder.iterdir():
                file.unlink()

    def test_forks_beside_busy_threads(self, tmp_path: Path, is_long: bool) -> None:
        path = tmp_path / "log.db"
        forks = 200 if is_long else 40
        codes, failures, count = run_python(BUSY_PARENT, path, forks).splitlines()
        assert (codes, failures) == ("{0}", "[]")
        stored = ids_of(path)
        assert {f"child-{number}" for number in range(forks)} <= stored
        assert len(stored) == 1 + forks + int(count)
        assert is_sound(path)

    @pytest.mark.parametrize("place", ["in the loop", "beside the loop"])
    def test_forks_of_a_process_with_a_busy_event_loop(self, place: str, tmp_path: Path, is_long: bool) -> None:
        """The children store by an event loop of their own, and without one."""
        path = tmp_path / "log.db"
        forks = 200 if is_long else 20
        codes, count = run_python(BUSY_LOOP, path, forks, place).splitlines()
        assert codes == "{0}"
        stored = ids_of(path)
        assert {f"{face}-{number}" for face in ("child", "async") for number in range(forks)} <= stored
        assert len(stored) == 2 * forks + int(count)
        assert is_sound(path)

    @pytest.mark.parametrize("method", ["fork", "forkserver"])
    def test_multiprocessing(self, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also if the process that forks the others has used the log while it was loaded."""
        path = tmp_path / "log.db"
        (tmp_path / "preloaded.py").write_text(PRELOADED)
        (tmp_path / "program.py").write_text(MULTIPROCESSING)
        monkeypatch.setenv("LOG", str(path))
        environment = child_environment()
        environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
        command = [sys.executable, "-W", "ignore::DeprecationWarning", str(tmp_path / "program.py"), str(path), method]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=3 * PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["60"]
        assert {f"{number}" for number in range(60)} | {"parent", "after"} <= ids_of(path)
        assert is_sound(path)

    def test_gunicorn_that_loads_the_app_before_it_forks(
        self, tmp_path: Path, preloading: subprocess.Popen[str]
    ) -> None:
        path = tmp_path / "log.db"
        port = int(wait_for(lambda: listening_port(tmp_path / "stderr")))
        acknowledged: list[str] = []
        processes: set[str] = set()
        lock = threading.Lock()

        def send(number: int) -> None:
            for turn in range(40):
                process = track(port, f"{number}-{turn}")
                with lock:
                    acknowledged.append(f"{number}-{turn}")
                    processes.add(process)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        use_and_close(path)
        for thread in threads:
            thread.join(PATIENCE)
        assert len(acknowledged) == 240
        os.killpg(preloading.pid, signal.SIGKILL)
        preloading.wait(PATIENCE)
        wait_for(lambda: not group_lives(preloading.pid))
        assert str(preloading.pid) not in processes
        assert {*acknowledged, *(f"preloaded-{number}" for number in range(200))} <= ids_of(path)
        assert is_sound(path)


@pytest.fixture(name="preloading")
def _preloading(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Three workers of gunicorn, forked from a process that has used the log and still reads it."""
    (tmp_path / "preloaded.py").write_text(APP)
    environment = {**child_environment(), "LOG": str(tmp_path / "log.db"), "KEY": KEY}
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    options = ["--preload", "--workers", "3", "--bind", "127.0.0.1:0", "preloaded:app"]
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "gunicorn", *options],
            env=environment,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)


def acknowledged(folder: Path) -> set[str]:
    """Return the lines that the children have written; an unfinished line does not count."""
    return {line for file in folder.iterdir() for line in file.read_text().split("\n")[:-1]}


def group_lives(group: int) -> bool:
    """Return whether a process of a group is there and not merely waiting to be reaped."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of_group = status.read_text().rpartition(") ")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                return True
    return False


def listening_port(stderr: Path) -> str:
    """Return the port that gunicorn listens at, from its output; empty before that."""
    _, _, rest = stderr.read_text().partition("Listening at: http://127.0.0.1:")
    return rest.partition(" ")[0]


def track(port: int, message_id: str) -> str:
    """Send a message on a new connection, so that any worker may get it; return the one that did."""
    message = {"event": "e", "userId": "u", "messageId": message_id}
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        headers = {"Content-Type": "application/json", "Authorization": basic(KEY)}
        connection.request("POST", "/v1/track", json.dumps(message), headers)
        response = connection.getresponse()
        assert response.status == 200
        assert json.loads(response.read())["success"] is True
        return str(response.headers["X-Process"])
