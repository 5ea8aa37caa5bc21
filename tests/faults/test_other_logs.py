"""The log is restored from a backup, replaced, or damaged under load, while it is delivered.

A position in a log means nothing without the log's identity.  A stored position comes with a proof that shows whether
the log was replaced or rewound; then nothing in the log stays undelivered (repeats are allowed, silence is not).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException
from itertools import count
from pathlib import Path
from random import Random

import attrs
import pytest
from adapter_helpers import back_up, put_in_place
from delivery_helpers import EndpointServer
from delivery_processes import HEADERS, Deployed, post, track
from patience import wait_for
from served import Running

SEED = 5
SHORT_ROUNDS = 1
LONG_ROUNDS = 20
PAGE_BYTES = 4096
_PAUSE_SECONDS = 0.01


@attrs.define
class _Load:
    """Sends messages, one after the other, while it is open; `acknowledged` are those of the present log."""

    port: int = 0
    acknowledged: list[str] = attrs.field(factory=list)
    _numbers: count[int] = attrs.field(factory=lambda: count(1))

    @contextmanager
    def sent(self) -> Iterator[None]:
        ending = threading.Event()
        threads = [threading.Thread(target=self._send, args=(ending,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join()

    def _send(self, ending: threading.Event) -> None:
        while not ending.is_set():
            number = next(self._numbers)
            acknowledged = self.acknowledged  # the response of a server that has ended meanwhile counts for its log
            status = 0
            with suppress(OSError, HTTPException, ValueError):
                status, _ = post(self.port, "/v1/track", json.dumps(track(number)).encode(), HEADERS)
            if status == 200:
                acknowledged.append(f"m{number}")
            else:
                ending.wait(_PAUSE_SECONDS)

    def wait_for_more(self, more: int) -> None:
        before = len(self.acknowledged)
        wait_for(lambda: len(self.acknowledged) >= before + more)


def _restore(deployed: Deployed, load: _Load, random: Random, stop: Callable[[], object]) -> None:
    """Follow the guide: make a backup while the server runs, and restore it some time later."""
    backup = deployed.folder / "backup.db"
    back_up(deployed.log_path, backup)
    with closing(sqlite3.connect(backup)) as connection:
        (end,) = connection.execute("SELECT max(seq) FROM messages").fetchone()
    load.wait_for_more(random.randint(5, 40))
    wait_for(lambda: deployed.status("There").position > end)
    stop()
    put_in_place(deployed.log_path, backup)


def _replace(deployed: Deployed, _load: _Load, random: Random, stop: Callable[[], object]) -> None:
    """Delete the log, or move it away."""
    stop()
    for file in deployed.folder.glob("trackcore.db*"):
        if random.random() < 0.5:
            file.unlink()
        else:
            file.rename(file.with_name(f"away-{file.name}"))


def _damage(deployed: Deployed, _load: _Load, random: Random, stop: Callable[[], object]) -> None:
    """Overwrite pages, so that the next server moves the log aside."""
    stop()
    with deployed.log_path.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(random.randbytes(15 * PAGE_BYTES))


@pytest.fixture(name="there")
def _there() -> Iterator[EndpointServer]:
    endpoint = EndpointServer()
    yield endpoint
    endpoint.stop()


@pytest.fixture(name="deployed")
def _deployed(data: Path, there: EndpointServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    deployed = Deployed(data)
    deployed.configure(f'[[destinations]]\nname = "There"\nkind = "webhook"\nurl = "{there.url}"\nbatch_wait = "0s"\n')
    yield deployed
    for running in deployed.started:
        running.kill()


@pytest.mark.parametrize("is_apart", [False, True], ids=["by the server", "by another process"])
@pytest.mark.parametrize("fault", [_restore, _replace, _damage], ids=["restored", "replaced", "damaged"])
def test_everything_acknowledged_afterwards_is_delivered(  # noqa: PLR0917
    deployed: Deployed,
    there: EndpointServer,
    fault: Callable[[Deployed, _Load, Random, Callable[[], object]], None],
    is_apart: bool,
    is_long: bool,
    pytestconfig: pytest.Config,
) -> None:
    random, load = Random(SEED), _Load()
    options = ["--no-deliver"] if is_apart else []
    running, load.port = deployed.serve(*options)
    if is_apart:
        deployed.deliver()
    rounds = LONG_ROUNDS if is_long else SHORT_ROUNDS
    for number in range(rounds):
        with load.sent():
            load.wait_for_more(random.randint(30, 80))
            wait_for(lambda: deployed.status("There").position)
            fault(deployed, load, random, _stopping(running, by_force=bool(number % 2)))
            load.acknowledged = []
            running, load.port = deployed.serve(*options)
            load.wait_for_more(random.randint(5, 80))  # as many as before, fewer or more
        _check_delivered(deployed, there, load)
        _tell(pytestconfig, f"{number + 1} of {rounds}: {len(load.acknowledged)} acknowledged since, all delivered")


def _stopping(running: Running, *, by_force: bool) -> Callable[[], object]:
    return running.kill if by_force else running.terminate


def _check_delivered(deployed: Deployed, there: EndpointServer, load: _Load) -> None:
    """Expect that the log has all messages acknowledged since it exists, and that all in it is delivered."""
    in_log = {message["messageId"] for message in deployed.messages}
    assert set(load.acknowledged) <= in_log
    wait_for(lambda: in_log <= set(there.ids))
    deployed.wait_until_delivered("There")
    records, _ = deployed.ask("destinations")
    assert records[0]["logChange"] is not None
    assert "There: the log" in "".join(running.stderr() for running in deployed.started)


def _tell(config: pytest.Config, text: str) -> None:
    """Show progress with `-v` or `--long`, past the capture of pytest: the long form takes minutes."""
    if config.get_verbosity() <= 0 and not config.getoption("--long"):
        return
    with config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():  # type: ignore[union-attr]
        config.pluginmanager.get_plugin("terminalreporter").write_line(text)  # type: ignore[union-attr]
