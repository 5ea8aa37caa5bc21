"""Delivery as processes: alone, beside a server, killed, on standby, and against endpoints that misbehave."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from delivery_helpers import EndpointServer, Received, Reply, envelopes, store
from delivery_processes import Deployed, send_batch, track
from patience import wait_for

from trackcore import JSONObject

TRY_LATER = Reply(status=503)
OK = Reply()


def webhook(name: str, endpoint: EndpointServer, **settings: object) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in {"batch_wait": "0s", **settings}.items())
    return f'[[destinations]]\nname = "{name}"\nkind = "webhook"\nurl = "{endpoint.url}/hook"\n{lines}'


def in_order_of_each_user(messages: Sequence[JSONObject]) -> bool:
    """Return whether each user's messages came first in the order of their numbers, repetitions ignored."""
    last: dict[str, int] = {}
    seen: set[str] = set()
    for message in messages:
        if message["messageId"] in seen:
            continue
        seen.add(message["messageId"])
        number = int(message["messageId"][1:])
        if number < last.get(message["userId"], -1):
            return False
        last[message["userId"]] = number
    return True


def delivering_pid(deployed: Deployed) -> int:
    """Find the process that delivers."""

    def find() -> int | None:
        file = deployed.folder / "trackcore-delivery.lock"
        text = file.read_text() if file.exists() else ""
        return int(text.rpartition(" ")[2]) if text else None

    pid: int = wait_for(find)
    return pid


class TestServe:
    def test_it_delivers_what_it_receives_and_nothing_that_was_excluded(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        one, two = endpoint(), endpoint()
        deployed = deploy(webhook("One", one) + webhook("Two", two) + '[[destinations]]\nname = "None"\n')
        running, port = deployed.serve()
        assert "Delivering to: One (webhook), Two (webhook)\n" in running.stderr()
        send_batch(port, track(1), track(2, integrations={"Two": False}), track(3, integrations={"All": False}))
        wait_for(lambda: (one.ids, two.ids) == (["m1", "m2"], ["m1"]))
        send_batch(port, track(1), track(4))
        wait_for(lambda: (one.ids, two.ids) == (["m1", "m2", "m4"], ["m1", "m4"]))
        assert running.terminate() == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(running.process.pid, 0)

    def test_without_delivery_it_only_decides(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        there = endpoint()
        deployed = deploy(webhook("There", there))
        running, port = deployed.serve("--no-deliver")
        send_batch(port, track(1))
        records, _ = deployed.ask("events")
        assert records[0]["destinations"] == ["There"]
        assert running.terminate() == 0
        assert not (deployed.folder / "trackcore-delivery.db").exists()
        deployed.deliver()
        wait_for(lambda: there.ids == ["m1"])

    def test_delivery_that_was_killed_is_started_again(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        there = endpoint()
        deployed = deploy(webhook("There", there))
        running, port = deployed.serve()
        send_batch(port, track(1))
        wait_for(lambda: there.ids == ["m1"])
        os.kill(delivering_pid(deployed), signal.SIGKILL)
        send_batch(port, track(2))
        wait_for(lambda: list(dict.fromkeys(there.ids)) == ["m1", "m2"])
        assert "restarting it" in running.stderr()

    def test_delivery_ends_with_a_server_that_is_killed(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        deployed = deploy(webhook("There", endpoint()))
        running, _ = deployed.serve()
        pid = delivering_pid(deployed)
        running.process.kill()

        def is_gone() -> bool:
            return not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]

        wait_for(is_gone)

    def test_hang_up_reads_the_destinations_again(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        one, two = endpoint(), endpoint()
        deployed = deploy(webhook("One", one))
        running, port = deployed.serve()
        deployed.configure(webhook("One", one) + webhook("Two", two))
        running.process.send_signal(signal.SIGHUP)
        number = 0

        def both() -> bool:
            nonlocal number
            number += 1
            send_batch(port, track(number))
            return bool(two.ids)

        wait_for(both)
        wait_for(lambda: one.ids == [f"m{sent}" for sent in range(1, number + 1)])

    def test_a_secret_is_never_shown(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        there = endpoint(lambda received: Reply(status=500, body=repr(received.headers).encode()))
        settings = {"secret": "env:HOOK_SECRET"}
        config = webhook("There", there, **settings) + 'headers = {Authorization = "env:HOOK_TOKEN"}\n'
        deployed = deploy(config, HOOK_SECRET="shh-shh", HOOK_TOKEN="t0ken-t0ken")  # noqa: S106 - made up
        running, port = deployed.serve()
        send_batch(port, track(1))
        wait_for(lambda: deployed.status("There").last_error)
        records, _ = deployed.ask("destinations")
        assert "***" in records[0]["lastError"]
        assert there.requests[0].headers["authorization"] == "t0ken-t0ken"
        assert running.terminate() == 0
        everything = running.stderr() + json.dumps(records)
        everything += (deployed.folder / "trackcore-delivery.db").read_bytes().decode("latin-1")
        assert "t0ken-t0ken" not in everything
        assert "shh-shh" not in everything

    def test_a_secret_that_is_not_there_is_reported_at_the_start(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        deployed = deploy(webhook("There", endpoint(), secret="env:NOT_THERE"))  # noqa: S106 - made up
        for command in ("serve", "deliver"):
            _, output = deployed.ask(command, code=2)
            assert "destinations[0].secret: the environment variable NOT_THERE is not set" in output
        deployed.serve("--no-deliver")
        assert deployed.ask("events") == ([], "")


class TestOneOwner:
    def test_a_second_one_says_so_stands_by_and_takes_over(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        there = endpoint()
        deployed = deploy(webhook("There", there))
        store(deployed.log_path, envelopes(2))
        first = deployed.deliver()
        wait_for(lambda: len(there.ids) == 2)
        second = deployed.deliver()
        second.wait_for_output(rf"trackcore deliver, process {first.process.pid} delivers already; standing by")
        first.kill()
        store(deployed.log_path, envelopes(2, first=2))
        wait_for(lambda: len(there.ids) == 4)
        assert there.ids == ["m0", "m1", "m2", "m3"]
        assert second.terminate() == 0

    def test_one_that_stands_by_can_be_stopped(
        self, deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
    ) -> None:
        deployed = deploy(webhook("There", endpoint()))
        deployed.deliver().wait_for_output("Delivering to")
        delivering_pid(deployed)
        second = deployed.deliver()
        second.wait_for_output("standing by")
        assert second.terminate() == 0


def test_nothing_to_deliver_is_reported(deploy: Callable[..., Deployed]) -> None:
    _, output = deploy('[[destinations]]\nname = "None"').ask("deliver", code=2)
    assert "no destination has a kind" in output


def test_delivery_waits_for_a_log(deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]) -> None:
    there = endpoint()
    deployed = deploy(webhook("There", there))
    running = deployed.deliver()
    running.wait_for_output("there is no log here")
    store(deployed.log_path, envelopes(3))
    wait_for(lambda: len(there.ids) == 3)
    assert running.stderr().count("there is no log here") == 1
    assert running.terminate() == 0


def moody(seed: int) -> Callable[[Received], Reply]:
    """Misbehave in every way, most of the time."""
    jitter = random.Random(seed)
    replies = [
        TRY_LATER,
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(status=500),
        Reply(close=True),
        Reply(body=b"half", announced=9),
        *[OK] * 10,
    ]
    return lambda _: jitter.choice(replies)


def refusing(received: Received) -> Reply:
    """Reject requests that hold one message of every seven."""
    bad = any(int(message["messageId"][1:]) % 7 == 0 for message in received.messages)
    return Reply(status=400, body=b"no sevens") if bad else OK


def test_misbehaving_endpoints_lose_nothing_and_disturb_no_other(
    deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
) -> None:
    """Everything selected arrives, in order for each user; endpoints that hang or are down delay no other."""
    count = 120
    good, bad, choosy = endpoint(), endpoint(moody(1)), endpoint(refusing)
    hanging, down = endpoint(lambda _: Reply(stall=True)), endpoint(lambda _: TRY_LATER)
    small = {"batch_messages": 20}
    deployed = deploy(
        webhook("Good", good, **small)
        + webhook("Bad", bad, **small)
        + webhook("Choosy", choosy, **small)
        + webhook("Hanging", hanging, **small)
        + webhook("Down", down, **small)
    )
    names = ("Good", "Bad", "Choosy", "Hanging", "Down")
    store(deployed.log_path, envelopes(count, destinations=names, users=7))
    store(deployed.log_path, envelopes(50, first=count, destinations=("Nowhere",)))
    running = deployed.deliver()
    everything = [f"m{number}" for number in range(count)]
    wait_for(lambda: len(good.ids) == count)
    assert good.ids == everything
    wait_for(lambda: set(bad.ids) >= set(everything))
    assert set(bad.ids) == set(everything)
    assert in_order_of_each_user(bad.taken)
    wait_for(lambda: deployed.status("Choosy").position == count)
    assert choosy.ids == [message_id for message_id in everything if int(message_id[1:]) % 7]
    letters, _ = deployed.ask("dead-letters")
    assert [letter["message"]["messageId"] for letter in letters] == [f"m{number}" for number in range(0, count, 7)]
    assert all("answered 400: no sevens" in letter["reason"] for letter in letters)
    records, _ = deployed.ask("destinations")
    states = {record["destination"]: (record["state"], record["lagMessages"]) for record in records}
    assert states["Good"] == ("delivering", 0)
    assert states["Choosy"] == ("delivering", 0)
    assert states["Down"] == ("failing", count)
    assert states["Hanging"][1] == count
    running.kill()


def test_full_recovery_takes_no_longer_than_the_outage(
    deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]
) -> None:
    """The next attempt comes at the latest when the destination has been failing for as long again."""
    there = endpoint(lambda _: TRY_LATER)
    deployed = deploy(webhook("There", there))
    store(deployed.log_path, envelopes(500))
    deployed.deliver()
    wait_for(lambda: len(there.requests) >= 3)
    outage = time.monotonic() - there.requests[0].at
    status = deployed.status("There")
    assert status.next_try_at is not None
    assert status.failing_since is not None
    assert status.last_error_at is not None
    pause = status.next_try_at - status.last_error_at
    assert pause.total_seconds() <= max(0.5, (status.last_error_at - status.failing_since).total_seconds())
    there.behaviour = lambda _: OK
    wait_for(lambda: len(there.ids) == 500)
    assert outage > 0


def _has_more_than(there: EndpointServer, count: int) -> bool:
    return len(there.taken) > count


def kill_under_load(deployed: Deployed, there: EndpointServer, kills: int, seed: int) -> tuple[int, int]:
    """Kill the process that delivers, at random moments while messages come in; return messages and duplicates."""
    jitter = random.Random(seed)
    stopping = threading.Event()
    stored = 0

    def feed() -> None:
        nonlocal stored
        while not stopping.is_set():
            store(deployed.log_path, envelopes(50, first=stored, users=11))
            stored += 50
            stopping.wait(0.01)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        for _ in range(kills):
            running = deployed.deliver()
            there_are_more = partial(_has_more_than, there, len(there.taken))
            wait_for(there_are_more)
            stopping.wait(jitter.uniform(0, 0.3))
            running.kill()
    finally:
        stopping.set()
        feeder.join()
    running = deployed.deliver()
    wait_for(lambda: deployed.status("There").position == stored)
    running.terminate()
    return stored, len(there.ids) - len(set(there.ids))


def test_killed_at_any_time_everything_arrives_and_only_batches_in_flight_twice(
    deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer], *, is_long: bool
) -> None:
    """Every message at least once; at most one batch again for each kill."""
    kills, batch = (50, 40) if is_long else (5, 40)
    there = endpoint()
    deployed = deploy(webhook("There", there, batch_messages=batch))
    stored, duplicates = kill_under_load(deployed, there, kills, seed=kills)
    assert set(there.ids) == {f"m{number}" for number in range(stored)}
    assert in_order_of_each_user(there.taken)
    assert max(Counter(there.ids).values()) <= kills + 1
    assert duplicates <= kills * batch
    print(f"\n{kills} kills, {stored} messages, {duplicates} duplicates, of at most {kills * batch}")  # noqa: T201


def test_commands_steer_what_runs(deploy: Callable[..., Deployed], endpoint: Callable[..., EndpointServer]) -> None:
    """The process that delivers retries dead letters and replays messages, while the commands wait."""
    there = endpoint(refusing)
    deployed = deploy(webhook("There", there))
    _, port = deployed.serve()
    send_batch(port, *(track(number) for number in range(8)))
    deployed.wait_until_delivered("There")
    wait_for(lambda: deployed.status("There").dead_letters == 2)
    there.behaviour = lambda _: OK
    _, told = deployed.ask("dead-letters", "--destination", "There", "--retry")
    assert told == "2 dead letters will be sent again\n"
    wait_for(lambda: there.ids[-2:] == ["m0", "m7"])
    wait_for(lambda: deployed.ask("dead-letters") == ([], ""))  # the request is recorded after its response was sent
    there.taken.clear()
    selected: list[Any] = ["--destination", "There", "--since", "1h", "--user", "user-0"]
    assert deployed.ask("replay", *selected, "--dry-run")[1] == "8 messages would be sent to There\n"
    assert there.ids == []
    assert deployed.ask("replay", *selected)[1] == "8 messages sent to There\n"
    assert there.ids == [f"m{number}" for number in range(8)]
