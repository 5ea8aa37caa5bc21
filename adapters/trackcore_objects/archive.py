"""`s3-archive`: whole messages as JSON Lines, compressed, where Segment's own archives have them.

    segment-logs/{source}/{received day: its midnight in UTC, as milliseconds since 1970}/{name}.gz

Source: https://segment.com/docs/connections/storage/catalog/amazon-s3/
Tools that import Segment's archives find the files of a source and a day; their names mean nothing to them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import quote

import attrs
import msgspec
from trackcore_delivery import DeliveryBatch, FedMessage, MessageRefused, RetryLater

from trackcore_objects.file_names import name_for
from trackcore_objects.placing import files_in, missing_messages, partition_of
from trackcore_objects.store import ObjectStore, StoreUnavailable

_ROOT = "segment-logs"
_SUFFIX = ".gz"
_GZIP_LEVEL = 6


class _Identified(msgspec.Struct, rename="camel"):
    message_id: str = ""


_identified = msgspec.json.Decoder(_Identified)


class _Group(NamedTuple):
    """Messages that may be in one file: of one folder, and of one partition, within which numbers compare."""

    folder: str
    partition: int


@attrs.define
class ArchiveSender:
    """Puts a file for each source and day of a batch."""

    _store: ObjectStore = attrs.field(repr=False)

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        try:
            with TemporaryDirectory(prefix="trackcore-") as scratch:
                for group, messages in _grouped(batch.messages).items():
                    self._put(group.folder, messages, Path(scratch) / "file.gz")
        except StoreUnavailable as error:
            raise RetryLater(detail=error.detail, of_destination=True) from error
        except OSError as error:
            raise RetryLater(detail=f"temporary file: {error.strerror}", of_destination=True) from error
        return ()

    def close(self) -> None:
        """See `Sender.close`."""

    def _put(self, folder: str, messages: Sequence[FedMessage], scratch: Path) -> None:
        files = files_in(self._store, folder)
        missing = missing_messages(files, messages, lambda file, ids: self._present_in(f"{folder}/{file}", ids))
        if missing:
            _compress(missing, scratch)
            self._store.put_new(f"{folder}/{name_for(missing, _SUFFIX)}", scratch)

    def _present_in(self, key: str, wanted: AbstractSet[str]) -> Iterable[str]:
        with TemporaryDirectory(prefix="trackcore-") as scratch:
            path = Path(scratch) / "file.gz"
            try:
                if not self._store.fetch(key, path):
                    raise StoreUnavailable(detail=f"{key} was deleted by another process")
                return wanted & set(_ids_in(path))
            except (EOFError, gzip.BadGzipFile, msgspec.MsgspecError, zlib.error) as error:
                raise StoreUnavailable(detail=f"{key} is damaged; delete it, and its messages are put again") from error


def _grouped(messages: Iterable[FedMessage]) -> Mapping[_Group, Sequence[FedMessage]]:
    groups: dict[_Group, list[FedMessage]] = {}
    for message in messages:
        folder = f"{_ROOT}/{_path_part(message.source)}/{_day(message.received_at)}"
        groups.setdefault(_Group(folder, partition_of(message.position)), []).append(message)
    return groups


def _path_part(name: str) -> str:
    """Return a name as one part of a path, whatever characters it has."""
    part = quote(name, safe="")
    return part if part.strip(".") else part.replace(".", "%2E")


def _day(received_at: datetime) -> int:
    midnight = datetime.combine(received_at.astimezone(UTC).date(), time(), UTC)
    return int(midnight.timestamp()) * 1000


def _compress(messages: Iterable[FedMessage], path: Path) -> None:
    with path.open("wb") as stream, gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
        packed.writelines(message.payload + b"\n" for message in messages)


def _ids_in(path: Path) -> Iterator[str]:
    with gzip.open(path) as lines:
        for line in lines:
            yield _identified.decode(line).message_id
