"""Forks of a process that uses the log.

"No connection, lock or thread of a parent is used after a fork; a fork at any moment loses nothing and hangs nobody."
Each test runs in another process, so that it forks without anything that other tests have left behind.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from weakref import ref

import pytest
from adapter_helpers import envelope, is_sound, rejected_record, run_python
from trackcore_sqlite import SqliteLog, SqliteSink

LAST_TO_CLOSE = """
import sys
from trackcore_sqlite import SqliteSink
sink = SqliteSink(sys.argv[1])
sink.check_ready()
sink.close()
"""

CHILD_THAT_GOES_ON = """
import os, subprocess, sys
from datetime import UTC, datetime
from adapter_helpers import envelope, rejected_record
from trackcore_sqlite import SqliteBrowser, SqliteLog, SqliteSink, check_log, prune

path, last_to_close = sys.argv[1:]
sink = SqliteSink(path)
sink.store([envelope(f"parent-{{n}}") for n in range(300)])
{use}
begun, closed = os.pipe(), os.pipe()
if not (child := os.fork()):
    for n in range(10):
        sink.store([envelope(f"child-{{n}}")])
    os.write(begun[1], b"x")
    os.read(closed[0], 1)
    for n in range(10, 30):
        sink.store([envelope(f"child-{{n}}")])
    os._exit(0)
os.read(begun[0], 1)
sink.close()
subprocess.run([sys.executable, "-c", last_to_close, path], check=True)
os.write(closed[1], b"x")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

USES = {
    "the sink": "",
    "messages that are read": "reader = SqliteLog(path).messages(); next(reader); sink.close()",
    "payloads that are read": "reader = SqliteLog(path).payloads(after=0, last=200); next(reader); sink.close()",
    "a tail": "reader = SqliteLog(path).tail().read(); next(reader); sink.close()",
    "a browser": "browser = SqliteBrowser(path, keep_open=True); browser.ends(); sink.close()",
    "retention": "steps = prune(path, datetime.now(UTC)); next(steps); sink.close()",
    "a commit that failed": """
sink._writer._bounds["rejected"] = None
try:
    sink.store(rejected=[rejected_record()])
except TypeError as error:
    kept = error  # and with it the frames of the commit
""",
}

MANY_READERS = """
import os, sys
from adapter_helpers import envelope
from trackcore_sqlite import SqliteLog, SqliteSink

sink = SqliteSink(sys.argv[1])
sink.store([envelope(f"{{n}}") for n in range(2_000)])
reader = {reader}
begun = [next(reader).seq for _ in range(150)]
child = os.fork()
rest = [stored.seq for stored in reader]
if child:
    assert os.waitpid(child, 0)[1] == 0
print(begun + rest == list(range(1, 2_001)), flush=True)
os._exit(0)
"""

FORK_IN_A_TRANSACTION = """
import os, signal, sys
from adapter_helpers import envelope
from trackcore import SinkUnavailable
from trackcore_sqlite import SqliteSink
from trackcore_sqlite.writer import LogWriter

signal.alarm(20)
forked = []
write = LogWriter._write

def fork_and_write(self, connection, requests):
    write(self, connection, requests)
    if not forked:
        forked.append(os.fork())

LogWriter._write = fork_and_write
sink = SqliteSink(sys.argv[1])
results = []
for message_id in ("first", "second"):
    try:
        results += map(str, sink.store([envelope(message_id)]))
    except SinkUnavailable as error:
        results.append(f"refused {'forked' in error.detail or 'authorized' in error.detail}")
if forked[0]:
    assert os.waitpid(forked[0], 0)[1] == 0
print(*results, sep="\\n")  # and then the whole end of an interpreter, in both
"""

FORK_BESIDE_A_LONG_USE = """
import os, signal, sys, threading
from pathlib import Path
from adapter_helpers import envelope
from trackcore import SinkUnavailable
from trackcore_delivery import UnusableState
from trackcore_delivery.state import State
from trackcore_sqlite import SqliteLog, SqliteSink, UnusableLog
import trackcore_forks

signal.alarm(20)
trackcore_forks.PATIENCE_SECONDS = 0.05
path = sys.argv[1]
sink = SqliteSink(path)
sink.store([envelope("before")])
used, over = threading.Event(), threading.Event()

def use_for_long():
    with sink._writer._file.use():
        used.set()
        over.wait()

threading.Thread(target=use_for_long).start()
used.wait()
child = os.fork()
if not child:
    for call, error in (
        (lambda: sink.store([envelope("child")]), SinkUnavailable),
        (SqliteLog(path).totals, UnusableLog),
        (lambda: State(Path(path + "-state")), UnusableState),
    ):
        try:
            call()
        except error as refused:
            print("this process was forked" in str(refused), flush=True)
    sink.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
over.set()
print(*sink.store([envelope("after")]))
"""

FORK_BESIDE_A_NESTED_USE = """
import os, signal, sys, threading
from pathlib import Path
from adapter_helpers import envelope
from trackcore_delivery import DeliveryLock
from trackcore_sqlite import SqliteLog, SqliteSink
import trackcore_forks

signal.alarm(20)  # a fork has more patience
path = sys.argv[1]
sink, log = SqliteSink(path), SqliteLog(path)
sink.store([envelope(f"{{n}}") for n in range(200)])
readers = [log.messages() for _ in range(20)]  # some are brought to rest before the one in use
for reader in readers:
    next(reader)
used = threading.Event()

def use():
    global kept
    with log.snapshot():
        used.set()
        while forks._process.lock.acquire(blocking=False):  # until a fork waits
            forks._process.lock.release()
        {nested}

thread = threading.Thread(target=use)
thread.start()
used.wait()
if not (child := os.fork()):
    print(*sink.store([envelope("child")]), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
print(*sink.store([envelope("after")]))
"""

NESTED = {
    "a reader that is made": "assert len(list(log.messages())) == 200",
    "a reader that is left open": "kept = log.messages(); next(kept)",
    "a reader that goes on": "assert all(len(list(reader)) == 199 for reader in readers)",
    "a reader that is closed": "[reader.close() for reader in readers]",
    "another sink": "SqliteSink(path).store([envelope('nested')])",
    "a lock": "DeliveryLock(Path(path + '.lock')).holder()",
}

FORK_OF_ANOTHER_LANGUAGE = """
import asyncio, ctypes, os, sys
from functools import partial
from adapter_helpers import Workers, envelope
from trackcore_sqlite import SqliteSink

sink = SqliteSink(sys.argv[1])
asyncio.run(sink.store_async([envelope("before")]))
if sys.argv[2] == "closed":
    sink.close()
child = ctypes.PyDLL(None).fork()
if not child:
    calls = [partial(sink.store, [envelope(f"child-{n}")]) for n in range(4)]
    calls += [lambda n=n: asyncio.run(sink.store_async([envelope(f"child-{n}")])) for n in range(4, 8)]
    workers = Workers(calls)
    workers.finish()
    if workers.errors == [None] * 8:
        print("stored", flush=True)
    else:
        print("refused", all("this process was forked" in str(error) for error in workers.errors), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(*sink.store([envelope("after")]))
"""

LOG_MOVED_AWAY = """
import os, sys
from adapter_helpers import envelope
from trackcore import SinkUnavailable
from trackcore_sqlite import SqliteSink

sink = SqliteSink(sys.argv[1])
sink.store([envelope("before")])
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
if not child:
    os.rename(sys.argv[1], sys.argv[1] + '.aside')
try:
    sink.store([envelope("lost")])
except SinkUnavailable as error:
    print(error.detail[:19], flush=True)
if not child:
    os._exit(0)
"""

SHARED_LOCK = """
import os, sys
from pathlib import Path
from trackcore_delivery import DeliveryLock

path = Path(sys.argv[1])
ownership = DeliveryLock(path)
assert ownership.acquire("parent")
begun, over = os.pipe(), os.pipe()
if not (child := os.fork()):
    os.write(begun[1], b"x")
    os.read(over[0], 1)
    os._exit(0)
os.read(begun[0], 1)
print(DeliveryLock(path).holder() is not None, "the child does not release it")
ownership.release()
print(DeliveryLock(path).acquire("other"), "the child does not keep it")
os.write(over[1], b"x")
assert os.waitpid(child, 0)[1] == 0
"""

STATE = """
import os, subprocess, sys
from pathlib import Path
from trackcore import Mark
from trackcore_delivery.state import State

path = Path(sys.argv[1])
state = State(path)
state.begin("parent", 1)
begun, closed = os.pipe(), os.pipe()
if not (child := os.fork()):
    state.begin("child", 1)
    os.write(begun[1], b"x")
    os.read(closed[0], 1)
    state.skip("child", Mark(position=2))
    os._exit(0)
os.read(begun[0], 1)
state.skip("parent", Mark(position=2))
state.close()
State(path).close()  # perhaps the last to close
os.write(closed[1], b"x")
assert os.waitpid(child, 0)[1] == 0
state = State(path)
print(*((name, state.position(name)) for name in state.names()))
"""


STRETCHES = """
import os, shutil, sqlite3, sys
from contextlib import closing
from adapter_helpers import envelope, overwrite, rejected_record
from trackcore_sqlite import SqliteSink

path, backup = sys.argv[1], sys.argv[1] + "-backup"


def copy():
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    shutil.copyfile(path, backup)


def put_back():
    shutil.copyfile(backup, path)


def store_elsewhere():
    other = SqliteSink(path)
    other.store(rejected=[rejected_record()])
    other.close()


def overwrite_with_itself():
    shutil.copyfile(path, backup)
    overwrite(path, backup)


def in_a_child(store):
    if not (child := os.fork()):
        store()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


sink = SqliteSink(path)
sink.store([envelope("first")])
copy()
sink.store([envelope("second")])
for number in range(5):
    in_a_child(lambda: {in_child})
    {meanwhile}
    sink.store([envelope(f"later-{{number}}")])
with closing(sqlite3.connect(path)) as connection:
    print(*(after for after, in connection.execute("SELECT messages FROM stretches ORDER BY number")))
"""
"""The first stretch is that of the migration, the second that of the parent."""


class TestForks:
    """No connection, lock or thread of a parent is used after a fork; a fork at any moment loses nothing."""

    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_what_a_child_stored_is_there_after_others_have_closed_the_log(
        self, use: str, log_path: Path, log: SqliteLog
    ) -> None:
        assert run_python(CHILD_THAT_GOES_ON.format(use=use), log_path, LAST_TO_CLOSE).split() == ["0"]
        stored = {entry.message["messageId"] for entry in log.messages()}
        assert {f"child-{n}" for n in range(30)} <= stored
        assert is_sound(log_path)

    @pytest.mark.parametrize(
        "reader",
        [
            "SqliteLog(sys.argv[1]).messages()",
            "SqliteLog(sys.argv[1]).payloads(after=0, last=2_000)",
            "SqliteLog(sys.argv[1]).tail().read()",
        ],
        ids=["messages", "payloads", "tail"],
    )
    def test_a_reader_goes_on_in_both_where_it_was(self, reader: str, log_path: Path) -> None:
        assert run_python(MANY_READERS.format(reader=reader), log_path).split() == ["True", "True"]

    def test_a_fork_within_a_transaction_leaves_it_to_the_parent(self, log_path: Path, log: SqliteLog) -> None:
        """A signal handler may fork.  The child refuses, since SQLite's locks do not work there."""
        printed = sorted(run_python(FORK_IN_A_TRANSACTION, log_path).splitlines())
        assert printed == ["refused True", "refused True", "stored", "stored"]
        assert [entry.message["messageId"] for entry in log.messages()] == ["first", "second"]
        assert is_sound(log_path)

    def test_a_fork_beside_a_use_that_takes_too_long_refuses_in_the_child(self, log_path: Path, log: SqliteLog) -> None:
        assert run_python(FORK_BESIDE_A_LONG_USE, log_path).split() == ["True", "True", "True", "stored"]
        assert [entry.message["messageId"] for entry in log.messages()] == ["before", "after"]

    @pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
    def test_a_thread_that_a_fork_waits_for_may_use_another_connection(
        self, nested: str, log_path: Path, log: SqliteLog
    ) -> None:
        assert run_python(FORK_BESIDE_A_NESTED_USE.format(nested=nested), log_path).split() == ["stored"] * 2
        stored = [entry.message["messageId"] for entry in log.messages()]
        assert stored[-2:] == ["child", "after"]
        assert is_sound(log_path)

    @pytest.mark.parametrize(
        ("open_at_the_fork", "printed"),
        [("open", ["refused True", "stored"]), ("closed", ["stored", "stored"])],
    )
    def test_a_fork_that_python_does_not_know_of(
        self, open_at_the_fork: str, printed: list[str], log_path: Path, log: SqliteLog
    ) -> None:
        """An application server in C may fork without Python's handlers.  Threads of the child begin at once."""
        assert run_python(FORK_OF_ANOTHER_LANGUAGE, log_path, open_at_the_fork).splitlines() == printed
        children = {f"child-{n}" for n in range(8)} if open_at_the_fork == "closed" else set()
        assert {entry.message["messageId"] for entry in log.messages()} == {"before", "after", *children}
        assert is_sound(log_path)

    def test_a_log_that_was_moved_away_is_noticed_after_a_fork_too(self, log_path: Path) -> None:
        assert run_python(LOG_MOVED_AWAY, log_path).splitlines() == ["the log was deleted"] * 2
        assert not log_path.exists()

    @pytest.mark.parametrize(
        ("in_child", "meanwhile", "begun"),
        [
            pytest.param("None", "pass", "0 0", id="nothing happens"),
            pytest.param("None", "sink.check_ready()", "0 0", id="only a probe"),
            pytest.param("None", "os._exit(0) if os.fork() == 0 else os.wait()", "0 0", id="two forks"),
            pytest.param("sink.check_ready()", "pass", "0 0", id="a probe of the child"),
            pytest.param("sink.store([envelope('child')])", "pass", "0 0 2 3 4 4 5 5 6 6 7 7", id="the child stores"),
            pytest.param("None", "store_elsewhere()", "0 0 2 2 3 3 4 4 5 5 6 6", id="another stores"),
            pytest.param("None", "put_back()", "0 0 1", id="a copy is put back"),
            pytest.param("None", "overwrite_with_itself()", "0 0 2 3 4 5 6", id="the log is overwritten with itself"),
            pytest.param("None", "sink.close()", "0 0 2 3 4 5 6", id="closed"),
        ],
    )
    def test_who_forks_goes_on_in_its_stretch_if_nothing_happened_meanwhile(
        self, in_child: str, meanwhile: str, begun: str, log_path: Path
    ) -> None:
        """Not if the log may be another one, or an earlier state of the same."""
        script = STRETCHES.format(in_child=in_child, meanwhile=meanwhile)
        assert run_python(script, log_path).strip() == begun

    def test_the_state_of_delivery_is_used_by_both(self, tmp_path: Path) -> None:
        assert run_python(STATE, tmp_path / "state.db").strip() == "('child', 2) ('parent', 2)"

    def test_the_right_to_deliver_stays_with_the_parent_alone(self, tmp_path: Path) -> None:
        printed = run_python(SHARED_LOCK, tmp_path / "owner").splitlines()
        assert [line.partition(" ")[0] for line in printed] == ["True", "True"]

    def test_a_failed_commit_leaves_no_file_open(self, log_path: Path) -> None:
        """SQLite closes a file only after the last statement on it, and an exception keeps the frames of a commit."""
        sink = SqliteSink(log_path, rejected_bytes=None)  # type: ignore[arg-type]
        with pytest.raises(TypeError) as kept:
            sink.store(rejected=[rejected_record()])
        assert kept.value.__traceback__ is not None
        assert [entry for entry in Path("/proc/self/fd").iterdir() if os.path.realpath(entry) == str(log_path)] == []

    def test_a_sink_can_be_collected(self, log_path: Path) -> None:
        sink = SqliteSink(log_path)
        sink.store([envelope("a")])
        sink.close()
        gone = ref(sink)
        del sink
        gc.collect()
        assert gone() is None
