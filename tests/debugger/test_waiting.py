"""The delivery of an open message that its destination does not take yet."""

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
