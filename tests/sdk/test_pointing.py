"""The guide `point-an-sdk.md`: its lines and its snippet send to a server, as they are except for the address."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pages import code_in, page
from patience import PATIENCE
from sdk.browsers import BROWSER_SDKS
from sdk.installing import chromium, environment, node, python_of
from sdk.report import SDKS
from sdk.sdks import JITSU, SERVER_SDKS, Sdk
from sdk.servers import WRITE_KEY, Server, wait_until

GUIDE = page("guides/point-an-sdk")
LINES = {row[0].partition(": ")[2].strip("`"): code_in(row[1])[0] for row in GUIDE.tables[0].rows}
NAMES = {
    "@segment/analytics-node": "{ Analytics }",
    "@customerio/cdp-analytics-node": "{ Analytics }",
    "analytics-node": "Analytics",
    "@rudderstack/rudder-sdk-node": "RudderAnalytics",
    "@jitsu/js": "{ jitsuAnalytics }",
}
"""The name that the line of a Node SDK uses, as it is imported."""
SENDING = {
    "segment": 'client.track({ userId: "42", event: "Pointed" }); client.closeAndFlush();',
    "legacy": 'client.track({ userId: "42", event: "Pointed" }); client.flush();',
    "jitsu": 'client.track("Pointed");',
}


def at(server: Server, text: str) -> str:
    """Return a text of the guide with the address and the write key of the server."""
    return text.replace("http://127.0.0.1:8080", server.url).replace("abc123", WRITE_KEY)


def program(sdk: Sdk, server: Server) -> list[str]:
    """Return the command that makes a client by the line of the guide, and sends an event with it."""
    line = at(server, LINES[sdk.package])
    built = environment(sdk.environment)
    if sdk.language == "Python":
        module = re.match(r"[\w.]+(?=\.Client)", line)
        assert module is not None
        code = f"import {module[0]}\nclient = {line}\nclient.track('42', 'Pointed')\nclient.flush()\n"
        return [python_of(built), "-c", code]
    imported = f'const {NAMES[sdk.package]} = require("{built}/node_modules/{sdk.package}");'
    return [node(), "-e", f"{imported}\nconst client = {line};\n{SENDING[sdk.driven_as]}"]


@pytest.mark.parametrize(
    "sdk",
    [sdk for sdk in (*SERVER_SDKS, JITSU) if sdk.is_main_variant],
    ids=lambda sdk: f"{sdk.package} {sdk.version}",
)
def test_the_line_of_an_sdk(sdk: Sdk, server: Server) -> None:
    ran = subprocess.run(program(sdk, server), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stderr
    wait_until(lambda: server.count_messages() == 1, "the message")
    (stored,) = server.log.messages()
    assert stored.message["event"] == "Pointed"


def test_every_line_is_tried_or_recorded() -> None:
    live = {sdk.package for sdk in (*SERVER_SDKS, JITSU)}
    recorded = {sdk.package for sdk in SDKS if not any(version.is_live for version in sdk.versions.values())}
    assert LINES.keys() == live | recorded


class TestBrowser:
    """A page of another origin, in headless Chromium."""

    BUNDLE, INLINE = (fence.text for fence in GUIDE.fences if fence.language == "js")
    SNIPPET = GUIDE.fence("html")

    @pytest.mark.parametrize("way", ["bundle", "inline settings", "snippet"])
    def test_it_sends(self, way: str, server: Server, tmp_path: Path) -> None:
        built = (
            environment(f"analytics-next-{BROWSER_SDKS[0].version}") / "node_modules/@segment/analytics-next/dist/umd"
        )
        site = tmp_path / "site"
        shutil.copytree(built, site / "js")
        (site / "index.html").write_text(self.html(way, server))
        handler = partial(SimpleHTTPRequestHandler, directory=str(site))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
            Thread(target=web.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{web.server_port}/index.html"
            options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
            browser = subprocess.Popen([chromium(), *options, "--remote-debugging-port=0", url])
            try:
                wait_until(lambda: "page" in server.events(), "the page")
            finally:
                browser.terminate()
                browser.wait(PATIENCE)
                web.shutdown()
        assert all(request.origin == url.removesuffix("/index.html") for request in server.posts())

    def html(self, way: str, server: Server) -> str:
        """Return a page; the import of the bundler is the global name that a page without one has."""
        if way == "snippet":
            return f"<!doctype html>{at(server, self.SNIPPET)}"
        code = at(server, self.BUNDLE if way == "bundle" else self.INLINE)
        code = code.replace("127.0.0.1:8080", server.url.removeprefix("http://"))
        code = re.sub(r"import .*;", "", code)
        page_call = "" if "analytics.page()" in code else "analytics.page();"
        load = "const { AnalyticsBrowser } = AnalyticsNext;"
        return f'<!doctype html><script src="/js/index.js"></script><script>{load}{code}{page_call}</script>'
