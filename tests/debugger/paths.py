"""The ways of a person to a message that is missing: `python tests/debugger/paths.py` walks and times each.

A user reports that something is missing; the person has the debugger open, and knows the user's id.  Measured are the
requests and the drawing of the page, from the first key or click until the page says why; reading and typing are not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).parents[1]))

from debugger.browser import Browser, open_browser
from debugger.conftest import SHOP, Endpoint, Site, sign_in, start_busy, visit
from debugger.pages import OPEN, WAIT_ROWS, track
from sdk.servers import stop

FILTER_USER = "await page.fill('#filter-user', argument)"
CHOOSE = "await page.selectOption(`#filter-${argument[0]}`, argument[1])"
SAYS = """await page.waitForFunction((text) => document.querySelector("#detail")?.innerText.includes(text), argument);
return (await page.innerText("#detail")).split("\\n").find((line) => line.includes(argument));"""
DENIED = {"consent": {"categoryPreferences": {"Advertising": False}}}
OTHERS = 2_000


@attrs.frozen(kw_only=True)
class Way:
    """How a person gets to the reason: filters, then a click on the row, then the words to read."""

    name: str
    user: str
    filters: tuple[tuple[str, str], ...] = ()
    rows: int = 1
    row: str
    says: str

    def walk(self, browser: Browser) -> tuple[float, str]:
        """Go, and return the seconds and the sentence."""
        started = time.perf_counter()
        browser.run(FILTER_USER, self.user)
        for choice in self.filters:
            browser.run(CHOOSE, list(choice))
        browser.run(WAIT_ROWS, self.rows)
        browser.run(OPEN, self.row)
        found = browser.run(SAYS, self.says)
        return time.perf_counter() - started, found


WAYS = (
    Way(name="wrong write key", user="u-key", row=".row.quarantined", says="No source has the write key"),
    Way(name="rejected", user="u-rejected", row=".row.rejected", says="event_not_defined:"),
    Way(
        name="blocked by a plan",
        user="u-plan",
        filters=(("concern", "violation"),),
        row=".row.rejected",
        says="plan_blocked:",
    ),
    Way(
        name="held back by consent",
        user="u-consent",
        filters=(("delivery", "not_selected:Ads"),),
        row=".row.accepted",
        says="not to Ads",
    ),
    Way(
        name="dead letter",
        user="u-dead",
        filters=(("delivery", "dead_letter:CRM"),),
        row=".row.accepted",
        says="dead letter",
    ),
    Way(name="duplicate", user="u-twice", rows=2, row=".row.duplicate", says="This source sent this messageId before"),
)


def send(site: Site) -> None:
    """Send the messages that will be missing, and others around them."""
    for start in range(0, OTHERS, 500):
        site.send(*[track("Other", userId=f"other-{number}") for number in range(start, start + 500)])
    site.send(track("Lost", userId="u-key"), key="key-of-the-old-app")
    site.send({"type": "track", "userId": "u-rejected"})
    site.send(track("Not In The Plan", userId="u-plan"), key=SHOP)
    site.send(track("Bought", userId="u-consent", context=DENIED))
    site.send(track("poison", userId="u-dead"))
    for _ in range(2):
        site.send(track("Bought", userId="u-twice", messageId="twice"))
    for start in range(0, OTHERS, 500):
        site.send(*[track("Other", userId=f"later-{number}") for number in range(start, start + 500)])


def main() -> None:
    """Walk each way, and print a line for it."""
    with tempfile.TemporaryDirectory() as folder, Endpoint() as endpoint, open_browser() as browser:
        site = start_busy(Path(folder), endpoint)
        try:
            sign_in(browser, site)
            send(site)
            time.sleep(3)  # delivery, which is not measured
            for way in WAYS:
                visit(browser, site)
                seconds, sentence = way.walk(browser)
                filters = ", ".join(["User", *(f"{name} = {value}" for name, value in way.filters)])
                sys.stdout.write(f"{way.name}: {filters}; click {way.row}; {seconds:.1f} s: {sentence.strip()}\n")
        finally:
            stop(site.process)


if __name__ == "__main__":
    main()
