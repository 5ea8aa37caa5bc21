"""`kill -9` of the process that delivers, at random moments: each message is in the files once."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import attrs
import pytest
from delivery_helpers import NOON, envelopes, store
from delivery_processes import Deployed
from patience import wait_for
from trackcore_sqlite import SqliteLog

SEED = 17
SHORT_KILLS = 3
LONG_KILLS = 50
MESSAGES_FOR_A_KILL = 400


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of destination, and how to read the ids of the messages in its files."""

    name: str
    suffix: str
    ids_in: Callable[[Path], list[str]]


def _ids_in_archive(path: Path) -> list[str]:
    return [line.split(b'"messageId": "')[1].split(b'"')[0].decode() for line in gzip.open(path)]


KINDS = [Kind(name="s3-archive", suffix=".gz", ids_in=_ids_in_archive)]


@pytest.fixture(name="deployed")
def _deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    deployed = Deployed(tmp_path / "data")
    yield deployed
    for running in deployed.started:
        running.kill()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_message_is_there_once(deployed: Deployed, kind: Kind, is_long: bool) -> None:
    random = Random(SEED)
    kills = LONG_KILLS if is_long else SHORT_KILLS
    deployed.configure(
        f'[[destinations]]\nname = "There"\nkind = "{kind.name}"\nlocation = "out"\nbatch_wait = "0s"\n'
        f"batch_messages = 25\n"
    )
    log_path = deployed.log_path
    out = deployed.folder / "out"
    for number in range(kills * MESSAGES_FOR_A_KILL // 100):
        received_at = NOON + timedelta(hours=number)
        source = f"source-{number % 3}"
        store(log_path, envelopes(100, first=100 * number, received_at=received_at, source=source))
    for _ in range(kills):
        before, more = _count(out, kind), random.randint(1, 12)
        delivering = deployed.deliver()
        with suppress(AssertionError):  # there may be less left to deliver
            wait_for(lambda: _count(out, kind) >= before + more, patience=10)  # noqa: B023 - called at once
        delivering.kill()
    deployed.deliver()
    deployed.wait_until_delivered("There")
    found = Counter(one for path in out.rglob(f"*{kind.suffix}") for one in kind.ids_in(path))
    assert found == Counter(stored.message["messageId"] for stored in SqliteLog(log_path).messages())
    assert deployed.status("There").dead_letters == 0


def _count(folder: Path, kind: Kind) -> int:
    return sum(1 for _ in folder.rglob(f"*{kind.suffix}"))
