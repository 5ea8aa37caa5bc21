"""One Chromium that opens many pages, and a site with the browser SDKs that these pages use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import attrs
from sdk.browsers import BROWSER_SDKS
from sdk.installing import chromium, environment, node
from sdk.running import CLIENTS
from sdk.servers import Server, run_site

from trackcore import JSONObject

ANALYTICS_NEXT = "@segment/analytics-next"
CONSENT_TOOLS = "@segment/analytics-consent-tools"
RUDDERSTACK = "@rudderstack/analytics-js"
VERSIONS = {ANALYTICS_NEXT: BROWSER_SDKS[0].version, CONSENT_TOOLS: "2.0.3", RUDDERSTACK: "3.34.1"}

_ENVIRONMENTS = {
    ANALYTICS_NEXT: "analytics-next",
    CONSENT_TOOLS: "analytics-consent-tools",
    RUDDERSTACK: "rudderstack-analytics-js",
}


def package_file(package: str, name: str) -> Path:
    """Return a file of an installed package."""
    return _modules_of(package) / package / name


@attrs.frozen
class Browser:
    """A Chromium whose pages are on a site of another origin than the server."""

    _process: subprocess.Popen[str]
    _site: str
    _output: Path

    def open(self, server: Server, way: str, write_key: str, **job: object) -> JSONObject:
        """Open a page with a job, and return its report; the page stays open until the next one."""
        document = {"way": way, "server": server.url, "writeKey": write_key, **job}
        url = f"{self._site}/page.html#{quote(json.dumps(document))}"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"url": url}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._output.read_text()
        report: JSONObject = json.loads(line)
        return report


@contextmanager
def run_browser(folder: Path) -> Iterator[Browser]:
    """Run a Chromium, which writes its errors into a file of a folder."""
    output = folder / "browser.txt"
    command = (node(), str(CLIENTS / "pages_driver.cjs"), str(environment("browser")), chromium())
    with (
        run_site(_site()) as site,
        output.open("w") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        yield Browser(process, site, output)


def _site() -> dict[str, tuple[str, bytes]]:
    script, page = "text/javascript; charset=utf-8", "text/html; charset=utf-8"
    rudderstack = package_file(RUDDERSTACK, "dist/npm/modern/bundled/umd/index.js")
    return {
        "/page.html": (page, b'<!doctype html><meta charset="utf-8"><title>Shop</title><script src="/p.js"></script>'),
        "/p.js": (script, (CLIENTS / "other_pages.js").read_bytes()),
        "/analytics-next.js": (script, package_file(ANALYTICS_NEXT, "dist/umd/index.js").read_bytes()),
        "/rudderstack.js": (script, rudderstack.read_bytes()),
        "/consent-tools.js": (script, _consent_tools()),
        "/favicon.ico": ("image/x-icon", b""),
    }


def _consent_tools() -> bytes:
    """Return the consent tools as one script, since the package has only modules: each is a function, by its path."""
    folder = _modules_of(CONSENT_TOOLS)
    files = [
        folder / "tslib/tslib.js",
        *(folder / "@segment/analytics-generic-utils/dist/cjs").rglob("*.js"),
        *(folder / CONSENT_TOOLS / "dist/cjs").rglob("*.js"),
    ]
    modules = ",\n".join(
        f"{json.dumps(str(file.relative_to(folder)))}: (require, module, exports) => {{{file.read_text()}\n}}"
        for file in files
    )
    return f"""(() => {{
const modules = {{{modules}}};
const mains = {{tslib: "tslib/tslib.js", "@segment/analytics-generic-utils": "@segment/analytics-generic-utils/dist/cjs/index.js"}};
const loaded = {{}};
const load = (path) => {{
  if (!loaded[path]) {{
    loaded[path] = {{exports: {{}}}};
    modules[path]((name) => load(find(path, name)), loaded[path], loaded[path].exports);
  }}
  return loaded[path].exports;
}};
const find = (from, name) => {{
  if (mains[name]) return mains[name];
  const path = new URL(name, `http://x/${{from}}`).pathname.slice(1);
  return [`${{path}}.js`, `${{path}}/index.js`].find((each) => modules[each]);
}};
window.ConsentTools = load("{CONSENT_TOOLS}/dist/cjs/index.js");
}})();
""".encode()  # noqa: E501 - of the script


def _modules_of(package: str) -> Path:
    return environment(f"{_ENVIRONMENTS[package]}-{VERSIONS[package]}") / "node_modules"
