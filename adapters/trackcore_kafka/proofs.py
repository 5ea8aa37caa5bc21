"""What is committed beside an offset: the identity of a message before it, as a proof of the topic.

An offset alone means nothing once a topic was deleted and made again, or lost its end: other messages have the offsets
then that were dealt with before.  So a reader that begins behind a committed offset looks at the message that was
dealt with last; if that is another one now, everything in the partition is given.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from trackcore import StoredPayload
from trackcore.marks import message_identity
from trackcore_kafka.records import offset_of, stored_payload


class Proof(NamedTuple):
    """The offset of a message, and its identity."""

    offset: int
    identity: str

    @classmethod
    def of(cls, stored: StoredPayload) -> Proof:
        """Make the proof of a message."""
        return cls(offset_of(stored.seq), message_identity(stored.source, stored.message_id, stored.received_at))

    @classmethod
    def parse(cls, text: str | None) -> Proof | None:
        """Read what was committed; None for a commit without a proof, or by another program."""
        offset, _, identity = (text or "").partition(" ")
        return cls(int(offset), identity) if offset.isascii() and offset.isdecimal() and identity else None

    def __str__(self) -> str:
        return f"{self.offset} {self.identity}"

    def is_refuted_by(self, found: Message) -> bool:
        """Return whether a record stands at the offset that is not the message."""
        if found.offset() != self.offset:
            return False
        try:
            return Proof.of(stored_payload(found)) != self
        except (KeyError, ValueError, msgspec.DecodeError):
            return True
