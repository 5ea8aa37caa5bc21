"""`trackcore replay`: send past messages to a destination again."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
from trackcore_delivery import LogFeed, Replay, Selection, State

from trackcore import Call
from trackcore_server.cli._delivery import check_destination, when_delivered
from trackcore_server.cli._options import call_option, location_options, since_option, until_option
from trackcore_server.cli._output import counted
from trackcore_server.cli._progress import CountProgress
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.deployment import find_deployment
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import is_delivering, open_state

_LOOK_SECONDS = 0.2
_PAGE_MESSAGES = 5_000
_PAGE_BYTES = 16 << 20

_EXAMPLES = """\b
Examples:
  trackcore replay --destination CRM --since 2026-01-31 --until 2026-02-01
  trackcore replay --destination CRM --since 7d --type identify --dry-run
"""


@click.command(epilog=_EXAMPLES)
@location_options
@click.option("--destination", required=True, metavar="NAME", help="The destination.")
@since_option("Messages", required=True)
@until_option("Messages", "  [default: now]")
@call_option("Only messages of this type.")
@click.option("--user", metavar="ID", help="Only messages with this userId or anonymousId.")
@click.option("--dry-run", is_flag=True, help="Only count the messages.")
def replay(
    *,
    config: Path | None,
    data: Path | None,
    destination: str,
    since: datetime,
    until: datetime | None,
    call: Call | None,
    user: str | None,
    dry_run: bool,
) -> None:
    """Send messages of the log to a destination again, in their order, beside new messages.

    The current configuration and `integrations` decide which messages the destination gets, so a new destination can
    get messages from before it existed. The process that delivers does the work; this command requests it and shows the
    progress. Interrupting the command does not interrupt the work. It needs the embedded log; with a log in Kafka, read
    past messages with a separate consumer.
    """
    configuration = find_deployment(config=config, data=data).configuration
    check_destination(destination, [item.name for item in configuration.delivered])
    selection = Selection(since=since, until=until, call=call, user=user)
    backend = backend_of(configuration)
    feed = backend.feed()
    if dry_run:
        found = counted(_count(feed, destination, selection), "message")
        click.echo(f"{found} would be sent to {destination}")
        return
    with closing(open_state(configuration, backend)) as state:
        mark = feed.mark()
        number = state.ask_for_replay(destination, selection, last=mark.position, now=datetime.now(UTC), mark=mark)
        if later := when_delivered(configuration):
            click.echo(f"Replay {number} will run{later}", err=True)
        else:
            _follow(configuration, state, number)


def _count(feed: LogFeed, destination: str, selection: Selection) -> int:
    count = position = 0
    with CountProgress("Searching", feed.end()) as progress:
        while True:
            page = feed.read(destination, after=position, count=_PAGE_MESSAGES, size=_PAGE_BYTES, selection=selection)
            count += len(page.messages)
            position = page.end
            progress.show(position, f"{count:,} found")
            if not page.has_more:
                return count


def _follow(configuration: Configuration, state: State, number: int) -> None:
    try:
        done = _wait(configuration, state, number)
    except KeyboardInterrupt:
        click.echo(f"Replay {number} continues", err=True)
        return
    if done.finished_at is None:
        click.echo(f"Delivery has stopped; replay {number} continues when it runs again", err=True)
        return
    refused = f", {done.refused:,} to the dead letters" if done.refused else ""
    click.echo(f"{counted(done.sent, 'message')} sent to {done.destination}{refused}", err=True)


def _wait(configuration: Configuration, state: State, number: int) -> Replay:
    """Wait until a replay is finished or no process delivers any more."""
    with CountProgress("Replaying", None) as progress:
        while True:
            is_running = is_delivering(configuration)
            replay = state.replay(number)
            assert replay is not None
            progress.show(replay.position, f"{replay.sent:,} sent", total=replay.last)
            if replay.finished_at is not None or not is_running:
                return replay
            time.sleep(_LOOK_SECONDS)
