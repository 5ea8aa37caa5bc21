"""`trackcore plan`: plans are converted and examined."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trackcore_plans
import yaml
from click.testing import Result
from trackcore_server.cli._plans import FORMS

Run = Callable[..., Result]

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
        assert result.stderr == "the rule for all messages is lost\n"
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
