"""Positions of delivery that were reached in another log, or in one that was rewound since.

Delivery notices that by itself, at any time (see `trackcore_delivery.queues`).  These functions are for the others: the
server checks before it listens, retention and pruning before they delete, and commands before they count.
"""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import UTC, datetime

from trackcore_delivery import Feed, FeedUnavailable, State, UnusableState

from trackcore import LogChanged, Mark
from trackcore_server.config.configuration import Configuration
from trackcore_server.storage.delivery_state import is_delivering

log = logging.getLogger("trackcore.server")


def confirmed(feed: Feed, mark: Mark) -> tuple[int, LogChanged | None]:
    """Return how far a mark holds in a log, and the change of the log if there is one.  Raises `FeedUnavailable`."""
    try:
        feed.check(mark)
    except LogChanged as change:
        return change.found.position, change
    return mark.position, None


def delivered_up_to(configuration: Configuration, feed: Feed) -> int | None:
    """Return the position up to which every destination has its messages; None if nothing is delivered.

    Messages behind it must stay in the log.  A position that was reached in another log protects nothing, so it counts
    only as far as both logs agree.  Raises `UnusableState` and `FeedUnavailable`.
    """
    if not configuration.delivered:
        return None
    if not configuration.delivery_path.exists():
        return 0
    with closing(State(configuration.delivery_path, must_exist=True)) as state:
        marks = [state.mark(destination.name) or Mark() for destination in configuration.delivered]
    return min(confirmed(feed, mark)[0] for mark in marks)


def examine_positions(configuration: Configuration, feed: Feed) -> None:
    """Check that each destination reached its position in this log, and write it into the log of the server if not.

    If no process delivers, positions are set to where both logs agree; a process that delivers does that by itself.
    """
    if not configuration.delivery_path.exists():
        return
    is_owned = is_delivering(configuration)
    try:
        with closing(State(configuration.delivery_path, must_exist=True)) as state:
            for name in state.names():
                if change := _examine(name, feed, state, is_owned=is_owned):
                    log.warning("%s: %s: %s", configuration.delivery_path, name, change)
    except (UnusableState, FeedUnavailable) as error:
        log.warning("Cannot check whether this is the log that was delivered so far: %s", error)


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
