"""Finding duplicates where no transaction can: what is promised, and by which means.

Kafka cannot ask "is this id there already?" while it stores.  Any number of servers write, each sees only what it wrote
itself, and when no acknowledgement comes a producer cannot know whether its message lies in the log.  What can be had
is this.

1. *In the log* a message may lie more than once: when a sender repeats a request whose answer was lost, and the repeat
   reaches another server, or one that was restarted.  Resending by the client library itself never doubles a message:
   that is what the idempotent producer is for.
2. *A server* knows the ids of the last messages that it has seen acknowledged (`Acknowledged`) and of those on their
   way. A repeat that reaches the same process is answered as a duplicate and not written again.
3. *A reader* gives each message once (`DuplicateWindow`).  All messages of one user of a source are in one partition,
   whose order is the same for everybody.  There the rule is:

       the message at offset n is a duplicate if, and only if,
       the same (source, messageId) lies at an offset from n - window to n - 1 of the same partition.

   It depends on nothing but the log.  So every reader decides alike, whichever server wrote, whoever read before and
   wherever a reader begins, provided that it has looked at the `window` records before its first one; every reader
   here does that.  Nothing has to be kept on disk, and the memory is bounded: about 210 bytes for each position, so
   4.2 MB a partition at 20,000 positions.

What is not found: a repeat more than `window` positions after the message; one that comes under another user id, or
after partitions were added (then it is in another partition); a message that came without a messageId, since the
server makes a new id for each try.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

import attrs

_DIGEST_BYTES = 16


def identity(source: str, message_id: str) -> bytes:
    """Give a digest of what makes a message the same as another; two of them never collide in practice (128 bits)."""
    return blake2b(f"{len(source)}:{source}{message_id}".encode(), digest_size=_DIGEST_BYTES).digest()


@attrs.define
class DuplicateWindow:
    """Which messages of one partition are duplicates.  Offsets must be given in rising order.

    The ids are kept in the order of their last offset, so the oldest is always the first.  (An OrderedDict: to find the
    first key of a dict takes the longer the more of its first ones were deleted.)
    """

    size: int
    _offsets: OrderedDict[bytes, int] = attrs.field(init=False, factory=OrderedDict, repr=False)

    def is_duplicate(self, offset: int, identity: bytes) -> bool:
        """Tell whether the message at `offset` is a duplicate, and remember it."""
        self._forget_before(offset - self.size)
        found = self._offsets.pop(identity, None)
        self._offsets[identity] = offset
        return found is not None

    def _forget_before(self, first: int) -> None:
        while self._offsets:
            oldest = next(iter(self._offsets))
            if self._offsets[oldest] >= first:
                return
            del self._offsets[oldest]


@attrs.define
class Acknowledged:
    """The ids of the messages that were acknowledged last, `size` of them at most."""

    size: int
    _identities: OrderedDict[bytes, None] = attrs.field(init=False, factory=OrderedDict, repr=False)

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._identities

    def add(self, identities: Iterable[bytes]) -> None:
        """Remember ids, and forget the oldest beyond `size`."""
        self._identities.update(dict.fromkeys(identities))
        while len(self._identities) > self.size:
            self._identities.popitem(last=False)
