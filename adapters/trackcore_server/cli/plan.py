"""`trackcore plan`: tracking plans, converted and examined."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trackcore.text import visible
from trackcore_server.cli._plans import FORMS, plan_argument, plans_extra


@click.group(short_help="Tracking plans: convert them.")
def plan() -> None:
    """Work with tracking plans: which events a program sends, with which properties.

    PLAN is a file in any of these forms, which its content tells: JSON of Segment's Public API, also as Typewriter 8
    keeps it; JSON of Segment's Config API, as Typewriter 7 and RudderStack have it; YAML of rudder-cli, a file or the
    folder of a project; or YAML or TOML to be written by hand. docs/plans.md describes them.
    """


_CONVERT_EXAMPLES = """\b
Examples:
  trackcore plan convert plan.json --to yaml > plan.yaml
  trackcore plan convert plan.yaml --to segment -o plan.json
"""


@plan.command(epilog=_CONVERT_EXAMPLES, short_help="Write a plan in another form.")
@plan_argument()
@click.option(
    "--to",
    "form",
    type=click.Choice(FORMS),
    required=True,
    help="segment: Public API; typewriter: Typewriter 8; config: Config API, Typewriter 7; rudder: rudder-cli, or "
    "rudder-v0.1; yaml, toml: for people.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file.  [default: stdout]")
def convert(*, plan: Path, form: str, output: Path | None) -> None:
    """Write a plan in another form.

    Anything for which the other form has no words is lost, and listed on stderr.

    Exit code: 0, or 2 if the plan cannot be read; then every mistake in it is listed.
    """
    with plans_extra():
        from trackcore_plans import Form, read_plan, write_plan  # noqa: PLC0415 - of an extra
    text, notes = write_plan(read_plan(plan).document, Form(form))
    if output is None:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    else:
        output.write_text(text, encoding="utf-8")
    for note in notes:
        click.echo(visible(note), err=True)
