"""Proofs of a committed offset: the identity of a message before it, which identifies the topic.

An offset alone means nothing once a topic was deleted and created again, or lost its end: then other messages have the
offsets that were processed before.  So a reader that begins after a committed offset checks the last processed message;
if another message has its offset now, the reader returns the whole partition.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from trackcore import StoredPayload
from trackcore.support import message_identity
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
        """Parse the metadata of a commit; None for a commit without a proof, or by another program."""
        offset, _, identity = (text or "").partition(" ")
        return cls(int(offset), identity) if offset.isascii() and offset.isdecimal() and identity else None

    def __str__(self) -> str:
        return f"{self.offset} {self.identity}"

    def is_refuted_by(self, found: Message) -> bool:
        """Return whether a record other than the message has its offset."""
        if found.offset() != self.offset:
            return False
        try:
            return Proof.of(stored_payload(found)) != self
        except (KeyError, ValueError, msgspec.DecodeError):
            return True
