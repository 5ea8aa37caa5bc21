"""An open record: the message first, then why; the copied texts; and its delivery."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from typing import Any

import pytest
from debugger.browser import Browser
from debugger.conftest import KEY, SHOP, Endpoint, Site, visit
from debugger.pages import DETAIL, NAMES, OPEN, SHOWN, WAIT_ROWS, new_user, track, wait_for_names

HEADINGS = "return await page.locator('#detail h3').allInnerTexts()"
COPY = """await context.grantPermissions(["clipboard-read", "clipboard-write"]);
await page.click(`.sharing button:text-is("${argument}")`);
await page.waitForSelector('.sharing button:text-is("Copied")');
return await page.evaluate(() => navigator.clipboard.readText());"""


def find(browser: Browser, site: Site, user: str, rows: int = 1, **filters: str) -> None:
    """List what a user sent."""
    visit(browser, site, "?" + urllib.parse.urlencode({"user": user, **filters}))
    browser.run(WAIT_ROWS, rows)


def run(command: str) -> Any:
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


class TestOrder:
    @pytest.mark.short
    def test_the_message_comes_first_then_why(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send(track("Bought", userId=user, timestamp="yesterday"), {"type": "track", "userId": user})
        find(inside, busy, user, 2)
        inside.run(OPEN, ".row.rejected")
        assert inside.run(HEADINGS)[:2] == ["Message", "Why"]
        inside.run(OPEN, ".row.accepted")
        inside.run(SHOWN, ["#detail h2", "accepted"])
        assert inside.run(HEADINGS)[:3] == ["Message", "Warnings", "Delivery"]

    def test_a_violation_names_the_rule_of_the_tracking_plan(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send(track("Order Completed", userId=user, properties={"revenue": "9.5"}), key=SHOP)
        find(inside, busy, user)
        inside.run(OPEN, ".row.accepted")
        inside.run(SHOWN, ["#detail .about summary", "`properties.revenue` must be a number"])
        inside.run("await page.click('#detail .about summary')")
        inside.run(SHOWN, ["#detail .about", 'track "Order Completed"'])

    @pytest.mark.short
    def test_codes_and_user_stay_visible_beside_an_open_message(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send({"type": "track", "userId": user})
        find(inside, busy, user)
        inside.run(OPEN, ".row.rejected")
        shown = """return await page.evaluate(() => ["codes", "user", "name", "source", "outcome"].map((name) => {
          const cell = document.querySelector(`.row:not([hidden]) .${name}`);
          const { width, height, right } = cell.getBoundingClientRect();
          const inside = document.querySelector("#list").getBoundingClientRect();
          return [name, cell.textContent, width > 40 && height > 8 && right <= inside.right];
        }))"""
        cells = {name: (text, is_visible) for name, text, is_visible in inside.run(shown)}
        assert cells["codes"] == ("event_not_defined at event", True)
        assert cells["user"] == (user, True)
        assert cells["source"] == ("website", True)

    @pytest.mark.short
    def test_j_and_k_walk_through_open_messages(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        for event in ("First", "Second", "Third"):
            busy.send(track(event, userId=user))
        find(inside, busy, user, 3)
        inside.run(OPEN, ".row:has-text('Third')")
        for key, event in (("j", "Second"), ("j", "First"), ("k", "Second")):
            inside.run("await page.keyboard.press(argument)", key)
            inside.run(SHOWN, ["#detail .tree", event])
        inside.run("await page.keyboard.press('Escape'); await page.waitForSelector('#detail', {state: 'hidden'})")
        inside.run("await page.keyboard.press('j')")
        assert inside.run("return await page.isHidden('#detail')"), "while none is open, j and k select only"


class TestCopying:
    @pytest.mark.short
    def test_link_id_json_and_curl(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        quoted = {"text": 'it\'s "5" $HOME `id` \\ ü', "number": 12345678901234567890}
        busy.send(track("Bought", userId=user, messageId=user, properties=quoted))
        find(inside, busy, user)
        inside.run(OPEN, ".row:not([hidden])")
        number = inside.run("return page.url().split('#')[1]")
        assert inside.run(COPY, "Link") == f"{busy.debugger}#{number}"
        assert inside.run(COPY, "Id") == user
        copied = json.loads(inside.run(COPY, "JSON"))
        assert copied["properties"] == quoted
        assert run(inside.run(COPY, "as curl"))["success"]
        inside.run("await page.click('#detail .close')")
        inside.run("await page.waitForSelector('.row.duplicate')")
        inside.run(OPEN, ".row.duplicate")
        inside.run(SHOWN, ["#detail .tree", quoted["text"]])

    def test_a_rejected_message_and_a_request_as_curl(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send({"type": "track", "userId": user, "name": "$& $$"}, context={"ip": "1.2.3.4"})
        busy.post(b'{"batch": [{"userId": "%s"\x1b[31m' % user.encode())
        find(inside, busy, user)
        inside.run(OPEN, ".row.rejected")
        command = inside.run(COPY, "as curl")
        assert "$& $$" in command
        run(command)
        inside.run("await page.click('#detail .close')")
        inside.run(WAIT_ROWS, 2)
        visit(inside, busy, f"?text={user}&code=invalid_json")
        inside.run(OPEN, ".row.rejected")
        command = inside.run(COPY, "as curl")
        assert "base64 -d" in command, "no terminal sees the escape"
        assert run(command)["code"] == "invalid_json"

    def test_without_a_clipboard_the_text_is_shown_selected(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send(track("Bought", userId=user, messageId=user))
        find(inside, busy, user)
        inside.run("await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined }))")
        inside.run(OPEN, ".row:not([hidden])")
        inside.run("await page.click('.sharing button:text-is(\"Id\")')")
        assert (
            inside.run("return await page.evaluate(() => String(getSelection()) || document.activeElement.value)")
            == user
        )


class TestReceivingAgain:
    @pytest.mark.short
    def test_it_is_offered_only_where_configuration_can_help(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send({"type": "track", "userId": user})
        busy.send(track("Unplanned", userId=user), key=SHOP)
        busy.send(track("Lost", userId=user), key="key-of-nobody")
        for code, is_offered in (("event_not_defined", False), ("plan_blocked", True), ("unknown_source", True)):
            find(inside, busy, user, code=code)
            inside.run(OPEN, ".row:not([hidden])")
            assert inside.run("return await page.isVisible('#repair')") is is_offered
            assert ("No configuration helps" in inside.run(DETAIL)) is not is_offered

    @pytest.mark.short
    def test_the_write_key_of_a_quarantined_request_is_shown(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send(track("Lost", userId=user), key=f"key-of-{user}")
        find(inside, busy, user)
        assert inside.run("return await page.innerText('.row:not([hidden]) .source')") == f"key-of-{user}"
        inside.run(OPEN, ".row:not([hidden])")
        inside.run(SHOWN, ["#detail", f"No source has the write key 'key-of-{user}'."])


class TestDelivery:
    @pytest.mark.short
    def test_delivered_with_time_and_attempts(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send(track("Bought", userId=user, integrations={"Ads": False}))
        find(inside, busy, user)
        inside.run(OPEN, ".row:not([hidden])")
        inside.run(SHOWN, ["#deliveries .outcome", "in the first attempt"])
        assert inside.run("return await page.innerText('#deliveries .outcome')").startswith("✓ delivered ")
        assert "not to Ads: integrations.Ads is false" in inside.run(DETAIL)

    @pytest.mark.short
    def test_a_dead_letter_has_its_reason_and_is_sent_again(
        self, inside: Browser, busy: Site, endpoint: Endpoint
    ) -> None:
        user = new_user()
        busy.send(track("poison", userId=user), track("Bought", userId=user))
        find(inside, busy, user, 2)
        inside.run(OPEN, ".row:has-text('poison')")
        inside.run("await page.waitForSelector('#deliveries .dead_letter')")
        assert "400" in inside.run("return await page.innerText('#deliveries .dead_letter')")
        inside.run("await page.click('#detail .close')")
        inside.run("await page.selectOption('#filter-delivery', 'dead_letter:CRM')")
        wait_for_names(inside, "poison")
        inside.run("await page.selectOption('#filter-delivery', 'waiting:CRM')")
        inside.run(WAIT_ROWS, 0)
        inside.run("await page.selectOption('#filter-delivery', 'dead_letter:CRM')")
        inside.run(WAIT_ROWS, 1)
        inside.run(OPEN, ".row:not([hidden])")
        endpoint.is_cured = True
        inside.run("await page.click('.again')")
        inside.run("await page.waitForSelector('#deliveries .delivered')")
        endpoint.is_cured = False
        visit(inside, busy, f"?user={user}&destination=CRM&delivery=dead_letter")
        inside.run(WAIT_ROWS, 0)

    def test_consent_that_holds_a_message_back_is_named(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        denied = {"consent": {"categoryPreferences": {"Advertising": False}}}
        busy.send(track("Bought", userId=user, context=denied))
        find(inside, busy, user, destination="Ads", delivery="not_selected")
        assert inside.run(NAMES) == ["Bought"]
        inside.run(OPEN, ".row:not([hidden])")
        inside.run(SHOWN, ["#deliveries", "not to Ads: consent comes before integrations"])
        inside.run(SHOWN, ["#deliveries", "does not give it for 'Advertising'"])


def test_the_key_of_the_site_is_the_one_of_its_command(inside: Browser, busy: Site) -> None:
    user = new_user()
    busy.send(track("Bought", userId=user))
    find(inside, busy, user)
    inside.run(OPEN, ".row:not([hidden])")
    assert f"-u '{KEY}:'" in inside.run(COPY, "as curl")
