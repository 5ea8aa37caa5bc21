"""How a person finds a message: filters, their address, suggestions, and clicks on the charts."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from debugger.browser import Browser
from debugger.conftest import SHOP, Site, visit
from debugger.pages import NAMES, SHOWN, WAIT_ROWS, new_user, track, wait_for_names

ADDRESS = "return page.url()"
CHOICE = "await page.selectOption(`#filter-${argument[0]}`, argument[1])"


def query(browser: Browser) -> dict[str, list[str]]:
    return parse_qs(urlsplit(browser.run(ADDRESS)).query)


@pytest.fixture(name="sent", scope="module")
def _sent(busy: Site) -> str:
    """One message of each kind, of one user."""
    user = new_user()
    allowed = {"consent": {"categoryPreferences": {"Advertising": True}}}
    busy.send(track("Bought", userId=user, messageId=user, properties={"price": 12, "Größe": "M"}, context=allowed))
    busy.send(track("Bought", userId=user, messageId=user))
    busy.send({"type": "track", "userId": user, "properties": {"price": 12}})
    busy.send(track("Lost", userId=user), track("Bought", userId="other"), key="nobodys-key")
    busy.send(track("Order Completed", userId=user, properties={"revenue": "9"}), key=SHOP)
    busy.send(track("Unplanned", userId=user), key=SHOP)
    refused = {"consent": {"categoryPreferences": {"Advertising": False}}}
    busy.send({"type": "page", "name": "Home", "anonymousId": user, "context": refused}, key="app-key-of-the-tests")
    busy.send(track("Numbered", userId=user, timestamp="yesterday"), key="app-key-of-the-tests")
    busy.send(track("Of another", userId=f"{user}0"), {"type": "track", "userId": f"{user}0"})
    return user


ALL = 8


class TestAddress:
    @pytest.mark.short
    def test_the_filters_are_in_the_address_and_stay_after_a_reload(
        self, inside: Browser, busy: Site, sent: str
    ) -> None:
        visit(inside, busy)
        inside.run("await page.fill('#filter-user', argument)", sent)
        inside.run(WAIT_ROWS, ALL)
        inside.run(CHOICE, ["source", "website"])
        inside.run("await page.uncheck('input[name=duplicates]')")
        inside.run(WAIT_ROWS, 2)
        assert query(inside) == {"user": [sent], "source": ["website"], "parts": ["messages,rejected,quarantine"]}
        address = inside.run(ADDRESS)
        inside.run("await page.reload()")
        wait_for_names(inside, "", "Bought")
        assert inside.run("return await page.inputValue('#filter-user')") == sent

        visit(inside, busy)
        inside.run("await page.goto(argument)", address)
        inside.run(WAIT_ROWS, 2)
        inside.run("await page.click('#filters-clear')")
        inside.run("await page.waitForFunction(() => !location.search)")

    def test_a_shared_address_is_kept_by_the_sign_in(self, inside: Browser, busy: Site, sent: str) -> None:
        inside.run(
            "await context.clearCookies(); await page.goto('about:blank'); await page.goto(argument)",
            f"{busy.debugger}?user={sent}#messages/1",
        )
        inside.run("await page.fill('#token', 'the-token-of-the-tests'); await page.click('#enter button')")
        inside.run("await page.waitForSelector('#detail h2')")
        inside.run(WAIT_ROWS, ALL)

    def test_going_back_restores_the_filters(self, inside: Browser, busy: Site, sent: str) -> None:
        visit(inside, busy, f"?user={sent}")
        inside.run(WAIT_ROWS, ALL)
        inside.run("await page.evaluate(() => { location.hash = 'messages/1'; })")
        inside.run("await page.waitForSelector('#detail h2')")
        inside.run(CHOICE, ["type", "page"])
        inside.run(WAIT_ROWS, 1)
        inside.run("await page.goBack()")
        inside.run(WAIT_ROWS, ALL)
        assert inside.run("return await page.inputValue('#filter-type')") == ""

    @pytest.mark.parametrize("wrong", ["since=yesterday", "concern=none", "delivery=lost", "text=" + "x" * 201])
    def test_an_address_with_a_wrong_value_is_reported(self, inside: Browser, busy: Site, wrong: str) -> None:
        """A value that a field cannot hold has no effect, and the others are refused by the server."""
        inside.run(
            """await page.goto("about:blank"); await page.goto(argument);
            const isShown = () => /invalid value|Live/.test(document.querySelector("#state").textContent);
            await page.waitForFunction(isShown);""",
            f"{busy.debugger}?{wrong}",
        )


class TestFilters:
    @pytest.mark.short
    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ("", ["", "", "Bought", "Bought", "Home", "Numbered", "Order Completed", "Unplanned"]),
            ("event=Bought", ["", "Bought", "Bought"]),
            ("path=properties.price%3D12", ["", "Bought"]),
            ("text=NEVER-SENT", []),
            ("text=unPLANNED", ["Unplanned"]),
            ("text=grösse", []),
            ("text=GRÖßE", ["Bought"]),
            ("concern=warning", ["Numbered", "Order Completed"]),
            ("concern=violation", ["Order Completed", "Unplanned"]),
            ("destination=Ads&delivery=not_selected", ["Home"]),
            ("destination=Ads", ["Bought", "Numbered", "Order Completed"]),
            ("until=2026-01-01T00:00:00Z", []),
            ("type=page", ["Home"]),
        ],
    )
    def test_each(self, inside: Browser, busy: Site, sent: str, wanted: str, found: list[str]) -> None:
        """The user means the same for every outcome: neither a substring of an id nor another's message matches."""
        visit(inside, busy, f"?user={sent}&{wanted}")
        wait_for_names(inside, *found)
        if not found:
            inside.run(SHOWN, ["#foot-text", "No record in the log matches the filters."])

    def test_a_time_range_is_that_of_the_viewer(self, inside: Browser, busy: Site, sent: str) -> None:
        visit(inside, busy, f"?user={sent}")
        inside.run(WAIT_ROWS, ALL)
        inside.run("await page.fill('#filter-until', '2020-01-01T12:00:00')")
        inside.run(WAIT_ROWS, 0)
        assert query(inside)["until"] == ["2020-01-01T12:00:00.000Z"]
        inside.run("await page.fill('#filter-until', ''); await page.fill('#filter-since', '2020-01-01T12:00:00')")
        inside.run(WAIT_ROWS, ALL)

    @pytest.mark.short
    def test_events_are_suggested_with_their_counts(self, inside: Browser, busy: Site, sent: str) -> None:
        """A name that is being typed filters nothing until it is one that exists, or is entered."""
        visit(inside, busy, f"?user={sent}")
        inside.run(WAIT_ROWS, ALL)
        inside.run("await page.keyboard.press('e'); await page.keyboard.type('order com')")
        found = "page.waitForFunction(() => document.querySelector('#event-names option')?.value === 'Order Completed')"
        inside.run(f"await {found}")
        label: str = inside.run("return await page.getAttribute('#event-names option', 'label')")
        assert label.startswith("Order Completed · 1 of the newest ")
        assert len(inside.run(NAMES)) == ALL
        inside.run("await page.fill('#filter-event', 'Order Completed')")
        wait_for_names(inside, "Order Completed")
        inside.run("await page.fill('#filter-event', 'Order'); await page.keyboard.press('Enter')")
        inside.run(SHOWN, ["#foot-text", "An event matches by its whole name, with case."])


class TestClicks:
    @pytest.mark.short
    def test_a_click_on_a_bar_filters_by_its_source_and_time(self, inside: Browser, busy: Site, sent: str) -> None:
        busy.send(track("Counted", userId=sent + "-x"), key="app-key-of-the-tests")
        visit(inside, busy)
        inside.run("await page.selectOption('#range', '86400')")
        inside.run("await page.waitForSelector('#chart-messages .legend button:text-is(\"app\")')")
        inside.run(
            """const place = await page.evaluate(() => {
              const legend = [...document.querySelectorAll("#chart-messages .legend li")];
              const { className } = legend.find((one) => one.textContent === "app");
              const columns = document.querySelectorAll(`#chart-messages rect.${className}`);
              const box = [...columns].at(-1).getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            });
            await page.mouse.click(...place);"""
        )
        inside.run("await page.waitForFunction(() => location.search.includes('source=app'))")
        chosen = query(inside)
        assert chosen.keys() == {"source", "since", "until"}
        inside.run(
            """const isFiltered = () => {
              const rows = [...document.querySelectorAll(".row:not([hidden])")];
              const is = (row, cell, text) => row.querySelector(`.${cell}`).textContent === text;
              return rows.some((row) => is(row, "name", "Counted")) && rows.every((row) => is(row, "source", "app"));
            };
            await page.waitForFunction(isFiltered);"""
        )

    def test_the_legend_filters_with_the_keyboard_too(self, inside: Browser, busy: Site, sent: str) -> None:
        visit(inside, busy, f"?user={sent}")
        inside.run("await page.selectOption('#range', '86400')")
        inside.run("await page.focus('#chart-rejected .legend button:text-is(\"plan_blocked\")')")
        inside.run("await page.keyboard.press('Enter')")
        wait_for_names(inside, "Unplanned")
        assert query(inside) == {"user": [sent], "code": ["plan_blocked"]}


DRAW = """return await page.evaluate(async ({ times, series }) => {
  const { bars, band } = await import("./charts.js");
  const figure = document.createElement("figure");
  document.body.append(figure);
  const shared = { title: "t", unit: "u", since: "2026-01-01T00:00:00Z", bucketSeconds: 5, onPick() {} };
  const drawn = [];
  for (const one of series ?? []) {
    bars(figure, { ...shared, kind: "source", series: one });
    const items = [...figure.querySelectorAll(".legend li")];
    drawn.push(Object.fromEntries(items.map((item) => [item.textContent, item.className])));
  }
  for (const values of times ?? []) {
    band(figure, { ...shared, values, total: 10 });
    drawn.push([...figure.querySelectorAll(".tick")].map((tick) => tick.textContent));
  }
  figure.remove();
  return drawn;
}, argument)"""


AXES: list[tuple[list[float], list[str]]] = [
    ([-0.1, -0.1, -0.1, 5], ["0", "-100 ms"]),
    ([-0.04, 0, 0.1, 5], ["+100 ms", "0", "-40 ms"]),
    ([-0.001, 0, 0.0001, 5], ["+100 ms", "0"]),
    ([-3, -2, -1, 5], ["0", "-3 s"]),
    ([2, 3, 4, 5], ["+4 s", "0"]),
    ([0, 0, 0, 5], ["+100 ms", "0"]),
    ([-0.1, 0, 0.1, 5], ["+100 ms", "0", "-100 ms"]),
    ([-7_200, 1, 5, 5], ["+5 s", "-2 h"]),
]
"""Minimum, median, maximum and number of one bar, and the labels from top to bottom."""


class TestCharts:
    @pytest.mark.short
    def test_a_colour_belongs_to_a_source(self, inside: Browser, busy: Site) -> None:
        """Whatever else is shown, and whichever source sends most, also after a reload."""
        series: list[dict[str, Any]] = [{"a": [1] * 60, "b": [2] * 60}, {"b": [1] * 60, "a": [9] * 60, "0": [5] * 60}]
        visit(inside, busy)
        first, second = inside.run(DRAW, {"series": series})
        assert first == {name: second[name] for name in first}
        assert len(set(second.values())) == 3
        visit(inside, busy)
        (third,) = inside.run(DRAW, {"series": [{"0": [1] * 60, "c": [3] * 60, "b": [1] * 60}]})
        assert (third["b"], third["0"]) == (second["b"], second["0"])
        assert third["c"] not in second.values()

    @pytest.mark.short
    def test_an_axis_has_no_label_twice(self, inside: Browser, busy: Site) -> None:
        visit(inside, busy)
        values = [value for value, _ in AXES]
        drawn = inside.run(DRAW, {"times": [[None] * 59 + [value] for value in values]})
        assert drawn == [ticks for _, ticks in AXES]

    @pytest.mark.short
    def test_the_skew_chart_says_how_many_it_measured(self, inside: Browser, busy: Site, sent: str) -> None:
        visit(inside, busy, f"?user={sent}")
        inside.run("await page.selectOption('#range', '86400')")
        inside.run(SHOWN, ["#chart-skew .bandkey", "messages, up to 5 a bar"])

    @pytest.mark.short
    def test_they_fold_to_a_strip_and_stay_so(self, inside: Browser, busy: Site) -> None:
        visit(inside, busy)
        height = "return (await page.locator('#charts').boundingBox()).height"
        inside.run("await page.waitForSelector('#chart-messages svg')")
        assert inside.run(height) > 150
        inside.run("await page.click('#charts-toggle'); await page.waitForSelector('#charts.folded')")
        assert inside.run(height) < 50
        assert inside.run("return await page.isVisible('#chart-messages strong')")
        inside.run("await page.reload(); await page.waitForSelector('#charts.folded #chart-messages svg')")
        assert inside.run("return await page.getAttribute('#charts-toggle', 'aria-expanded')") == "false"
        inside.run("await page.click('#charts-toggle'); await page.waitForSelector('#charts:not(.folded)')")
