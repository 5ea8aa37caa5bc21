"""A real `trackcore serve` with a debugger, and a browser that opens it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest
from debugger.browser import Browser, open_browser
from patience import PATIENCE
from sdk.servers import stop, wait_until

TOKEN = "the-token-of-the-tests"  # noqa: S105 - of no other server
KEY = "web-key-of-the-tests"

CONFIGURATION = f"""
[[sources]]
name = "website"
write_keys = ["{KEY}"]
[[sources]]
name = "app"
write_keys = ["app-key-of-the-tests"]
[[destinations]]
name = "Mixpanel"
[[destinations]]
name = "Salesforce"
max_age = "5d"
[debugger]
token = "env:DEBUGGER_TOKEN"
"""


PLAN = """
name: Shop
events:
  - event: Order Completed
    properties:
      revenue: {type: number, required: true}
"""

BUSY = f"""
[[sources]]
name = "website"
write_keys = ["{KEY}"]
[[sources]]
name = "app"
write_keys = ["app-key-of-the-tests"]
[[sources]]
name = "shop"
write_keys = ["shop-key-of-the-tests"]
plan = "plan.yaml"
[sources.plan_controls.track]
allowUnplannedEvents = false
[[destinations]]
name = "CRM"
kind = "webhook"
url = "{{url}}"
batch_wait = "0s"
[[destinations]]
name = "Ads"
consent = ["Advertising"]
[server]
proxy_hops = 1
[debugger]
token = "env:DEBUGGER_TOKEN"
"""
SHOP = "shop-key-of-the-tests"


class Endpoint(ThreadingHTTPServer):
    """A webhook on loopback, in a thread."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.is_cured = False
        self.is_down = False
        self.failing_user = ""
        self.url = f"http://127.0.0.1:{self.server_port}/"
        Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Answers(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_refused = b"poison" in body and not self.server.is_cured
        fails = self.server.is_down or (self.server.failing_user and self.server.failing_user.encode() in body)
        status = HTTPStatus.BAD_REQUEST if is_refused else HTTPStatus.OK
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if fails else status)
        self.end_headers()
        self.wfile.write(b"poison is not accepted" if is_refused else b"")

    def log_message(self, *_: object) -> None:
        pass


@attrs.frozen
class Site:
    """A running server."""

    process: subprocess.Popen[bytes]
    folder: Path
    url: str

    @property
    def debugger(self) -> str:
        return f"{self.url}/debugger/"

    def is_ready(self) -> bool:
        """Return whether the server can store; that also creates the log."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=PATIENCE) as answer:  # noqa: S310
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    def output(self) -> str:
        return (self.folder / "server.txt").read_text()

    def send(self, *messages: Any, key: str = KEY, path: str = "/v1/batch", **envelope: Any) -> Any:
        """Send a batch, as an SDK would."""
        return self.post(json.dumps({"batch": messages, **envelope}).encode(), key=key, path=path)

    def post(self, body: bytes, *, key: str = KEY, path: str = "/v1/batch") -> Any:
        authorization = "Basic " + b64encode(f"{key}:".encode()).decode()
        request = urllib.request.Request(self.url + path, body, {"Authorization": authorization})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def reconfigure(self, before: str, after: str) -> None:
        """Change the configuration and have the server read it again."""
        file = self.folder / "trackcore.toml"
        file.write_text(file.read_text().replace(before, after))
        workers = _children(self.process.pid)
        self.process.send_signal(1)
        wait_until(lambda: _children(self.process.pid).isdisjoint(workers), "new workers")


def _children(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _start(folder: Path, *arguments: str) -> Site:
    command = (sys.executable, "-m", "trackcore_server.cli", "serve", "--bind", "127.0.0.1:0", *arguments)
    output = folder / "server.txt"
    with output.open("wb") as stream:
        environ = {**os.environ, "DEBUGGER_TOKEN": TOKEN}
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=stream, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + PATIENCE
    while (found := re.search(r"Listening on (http://\S+)\n(?s:.*)Try:", output.read_text())) is None:
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.02)
    site = Site(process, folder, found[1])
    wait_until(site.is_ready, "a server")
    return site


@pytest.fixture(name="serve")
def _serve(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start servers in the folder of the test."""
    sites: list[Site] = []

    def start(*arguments: str) -> Site:
        sites.append(_start(tmp_path, *arguments))
        return sites[-1]

    yield start
    for site in sites:
        stop(site.process)


@pytest.fixture(name="site")
def _site(serve: Callable[..., Site], tmp_path: Path) -> Site:
    """A server whose debugger has a token."""
    (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
    return serve("--config", "trackcore.toml")


@pytest.fixture(name="browser", scope="session")
def _browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(name="page")
def _page(browser: Browser, site: Site) -> Browser:
    """The browser, signed in."""
    sign_in(browser, site)
    return browser


@pytest.fixture(name="endpoint", scope="session")
def _endpoint() -> Iterator[Endpoint]:
    """A destination, which refuses messages with the word `poison` until it is cured."""
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture(name="busy", scope="session")
def _busy(tmp_path_factory: pytest.TempPathFactory, endpoint: Endpoint) -> Iterator[Site]:
    """One server for all tests that need no log of their own."""
    site = start_busy(tmp_path_factory.mktemp("busy"), endpoint)
    yield site
    stop(site.process)


def start_busy(folder: Path, endpoint: Endpoint) -> Site:
    """Start a server with a tracking plan, consent, and a destination that is delivered to."""
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "trackcore.toml").write_text(BUSY.format(url=endpoint.url))
    return _start(folder, "--config", "trackcore.toml")


@pytest.fixture(name="inside")
def _inside(browser: Browser, busy: Site) -> Browser:
    """The browser, signed in at the shared server, as if it had never been there; a test opens an address itself."""
    answer = browser.run("return (await page.request.head(argument)).status()", f"{busy.debugger}api/start")
    if answer != HTTPStatus.OK:
        sign_in(browser, busy)
    browser.run(
        """await page.emulateMedia({ colorScheme: "light" });
        await page.setViewportSize({ width: 1360, height: 860 });
        await page.goto(argument);
        await page.evaluate(() => localStorage.clear());""",
        f"{busy.debugger}icon.svg",
    )
    return browser


def visit(browser: Browser, site: Site, rest: str = "") -> None:
    """Open an address of the debugger: a query, and what follows the #."""
    browser.run(
        """logged.length = 0;
        await page.goto("about:blank");
        await page.goto(argument);
        await page.waitForFunction(() => document.querySelector("#state")?.textContent.startsWith("Live"));""",
        site.debugger + rest,
    )


def sign_in(browser: Browser, site: Site) -> None:
    """Open the debugger of a site in a new session, by its token."""
    browser.run(
        """
        logged.length = 0;
        await context.clearCookies();
        await page.emulateMedia({ colorScheme: "light" });
        await page.setViewportSize({ width: 1360, height: 860 });
        await page.goto("about:blank");
        await page.goto(argument.url);
        await page.fill("#token", argument.token);
        await page.click("#enter button");
        await page.waitForFunction(() => document.querySelector("#state")?.textContent.startsWith("Live"));
        """,
        {"url": site.debugger, "token": TOKEN},
    )
    browser.run("logged.length = 0")
