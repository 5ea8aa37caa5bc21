"""The files in `deploy/` work: nginx and Caddy serve the API below a path, and the unit and the images are valid."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
import yaml
from adapter_helpers import basic
from pages import ROOT, page
from patience import PATIENCE, wait_for
from served import Served
from trackcore_server import load_configuration
from trackcore_server.cli._main import main
from trackcore_sqlite import SqliteLog

from trackcore import METRICS, MetricKind

DEPLOY = ROOT / "deploy"
CONFIGURATION = page("guides/proxies").fences[0].text
CLIENT = "203.0.113.9"
SHUT_DOWN_SECONDS = 15
"""How long `trackcore serve` takes at most to stop: 10 seconds for the requests in progress, and some to exit."""


def need(tool: str) -> str:
    """Return the path of a tool, or skip the test, which is reported."""
    found = shutil.which(tool) or shutil.which(tool, path="/usr/sbin")
    if found is None:
        pytest.skip(f"{tool} is not installed, so its file in deploy/ is not checked")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[Served]:
    """A server with the configuration of the guide."""
    (tmp_path / "trackcore.toml").write_text(CONFIGURATION)
    server = Served.start(tmp_path / "stderr", "--data", str(tmp_path))
    server.wait_until_listening()
    yield server
    server.kill()


class TestMonitoring:
    """The alerts and the board use metrics that exist, with labels that they have."""

    BUILT_IN = {"job", "instance", "le"}  # noqa: RUF012 - not shared

    def expressions(self) -> list[str]:
        board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
        rules = yaml.safe_load((DEPLOY / "trackcore.rules.yml").read_text())
        shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        return [*shown, *(rule["expr"] for group in rules["groups"] for rule in group["rules"])]

    def test_every_metric_exists(self) -> None:
        known = {}
        for metric in METRICS:
            is_histogram = metric.kind is MetricKind.HISTOGRAM
            for suffix in ("_bucket", "_sum", "_count") if is_histogram else ("",):
                known[metric.name + suffix] = {*metric.labels}
        used: set[str] = set()
        for expression in self.expressions():
            names = set(re.findall(r"\btrackcore_\w+", expression))
            used |= names
            assert names <= known.keys(), expression
            grouped = re.findall(r"\bby \(([^)]*)\)", expression)
            labels = {label.strip() for group in grouped for label in group.split(",")}
            labels |= set(re.findall(r"(\w+)=~?\"", expression))
            assert labels - self.BUILT_IN <= set.intersection(*(known[name] for name in names)), expression
        missing = {metric.name for metric in METRICS if not any(name.startswith(metric.name) for name in used)}
        assert missing <= {
            "trackcore_request_size_bytes",
            "trackcore_clock_skew_seconds",
            "trackcore_log_messages",
            "trackcore_build_info",
        }

    def test_brackets_are_closed(self) -> None:
        for expression in self.expressions():
            text = re.sub(r'"[^"]*"', "", expression)
            while (shorter := re.sub(r"\([^()[\]{}]*\)|\[[^()[\]{}]*\]|\{[^()[\]{}]*\}", "", text)) != text:
                text = shorter
            assert not re.search(r"[()[\]{}]", text), expression

    def test_there_are_four_alerts_with_their_texts(self) -> None:
        (group,) = yaml.safe_load((DEPLOY / "trackcore.rules.yml").read_text())["groups"]
        assert len(group["rules"]) == 4
        for rule in group["rules"]:
            assert rule.keys() >= {"alert", "expr", "labels", "annotations"}
            assert rule["annotations"].keys() == {"summary", "description"}

    def test_promtool_accepts_the_alerts(self) -> None:
        command = [need("promtool"), "check", "rules", str(DEPLOY / "trackcore.rules.yml")]
        subprocess.run(command, check=True)

    def test_the_guide_lists_every_metric(self) -> None:
        rows = re.findall(r"^\| `(trackcore_\w+)` \| (\w+) \| ([^|]*)\|", page("guides/monitor").text, re.MULTILINE)
        assert [(name, kind, tuple(re.findall(r"\w+", labels))) for name, kind, labels in rows] == [
            (metric.name, str(metric.kind), metric.labels) for metric in METRICS
        ]


@attrs.frozen
class Proxy:
    """A running proxy, and how to connect to it."""

    connect: Callable[[], HTTPConnection]
    host: str

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[HTTPResponse, Any]:
        connection = self.connect()
        headers = {"Host": self.host, "Authorization": basic("abc123"), "X-Forwarded-For": CLIENT}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response, json.loads(content)

    def is_up(self) -> bool:
        try:
            connection = self.connect()
            connection.connect()
        except OSError:
            return False
        connection.close()
        return True


def run_proxy(proxy: Proxy, *command: str) -> Iterator[Proxy]:
    process = subprocess.Popen(command)
    try:
        wait_for(proxy.is_up)
        yield proxy
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(name="nginx")
def _nginx(server: Served, tmp_path: Path) -> Iterator[Proxy]:
    nginx, openssl = need("nginx"), need("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=example.com", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
    )
    port = free_port()
    text = (DEPLOY / "trackcore.nginx.conf").read_text()
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}").replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    text = re.sub(r"\n *listen \[::\]:443 ssl;", "", text)
    text = re.sub(r"(ssl_certificate) .*;", rf"\1 {certificate};", text)
    text = re.sub(r"(ssl_certificate_key) .*;", rf"\1 {key};", text)
    folders = "".join(
        f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.getuid() == 0 else ""  # its worker may then write to the folder of the test
    site = tmp_path / "nginx.conf"
    settings = f"{user} daemon off; pid {tmp_path}/pid; error_log stderr;"
    site.write_text(f"{settings} events {{}} http {{ access_log off; {folders} {text} }}")
    subprocess.run([nginx, "-t", "-c", str(site), "-p", str(tmp_path)], check=True, capture_output=True)
    context = ssl._create_unverified_context()  # noqa: S323 - the certificate is made for this test
    proxy = Proxy(lambda: HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE), "example.com")
    yield from run_proxy(proxy, nginx, "-c", str(site), "-p", str(tmp_path))


@pytest.fixture(name="caddy")
def _caddy(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Without its certificate, which it would request from an authority."""
    caddy = need("caddy")
    monkeypatch.setenv("HOME", str(tmp_path))
    port = free_port()
    text = (DEPLOY / "Caddyfile").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    file = tmp_path / "Caddyfile"
    file.write_text("{\n\tadmin off\n}\n" + text.replace("example.com {", f"http://example.com:{port} {{"))
    proxy = Proxy(lambda: HTTPConnection("127.0.0.1", port, timeout=PATIENCE), f"example.com:{port}")
    yield from run_proxy(proxy, caddy, "run", "--config", str(file), "--adapter", "caddyfile")


@pytest.fixture(name="proxy", params=["nginx", "caddy"])
def _proxy(request: pytest.FixtureRequest) -> Proxy:
    proxy: Proxy = request.getfixturevalue(request.param)
    return proxy


class TestProxies:
    """Below `/tracking/`, with the prefix stripped and named in X-Forwarded-Prefix."""

    def test_a_message_is_stored_with_the_address_of_the_client(self, proxy: Proxy, tmp_path: Path) -> None:
        response, answer = proxy.ask("POST", "/tracking/v1/t", b'{"userId": "42", "event": "Proxied"}')
        assert (response.status, answer) == (200, {"success": True})
        (stored,) = SqliteLog(tmp_path / "trackcore.db").messages()
        assert stored.message["context"]["ip"] == "127.0.0.1"  # the last hop; the client's own header is not trusted

    def test_the_settings_document_names_the_public_address(self, proxy: Proxy) -> None:
        _, settings = proxy.ask("GET", "/tracking/v1/projects/abc123/settings")
        assert settings["integrations"]["Segment.io"]["apiHost"] == f"{proxy.host}/tracking/v1"

    def test_a_body_over_the_limit_is_answered_by_trackcore(self, proxy: Proxy) -> None:
        """By 400: on the 413 of a proxy some SDKs retry."""
        response, answer = proxy.ask("POST", "/tracking/v1/batch", b" " * 2_000_000)
        assert (response.status, answer["code"]) == (400, "body_too_large")

    def test_a_long_pixel_passes(self, proxy: Proxy) -> None:
        connection = proxy.connect()
        query = f"writeKey=abc123&userId=42&event={'x' * 7000}"
        connection.request("GET", f"/tracking/v1/pixel/track?{query}", headers={"Host": proxy.host})
        response = connection.getresponse()
        assert (response.status, response.read()[:3]) == (200, b"GIF")
        connection.close()


class TestSystemd:
    UNIT = (DEPLOY / "trackcore.service").read_text()
    COMMAND = re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)

    def test_the_unit_is_valid(self, tmp_path: Path) -> None:
        """`systemd-analyze verify`, with a program that exists here."""
        analyze = need("systemd-analyze")
        unit = tmp_path / "trackcore.service"
        unit.write_text(self.UNIT.replace("/opt/trackcore/bin/trackcore", sys.executable))
        ran = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
        ours = [line for line in ran.stderr.splitlines() if "trackcore.service" in line]
        assert (ran.returncode, ours) == (0, [])

    def test_its_command_exists(self) -> None:
        assert self.COMMAND is not None
        check_command(self.COMMAND[1])

    def test_it_waits_for_a_stop(self) -> None:
        (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", self.UNIT, re.MULTILINE)
        assert int(seconds) > SHUT_DOWN_SECONDS

    def test_the_configuration_is_valid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRACKCORE_WRITE_KEY", "abc123")
        configuration = load_configuration(DEPLOY / "trackcore.toml")
        assert configuration.log.location.startswith("/var/lib/trackcore/")


class TestContainer:
    """The image is built by `poe release`, in a virtual environment, since a test has no container engine."""

    DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

    def test_its_command_exists(self) -> None:
        (command,) = re.findall(r"^CMD (\[.*\])$", self.DOCKERFILE, re.MULTILINE)
        check_command(shlex.join(json.loads(command)))

    def test_it_listens_where_it_says(self) -> None:
        (port,) = re.findall(r"^EXPOSE (\d+)$", self.DOCKERFILE, re.MULTILINE)
        assert f'"0.0.0.0:{port}"' in self.DOCKERFILE
        assert f"127.0.0.1:{port}/health" in self.DOCKERFILE

    def test_compose(self) -> None:
        """The services, files and volumes that it names exist."""
        yaml = pytest.importorskip("yaml", reason="compose.yaml is read with the group `docs`")
        document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        build = document["services"]["trackcore"]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
        named = [volume.split(":")[0] for service in document["services"].values() for volume in service["volumes"]]
        files, volumes = [n for n in named if n.startswith(".")], [n for n in named if not n.startswith(".")]
        assert [name for name in files if not (DEPLOY / name).is_file()] == []
        assert set(volumes) == document["volumes"].keys()
        assert "trackcore:8080" in (DEPLOY / files[0]).read_text()

    def test_the_two_files_of_caddy_differ_in_the_address_alone(self) -> None:
        compose = (DEPLOY / "Caddyfile.compose").read_text()
        assert compose.replace("trackcore:8080", "127.0.0.1:8080") == (DEPLOY / "Caddyfile").read_text()


def check_command(line: str) -> None:
    """Check that a command line of `trackcore` has a command and options that exist."""
    program, name, *arguments = shlex.split(line)
    assert Path(program).name == "trackcore"
    assert isinstance(main, click.Group)
    main.commands[name].make_context(name, arguments)
