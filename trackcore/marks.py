"""A position in a log, together with a proof that a log is the one in which it was reached.

A number means nothing without its log: the log may be replaced by another one, or rewound to an earlier state of itself
by a backup that is restored.  It may then grow up to the old position again, and past it.

Theory.  A log only grows at its end, and it grows in *stretches*: a process that opens it begins one with its first
write.  A stretch has a random id, so no other log can have one of the same id unless one was copied from the other.
Two logs that share a stretch agree on everything before it, and on the part of it that both have.  So a position holds
in a log in which it belongs to the same stretch.  Otherwise the newest stretch that both have in common shows up to
which position they agree, and everything behind that was never seen.  The identity of the message at the position is
kept as well, for a log that was rewound while a process went on writing the stretch.

A mark keeps the newest stretches before its position, and of those before them fewer and fewer: for each distance
between two powers of two only the newest, and the oldest stretch of all.  It keeps the end of each of them, so a shared
one shows the position from which on nothing else is known.  If the log was rewound by `d` messages, that position is
less than `d` messages before the one to which it was rewound: rewinding by a hundred messages repeats fewer than a
hundred of those that are left, however often the log was opened meanwhile.  (A page of messages, for which marks are
made from the stretches that one mark kept, may come to three times as many.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import attrs
import msgspec

from trackcore.errors import TrackcoreError

NEWEST_STRETCHES = 16
"""How many of the newest stretches a mark keeps, all of them."""

_IDENTITY_BYTES = 16


class Stretch(NamedTuple):
    """A part of a log: its id, the position behind which it begins, and the position with which it ends.

    It ends where the next one begins; the newest one of a log ends with the log, and that of a mark at its position.
    """

    id: str
    after: int
    end: int


@attrs.frozen(kw_only=True)
class Mark:
    """A position, with its proof.

    `stretches` are some of those up to the position, the newest last; there are none at the position 0, nor if the
    position was kept without a proof.  `message` is the identity of the message there, empty if there was none.
    """

    position: int = 0
    stretches: tuple[Stretch, ...] = ()
    message: str = ""

    @property
    def is_proven(self) -> bool:
        """Whether it can be checked; before the first message there is nothing to prove."""
        return self.position == 0 or bool(self.stretches)

    def holds(self, *, end: int, stretch: str, message: str, beginning: int = 0) -> bool:
        """Return whether the position was reached in a log, or is before everything that the log has.

        `end` and `beginning` are those of its `LogSnapshot`, `stretch` is the id of its stretch that contains the
        position, and `message` the identity of its message there, empty if there is none.
        """
        if self.position <= beginning:
            return True
        if self.position > end:
            return False
        if not self.stretches:
            return True  # nothing speaks against it
        is_same_message = not (self.message and message) or self.message == message
        return stretch == self.stretches[-1].id and is_same_message

    def agrees_up_to(self, stretches: Iterable[Stretch]) -> int:
        """Return the position up to which a log in which the mark does not hold is still the same; 0 for another log.

        `stretches` are those of the log, at least the ones whose ids the mark has too.
        """
        ends = {stretch.id: stretch.end for stretch in stretches}
        for stretch in reversed(self.stretches):
            common = min(stretch.end, ends.get(stretch.id, 0))
            # A whole stretch that is shared, and yet the mark does not hold: its messages are others.
            if 0 < common < self.position:
                return common
        return 0


def mark_at(position: int, stretches: Sequence[Stretch], message: str) -> Mark:
    """Make the mark of a position from the stretches of the log, in order, and the identity of its message."""
    before = [stretch for stretch in stretches if stretch.after < min(position, stretch.end)]
    if not before:
        return Mark(position=position, message=message)

    def newest(limit: int, count: int) -> Sequence[Stretch]:
        behind = bisect_left(before, limit, key=lambda stretch: stretch.after)
        return before[max(behind - count, 0) : behind]

    kept = [stretch._replace(end=min(stretch.end, position)) for stretch in thinned(position, before[0], newest)]
    return Mark(position=position, stretches=tuple(kept), message=message)


def thinned(position: int, oldest: Stretch, newest: Callable[[int, int], Sequence[Stretch]]) -> Sequence[Stretch]:
    """Choose which stretches are kept in the mark of a position, above 0, of a log with this oldest stretch.

    `newest` returns, of the stretches that begin before a position, the newest so many, in order.
    """
    kept = list(newest(position, NEWEST_STRETCHES))
    while kept[0].after > oldest.after:
        distance = 1 << (position - kept[0].after).bit_length()
        kept[:0] = newest(position - distance + 1, 1) or [oldest]
    return kept


def encode_mark(mark: Mark | None) -> str | None:
    """Return the proof of a mark as text, None if it has none."""
    if mark is None or not mark.stretches:
        return None
    return msgspec.json.encode(_Proof(message=mark.message, kept=mark.stretches)).decode()


def decode_mark(position: int, text: str | None) -> Mark:
    """Read the mark of a position."""
    if text is None:
        return Mark(position=position)
    proof = _decoder.decode(text)
    kept = proof.kept or _consecutive(proof.stretches, position)
    return Mark(position=position, stretches=tuple(kept), message=proof.message)


def message_identity(source: str, message_id: str, received_at: datetime) -> str:
    """Return a short text that identifies a message of a log."""
    text = f"{source}\0{message_id}\0{received_at.isoformat()}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_IDENTITY_BYTES).hexdigest()


@attrs.define(kw_only=True, eq=False)
class LogChanged(TrackcoreError):
    """A log is another one than that in which a mark was made, or was rewound since.

    `found` is the position to resume from: up to there both logs agree.  Later messages may not have been seen yet.
    """

    mark: Mark
    found: Mark
    end: int

    def __str__(self) -> str:
        what, where = "is another one than before", "with its oldest message"
        if found := self.found.position:
            what, where = f"was rewound: it agrees with what was read of it up to {found:,}", f"behind {found:,}"
        old = f"{self.mark.position:,} is not a position in it any more" if self.mark.position else "it was read before"
        return f"the log {what} ({old}; it ends at {self.end:,}); going on {where}"


class _Proof(msgspec.Struct, omit_defaults=True):
    """A proof as text.  `stretches` is the older form without ends: each ended where the next one began."""

    message: str
    kept: Sequence[Stretch] = ()
    stretches: Sequence[tuple[str, int]] = ()


_decoder = msgspec.json.Decoder(_Proof)


def _consecutive(stretches: Sequence[tuple[str, int]], end: int) -> Sequence[Stretch]:
    return [Stretch(*mine, following[1]) for mine, following in pairwise([*stretches, ("", end)])]
