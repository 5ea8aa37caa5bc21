"""A log that is another one than that in which destinations have reached their positions, or that was rewound.

Who delivers finds that out by itself, at whatever time (see `trackcore_delivery.queues`).  Here are the others: the
server looks before it listens, retention and pruning before they delete, and commands before they count what waits.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import click
from trackcore_delivery import Feed, FeedUnavailable, State, UnusableState

from trackcore import LogChanged, Mark
from trackcore.text.visible import visible
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.kafka_log import KafkaLogSettings
from trackcore_server.delivery.service import delivery_lock, log_feed


def confirmed(feed: Feed, mark: Mark) -> tuple[int, LogChanged | None]:
    """Return the position up to which a mark holds in a log, and what was found where that is not its own.

    Raises:
        FeedUnavailable: the log cannot be read now.
    """
    try:
        feed.check(mark)
    except LogChanged as change:
        return change.found.position, change
    return mark.position, None


def delivered_up_to(configuration: Configuration) -> int | None:
    """Return the position up to which every destination has what it should get; None when nothing is delivered.

    What lies behind it must stay in the log.  A position that was reached in another log protects nothing, so it counts
    only as far as both logs agree.

    Raises:
        UnusableState: the state of delivery cannot be used.
        FeedUnavailable: the log cannot be read now.
    """
    if not configuration.delivered:
        return None
    if not configuration.delivery_path.exists():
        return 0
    feed = log_feed(configuration)
    with closing(State(configuration.delivery_path, must_exist=True)) as state:
        marks = [state.mark(destination.name) or Mark() for destination in configuration.delivered]
    return min(confirmed(feed, mark)[0] for mark in marks)


def examine_positions(configuration: Configuration) -> None:
    """Look whether the log is the one in which each destination has come so far, and say on standard error if not.

    Where no process delivers, the positions are set to where both logs agree; who delivers does that by itself.
    """
    if isinstance(configuration.log, KafkaLogSettings) or not configuration.delivery_path.exists():
        return
    feed = log_feed(configuration)
    is_owned = delivery_lock(configuration).holder() is not None
    try:
        with closing(State(configuration.delivery_path, must_exist=True)) as state:
            for name in state.names():
                if change := _examine(name, feed, state, is_owned=is_owned):
                    click.echo(f"{configuration.delivery_path}: {name}: {change}", err=True)
    except (UnusableState, FeedUnavailable) as error:
        click.echo(f"Whether this is the log that was delivered so far is not known: {visible(str(error))}", err=True)


def _examine(name: str, feed: Feed, state: State, *, is_owned: bool) -> LogChanged | None:
    mark = state.mark(name)
    assert mark is not None
    try:
        proven = feed.check(mark)
    except LogChanged as change:
        if not is_owned:
            state.change_log(name, change, datetime.now(UTC))
        return change
    if not (mark.is_proven or is_owned):
        state.skip(name, proven)
    return None
