"""The state file, and the delivery lock."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from delivery_helpers import NOON, fed
from trackcore_delivery import DeliveryLock, DeliveryResult, State, UnusableState


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.db"


def settled(count: int, *, refused: int = 0) -> DeliveryResult:
    return DeliveryResult(messages=fed(count), refused=dict.fromkeys(range(refused), "no"), now=NOON)


class TestFile:
    def test_it_is_its_owners_alone(self, path: Path) -> None:
        with closing(State(path)) as state:
            state.begin("There", 0)
            assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
            assert path.parent.stat().st_mode & 0o777 == 0o700

    def test_what_is_settled_is_there_after_opening_it_again(self, path: Path) -> None:
        with closing(State(path)) as state:
            state.begin("There", 0)
            state.settle("There", settled(5, refused=2))
        with closing(State(path, must_exist=True)) as state:
            status = state.status("There", NOON)
            assert status is not None
            assert (status.position, status.delivered, status.dead_letters) == (5, 3, 2)
            assert [letter.message for letter in state.dead_letters("There")] == fed(5)[:2]

    def test_a_file_of_another_program_is_not_touched(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE mine (a)")
        before = path.read_bytes()
        with pytest.raises(UnusableState, match="another program"):
            State(path)
        assert path.read_bytes() == before

    def test_a_text_is_no_state(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_text("not a SQLite file" * 100)
        with pytest.raises(UnusableState, match="not a database"):
            State(path)

    def test_a_newer_one_is_refused(self, path: Path) -> None:
        State(path).close()
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA user_version = 99")
        with pytest.raises(UnusableState, match="newer trackcore"):
            State(path)

    def test_it_may_have_to_exist(self, path: Path) -> None:
        with pytest.raises(UnusableState, match="cannot be opened"):
            State(path, must_exist=True)
        assert not path.exists()

    def test_looking_at_it_while_it_is_made(self, tmp_path: Path) -> None:
        """A command may open the state at the very moment at which the server creates it."""
        for number in range(40):
            path = tmp_path / f"{number}.db"
            with ThreadPoolExecutor(3) as threads:
                for opened in [threads.submit(State, path) for _ in range(3)]:
                    opened.result().close()


class TestRate:
    def test_it_counts_the_last_minute_most(self, path: Path) -> None:
        with closing(State(path)) as state:
            state.begin("There", 0)
            for second in range(300):
                now = NOON + timedelta(seconds=second)
                state.settle("There", DeliveryResult(messages=fed(10), refused={}, now=now))
            steady = state.status("There", NOON + timedelta(seconds=300))
            later = state.status("There", NOON + timedelta(seconds=900))
            assert steady is not None
            assert later is not None
            assert steady.rate == pytest.approx(10, rel=0.03)
            assert later.rate < 0.001


class TestDeliveryLock:
    def test_one_has_it_at_a_time(self, tmp_path: Path) -> None:
        first, second = DeliveryLock(tmp_path / "lock"), DeliveryLock(tmp_path / "lock")
        assert first.holder() is None
        assert first.acquire("the first")
        assert not second.acquire("the second")
        assert (second.holder() or "").startswith("the first, process ")
        first.release()
        assert second.holder() is None
        assert second.acquire("the second")
        second.release()

    def test_the_death_of_its_holder_ends_it(self, tmp_path: Path) -> None:
        program = (
            "import sys\nfrom pathlib import Path\nfrom trackcore_delivery import DeliveryLock\n"
            "right = DeliveryLock(Path(sys.argv[1]))\nprint(right.acquire('other'), flush=True)\nsys.stdin.read()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"True\n"
            right = DeliveryLock(tmp_path / "lock")
            assert not right.acquire("me")
            process.kill()
            process.wait()
            assert right.acquire("me")
            right.release()
