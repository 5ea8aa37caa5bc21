"""The source of messages: a feed, an ordered sequence of messages that can be read from any position.

The embedded log is one feed; one partition of a topic is another.  Positions are whole numbers that rise with each
message.  A feed may have gaps, and the part of it before a position that was handed out never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import attrs

from trackcore import Call, Mark, Stretch, TrackcoreError
from trackcore.support import mark_at, message_identity


class FedMessage(NamedTuple):
    """A message on its way to a destination.

    `user` is its userId, else its anonymousId: the order of messages holds for each (source, user).  `payload` is the
    stored message, JSON text.  (A NamedTuple, since one is built for every message that is read.)
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
    """The messages of the past to send again: received at `since` or later and before `until`, of a call, of a user.

    None matches any message.
    """

    since: datetime | None = None
    until: datetime | None = None
    call: str | None = None
    user: str | None = None


class Page(NamedTuple):
    """One read: messages in order, the position up to which the feed was examined, and whether there is more.

    `stretches` are those of the feed that begin before `end`: all that begin at the start of the page or later, and of
    the earlier ones those that a mark there would keep.  So they prove each position of the page.  `message_at_end` is
    the identity of the message at `end`.
    """

    messages: Sequence[FedMessage]
    end: int
    has_more: bool
    stretches: Sequence[Stretch] = ()
    message_at_end: str = ""

    def mark(self, message: FedMessage) -> Mark:
        """Return the mark of a message."""
        return self._mark(message.position, message_identity(message.source, message.message_id, message.received_at))

    def mark_at_end(self) -> Mark:
        """Return the mark of the position up to which the feed was examined."""
        return self._mark(self.end, self.message_at_end)

    def _mark(self, position: int, message: str) -> Mark:
        mark = mark_at(position, self.stretches, message)
        assert mark.is_proven or not self.stretches, f"nothing proves the position {position}"
        return mark


@attrs.define(kw_only=True, eq=False)
class FeedUnavailable(TrackcoreError):
    """The feed cannot be read now; nothing is lost."""

    detail: str


class Feed(Protocol):
    """Provides the messages that were selected for a destination."""

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
        """Return the messages after a position: at most `count`, and at most `size` bytes unless the first is larger.

        Without a selection these are the messages that were selected for the destination when they were received.  With
        a selection they are chosen by today's configuration.

        With a mark the feed also checks, in the same snapshot, that it is the feed in which the mark was made.

        Raises:
            FeedUnavailable: it cannot be read now.
            LogChanged: the mark does not hold.
        """

    def end(self) -> int:
        """Return the position of the last message.  Raises `FeedUnavailable`."""

    def mark(self, position: int | None = None) -> Mark:
        """Return the mark of a position, or of the last message.  Raises `FeedUnavailable`."""

    def check(self, mark: Mark) -> Mark:
        """Return a mark of the same position that has a proof; a mark of 0 if the feed has nothing before it any more.

        Raises as `read` does.
        """
