"""Messages that tests of the page send, and the lines of JavaScript that they share."""

from __future__ import annotations

from itertools import count
from typing import Any

from debugger.browser import Browser

ROWS = "[...document.querySelectorAll('.row:not([hidden])')].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
NAMES = f"return await page.evaluate(() => {ROWS}.map((row) => row.querySelector('.name').textContent))"
WAIT_ROWS = "await page.waitForFunction((n) => document.querySelectorAll('.row:not([hidden])').length === n, argument)"
OPEN = "await page.click(argument); await page.waitForSelector('#detail h2')"
DETAIL = "return await page.innerText('#detail')"
SHOWN = "await page.waitForFunction((text) => document.querySelector(text[0])?.textContent.includes(text[1]), argument)"
# The list draws with the next frame: after one more frame, earlier changes are visible.
DRAWN = "await page.evaluate(() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen))))"

_numbers = count(1)


def new_user() -> str:
    """Return a user whom no other test has: it keeps tests apart that share a server."""
    return f"user-{next(_numbers)}"


def track(event: str, **more: Any) -> dict[str, Any]:
    """Return a track message."""
    return {"type": "track", "event": event, "userId": "user-of-all", **more}


def names(browser: Browser, rows: int) -> list[str]:
    """Wait until so many rows are listed, and return their names."""
    browser.run(WAIT_ROWS, rows)
    found: list[str] = browser.run(NAMES)
    return found
