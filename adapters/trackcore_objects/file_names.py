"""The name of a file says which messages may be in it: the range of their numbers.

    00000000000000000001-00000000000000000500-1f2e3d4c5b6a.gz
    first                last                 digest

The digest is of the messages in it: two files of one name have the same messages, so that to put one that exists
already is to have put it.  Names sort as their first numbers do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import attrs
from trackcore_delivery import FedMessage

_DIGEST_CHARS = 12
_NAME = re.compile(r"(?P<first>\d{20})-(?P<last>\d{20})-(?P<digest>[0-9a-f]{12})(?P<suffix>(?:\.[a-z0-9]+)+)", re.ASCII)


@attrs.frozen
class FileName:
    """A range of numbers, first and last included."""

    first: int
    last: int
    digest: str
    suffix: str

    def __str__(self) -> str:
        return f"{self.first:020d}-{self.last:020d}-{self.digest}{self.suffix}"

    def overlaps(self, first: int, last: int) -> bool:
        """Return whether a message of a range may be in the file."""
        return self.first <= last and first <= self.last


def name_for(messages: Sequence[FedMessage], suffix: str) -> FileName:
    """Return the name of a file with these messages, which are in the order of their numbers."""
    identities = (f"{message.position} {message.message_id}" for message in messages)
    return FileName(messages[0].position, messages[-1].position, digest_of(identities), suffix)


def digest_of(texts: Iterable[str]) -> str:
    """Return a digest of texts, in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:_DIGEST_CHARS]


def parse_name(text: str) -> FileName | None:
    """Return the name of a file, None for a file that was not put here by a destination."""
    match = _NAME.fullmatch(text)
    return match and FileName(int(match["first"]), int(match["last"]), match["digest"], match["suffix"])
