"""The delivery of an open message that its destination does not accept yet."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator

import pytest
from debugger.browser import Browser
from debugger.conftest import Endpoint, Site, visit
from debugger.pages import OPEN, SHOWN, WAIT_ROWS, new_user, track


@pytest.fixture(name="broken")
def _broken(endpoint: Endpoint) -> Iterator[Endpoint]:
    endpoint.is_down = True
    yield endpoint
    endpoint.is_down = False


@pytest.fixture(name="failing")
def _failing(endpoint: Endpoint) -> Iterator[Endpoint]:
    yield endpoint
    endpoint.failing_user = ""


def test_a_message_waits_with_the_reason_and_the_page_follows_its_delivery(
    inside: Browser, busy: Site, broken: Endpoint
) -> None:
    """Waiting, with the failure and the next try; the open message follows its delivery without a click."""
    user = new_user()
    busy.send(track("Bought", userId=user))
    visit(inside, busy, "?" + urllib.parse.urlencode({"user": user, "destination": "CRM", "delivery": "waiting"}))
    inside.run(WAIT_ROWS, 1)
    inside.run(OPEN, ".row:not([hidden])")
    inside.run(SHOWN, ["#deliveries .waiting", "the destination fails since"])
    assert "503" in inside.run("return await page.innerText('#deliveries .waiting')")
    broken.is_down = False
    inside.run("await page.waitForSelector('#deliveries .delivered')")
    inside.run(SHOWN, ["#deliveries .delivered", "in attempt"])


def test_messages_behind_an_earlier_one_of_their_user_say_so(inside: Browser, busy: Site, failing: Endpoint) -> None:
    """The destination fails for one user: the first message has its error, and later ones wait behind it."""
    user = failing.failing_user = new_user()
    busy.send(track("First", userId=user))
    busy.send(track("Second", userId=user), *[track("Bought", userId=new_user()) for _ in range(3)])
    busy.send(track("Third", userId=user))
    visit(inside, busy, "?" + urllib.parse.urlencode({"user": user}))
    inside.run(WAIT_ROWS, 3)
    for event, reason in (
        ("First", "since the destination fails for it and takes those of other users: "),
        ("Second", "held back, behind an earlier message of its user"),
        ("Third", "held back, behind 2 earlier messages of its user"),
    ):
        inside.run(OPEN, f".row:has-text('{event}')")
        inside.run(SHOWN, ["#detail .tree", event])
        inside.run(SHOWN, ["#deliveries .held", reason])
        assert ("503" in inside.run("return await page.innerText('#deliveries .held')")) is (event == "First")
    failing.failing_user = ""
    inside.run("await page.waitForSelector('#deliveries .delivered')")
