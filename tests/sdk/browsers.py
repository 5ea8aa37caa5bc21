"""Browser SDKs: a page of another origin in real headless Chromium, which a test opens, leaves and closes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from patience import PATIENCE
from sdk.installing import chromium, environment, node
from sdk.running import CLIENTS
from sdk.servers import WRITE_KEY, Server, read_json, run_site, stop, wait_until

from trackcore import JSONObject

PACKAGE = "@segment/analytics-next"
_DRIVER = "browser"


@attrs.frozen(kw_only=True)
class BrowserSdk:
    """One version of analytics-next, and how it differs from the others.

    Attributes:
        version: the version of the npm package.
        sends_authorization: the write key is also in a header, so that every request is preflighted.
        batches_by_https_only: in batching mode the scheme is always https, whatever the settings.
        counts_retries: X-Retry-Count has the number of the attempt.
        reports_rejections: a permanently rejected message causes an error event.
    """

    version: str
    sends_authorization: bool
    batches_by_https_only: bool
    counts_retries: bool
    reports_rejections: bool


BROWSER_SDKS = (
    BrowserSdk(
        version="1.84.3",
        sends_authorization=True,
        batches_by_https_only=False,
        counts_retries=True,
        reports_rejections=True,
    ),
    BrowserSdk(
        version="1.83.0",
        sends_authorization=False,
        batches_by_https_only=True,
        counts_retries=False,
        reports_rejections=False,
    ),
)


@attrs.frozen(kw_only=True)
class Visit:
    """A browser that has opened the page."""

    folder: Path
    process: subprocess.Popen[bytes]

    def report(self) -> JSONObject:
        """Wait for the report of the page and the log of the browser."""
        file = self.folder / "report.json"
        wait_until(lambda: file.exists() or self.process.poll() is not None, "the page's report")
        assert file.exists(), (self.folder / "browser.txt").read_text()
        return read_json(file)


@contextmanager
def visit(
    sdk: BrowserSdk,
    server: Server,
    calls: Sequence[JSONObject],
    *,
    way: str,
    write_key: str = WRITE_KEY,
    load_options: JSONObject | None = None,
    cdn_settings: JSONObject | None = None,
    leave: str = "",
    leave_to: str = "/left.html",
) -> Iterator[Visit]:
    """Open a page that makes calls with a browser SDK, in a new browser that is closed at the end."""
    job = {
        "way": way,
        "write_key": write_key,
        "cdn_url": server.url,
        "cdn_settings": cdn_settings,
        "load_options": load_options or {},
        "calls": list(calls),
        "leave": leave,
        "leave_to": leave_to,
        "fetches_to_load": 0 if cdn_settings else 1,
    }
    options = {
        "environment": str(environment(_DRIVER)),
        "chromium": chromium(),
        "until": leave_to if leave else "report",
    }
    with run_site(_site(sdk, job)) as site:
        command = (node(), str(CLIENTS / "browser_driver.cjs"), f"{site}/shop/%C3%A4.html?utm_source=tést&q=1")
        report_file = server.folder / "report.json"
        with (
            (server.folder / "browser.txt").open("wb") as output,
            subprocess.Popen(
                (*command, str(report_file), json.dumps(options)),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                yield Visit(folder=server.folder, process=process)
            finally:
                _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        stop(process)


def _site(sdk: BrowserSdk, job: JSONObject) -> dict[str, tuple[str, bytes]]:
    bundles = environment(f"analytics-next-{sdk.version}") / "node_modules" / PACKAGE / "dist" / "umd"
    script = "text/javascript; charset=utf-8"
    files = {f"/sdk/{file.name}": (script, file.read_bytes()) for file in bundles.glob("*.js")}
    page = "text/html; charset=utf-8"
    return files | {
        "/shop/%C3%A4.html": (page, _html(job)),
        "/again.html": (page, _html({**job, "calls": [], "leave": ""})),
        "/left.html": (page, b"<!doctype html><title>Left</title>"),
        "/page.js": (script, (CLIENTS / "page.js").read_bytes()),
        "/favicon.ico": ("image/x-icon", b""),
    }


def _html(job: JSONObject) -> bytes:
    inline = json.dumps(job).replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Café 😀</title></head>
<body><script>window.job = {inline};</script><script src="/page.js"></script></body>
</html>
""".encode()
