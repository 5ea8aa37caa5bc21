"""A position in a log, together with what proves that a log is the one in which it was reached.

A number means nothing without its log: the log may be replaced by another one, or rewound to an earlier state of itself
by a backup that is restored.  It may then grow up to the old position again, and past it.

Theory.  A log only grows at its end, and it grows in *stretches*: a process that opens it begins one with its first
write.  A stretch has a random id, so no other log can have one of the same id unless one was copied from the other.
Two logs that share a stretch agree on everything before it, and on what both have of it.  So a position holds in a log
where the position lies in the same stretch.  Where it does not, the newest stretch that both have in common shows up
to where they agree, and everything behind that was never seen.  The identity of the message at the position is kept as
well, for a log that was rewound while a process went on writing the stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import attrs

from trackcore.errors import TrackcoreError

MOST_STRETCHES = 32
"""How many stretches a mark keeps: its log may have been rewound by as many, and it is still known up to where."""

_IDENTITY_BYTES = 16


class Stretch(NamedTuple):
    """A part of a log: its id, and the position behind which it begins.  It ends where the next one begins."""

    id: str
    after: int


@attrs.frozen(kw_only=True)
class Mark:
    """A position, with its proof.

    `stretches` are those up to the position, the newest last; there are none at the position 0, nor where the position
    was kept without a proof.  `message` is the identity of the message there, empty where there was none.
    """

    position: int = 0
    stretches: tuple[Stretch, ...] = ()
    message: str = ""

    @property
    def is_proven(self) -> bool:
        """Whether it can be checked; before the first message there is nothing to prove."""
        return self.position == 0 or bool(self.stretches)

    def holds(self, *, end: int, stretch: str, message: str) -> bool:
        """Tell whether the position was reached in a log.

        Args:
            end: the position of the last message that the log ever had.
            stretch: the id of its stretch in which the position lies.
            message: the identity of its message there, empty where there is none.
        """
        if self.position == 0:
            return True
        if self.position > end:
            return False
        if not self.stretches:
            return True  # nothing speaks against it
        is_same_message = not (self.message and message) or self.message == message
        return stretch == self.stretches[-1].id and is_same_message

    def agrees_up_to(self, stretches: Sequence[Stretch], end: int) -> int:
        """Return up to which position a log in which the mark does not hold is still the same; 0 for another log.

        Args:
            stretches: all stretches of the log, in order.
            end: as for `holds`.
        """
        ends = _ends(stretches, end)
        for stretch, known in reversed(_ends(self.stretches, self.position).items()):
            common = min(known, ends.get(stretch, 0))
            # A whole stretch that is shared, and yet the mark does not hold: its messages are others.
            if 0 < common < self.position:
                return common
        return 0


def mark_at(position: int, stretches: Sequence[Stretch], message: str) -> Mark:
    """Make the mark of a position from the stretches of the log, in order, and the identity of its message."""
    before = tuple(stretch for stretch in stretches if stretch.after < position)
    return Mark(position=position, stretches=before[-MOST_STRETCHES:], message=message)


def message_identity(source: str, message_id: str, received_at: datetime) -> str:
    """Return what tells a message of a log from others, in few characters."""
    text = f"{source}\0{message_id}\0{received_at.isoformat()}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_IDENTITY_BYTES).hexdigest()


@attrs.define(kw_only=True, eq=False)
class LogChanged(TrackcoreError):
    """A log is another one than that in which a mark was made, or was rewound since.

    `found` is from where to go on: up to there both logs agree.  What lies behind it may not have been seen yet.
    """

    mark: Mark
    found: Mark
    end: int

    def __str__(self) -> str:
        if self.found.position:
            what = f"was rewound: it agrees with what was read of it up to {self.found.position:,}"
            where = f"behind {self.found.position:,}"
        else:
            what = "is another one than before"
            where = "with its oldest message"
        old = f"{self.mark.position:,} is no position in it any more" if self.mark.position else "it was read before"
        return f"the log {what} ({old}; it ends at {self.end:,}); going on {where}"


def _ends(stretches: Sequence[Stretch], end: int) -> dict[str, int]:
    """Return where each stretch ends."""
    ends = {stretch.id: following.after for stretch, following in pairwise(stretches)}
    return ends | {stretch.id: end for stretch in stretches[-1:]}
