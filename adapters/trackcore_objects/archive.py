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
from contextlib import contextmanager
from datetime import UTC, datetime, time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import attrs
import msgspec
from trackcore_delivery import (
    DeliveryBatch,
    ErasureRequest,
    FedMessage,
    MessageRefused,
    RetryLater,
    delete_leftovers,
    scratch_folder,
)

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
        with _retried(), scratch_folder() as scratch:
            for group, messages in _grouped(batch.messages).items():
                self._put(group.folder, messages, scratch / "file.gz")
        return ()

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`: a file with messages of the persons is replaced, or deleted if it has no other."""
        with _retried(), scratch_folder() as scratch:
            delete_leftovers()
            names = self._store.folders(_ROOT) if request.source is None else [_path_part(request.source)]
            for source in names:
                for day in self._store.folders(f"{_ROOT}/{source}"):
                    self._forget_in(f"{_ROOT}/{source}/{day}", request, scratch)

    def close(self) -> None:
        """See `Sender.close`."""

    def _put(self, folder: str, messages: Sequence[FedMessage], scratch: Path) -> None:
        files = files_in(self._store, folder)
        missing = missing_messages(files, messages, lambda file, ids: self._present_in(f"{folder}/{file}", ids))
        if missing:
            _compress((message.payload for message in missing), scratch)
            self._store.put_new(f"{folder}/{name_for(missing, _SUFFIX)}", scratch)

    def _present_in(self, key: str, wanted: AbstractSet[str]) -> Iterable[str]:
        with scratch_folder() as scratch, _reading(key):
            lines = _lines_in(self._fetched(key, scratch / "file.gz"))
            return wanted & {_identified.decode(line).message_id for line in lines}

    def _forget_in(self, folder: str, request: ErasureRequest, scratch: Path) -> None:
        target = scratch / "kept.gz"
        for file in files_in(self._store, folder):
            key = f"{folder}/{file}"
            local = self._fetched(key, scratch / "file.gz")
            with _reading(key):
                if all(request.apply(line) is line for line in _lines_in(local)):
                    continue
                count = _compress(_kept(_lines_in(local), request), target)
            if count:
                self._store.replace(key, target)
            else:
                self._store.delete([key])

    def _fetched(self, key: str, local: Path) -> Path:
        if not self._store.fetch(key, local):
            raise StoreUnavailable(detail=f"{key} was deleted by another process")
        return local


@contextmanager
def _reading(key: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, msgspec.MsgspecError, zlib.error) as error:
        raise StoreUnavailable(detail=f"{key} is damaged; delete it, and its messages are put again") from error


@contextmanager
def _retried() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        raise RetryLater(detail=error.detail, of_destination=True) from error
    except OSError as error:
        raise RetryLater(detail=f"temporary file: {error.strerror}", of_destination=True) from error


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


def _lines_in(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as lines:
        for line in lines:
            yield line.rstrip(b"\n")


def _kept(lines: Iterable[bytes], request: ErasureRequest) -> Iterator[bytes]:
    for line in lines:
        if (kept := request.apply(line)) is not None:
            yield kept


def _compress(lines: Iterable[bytes], path: Path) -> int:
    """Write lines, and return their number."""
    count = 0
    with path.open("wb") as stream, gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
        for line in lines:
            packed.write(line + b"\n")
            count += 1
    return count
