"""The guide on tracking plans, `docs/plans.md`: its code runs, and its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from trackcore_http import segments_name
from trackcore_plans import Form, compile_schema, parse_plan
from trackcore_server.cli.plan import plan as plan_command

from trackcore.plans import Plan, TrackControls, TraitControls, ViolationKind

TEXT = (Path(__file__).parents[2] / "docs" / "plans.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return the text under a heading."""
    return TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(heading: str, language: str) -> list[str]:
    """Return the blocks of code in a language under a heading."""
    return re.findall(rf"```{language}\n(.*?)```", section(heading), re.DOTALL)


def first_cells(heading: str) -> list[str]:
    """Return the code in the first cells of the tables under a heading."""
    return re.findall(r"^\| `([^`]+)`", section(heading), re.MULTILINE)


def test_the_code_for_python_runs() -> None:
    (code,) = blocks("In Python", "python")
    exec(code, {})  # noqa: S102


def test_every_kind_is_listed() -> None:
    assert first_cells("Kinds of violations") == list(ViolationKind)


def test_every_control_is_listed() -> None:
    names = [segments_name(field.name) for cls in (TrackControls, TraitControls) for field in attrs.fields(cls)]
    assert set(first_cells("Controls")) | {"commonEventOnViolations"} == set(names)


def test_the_plan_for_people_can_be_read() -> None:
    (text,) = blocks("A plan for people", "yaml")
    plan = Plan.compile(parse_plan(text, "plan.yaml").document, compile_schema)
    assert [rule.label for rule in plan.document.rules] == ['track "Order Completed"', "common", "identify"]


def test_every_form_is_listed() -> None:
    rows = re.findall(r"^\| (`.+?) \|", section("Other forms"), re.MULTILINE)
    assert [name for row in rows for name in re.findall("`([^`]+)`", row)] == list(Form)


def test_every_command_is_described() -> None:
    described = set(re.findall(r"`trackcore plan (\w+)", TEXT))
    assert described == set(plan_command.commands)
