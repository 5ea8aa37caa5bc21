"""A source with a tracking plan, and the SDKs: they see success for a wrong event, and everything else shows it.

An omitted value or a blocked message is kept as received, listed, explained, and can be restored under a changed plan.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from sdk.browsers import BROWSER_SDKS, PACKAGE, BrowserSdk, visit
from sdk.running import run_client
from sdk.sdks import SERVER_SDKS, Sdk
from sdk.servers import CONFIGURATION, WRITE_KEY, Server, run_server, wait_until

from trackcore import JSONObject

PLAN = """\
name: Shop
events:
  - event: Order Completed
    properties:
      order_id: {type: string, required: true}
      revenue: {type: number, required: true}
"""
_KEYS = f'write_keys = ["{WRITE_KEY}"]\n'
PLANNED = CONFIGURATION.replace(
    _KEYS,
    f'{_KEYS}plan = "plan.yaml"\n'
    "plan_controls.track = {allowUnplannedEvents = false, allowUnplannedEventProperties = false}\n",
)
NEWEST: list[Sdk | BrowserSdk] = [
    next(sdk for sdk in SERVER_SDKS if (sdk.package, sdk.version) == ("segment-analytics-python", "2.4.0")),
    next(sdk for sdk in SERVER_SDKS if (sdk.package, sdk.version) == ("@segment/analytics-node", "3.1.0")),
    BROWSER_SDKS[0],
]


def call(name: str, event: str, properties: JSONObject) -> JSONObject:
    fields = {"userId": "user-1", "event": event, "properties": properties, "messageId": name}
    return {"case": name, "call": "track", "fields": fields}


CALLS = [
    call("good", "Order Completed", {"order_id": "o-1", "revenue": 9.5}),
    call("unplanned", "Order completed", {"order_id": "o-2", "revenue": 9.5}),
    call("wrong", "Order Completed", {"order_id": "o-3", "revenue": "9.5", "colour": "red"}),
]


@contextmanager
def run_planned_server(folder: Path) -> Iterator[Server]:
    (folder / "plan.yaml").write_text(PLAN)
    with run_server(folder, text=PLANNED) as server:
        yield server


def send(sdk: Sdk | BrowserSdk, server: Server) -> JSONObject:
    """Make the calls with an SDK, and return its report once the server has all of them."""
    if isinstance(sdk, Sdk):
        return run_client(sdk, server, CALLS, write_key=WRITE_KEY, batch_size=len(CALLS))
    with visit(sdk, server, CALLS, way="bundle") as page:
        report = page.report()
        wait_until(lambda: len(list(server.log.rejected())) == 2, "the delivery")
    return report


def trackcore(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the log of the server."""
    command = (sys.executable, "-m", "trackcore_server.cli", *arguments)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def lines(folder: Path, *arguments: str) -> list[JSONObject]:
    shown = trackcore(folder, *arguments, "--config", "trackcore.toml")
    return [json.loads(line) for line in shown.stdout.splitlines()]


@pytest.mark.parametrize("sdk", NEWEST, ids=lambda sdk: f"{getattr(sdk, 'package', PACKAGE)} {sdk.version}")
def test_the_sdk_sees_nothing_and_the_log_has_everything(sdk: Sdk | BrowserSdk, tmp_path: Path) -> None:
    with run_planned_server(tmp_path) as server:
        assert send(sdk, server)["errors"] == []
        assert {request.status for request in server.posts()} == {200}
    stored = {found.message["properties"]["order_id"]: found for found in server.log.messages()}
    assert sorted(stored) == ["o-1", "o-3"]
    assert stored["o-1"].warnings == ()
    assert [warning["code"] for warning in stored["o-3"].warnings] == ["plan_wrong_type", "plan_unplanned_property"]
    wrong = stored["o-3"].message
    assert wrong["properties"] == {"order_id": "o-3", "revenue": "9.5"}
    assert wrong["context"]["protocols"]["omitted"] == ["properties.colour"]
    rejected = {found.code: found for found in server.log.rejected()}
    assert sorted(rejected) == ["plan_blocked", "plan_omitted"]
    assert rejected["plan_blocked"].message == "`Order completed` is not planned; did you mean `Order Completed`?"
    assert json.loads(rejected["plan_omitted"].payload)["properties"]["colour"] == "red"


def test_what_the_commands_show(tmp_path: Path) -> None:
    with run_planned_server(tmp_path) as server:
        send(NEWEST[0], server)
    (wrong,) = lines(tmp_path, "events", "--code", "plan_wrong_type")
    rejected = lines(tmp_path, "rejected")
    assert sorted(record["code"] for record in rejected) == ["plan_blocked", "plan_omitted"]
    (explained,) = lines(tmp_path, "explain", str(wrong["seq"]))
    assert [(found["code"], found["rule"]) for found in explained["warnings"]] == [
        ("plan_wrong_type", 'track "Order Completed"'),
        ("plan_unplanned_property", 'track "Order Completed"'),
    ]
    (tmp_path / "messages.jsonl").write_text("".join(f"{record['payload']}\n" for record in rejected))
    checked = ("validate", "--plan", "plan.yaml", "messages.jsonl", "--format")
    github = trackcore(tmp_path, *checked, "github")
    assert (github.returncode, github.stdout.count("::error file=messages.jsonl,line=")) == (1, 3)
    junit = trackcore(tmp_path, *checked, "junit")
    assert (junit.returncode, len(ET.fromstring(junit.stdout).findall(".//failure"))) == (1, 3)  # noqa: S314 - our own
    (tmp_path / "plan.yaml").write_text(PLAN.replace("order_id:", "colour: string\n      order_id:"))
    restored = lines(tmp_path, "rejected", "--code", "plan_omitted", "--retry", "--restore")
    assert [record["outcome"] for record in restored] == ["repaired"]
