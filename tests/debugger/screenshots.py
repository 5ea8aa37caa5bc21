"""The pictures of the debugger in the manual: `python tests/debugger/screenshots.py` makes them again."""

from __future__ import annotations

import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from debugger.browser import open_browser
from debugger.conftest import SHOP, Endpoint, Site, sign_in, start_busy, visit
from debugger.pages import OPEN, WAIT_ROWS, track
from sdk.servers import stop

IMAGES = Path(__file__).parents[2] / "docs" / "images"
EVENTS = ("Product Viewed", "Product Added", "Search Performed", "Signed In", "Video Played")
SIZE = "await page.setViewportSize({ width: 1360, height: 820 })"
SHOOT = "await page.evaluate(() => document.activeElement.blur()); await page.screenshot({ path: argument })"


def main() -> None:
    """Fill a log, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder, Endpoint() as endpoint, open_browser() as browser:
        site = start_busy(Path(folder), endpoint)
        try:
            sign_in(browser, site)
            browser.run(SIZE)
            fill(site)
            browser.run("await page.waitForSelector('.row.rejected'); await page.waitForTimeout(3_000)")
            browser.run(SHOOT, str(IMAGES / "debugger-list.png"))
            visit(browser, site, "?user=user-77")
            browser.run(WAIT_ROWS, 4)
            browser.run(OPEN, ".row.accepted:has-text('Order Completed')")
            browser.run("await page.waitForSelector('#deliveries .dead_letter'); await page.waitForTimeout(3_000)")
            browser.run(SHOOT, str(IMAGES / "debugger-story.png"))
        finally:
            stop(site.process)


def fill(site: Site) -> None:
    """Send what a shop would send, and some mistakes."""
    chance = random.Random(5)
    for _ in range(60):
        messages: list[Any] = [
            track(
                chance.choice(EVENTS),
                userId=f"user-{chance.randint(1, 40)}",
                properties={"price": chance.randint(1, 90)},
            )
            for _ in range(chance.randint(1, 6))
        ]
        key = chance.choice(["app-key-of-the-tests", "web-key-of-the-tests", "web-key-of-the-tests"])
        clock = datetime.now(UTC) + timedelta(seconds=chance.gauss(0, 2))
        site.send(*messages, key=key, sentAt=clock.isoformat())
    site.send({"type": "track", "userId": "user-9"}, {"type": "identify", "userId": 12})
    site.send(track("App Opened", userId="user-3"), key="key-of-the-old-app")
    denied = {"consent": {"categoryPreferences": {"Advertising": False}}}
    site.send(
        {"type": "page", "name": "Home", "userId": "user-77"}, track("Signed In", userId="user-77", context=denied)
    )
    paid = track("Order Completed", userId="user-77", messageId="order-77", timestamp="tomorrow")
    site.send({**paid, "properties": {"revenue": "9.5", "coupon": "poison"}, "context": denied}, key=SHOP)
    site.send(track("Order Canceled", userId="user-77"), key=SHOP)


if __name__ == "__main__":
    main()
