"""`trackcore suppress`, `unsuppress` and `forget`, and the export of a person: one person's rights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
from trackcore_privacy import Job

from trackcore.privacy import Subject
from trackcore_server.cli._options import FINDINGS, Failure, location_options
from trackcore_server.cli._output import counted, write_line
from trackcore_server.cli._progress import CountProgress
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.config.deployment import find_deployment
from trackcore_server.privacy.export import export
from trackcore_server.privacy.jobs import Jobs
from trackcore_server.privacy.linked import linked_subjects
from trackcore_server.storage.backends import backend_of

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SUPPRESS = """\b
Examples:
  trackcore suppress 019mr8mf4r
  trackcore suppress --anonymous 507f191e810c19729de860ea --source website
"""
_UNSUPPRESS = """\b
Examples:
  trackcore unsuppress 019mr8mf4r
"""
_FORGET = """\b
Examples:
  trackcore forget 019mr8mf4r --linked --dry-run
  trackcore forget 019mr8mf4r --linked
  trackcore forget --resume
"""


def _person(*, scoped: bool = True, required: bool = True) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        if scoped:
            command = click.option("--source", metavar="NAME", help="Only for this source.  [default: all]")(command)
        command = click.option(
            "--linked",
            is_flag=True,
            help="Also the ids that messages in the log link to it: anonymous ids and aliases.",
        )(command)
        command = click.option("--anonymous", is_flag=True, help="ID is an anonymousId.  [default: a userId]")(command)
        command = click.argument("person", metavar="ID", required=required)(command)
        return location_options(command)

    return add


@click.command(epilog=_SUPPRESS)
@_person()
def suppress(
    *, config: Path | None, data: Path | None, person: str, anonymous: bool, linked: bool, source: str | None
) -> None:
    """Keep no further message of a person.

    Senders get 200 as before, and nothing is stored. Running servers obey within a second. Messages that are in the log
    stay: see `trackcore forget`.
    """
    configuration = find_deployment(config=config, data=data).configuration
    subjects = _subjects(configuration, person, anonymous=anonymous, linked=linked)
    Jobs(configuration).add("SUPPRESS_ONLY", subjects, scope=_scope(configuration, source))
    click.echo(f"{_ids(subjects)} suppressed", err=True)


@click.command(epilog=_UNSUPPRESS)
@_person()
def unsuppress(
    *, config: Path | None, data: Path | None, person: str, anonymous: bool, linked: bool, source: str | None
) -> None:
    """Keep the messages of a person again, from now on."""
    configuration = find_deployment(config=config, data=data).configuration
    subjects = _subjects(configuration, person, anonymous=anonymous, linked=linked)
    Jobs(configuration).add("UNSUPPRESS", subjects, scope=_scope(configuration, source))
    click.echo(f"{_ids(subjects)} not suppressed any more", err=True)


@click.command(epilog=_FORGET)
@_person(required=False)
@click.option("--dry-run", is_flag=True, help="Only count the records.")
@click.option("--keep-events", is_flag=True, help="Keep the messages under a pseudonym, without traits and address.")
@click.option("--no-suppress", is_flag=True, help="Keep the person's later messages.")
@click.option("--resume", is_flag=True, help="Continue the requests that have not ended, instead of a new one.")
def forget(
    *,
    config: Path | None,
    data: Path | None,
    person: str | None,
    anonymous: bool,
    linked: bool,
    source: str | None,
    dry_run: bool,
    keep_events: bool,
    no_suppress: bool,
    resume: bool,
) -> None:
    """Suppress a person, and delete all of their messages: in the log, in delivery, in archives, at destinations.

    Webhooks and Segment destinations get a request to do the same. At the end no file of trackcore has the id, except
    for backups. An interrupted request is resumed by a server with an admin token, or by --resume.

    Exit code: 0 if everything is done, 1 if a destination has not forgotten yet.
    """
    configuration = find_deployment(config=config, data=data).configuration
    jobs = Jobs(configuration)
    if resume == (person is not None):
        raise click.UsageError("name either an ID or --resume")
    if person is None:
        numbers = [job.id for job in jobs.file.jobs(unfinished=True)]
        click.echo(f"{len(numbers)} unfinished requests", err=True)
    else:
        subjects = _subjects(configuration, person, anonymous=anonymous, linked=linked)
        scope = _scope(configuration, source)
        if dry_run:
            for store, count in jobs.count(subjects, scope=scope).items():
                click.echo(f"{store}: {count:,}")
            return
        type_ = "DELETE_ONLY" if no_suppress else "SUPPRESS_WITH_DELETE"
        numbers = [jobs.add(type_, subjects, scope=scope, keep_events=keep_events)]
    has_ended = [_run(jobs, number) for number in numbers]
    sys.exit(0 if all(has_ended) else FINDINGS)


def write_person(configuration: Configuration, person: str, stream: BinaryIO, *, anonymous: bool, linked: bool) -> None:
    """Write everything that the log has of a person as JSON Lines."""
    subjects = _subjects(configuration, person, anonymous=anonymous, linked=linked)
    count = 0
    for count, record in enumerate(export(configuration, subjects), 1):  # noqa: B007 - counted
        write_line(stream, record)
    click.echo(f"{counted(count, 'record')} of {_ids(subjects)}", err=True)


def _run(jobs: Jobs, number: str) -> bool:
    try:
        with CountProgress("Forgetting", None) as progress:
            has_ended = jobs.run(number, progress=lambda store, count: progress.show(count, f"{count:,} of {store}"))
    except KeyboardInterrupt:
        raise Failure(f"interrupted; `trackcore forget --resume` continues request {number}") from None
    job = jobs.file.job(number)
    assert job is not None
    _show(job)
    return has_ended


def _show(job: Job) -> None:
    click.echo(f"Request {job.id}:", err=True)
    for step in sorted(job.steps, key=lambda step: (step.store == "bytes", step.store)):
        detail = f", {step.detail}" if step.detail else ""
        changed = f", {step.changed:,} records" if step.changed else ""
        click.echo(f"  {step.store}: {step.status}{changed}{detail}", err=True)


def _subjects(configuration: Configuration, person: str, *, anonymous: bool, linked: bool) -> tuple[Subject, ...]:
    if not person:
        raise click.UsageError("an ID cannot be empty")
    subject = Subject("anonymous" if anonymous else "user", person)
    return linked_subjects(backend_of(configuration).open_log(), subject) if linked else (subject,)


def _scope(configuration: Configuration, source: str | None) -> str:
    names = [known.name for known in configuration.sources]
    if source is not None and source not in names:
        raise click.UsageError(f"no source is named {source!r}{nearest(source, names)}")
    return source or ""


def _ids(subjects: tuple[Subject, ...]) -> str:
    return "1 id" if len(subjects) == 1 else f"{len(subjects)} ids"
