"""Files: rotated by size and day, complete whatever happens."""

import errno
import gc
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from delivery_helpers import NOON, TurnedClock, fed, sender_context
from delivery_processes import Deployed, send_batch, track
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import wait_for
from trackcore_delivery import (
    ByteCount,
    Delivery,
    DeliveryBatch,
    FileDestination,
    RetryLater,
    SamePlace,
    State,
    check_places,
)
from trackcore_delivery.kinds import file as kinds_file
from trackcore_delivery.kinds.file import FileSender

from trackcore import Clock

Opened = Callable[..., FileSender]
SIZE = len(fed(1)[0].payload) + 1


@pytest.fixture(name="sender")
def _sender(tmp_path: Path) -> Iterator[Callable[..., FileSender]]:
    """Open a destination of files.  At the end its files are closed, as the death of a process would close them."""
    opened: list[FileSender] = []

    def make(*, clock: Clock | None = None, rotate: int = 10**9, compress: bool = True) -> FileSender:
        destination = FileDestination(
            name="My files/1", folder=Path("out"), rotate_bytes=ByteCount(rotate), gzip=compress
        )
        opened.append(destination.make_sender(sender_context(tmp_path, clock=clock)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def named(name: str, folder: Path, clock: Clock | None = None, **settings: Any) -> FileSender:
    """Open a destination of this name."""
    destination = FileDestination(name=name, folder=Path("out"), **settings)
    return destination.make_sender(sender_context(folder, clock=clock))


def send(to: FileSender, count: int = 1, first: int = 0) -> None:
    to.send(DeliveryBatch(destination="There", messages=fed(count, first=first)))


def assert_is_its_own_trouble(folder: Path, broken: str) -> None:
    """Check that delivery can begin beside a folder that cannot be used, and that the unusable one is reported."""
    unusable, other = (FileDestination(name=name, folder=Path(path)) for name, path in (("A", broken), ("B", "out")))
    around = sender_context(folder)
    with closing(State(folder / "state.db")) as state:
        Delivery(make_queues=lambda _: (), state=state, destinations=[unusable, other], context=around)
    with closing(unusable.make_sender(around)) as sender, pytest.raises(RetryLater):
        send(sender)
    with closing(other.make_sender(around)) as sender:
        send(sender)
    with pytest.raises(SamePlace):
        check_places([unusable, FileDestination(name="a", folder=Path(f"./x/../{broken}"))], around)


def content(folder: Path) -> dict[str, list[str]]:
    """Return every file and the ids in it; all must be complete, except for half a compressed file after a crash."""
    found = {}
    for path in sorted((folder / "out").iterdir()):
        if path.suffix == ".part":
            continue
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert not text or text.endswith(b"\n")
        found[path.name] = [json.loads(line)["messageId"] for line in text.splitlines()]
    return found


def test_a_file_is_named_for_its_destination_day_and_number_and_its_owners_alone(
    sender: Opened, tmp_path: Path
) -> None:
    send(sender(), 2)
    assert content(tmp_path) == {"My_files_1-2026-01-31-000001.jsonl": ["m0", "m1"]}
    (path,) = (tmp_path / "out").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_new_one_is_begun_when_it_would_grow_too_large(sender: Opened, tmp_path: Path) -> None:
    to = sender(rotate=2 * SIZE)
    for number in range(5):
        send(to, first=number)
    assert content(tmp_path) == {
        "My_files_1-2026-01-31-000001.jsonl.gz": ["m0", "m1"],
        "My_files_1-2026-01-31-000002.jsonl.gz": ["m2", "m3"],
        "My_files_1-2026-01-31-000003.jsonl": ["m4"],
    }


def test_a_batch_larger_than_a_file_is_one_file(sender: Opened, tmp_path: Path) -> None:
    to = sender(rotate=2)
    send(to, 3)
    send(to, 3, first=3)
    assert [len(ids) for ids in content(tmp_path).values()] == [3, 3]


def test_a_new_one_is_begun_with_the_day(sender: Opened, tmp_path: Path) -> None:
    clock = TurnedClock(NOON)
    to = sender(clock=clock)
    send(to)
    clock.turn(hours=12)
    send(to, first=1)
    assert content(tmp_path) == {
        "My_files_1-2026-01-31-000001.jsonl.gz": ["m0"],
        "My_files_1-2026-02-01-000001.jsonl": ["m1"],
    }


def test_without_gzip_a_closed_file_stays_as_it_is(sender: Opened, tmp_path: Path) -> None:
    for first in (0, 3):
        to = sender(rotate=SIZE, compress=False)
        for number in range(first, first + 3):
            send(to, first=number)
        to.close()
    assert list(content(tmp_path)) == [f"My_files_1-2026-01-31-{number:06d}.jsonl" for number in range(1, 7)]


class TestAfterACrash:
    @pytest.mark.parametrize("half", [b'{"half', b"x" * 200_000])
    def test_a_half_written_line_is_cut_off(self, sender: Opened, tmp_path: Path, half: bytes) -> None:
        send(sender(), 3)
        (path,) = (tmp_path / "out").iterdir()
        with path.open("ab") as stream:
            stream.write(half)
        send(sender(), first=3)
        assert content(tmp_path) == {path.name: ["m0", "m1", "m2", "m3"]}

    def test_a_file_of_nothing_but_a_half_written_line_is_used(self, sender: Opened, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "My_files_1-2026-01-31-000001.jsonl").write_bytes(b'{"half')
        send(sender())
        assert content(tmp_path) == {"My_files_1-2026-01-31-000001.jsonl": ["m0"]}

    def test_half_a_compressed_file_is_made_again(self, sender: Opened, tmp_path: Path) -> None:
        send(sender(), 2)
        (path,) = (tmp_path / "out").iterdir()
        (path.parent / f"{path.name}.gz.part").write_bytes(b"\x1f\x8b half")
        send(sender(clock=TurnedClock(NOON + timedelta(days=1))), first=2)
        assert content(tmp_path) == {
            "My_files_1-2026-01-31-000001.jsonl.gz": ["m0", "m1"],
            "My_files_1-2026-02-01-000001.jsonl": ["m2"],
        }

    def test_a_file_that_is_compressed_already_is_not_there_twice(self, sender: Opened, tmp_path: Path) -> None:
        send(sender(), 2)
        (path,) = (tmp_path / "out").iterdir()
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        send(sender(), first=2)
        assert content(tmp_path) == {
            "My_files_1-2026-01-31-000001.jsonl.gz": ["m0", "m1"],
            "My_files_1-2026-01-31-000002.jsonl": ["m2"],
        }

    def test_files_of_others_are_left_alone(self, sender: Opened, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        others = ["notes.txt", "My_files_1-x.jsonl", "My_files_1-b-2026-01-31-000009.jsonl"]
        for name in others:
            (tmp_path / "out" / name).write_text("half")
        send(sender())
        assert [(tmp_path / "out" / name).read_text() for name in others] == ["half"] * 3
        assert (tmp_path / "out" / "My_files_1-2026-01-31-000001.jsonl").exists()


MIDNIGHT = datetime(2026, 2, 1, tzinfo=UTC)


class TestClocksThatJump:
    """A name is never used twice, and no file is deleted before a compressed one with all of its content is there."""

    def test_while_the_clock_is_back_over_midnight_the_open_file_stays_open(
        self, sender: Opened, tmp_path: Path
    ) -> None:
        clock = TurnedClock(MIDNIGHT - timedelta(seconds=1))
        to = sender(clock=clock)
        for first, seconds in enumerate((1.4, -1, 2, 0)):
            send(to, first=first)
            clock.turn(seconds=seconds)
        assert content(tmp_path) == {
            "My_files_1-2026-01-31-000001.jsonl.gz": ["m0"],
            "My_files_1-2026-02-01-000001.jsonl": ["m1", "m2", "m3"],
        }

    def test_a_clock_that_was_far_ahead_leaves_its_day_behind(self, sender: Opened, tmp_path: Path) -> None:
        clock = TurnedClock(NOON)
        to = sender(clock=clock)
        for first, days in enumerate((400, -400, 400, 0)):
            send(to, first=first)
            clock.turn(days=days)
        assert content(tmp_path) == {
            "My_files_1-2026-01-31-000001.jsonl.gz": ["m0"],
            "My_files_1-2027-03-07-000001.jsonl.gz": ["m1"],
            "My_files_1-2026-01-31-000002.jsonl.gz": ["m2"],
            "My_files_1-2027-03-07-000002.jsonl": ["m3"],
        }

    def test_two_different_files_of_one_name_are_both_kept(self, sender: Opened, tmp_path: Path) -> None:
        """An older trackcore left them behind when the clock was set back."""
        (tmp_path / "out").mkdir()
        plain = tmp_path / "out" / "My_files_1-2026-01-30-000001.jsonl"
        plain.write_bytes(fed(1)[0].payload + b"\n")
        plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(fed(1, first=1)[0].payload + b"\n"))
        send(sender(), first=2)
        assert content(tmp_path) == {
            "My_files_1-2026-01-30-000001.jsonl.gz": ["m1"],
            "My_files_1-2026-01-30-000002.jsonl.gz": ["m0"],
            "My_files_1-2026-01-31-000001.jsonl": ["m2"],
        }

    @pytest.mark.parametrize(
        "damaged",
        [b"", b"no gzip", gzip.compress(b'{"messageId":"m0"}\n' * 9, mtime=0)[:-9]],
        ids=["empty", "text", "half"],
    )
    def test_a_damaged_compressed_file_does_not_stand_for_the_plain_one(
        self, sender: Opened, tmp_path: Path, damaged: bytes
    ) -> None:
        send(sender(clock=TurnedClock(NOON - timedelta(days=1))), 9)
        (plain,) = (tmp_path / "out").iterdir()
        plain.with_name(f"{plain.name}.gz").write_bytes(damaged)
        send(sender(), first=9)
        plain.with_name(f"{plain.name}.gz").unlink()
        assert [len(ids) for ids in content(tmp_path).values()] == [9, 1]

    def test_a_file_that_vanished_is_not_written_any_more(self, sender: Opened, tmp_path: Path) -> None:
        to = sender()
        send(to)
        (path,) = (tmp_path / "out").iterdir()
        path.unlink()
        send(to, first=1)
        assert content(tmp_path) == {path.name: ["m1"]}

    @settings(deadline=None)
    @given(
        steps=st.lists(
            st.tuples(st.sampled_from(["send", "restart"]), st.sampled_from([-400, -2, -1, -0.5, 0, 0, 0.5, 1, 2])),
            max_size=30,
        ),
        rotate=st.sampled_from([1, 3 * SIZE, 10**9]),
        compress=st.booleans(),
    )
    def test_whatever_the_clock_does_everything_is_there_once(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]], rotate: int, *, compress: bool
    ) -> None:
        folder = tmp_path_factory.mktemp("archive")
        clock = TurnedClock(MIDNIGHT)
        opened = partial(named, "There", folder, clock, rotate_bytes=ByteCount(rotate), gzip=compress)
        to = opened()
        sent = 0
        for step, days in steps:
            clock.turn(days=days)
            if step == "restart":
                to.close()
                to = opened()
            else:
                send(to, 2, first=sent)
                sent += 2
        to.close()
        found = [message_id for ids in content(folder).values() for message_id in ids] if sent else []
        assert sorted(found) == sorted(f"m{number}" for number in range(sent))


class Died(BaseException):
    """The process ended here: nothing handles it."""


@contextmanager
def dying_after(lines: int) -> Iterator[None]:
    """Die after so many lines of the code that writes files."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != kinds_file.__file__:
            return None
        if event == "line":
            left -= 1
            if not left:
                raise Died
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class TestDyingAnywhere:
    """After a crash at any point every acknowledged message is in the files, once or more."""

    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # a dying process closes nothing
    @pytest.mark.filterwarnings(
        "ignore:Exception ignored.*<gzip on:pytest.PytestUnraisableExceptionWarning"
    )  # nor is this called
    @settings(deadline=None)
    @given(
        deaths=st.lists(st.integers(1, 150), min_size=1, max_size=6),
        days=st.lists(st.sampled_from([-1, 0, 0, 1, 1]), min_size=6, max_size=6),
        rotate=st.sampled_from([1, 4 * SIZE]),
    )
    def test_between_any_two_lines(
        self, tmp_path_factory: pytest.TempPathFactory, deaths: list[int], days: list[int], rotate: int
    ) -> None:
        folder = tmp_path_factory.mktemp("archive")
        clock = TurnedClock(MIDNIGHT)
        acknowledged = 0
        for lines, step in zip([*deaths, 10**9], [*days, 1], strict=False):
            to = named("There", folder, clock, rotate_bytes=ByteCount(rotate))
            with suppress(Died), dying_after(lines):
                for _ in range(4):
                    send(to, 2, first=acknowledged)
                    acknowledged += 2
                    clock.turn(days=step)
            to.close()
        gc.collect()
        found = {message_id for ids in content(folder).values() for message_id in ids}
        assert {f"m{number}" for number in range(acknowledged)} <= found

    def test_where_there_are_no_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some network and memory card file systems have none."""

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        clock = TurnedClock(MIDNIGHT)
        to = named("There", tmp_path, clock, rotate_bytes=ByteCount(1))
        for first in range(3):
            send(to, first=first)
        to.close()
        assert list(content(tmp_path).values()) == [["m0"], ["m1"], ["m2"]]


class TestNames:
    """Two destinations never write the same files, and names in any script stay readable."""

    @pytest.mark.parametrize(
        ("name", "stem"),
        [
            ("仓库", "仓库"),
            ("データ", "データ"),
            ("हिन्दी", "हिन्दी"),
            ("Cafe\u0301", "Café"),
            ("📦 a/b", "📦_a_b"),
            ("a\u202eb\u2028\x9b\ud800", "a_b___"),
            ("../x", ".._x"),
            ("A?", "A_"),
        ],
    )
    def test_what_is_not_ascii_stays_unless_it_does_not_show(self, tmp_path: Path, name: str, stem: str) -> None:
        to = named(name, tmp_path)
        send(to)
        to.close()
        assert list(content(tmp_path)) == [f"{stem}-2026-01-31-000001.jsonl"]

    @pytest.mark.parametrize(
        ("one", "other"),
        [("仓库", "データ"), ("A", "A-x"), ("A", "A-2026-01-31-000001"), ("[ab]", "a"), ("*", "x"), ("A", "AB")],
    )
    @settings(deadline=None, max_examples=10)
    @given(restarts=st.lists(st.booleans(), min_size=4, max_size=4))
    def test_names_that_resemble_each_other_keep_apart(
        self, tmp_path_factory: pytest.TempPathFactory, one: str, other: str, restarts: list[bool]
    ) -> None:
        folder = tmp_path_factory.mktemp("archive")
        clock = TurnedClock(MIDNIGHT)
        opened = [partial(named, name, folder, clock, rotate_bytes=ByteCount(2 * SIZE)) for name in (one, other)]
        senders = [make() for make in opened]
        for turn, restart in enumerate(restarts):
            for place, to in enumerate(senders):
                send(to, 1, first=100 * place + turn)
            clock.turn(days=turn % 2)
            if restart:
                for to in senders:
                    to.close()
                senders = [make() for make in opened]
        for to in senders:
            to.close()
        whose = {path: {int(message_id[1:]) // 100 for message_id in ids} for path, ids in content(folder).items()}
        assert all(len(owners) == 1 for owners in whose.values())
        assert sum(map(len, content(folder).values())) == 8

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("A?", "a"), ("A*", "a")),
            (("Archive", "a"), ("archive", "a")),
            (("Café", "a"), ("Cafe\u0301", "a")),
            (("straße", "a"), ("STRASSE", "a")),
            (("A?", "a"), ("A*", "./b/../a")),
            (("A?", "a"), ("A*", "link/a")),
            (("A?", "new/A"), ("A*", "new/a")),
        ],
    )
    def test_destinations_that_would_write_the_same_files_stop_the_start(
        self, deploy: Callable[..., Deployed], one: tuple[str, str], other: tuple[str, str]
    ) -> None:
        text = "".join(
            f'[[destinations]]\nname = "{name}"\nkind = "file"\nfolder = "{folder}"\n' for name, folder in (one, other)
        )
        deployed = deploy(text)
        (deployed.folder / "link").symlink_to(deployed.folder)
        _, words = deployed.ask("serve", "--bind", "127.0.0.1:0", code=2)
        assert f"destinations[1]: {other[0]!r} would write the same files as {one[0]!r}" in words
        with closing(State(deployed.folder / "state.db")) as state, pytest.raises(SamePlace):
            Delivery(
                make_queues=lambda _: (),
                state=state,
                destinations=[FileDestination(name=name, folder=Path(folder)) for name, folder in (one, other)],
                context=sender_context(deployed.folder),
            )

    @pytest.mark.parametrize(
        "number", [errno.ESTALE, errno.EIO, errno.EACCES, errno.EHOSTDOWN], ids=errno.errorcode.get
    )
    def test_a_folder_that_cannot_be_looked_at_is_its_own_trouble(
        self, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a missing disk: the other destinations go on, and two with the same path are detected."""
        look = os.stat

        def stat(path: Any, *args: Any, **settings: Any) -> os.stat_result:
            if "gone" in Path(path).parts:
                raise OSError(number, os.strerror(number))
            return look(path, *args, **settings)

        monkeypatch.setattr(os, "stat", stat)
        assert_is_its_own_trouble(tmp_path, "gone")

    def test_a_loop_of_links_is_its_own_trouble(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path / "pool")
        (tmp_path / "pool").symlink_to(tmp_path / "loop")
        assert_is_its_own_trouble(tmp_path, "loop")

    def test_serve_starts_beside_a_loop_of_links(self, deploy: Callable[..., Deployed]) -> None:
        folders = {"A": "loop/a", "B": "out"}
        deployed = deploy(
            "".join(
                f'[[destinations]]\nname = "{name}"\nkind = "file"\nfolder = "{folder}"\nbatch_wait = "0s"\n'
                for name, folder in folders.items()
            )
        )
        (deployed.folder / "loop").symlink_to(deployed.folder / "loop")
        _, port = deployed.serve()
        send_batch(port, track(0))
        wait_for(lambda: deployed.status("B").delivered == 1)
        wait_for(lambda: "loop/a: " in (deployed.status("A").last_error or ""))

    def test_one_folder_for_several_is_fine(self, tmp_path: Path) -> None:
        destinations = [FileDestination(name=name, folder=Path("out")) for name in ("A", "A-x", "仓库", "データ", "*")]
        check_places(destinations, sender_context(tmp_path))

    def test_a_name_too_long_for_a_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="too long for a file"):
            named("仓" * 67, tmp_path)


def test_a_file_that_another_process_writes_is_left_alone(sender: Opened, tmp_path: Path) -> None:
    """Two processes with separate states may share a folder: each has its own files."""
    process = start_writing(tmp_path, "My files/1", 1_000_000)
    assert process.stdout is not None
    process.stdout.readline()
    for number in range(3):
        send(sender(clock=lambda: datetime.now(UTC)), first=number)
    written = int(process.stdout.readline())
    process.stdout.close()  # it ends at its next print, so with complete lines; a killed process may leave half a line
    process.wait()
    files = [set(ids) for ids in content(tmp_path).values()]
    own = {"m0", "m1", "m2"}
    assert own | {f"m{written - 1}"} <= set().union(*files)
    assert all(ids <= own or ids.isdisjoint(own) for ids in files), "no file has messages of both"


def test_what_could_not_be_written_whole_is_not_there_at_all(sender: Opened, tmp_path: Path) -> None:
    """The system's limit on the size of a file simulates a full disk: a part is written, then writing fails."""
    to = sender()
    send(to, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * SIZE, hard))
    try:
        with pytest.raises(RetryLater, match="File too large"):
            send(to, 100, first=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert content(tmp_path) == {"My_files_1-2026-01-31-000001.jsonl": ["m0", "m1", "m2"]}
    send(to, 1, first=3)
    assert content(tmp_path) == {"My_files_1-2026-01-31-000001.jsonl": ["m0", "m1", "m2", "m3"]}


WRITING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from delivery_helpers import fed, sender_context
from trackcore_delivery import DeliveryBatch, FileDestination

destination = FileDestination(name=sys.argv[3], folder=Path("out"), rotate_bytes=20_000)
sender = destination.make_sender(sender_context(Path(sys.argv[1]), clock=lambda: datetime.now(UTC)))
number = int(sys.argv[2])
while True:
    sender.send(DeliveryBatch(destination="There", messages=fed(7, first=number)))
    number += 7
    print(number, flush=True)
"""


def start_writing(folder: Path, name: str, first: int) -> subprocess.Popen[bytes]:
    """Start a process that writes messages, and prints how many it has written."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", WRITING, str(folder), str(first), name], stdout=subprocess.PIPE, env=environment
    )


def write_and_be_killed(folder: Path, first: int, lines: int) -> int:
    """Write in another process, kill it after so many answers, and return the number of acknowledged messages."""
    process = start_writing(folder, "There", first)
    assert process.stdout is not None
    answered = first
    for _ in range(lines):
        answered = int(process.stdout.readline())
    process.kill()
    rest: Sequence[bytes] = process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    whole = [line for line in rest if line.endswith(b"\n")]
    return int(whole[-1]) if whole else answered


def test_killed_at_any_time_everything_that_was_answered_for_is_there(tmp_path: Path) -> None:
    answered = 0
    for lines in (5, 40, 90):
        answered = write_and_be_killed(tmp_path, answered, lines)
    open_again = FileDestination(name="There", folder=Path("out")).make_sender(
        sender_context(tmp_path, clock=lambda: datetime.now(UTC))
    )
    open_again.send(DeliveryBatch(destination="There", messages=fed(1, first=answered)))
    open_again.close()
    found = [message_id for ids in content(tmp_path).values() for message_id in ids]
    assert list(dict.fromkeys(found))[: answered + 1] == [f"m{number}" for number in range(answered + 1)]
    assert len(found) - len(set(found)) <= 3 * 7, "at most the batch in flight is there twice, for each kill"
