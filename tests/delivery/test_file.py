"""Files: rotated by size and day, whole whatever happened."""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from delivery_helpers import NOON, TurnedClock, fed, surroundings
from trackcore_delivery import Batch, ByteCount, FileDestination, TryLater
from trackcore_delivery.kinds.file import FileSender

from trackcore import Clock

Opened = Callable[..., FileSender]
SIZE = len(fed(1)[0].payload) + 1


@pytest.fixture(name="sender")
def _sender(tmp_path: Path) -> Iterator[Callable[..., FileSender]]:
    """Open a destination of files.  What is opened is closed at the end, as the death of a process would."""
    opened: list[FileSender] = []

    def make(*, clock: Clock | None = None, rotate: int = 10**9, compress: bool = True) -> FileSender:
        destination = FileDestination(
            name="My files/1", folder=Path("out"), rotate_bytes=ByteCount(rotate), gzip=compress
        )
        opened.append(destination.make_sender(surroundings(tmp_path, clock=clock)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def send(to: FileSender, count: int = 1, first: int = 0) -> None:
    to.send(Batch(destination="There", messages=fed(count, first=first)))


def content(folder: Path) -> dict[str, list[str]]:
    """Every file and the ids in it; all of it must be whole."""
    found = {}
    for path in sorted((folder / "out").iterdir()):
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


def test_what_could_not_be_written_whole_is_not_there_at_all(sender: Opened, tmp_path: Path) -> None:
    """The system's limit on the size of a file stands for a full disk: a part is written, then it fails."""
    to = sender()
    send(to, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * SIZE, hard))
    try:
        with pytest.raises(TryLater, match="File too large"):
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
from delivery_helpers import fed, surroundings
from trackcore_delivery import Batch, FileDestination

destination = FileDestination(name="There", folder=Path("out"), rotate_bytes=20_000)
sender = destination.make_sender(surroundings(Path(sys.argv[1]), clock=lambda: datetime.now(UTC)))
number = int(sys.argv[2])
while True:
    sender.send(Batch(destination="There", messages=fed(7, first=number)))
    number += 7
    print(number, flush=True)
"""


def write_and_be_killed(folder: Path, first: int, lines: int) -> int:
    """Write in another process, kill it after so many answers, and give how many messages it had answered for."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(folder), str(first)], stdout=subprocess.PIPE, env=environment
    )
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
        surroundings(tmp_path, clock=lambda: datetime.now(UTC))
    )
    open_again.send(Batch(destination="There", messages=fed(1, first=answered)))
    open_again.close()
    found = [message_id for ids in content(tmp_path).values() for message_id in ids]
    assert list(dict.fromkeys(found))[: answered + 1] == [f"m{number}" for number in range(answered + 1)]
    assert len(found) - len(set(found)) <= 3 * 7, "at most the batch in flight is there twice, for each kill"
