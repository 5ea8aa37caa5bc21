"""The turns of those who fill the tables of a destination."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import pytest
from delivery_helpers import NOON
from patience import PATIENCE, wait_for
from trackcore_delivery import (
    CursorKeepingSender,
    DeliveryBatch,
    ErasureRequest,
    MessageRefused,
    RetryLater,
    Turns,
    taking_turns,
)
from trackcore_delivery import turns as module

BATCH = DeliveryBatch(destination="There", messages=())
REQUEST = ErasureRequest(id="r", subjects=(), source=None, requested_at=NOON)
HOLDER = """
import sys
from pathlib import Path
from trackcore_delivery import Turns
with Turns(Path(sys.argv[1])).alone():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(name="ours")
def _ours(tmp_path: Path) -> Turns:
    return Turns(tmp_path / "data" / "turns")


@pytest.fixture(name="theirs")
def _theirs(tmp_path: Path) -> Turns:
    """Return the same turns as another process has them."""
    return Turns(tmp_path / "data" / "turns")


class TestTurns:
    """Shared turns are beside each other; one who has a turn alone is beside nobody."""

    def test_shared_ones_are_beside_each_other(self, ours: Turns, theirs: Turns) -> None:
        with ours.shared(), theirs.shared(0), ours.shared(0):
            pass

    def test_one_alone_is_beside_nobody(self, ours: Turns, theirs: Turns) -> None:
        with ours.alone():
            for turn in (theirs.alone, theirs.shared):
                with pytest.raises(RetryLater, match="being swapped") as raised, turn(0):
                    pass
                assert raised.value.is_outage
        with theirs.shared(), pytest.raises(RetryLater), ours.alone(0):
            pass
        with theirs.alone(0):
            pass

    def test_who_waits_for_a_turn_alone_is_not_passed(self, ours: Turns, theirs: Turns) -> None:
        got = threading.Event()

        def take() -> None:
            with theirs.alone():
                got.set()

        waiting = threading.Thread(target=take)
        with ours.shared():
            waiting.start()
            wait_for(lambda: self.is_refused(ours))
            assert not got.is_set()
        waiting.join(PATIENCE)
        assert got.is_set()

    def is_refused(self, turns: Turns) -> bool:
        try:
            with turns.shared(0):
                return False
        except RetryLater:
            return True

    def test_one_who_is_killed_has_none_any_more(self, ours: Turns, tmp_path: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "data" / "turns")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert self.is_refused(ours)
            holder.send_signal(signal.SIGKILL)
            holder.wait(PATIENCE)
        assert not self.is_refused(ours)

    def test_a_child_does_not_keep_the_turn_of_its_parent(self, ours: Turns, theirs: Turns) -> None:
        ended, is_running = os.pipe(), os.pipe()
        with ours.alone():
            child = os.fork()
            if child == 0:
                os.close(ended[1])
                os.write(is_running[1], b"x")
                os.read(ended[0], 1)  # until the parent closes its end
                os._exit(0)
            os.read(is_running[0], 1)
            assert self.is_refused(theirs)
        assert not self.is_refused(theirs)
        for descriptor in (*ended[::-1], *is_running):
            os.close(descriptor)
        os.waitpid(child, 0)

    def test_a_file_that_cannot_be_opened_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with (
            pytest.raises(RetryLater, match="File exists"),
            Turns(tmp_path / "file" / "turns").shared(),
        ):
            pass


@attrs.define
class Recording:
    """A sender that records its calls."""

    calls: list[object] = attrs.field(factory=list)

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        self.calls.append(batch)
        return ()

    def forget(self, request: ErasureRequest) -> None:
        self.calls.append(request)

    def close(self) -> None:
        self.calls.append("close")


class KeepingCursors(Recording):
    """The same, which keeps cursors."""

    def cursors(self) -> Mapping[str, str]:
        return {"lane": "text"}


class TestSender:
    """A batch waits for a shared turn, a request for one alone."""

    @pytest.fixture(autouse=True)
    def _no_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
        monkeypatch.setattr(module, "ERASURE_PATIENCE_SECONDS", 0)

    def test_each_takes_its_turn(self, ours: Turns, theirs: Turns) -> None:
        inner = Recording()
        sender = taking_turns(inner, ours)
        with theirs.shared():
            sender.send(BATCH)
            with pytest.raises(RetryLater):
                sender.forget(REQUEST)
        with theirs.alone(), pytest.raises(RetryLater):
            sender.send(BATCH)
        sender.forget(REQUEST)
        sender.close()
        assert inner.calls == [BATCH, REQUEST, "close"]

    def test_one_that_keeps_cursors_still_does(self, ours: Turns) -> None:
        sender = taking_turns(KeepingCursors(), ours)
        assert isinstance(sender, CursorKeepingSender)
        assert sender.cursors() == {"lane": "text"}
        assert not isinstance(taking_turns(Recording(), ours), CursorKeepingSender)
