"""`trackcore plan`: plans are converted and examined."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trackcore_plans
import yaml
from click.testing import Result
from trackcore_server.cli._plans import FORMS

Run = Callable[..., Result]
Lines = Callable[[Result], list[Any]]

FIXTURES = Path(__file__).parents[1] / "plans" / "fixtures"


class TestConvert:
    """`trackcore plan convert` writes any form from any."""

    def test_to_stdout(self, run: Run) -> None:
        result = run("plan", "convert", FIXTURES / "plan.toml", "--to", "segment")
        assert result.exit_code == 0
        assert [rule["type"] for rule in json.loads(result.stdout)["rules"]] == ["TRACK", "IDENTIFY"]
        assert result.stderr == ""

    def test_to_a_file_with_notes_on_what_is_lost(self, run: Run, tmp_path: Path) -> None:
        result = run("plan", "convert", FIXTURES / "segment.json", "--to", "typewriter", "-o", tmp_path / "plan.json")
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == "common: lost: the rule, as there is none for all messages\n"
        assert len(json.loads((tmp_path / "plan.json").read_text())["rules"]) == 3

    def test_a_folder_of_rudder_cli(self, run: Run) -> None:
        result = run("plan", "convert", FIXTURES / "rudder", "--to", "yaml")
        assert len(yaml.safe_load(result.stdout)["events"]) == 3

    def test_mistakes_are_listed_with_their_places(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "plan.json"
        file.write_text('{"rules": [{"type": "TRACK"}, {}]}')
        result = run("plan", "convert", file, "--to", "yaml")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines() == [
            f"Error: {file}: rules[0].jsonSchema: expected an object, found nothing",
            f"{file}: rules[0].key: a rule of the type TRACK needs the name of its event",
            f"{file}: rules[1].type: is missing",
            f"{file}: rules[1].jsonSchema: expected an object, found nothing",
        ]

    def test_without_the_extra_it_says_what_to_install(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith("trackcore_plans")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
        result = run("plan", "convert", FIXTURES / "plan.toml", "--to", "segment")
        assert result.exit_code == 2
        assert (
            result.stderr
            == "Error: jsonschema_rs is not installed; tracking plans need: pip install 'trackcore[plans]'\n"
        )


def test_the_command_knows_every_form() -> None:
    assert list(FORMS) == list(trackcore_plans.Form)


PLAN = """
name: Shop
events:
  - event: Order Completed
    properties:
      order_id: {type: string, required: true, example: o-1}
      total: {type: number, example: 9.5}
"""


@pytest.fixture(name="plan")
def _plan(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    return file


def track(event: str, **properties: object) -> dict[str, object]:
    return {"type": "track", "userId": "u1", "event": event, "properties": properties}


GOOD = track("Order Completed", order_id="o-1", total=1)
WRONG = track("Order Completed", order_id="o-1", total="9.5", Order_ID=1)
UNPLANNED = track("Order completed", order_id="o-1")


class TestCheck:
    """`trackcore plan check` exits with 1 if there is something to remark, 2 if the plan is unusable."""

    def test_a_good_plan(self, run: Run, plan: Path) -> None:
        result = run("plan", "check", plan)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "1 rules, 0 errors, 0 warnings\n")

    def test_remarks(self, run: Run, plan: Path, lines: Lines) -> None:
        plan.write_text(PLAN.replace("example: 9.5", "example: x"))
        result = run("plan", "check", plan)
        assert result.exit_code == 1
        assert lines(result) == [
            {
                "severity": "error",
                "code": "example",
                "rule": 'track "Order Completed"',
                "path": "properties.total",
                "sentence": "the example 'x' violates the rule",
            }
        ]
        assert "properties.total" in run("plan", "check", plan, "--format", "table").stdout

    def test_mistakes_in_schemas(self, run: Run, plan: Path) -> None:
        plan.write_text(PLAN.replace("type: number", "minimum: low"))
        result = run("plan", "check", plan)
        assert result.exit_code == 2
        assert f'{plan}: rules[0].schema.properties.properties.properties.total.minimum: track "Order' in result.stderr


class TestDiff:
    """`trackcore plan diff` exits with 1 if a difference breaks."""

    def test_equal_plans_in_other_forms(self, run: Run, plan: Path, tmp_path: Path) -> None:
        run("plan", "convert", plan, "--to", "segment", "-o", tmp_path / "plan.json")
        result = run("plan", "diff", plan, tmp_path / "plan.json")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "0 differences, 0 of them break\n")

    def test_a_breaking_change(self, run: Run, plan: Path, tmp_path: Path, lines: Lines) -> None:
        new = tmp_path / "new.yaml"
        new.write_text(PLAN.replace("total: {type: number", "total: {type: integer"))
        result = run("plan", "diff", plan, new)
        assert result.exit_code == 1
        assert [(record["path"], record["breaks"]) for record in lines(result)] == [("properties.total", True)]
        assert run("plan", "diff", new, plan).exit_code == 0


def test_docs(run: Run, plan: Path) -> None:
    assert run("plan", "docs", plan).stdout.startswith("# Shop\n\n## Order Completed\n")
    assert "<code>order_id</code>" in run("plan", "docs", plan, "--html").stdout


class TestLog:
    """`plan infer` makes a plan from the log, `plan replay` shows what a plan would have said of it."""

    def test_infer_and_replay(self, run: Run, fill: Callable[..., None], tmp_path: Path) -> None:
        fill(GOOD, WRONG, UNPLANNED)
        result = run("plan", "infer")
        assert (result.exit_code, result.stderr) == (0, "3 messages\n")
        (tmp_path / "inferred.yaml").write_text(result.stdout)
        checked = run("plan", "replay", tmp_path / "inferred.yaml")
        assert (checked.exit_code, checked.stdout, checked.stderr) == (0, "", "3 messages, 0 not as planned\n")

    def test_a_note_has_no_control_characters_of_a_client(self, run: Run, fill: Callable[..., None]) -> None:
        fill({**UNPLANNED, "event": "a\bb", "properties": {"o": [{"x": 1}]}})
        assert "\b" not in run("plan", "infer", "--to", "rudder").stderr

    def test_replay_as_lines(self, run: Run, plan: Path, fill: Callable[..., None], lines: Lines) -> None:
        fill(GOOD, WRONG, UNPLANNED)
        result = run("plan", "replay", plan)
        assert (result.exit_code, result.stderr) == (1, "3 messages, 2 not as planned\n")
        wrong, unplanned = lines(result)
        assert (wrong["seq"], wrong["source"], wrong["type"], wrong["event"]) == (
            2,
            "website",
            "track",
            "Order Completed",
        )
        assert [found["sentence"] for found in (*wrong["violations"], *unplanned["violations"])] == [
            '`properties.total` must be a number, found a string: "9.5"',
            "`Order_ID` is not planned; `order_id` is",
            "`Order completed` is not planned; did you mean `Order Completed`?",
        ]

    def test_replay_as_a_table(self, run: Run, plan: Path, fill: Callable[..., None]) -> None:
        fill(WRONG, WRONG, GOOD)
        result = run("plan", "replay", plan, "--format", "table")
        rows = result.stdout.splitlines()
        assert len(rows) == 3
        assert all(row.startswith("2 ") and "Order Completed" in row for row in rows[1:])

    def test_of_one_source_and_time(self, run: Run, plan: Path, fill: Callable[..., None]) -> None:
        fill(WRONG)
        assert run("plan", "replay", plan, "--source", "other").stderr == "0 messages, 0 not as planned\n"
        assert run("plan", "replay", plan, "--since", "2026-02-01").exit_code == 0


class TestValidate:
    """`trackcore validate --plan` reports violations as text, JSON, annotations of GitHub and JUnit's XML."""

    @pytest.fixture(name="file")
    def _file(self, tmp_path: Path) -> Path:
        file = tmp_path / "messages.jsonl"
        file.write_text("".join(f"{json.dumps(message)}\n" for message in (GOOD, WRONG, UNPLANNED)))
        return file

    def test_text(self, run: Run, plan: Path, file: Path) -> None:
        result = run("validate", "--plan", plan, file)
        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            f'{file}:2: properties.total: plan_wrong_type: `properties.total` must be a number, found a string: "9.5"',
            f"{file}:2: properties.Order_ID: plan_unplanned_property: `Order_ID` is not planned; `order_id` is",
            f"{file}:3: event: plan_unplanned_event: `Order completed` is not planned; did you mean `Order Completed`?",
        ]
        assert result.stderr == "3 messages, 0 rejected, 2 not as planned, 0 warnings\n"

    def test_json(self, run: Run, plan: Path, file: Path, lines: Lines) -> None:
        record = lines(run("validate", "--plan", plan, "--json", file))[0]
        assert record == {
            "file": str(file),
            "line": 2,
            "path": "properties.total",
            "code": "plan_wrong_type",
            "message": '`properties.total` must be a number, found a string: "9.5"',
            "rule": 'track "Order Completed"',
            "severity": "violation",
        }

    def test_github(self, run: Run, plan: Path, file: Path) -> None:
        shown = run("validate", "--plan", plan, "--format", "github", file).stdout.splitlines()
        assert shown[2] == (
            f"::error file={file},line=3,title=plan_unplanned_event::"
            "event: `Order completed` is not planned; did you mean `Order Completed`?"
        )

    def test_junit(self, run: Run, plan: Path, file: Path) -> None:
        suite = ET.fromstring(run("validate", "--plan", plan, "--format", "junit", file).stdout)[0]  # noqa: S314 - our own
        assert (suite.attrib["tests"], suite.attrib["failures"]) == ("4", "3")
        assert [case.attrib["name"] for case in suite] == ["1 accepted", "line 2", "line 2", "line 3"]

    def test_the_context_of_a_batch_counts(self, run: Run, plan: Path, tmp_path: Path) -> None:
        plan.write_text(f"{PLAN}common:\n  context:\n    app: {{type: object, required: true}}\n")
        batch = tmp_path / "batch.json"
        batch.write_text(json.dumps({"batch": [GOOD], "context": {"app": {}}}))
        assert run("validate", "--plan", plan, batch).exit_code == 0
        batch.write_text(json.dumps({"batch": [GOOD]}))
        assert run("validate", "--plan", plan, batch).stdout.startswith(
            f"{batch}:1: batch[0].context.app: plan_common_rule"
        )

    def test_a_rejected_message_is_not_checked(self, run: Run, plan: Path, tmp_path: Path) -> None:
        file = tmp_path / "messages.jsonl"
        file.write_text(json.dumps({"type": "track", "event": "Other"}))
        result = run("validate", "--plan", plan, file)
        assert result.stdout.count("\n") == 1
        assert "no_user_anon_id" in result.stdout

    def test_as_planned(self, run: Run, plan: Path, tmp_path: Path) -> None:
        file = tmp_path / "messages.jsonl"
        file.write_text(json.dumps(GOOD))
        assert run("validate", "--plan", plan, file).exit_code == 0
