"""`trackcore plan`: tracking plans, converted, examined, made from the log, and held against it."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import click

from trackcore import JSONObject
from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS, format_option
from trackcore_server.cli._output import Column, make_writer
from trackcore_server.cli._plans import FORMS, plan_argument, plans_extra
from trackcore_server.cli.plan_log import infer, replay

_REMARKS = (
    Column(title="severity", width=8),
    Column(title="code", width=14),
    Column(title="rule", ratio=2),
    Column(title="path", ratio=2),
    Column(title="sentence", ratio=5),
)
_DIFFERENCES = (
    Column(title="breaks", cell=lambda record: "breaks" if record["breaks"] else "", width=6),
    Column(title="rule", ratio=2),
    Column(title="path", ratio=2),
    Column(title="sentence", ratio=4),
)


_EXAMPLES = """\b
Examples:
  trackcore plan infer --since 30d > plan.yaml
  trackcore plan check plan.yaml
"""


@click.group(epilog=_EXAMPLES)
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
        _write(text)
    else:
        output.write_text(text, encoding="utf-8")
    for note in notes:
        click.echo(visible(note), err=True)


_CHECK_EXAMPLES = """\b
Examples:
  trackcore plan check plan.yaml
  trackcore plan check plan.json --format jsonl
"""


@plan.command(epilog=_CHECK_EXAMPLES, short_help="Examine a plan for faults.")
@plan_argument()
@format_option()
def check(*, plan: Path, output_format: str | None) -> None:
    """Examine a plan: mistakes that make it unusable, and faults that do not.

    The faults are names in another style than most, names that are nearly the same, events named by one word,
    properties without an example, examples that violate their own rule, versions without effect, and rules that no
    message can follow. A JSON line has `severity` (error or warning), `code`, `rule`, `path` and `sentence`.

    Exit code: 0 if there is nothing to remark, 1 if there is, 2 if the plan cannot be used.
    """
    with plans_extra():
        from trackcore_plans import lint, read_plan  # noqa: PLC0415 - of an extra
    document = read_plan(plan).document
    writer = make_writer(output_format, _REMARKS)
    remarks = lint(document)
    for remark in remarks:
        writer.write(_record(remark))
    writer.flush()
    errors = sum(remark.severity == "error" for remark in remarks)
    click.echo(f"{len(document.rules)} rules, {errors} errors, {len(remarks) - errors} warnings", err=True)
    sys.exit(FINDINGS if remarks else 0)


_DIFF_EXAMPLES = """\b
Examples:
  trackcore plan diff old.yaml plan.yaml
"""


@plan.command(epilog=_DIFF_EXAMPLES, short_help="Show which changes of a plan break.")
@plan_argument("old", "OLD")
@plan_argument("new", "NEW")
@format_option()
def diff(*, old: Path, new: Path, output_format: str | None) -> None:
    """Show the differences of two plans, in whatever forms they are written.

    A difference breaks if a message that follows the old plan may violate the new one. A JSON line has `rule`, `path`,
    `sentence` and `breaks`.

    Exit code: 0 if no difference breaks, 1 if one does, 2 if a plan cannot be used.
    """
    with plans_extra():
        from trackcore_plans import differences, read_plan  # noqa: PLC0415 - of an extra
    found = differences(read_plan(old).document, read_plan(new).document)
    writer = make_writer(output_format, _DIFFERENCES)
    for difference in found:
        writer.write(_record(difference))
    writer.flush()
    breaking = sum(difference.breaks for difference in found)
    click.echo(f"{len(found)} differences, {breaking} of them break", err=True)
    sys.exit(FINDINGS if breaking else 0)


_DOCS_EXAMPLES = """\b
Examples:
  trackcore plan docs plan.yaml > plan.md
  trackcore plan docs plan.yaml --html > plan.html
"""


@plan.command(epilog=_DOCS_EXAMPLES, short_help="Write a plan as a page for people.")
@plan_argument()
@click.option("--html", "as_html", is_flag=True, help="Write HTML instead of Markdown.")
def docs(*, plan: Path, as_html: bool) -> None:
    """Write a plan as one page for people: each event with its properties."""
    with plans_extra():
        from trackcore_plans import html_page, markdown_page, read_plan  # noqa: PLC0415 - of an extra
    document = read_plan(plan).document
    _write(html_page(document) if as_html else markdown_page(document))


plan.add_command(infer)
plan.add_command(replay)


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def _record(value: attrs.AttrsInstance) -> JSONObject:
    return attrs.asdict(value)
