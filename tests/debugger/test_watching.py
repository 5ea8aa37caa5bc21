"""How the page waits: for the first message, for a server that is down, behind a proxy, and on a phone."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from debugger.browser import Browser
from debugger.conftest import KEY, TOKEN, Site, sign_in, visit
from debugger.pages import NAMES, OPEN, SHOWN, WAIT_ROWS, new_user, track
from sdk.installing import environment

STATE = "await page.waitForFunction((text) => document.querySelector('#state').textContent.startsWith(text), argument)"


class TestEmpty:
    @pytest.mark.short
    def test_an_empty_log_shows_what_to_paste_and_waits(self, site: Site, page: Browser) -> None:
        """The write key, a curl line and lines for SDKs; the first message takes their place."""
        page.run(SHOWN, ["#write-key", KEY])
        assert page.run("return await page.isVisible('.waiting')")
        shown: list[str] = page.run("return await page.locator('#empty pre').allInnerTexts()")
        browser, node, python = shown[1:]
        subprocess.run([sys.executable, "-c", python], check=True, capture_output=True)
        page.run(WAIT_ROWS, 1)
        assert f'cdnURL: "{site.url}"' in browser
        assert f'host: "{site.url}"' in node
        subprocess.run(["bash", "-c", shown[0]], check=True, capture_output=True)
        page.run(WAIT_ROWS, 2)
        assert page.run("return await page.isHidden('#empty')")
        assert page.run(NAMES) == ["First Event"] * 2

    def test_the_keys_are_those_of_the_chosen_source(self, page: Browser) -> None:
        page.run("await page.selectOption('#empty select', 'app')")
        page.run(SHOWN, ["#write-key", "app-key-of-the-tests"])
        assert "app-key-of-the-tests" in page.run("return await page.innerText('#empty pre')")


class TestServerDown:
    @pytest.mark.short
    def test_it_is_reported_with_the_next_try_and_a_button(self, inside: Browser, busy: Site) -> None:
        visit(inside, busy)
        inside.run("await context.setOffline(true)")
        inside.run(STATE, "No answer: the server cannot be reached")
        inside.run(
            "await page.waitForFunction(() => /next try in/.test(document.querySelector('#countdown').textContent))"
        )
        inside.run("await context.setOffline(false); await page.click('#retry')")
        inside.run(STATE, "Live")
        assert inside.run("return await page.isHidden('#retry')")


class Proxy(ThreadingHTTPServer):
    """A proxy that removes the prefix `/pfx`, and reports what it is asked to."""

    def __init__(self, target: str, headers: Mapping[str, str], *, keeps_host: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Forwards)
        self.target = target
        self.headers = dict(headers)
        self.keeps_host = keeps_host
        self.url = f"http://127.0.0.1:{self.server_port}/pfx"
        Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Forwards(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        path = self.path.removeprefix("/pfx")
        request = urllib.request.Request(self.server.target + path, body, method=self.command)  # noqa: S310
        for name, value in [*self.headers.items(), *self.server.headers.items()]:
            if name != "Host" or self.server.keeps_host:
                request.add_header(name, value)
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            answer = opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


SIGN_IN = """await context.clearCookies();
await page.goto("about:blank");
await page.goto(argument.url);
await page.fill("#token", argument.token);
await page.click("#enter button");"""


class TestProxy:
    @pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Prefix": "/pfx"}])
    @pytest.mark.short
    def test_under_a_prefix(self, browser: Browser, busy: Site, headers: dict[str, str]) -> None:
        """`/pfx/debugger` leads to its folder, with its query, and the path of the cookie is that folder."""
        with Proxy(busy.url, headers, keeps_host=True) as proxy:
            browser.run(SIGN_IN, {"url": f"{proxy.url}/debugger?user=no-one", "token": TOKEN})
            browser.run("await page.waitForSelector('#list')")
            browser.run(STATE, "Live")
            assert browser.run("return page.url()") == f"{proxy.url}/debugger/?user=no-one"
            (cookie,) = browser.run("return await context.cookies()")
            assert cookie["path"] == "/pfx/debugger"
            browser.run("await page.goto('about:blank')")

    @pytest.mark.short
    def test_the_sign_in_says_what_a_proxy_does_not_report(self, browser: Browser, busy: Site) -> None:
        with Proxy(busy.url, {}, keeps_host=False) as proxy:
            browser.run(SIGN_IN, {"url": f"{proxy.url}/debugger/", "token": TOKEN})
            address = proxy.url.removesuffix("/pfx")
            expected = f"This page is at {address}, but the request reached the server as one to {busy.url}."
            browser.run(SHOWN, ["#trouble", expected])
            browser.run(SHOWN, ["#trouble", "`proxy_hops` under `[server]`"])
            browser.run("await page.goto('about:blank')")

    def test_the_sign_in_says_that_the_cookie_does_not_come_back(self, browser: Browser, busy: Site) -> None:
        with Proxy(busy.url, {"Cookie": ""}, keeps_host=True) as proxy:
            browser.run(SIGN_IN, {"url": f"{proxy.url}/debugger/", "token": TOKEN})
            browser.run(SHOWN, ["#trouble", "did not send the session cookie back"])
            browser.run(SHOWN, ["#trouble", "The cookie belongs to /pfx/debugger/."])
            browser.run("await page.goto('about:blank')")


class TestPhone:
    @pytest.mark.short
    def test_one_row_of_buttons_and_names_before_milliseconds(self, inside: Browser, busy: Site) -> None:
        user = new_user()
        busy.send(track("Bought on the road", userId=user))
        inside.run("await page.setViewportSize({ width: 375, height: 740 })")
        visit(inside, busy, f"?user={user}")
        inside.run(WAIT_ROWS, 1)
        tops = """return await page.evaluate(() => {
          const shown = [...document.querySelectorAll("header button")].filter((one) => one.checkVisibility());
          return shown.map((one) => one.getBoundingClientRect()).map(({ top, right }) => [top, right <= innerWidth]);
        })"""
        buttons = inside.run(tops)
        assert len(buttons) >= 4
        assert len({top for top, _ in buttons}) == 1
        assert all(is_inside for _, is_inside in buttons)
        row = inside.run("return await page.innerText('.row:not([hidden])')")
        assert "." not in row.replace("…", ""), "the time is without its milliseconds"
        left = "return (await page.locator('.row:not([hidden]) .{}').boundingBox()).x"
        assert inside.run(left.replace("{}", "name")) < inside.run(left.replace("{}", "at"))
        width = inside.run("return (await page.locator('.row:not([hidden]) .name').boundingBox()).width")
        assert width > 180
        assert inside.run("return await page.evaluate(() => document.documentElement.scrollWidth)") == 375


AXE = """const session = await context.newCDPSession(page);
await session.send("Runtime.evaluate", { expression: require("node:fs").readFileSync(argument.axe, "utf8") });
const { result } = await session.send("Runtime.evaluate", {
  expression: `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => JSON.stringify(
    violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html.slice(0, 160)).slice(0, 4)])))`,
  awaitPromise: true, returnByValue: true });
await session.detach();
return JSON.parse(result.value);"""


def violations(browser: Browser) -> list[object]:
    """Return what axe-core finds on the page as it is."""
    path = environment("axe") / "node_modules" / "axe-core" / "axe.min.js"
    found: list[object] = browser.run(AXE, {"axe": str(path)})
    return found


class TestAccessibility:
    @pytest.mark.short
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing(self, inside: Browser, busy: Site, scheme: str) -> None:
        user = new_user()
        busy.send(track("Bought", userId=user, timestamp="yesterday"), {"type": "track", "userId": user})
        busy.send(track("poison", userId=user), track("Lost", userId=user, messageId="m"))
        busy.send(track("Lost", userId=user), key="key-of-nobody")
        inside.run("await page.emulateMedia({ colorScheme: argument })", scheme)
        visit(inside, busy, f"?user={user}")
        inside.run(WAIT_ROWS, 5)
        inside.run("await page.waitForSelector('#chart-delivery .lags')")
        assert violations(inside) == []
        for row in (".row.rejected", ".row:has-text('poison')", ".row.quarantined"):
            inside.run(OPEN, row)
            inside.run(SHOWN, ["#detail", user])
            assert violations(inside) == []
        inside.run("await page.keyboard.press('?'); await page.waitForSelector('#help[open]')")
        assert violations(inside) == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing_before_the_first_message(self, site: Site, browser: Browser, scheme: str) -> None:
        browser.run("await context.clearCookies(); await page.emulateMedia({ colorScheme: argument })", scheme)
        browser.run("await page.goto(argument); await page.waitForSelector('#token')", site.debugger)
        assert violations(browser) == []
        sign_in(browser, site)
        browser.run("await page.emulateMedia({ colorScheme: argument })", scheme)
        browser.run("await page.waitForSelector('#empty pre')")
        assert violations(browser) == []
        browser.run("await page.setViewportSize({ width: 375, height: 740 })")
        assert violations(browser) == []
