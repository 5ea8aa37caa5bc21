"""A source with a tracking plan, and the SDKs: a wrong event is no error for them, and visible everywhere else.

What is omitted or blocked is kept as received, listed, explained, and can be restored under a changed plan.
"""

from __future__ import annotations

import json
import subprocess
import sys
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
    BROWSER_SDKS[-1],
]


def call(name: str, event: str, properties: JSONObject) -> JSONObject:
    fields = {"userId": "user-1", "event": event, "properties": properties, "messageId": name}
    return {"case": name, "call": "track", "fields": fields}


CALLS = [
    call("good", "Order Completed", {"order_id": "o-1", "revenue": 9.5}),
    call("unplanned", "Order completed", {"order_id": "o-2", "revenue": 9.5}),
    call("wrong", "Order Completed", {"order_id": "o-3", "revenue": "9.5", "colour": "red"}),
]


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
def test_a_wrong_event(sdk: Sdk | BrowserSdk, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    with run_server(tmp_path, text=PLANNED) as server:
        assert send(sdk, server)["errors"] == []
        assert {request.status for request in server.posts()} == {200}
    events = {record["message"]["properties"]["order_id"]: record for record in lines(tmp_path, "events")}
    assert sorted(events) == ["o-1", "o-3"]
    assert events["o-1"]["warnings"] == []
    wrong = events["o-3"]
    assert wrong["message"]["properties"] == {"order_id": "o-3", "revenue": "9.5"}
    assert wrong["message"]["context"]["protocols"]["omitted"] == ["properties.colour"]
    rejected = {record["code"]: record for record in lines(tmp_path, "rejected")}
    assert sorted(rejected) == ["plan_blocked", "plan_omitted"]
    assert rejected["plan_blocked"]["message"] == "`Order completed` is not planned; did you mean `Order Completed`?"
    assert json.loads(rejected["plan_omitted"]["payload"])["properties"]["colour"] == "red"
    (explained,) = lines(tmp_path, "explain", str(wrong["seq"]))
    assert [(found["code"], found["rule"]) for found in explained["warnings"]] == [
        ("plan_wrong_type", 'track "Order Completed"'),
        ("plan_unplanned_property", 'track "Order Completed"'),
    ]
    _check_in_ci(tmp_path, [json.loads(record["payload"]) for record in rejected.values()])
    (tmp_path / "plan.yaml").write_text(PLAN.replace("order_id:", "colour: string\n      order_id:"))
    restored = lines(tmp_path, "rejected", "--code", "plan_omitted", "--retry", "--restore")
    assert [record["outcome"] for record in restored] == ["repaired"]


def _check_in_ci(folder: Path, messages: list[JSONObject]) -> None:
    """Validate what was sent, as a run of CI does before a release."""
    (folder / "messages.jsonl").write_text("".join(f"{json.dumps(message)}\n" for message in messages))
    checked = ("validate", "--plan", "plan.yaml", "messages.jsonl", "--format")
    github = trackcore(folder, *checked, "github")
    assert (github.returncode, github.stdout.count("::error file=messages.jsonl,line=")) == (1, 3)
    junit = trackcore(folder, *checked, "junit")
    assert (junit.returncode, len(ET.fromstring(junit.stdout).findall(".//failure"))) == (1, 2)  # noqa: S314 - our own
