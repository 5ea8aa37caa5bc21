"""The guide on testing in JavaScript: its files and commands run as they are, except for the ports and the browser."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from guides import fences
from patience import PATIENCE
from sdk.installing import chromium, environment, node

ENVIRONMENT = "testing-guide"


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A project with the packages of the guide."""
    (tmp_path / "node_modules").symlink_to(environment(ENVIRONMENT) / "node_modules")
    return tmp_path


def on_free_ports(*texts: str) -> list[str]:
    """Return texts in which the ports of the guide are replaced by free ones, the same in each text."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        free = {"8090": str(one.getsockname()[1]), "8091": str(other.getsockname()[1])}
    return [re.sub("8090|8091", lambda port: free[port[0]], text) for text in texts]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this environment's `trackcore` and Node's programs on the path."""
    programs = [Path(sys.executable).parent, Path(node()).parent, environment(ENVIRONMENT) / "node_modules" / ".bin"]
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * PATIENCE,
    )


class TestNode:
    @pytest.mark.parametrize(
        ("change", "passes"),
        [
            (("", ""), True),
            (
                (
                    'event: "Order Completed", properties: { total: 9.5, c',
                    'event: "Order Complete", properties: { total: 9.5, c',
                ),
                False,
            ),
        ],
    )
    def test_it_passes_and_fails(self, folder: Path, change: tuple[str, str], *, passes: bool) -> None:
        (test,) = fences("Node", "js")
        script, test = on_free_ports(fences("Node", "sh")[0], test)
        (folder / "shop.test.mjs").write_text(test.replace(*change).replace("timeout: 30", "timeout: 60"))
        done = run(folder, "bash", "-c", script)
        assert (done.returncode == 0) == passes, done.stdout + done.stderr
        assert passes or "nearest: message 1 (- expected, + received)" in done.stdout

    def test_a_rejection_fails_the_run(self, folder: Path) -> None:
        """`--strict`: the server's exit code is that of the run, though all tests have passed."""
        script = on_free_ports(fences("Node", "sh")[0])[0]
        body = "{ method: 'POST', body: JSON.stringify({ writeKey: 'test-write-key', event: 'Paid' }) }"
        send = f"fetch(`${{process.env.TRACKCORE_URL}}/v1/track`, {body})"
        (folder / "shop.test.mjs").write_text(f"import {{ test }} from 'node:test';\ntest('it', () => {send});\n")
        done = run(folder, "bash", "-c", script)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "# fail 0" in done.stdout
        assert "no_user_anon_id" in done.stderr


class TestPlaywright:
    @pytest.mark.parametrize(
        ("change", "passes"), [(("", ""), True), (("{ total: 9.5 })", '{ total: "9.50" })'), False)]
    )
    def test_it_passes_and_fails(self, folder: Path, change: tuple[str, str], *, passes: bool) -> None:
        configuration, test = fences("Playwright", "js")
        configuration, test, page = on_free_ports(configuration, test, fences("Playwright", "html")[0])
        browser = f'launchOptions: {{ executablePath: "{chromium()}", args: ["--no-sandbox"] }}, baseURL'
        (folder / "playwright.config.mjs").write_text(configuration.replace("baseURL", browser))
        (folder / "checkout.html").write_text(page.replace(*change))
        (folder / "checkout.spec.mjs").write_text(test)
        done = run(folder, "playwright", "test", "--reporter", "line")
        assert (done.returncode == 0) == passes, done.stdout + done.stderr
        assert passes or '+ properties.total  "9.50"' in done.stdout
