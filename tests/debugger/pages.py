"""Messages for the tests of the page, and the lines of JavaScript that these tests share."""

from __future__ import annotations

from itertools import count
from typing import Any

from debugger.browser import Browser

ROWS = "[...document.querySelectorAll('.row:not([hidden])')].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
NAMES = f"return await page.evaluate(() => {ROWS}.map((row) => row.querySelector('.name').textContent))"
_WAIT = """await page.waitForFunction(isReached, argument).catch(async (error) => {
  throw new Error(`${error.message} Listed: ${await page.innerText("#viewport")}`);
});"""
WAIT_ROWS = f"const isReached = (n) => document.querySelectorAll('.row:not([hidden])').length === n; {_WAIT}"
WAIT_NAMES = f"""const isReached = (expected) => {{
  const names = [...document.querySelectorAll(".row:not([hidden]) .name")].map((name) => name.textContent);
  return JSON.stringify(names.sort()) === JSON.stringify(expected);
}};
{_WAIT}"""
OPEN = "await page.click(argument); await page.waitForSelector('#detail h2')"
DETAIL = "return await page.innerText('#detail')"
SHOWN = "await page.waitForFunction((text) => document.querySelector(text[0])?.textContent.includes(text[1]), argument)"
# The list draws with the next frame: after one more frame, earlier changes are visible.
DRAWN = "await page.evaluate(() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen))))"

_numbers = count(1)


def new_user() -> str:
    """Return a user whom no other test has: it keeps tests apart that share a server."""
    return f"user-{next(_numbers)}-of-a-test"


def track(event: str, **more: Any) -> dict[str, Any]:
    """Return a track message."""
    return {"type": "track", "event": event, "userId": "user-of-all", **more}


def wait_for_names(browser: Browser, *expected: str) -> None:
    """Wait until the rows with these names are listed, in any order, and no others."""
    browser.run(WAIT_NAMES, sorted(expected))
