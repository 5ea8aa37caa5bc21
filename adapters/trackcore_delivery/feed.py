"""Where messages come from: a feed, an ordered sequence of messages that can be read from any position.

The embedded log is one feed; so is one partition of a topic.  Positions are whole numbers that rise with each message;
a feed may have gaps, and whatever stands before a position that was given out never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import attrs

from trackcore import Call, Mark, Stretch, TrackcoreError
from trackcore.marks import mark_at, message_identity


class FedMessage(NamedTuple):
    """A message on its way to a destination.

    `user` is its userId, else its anonymousId: the order of messages holds for each (source, user).  `payload` is the
    stored message, JSON text.  (A NamedTuple, for the reason that an Envelope is one.)
    """

    position: int
    source: str
    user: str
    call: Call
    message_id: str
    received_at: datetime
    payload: bytes


@attrs.frozen(kw_only=True)
class Selection:
    """Which messages of the past to send again: received since, and before; of a call; of a user.  None is any."""

    since: datetime | None = None
    until: datetime | None = None
    call: str | None = None
    user: str | None = None


class Page(NamedTuple):
    """What was read: messages in order, up to which position everything was looked at, and whether there is more.

    `stretches` are those of the feed that begin before `end`: all that begin where the page does or behind that, and of
    those before it the ones that a mark there would keep.  So they prove each position of the page.  `message_at_end`
    is the identity of the message at `end`.
    """

    messages: Sequence[FedMessage]
    end: int
    has_more: bool
    stretches: Sequence[Stretch] = ()
    message_at_end: str = ""

    def mark(self, message: FedMessage) -> Mark:
        """Make the mark of a message."""
        return self._mark(message.position, message_identity(message.source, message.message_id, message.received_at))

    def mark_at_end(self) -> Mark:
        """Make the mark of the position up to which everything was looked at."""
        return self._mark(self.end, self.message_at_end)

    def _mark(self, position: int, message: str) -> Mark:
        mark = mark_at(position, self.stretches, message)
        assert mark.is_proven or not self.stretches, f"nothing proves the position {position}"
        return mark


@attrs.define(kw_only=True, eq=False)
class FeedUnavailable(TrackcoreError):
    """The feed cannot be read now; nothing is lost by that."""

    detail: str


class Feed(Protocol):
    """Gives the messages that were selected for a destination."""

    def read(
        self,
        destination: str,
        *,
        after: int,
        count: int,
        size: int,
        selection: Selection | None = None,
        mark: Mark | None = None,
    ) -> Page:
        """Give what comes after a position: at most `count` messages and, but for a single one, `size` bytes.

        Without a selection these are the messages that were selected for the destination when they came.  With one
        they are chosen anew, by what the configuration says today.

        With a mark it is seen, at the same moment, that the feed is the one in which the mark was made.

        Raises:
            FeedUnavailable: it cannot be read now.
            LogChanged: the mark does not hold.
        """

    def end(self) -> int:
        """Give the position of the last message there is.  Raises `FeedUnavailable`."""

    def mark(self, position: int | None = None) -> Mark:
        """Make the mark of a position, or of the last message there is.  Raises `FeedUnavailable`."""

    def check(self, mark: Mark) -> Mark:
        """Return a mark that has a proof, of the same position; of 0 where nothing of the feed lies before it any more.

        Raises:
            FeedUnavailable: the feed cannot be read now.
            LogChanged: the mark does not hold.
        """
