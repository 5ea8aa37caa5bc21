"""A bucket of S3, or of a store that has its interface, as a store: obstore, imported only when one is opened.

A put succeeds only if there is no object of that key yet: it has the header `If-None-Match: *`.  S3 has supported it
since 2024; MinIO, R2, Ceph and Google's interface do too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from trackcore.text import visible
from trackcore_objects.store import StoredFile, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

_CONNECT_TIMEOUT = "10s"
_TIMEOUT = "300s"
"""Of one request; a file of 100 MB takes as long at 3 Mbit/s."""

_RETRIES = 2
"""How often obstore retries a request at once; the worker retries later, and waits longer each time."""

_RETRY_TIMEOUT = timedelta(seconds=30)

_HTTP_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r"HTTP error: ([^\n]+)")


@attrs.frozen
class BucketStore:
    """See `trackcore_objects.store.ObjectStore`.  `shown` is how errors name it."""

    _store: S3Store
    _shown: str

    def names(self, folder: str) -> Sequence[str]:
        """See `ObjectStore.names`."""
        return sorted(_last(item["path"]) for item in self._listed(folder)["objects"])

    def folders(self, folder: str) -> Sequence[str]:
        """See `ObjectStore.folders`."""
        return sorted(map(_last, self._listed(folder)["common_prefixes"]))

    def files_below(self, folder: str) -> Sequence[StoredFile]:
        """See `ObjectStore.files_below`."""
        with self._reported():
            pages = self._store.list(f"{folder}/" if folder else None)
            return sorted(StoredFile(item["path"], item["size"]) for page in pages for item in page)

    def put_new(self, key: str, content: Path | bytes) -> bool:
        """See `ObjectStore.put_new`."""
        from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 - see the module

        with self._reported():
            try:
                self._store.put(key, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def replace(self, key: str, content: Path) -> None:
        """See `ObjectStore.replace`."""
        with self._reported():
            self._store.put(key, content)

    def copy(self, key: str, target: str) -> None:
        """See `ObjectStore.copy`.  The bytes stay in the store."""
        with self._reported():
            self._store.copy(key, target)

    def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        with self._reported():
            try:
                return self._store.get(key).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        """See `ObjectStore.read_range`."""
        with self._reported():
            try:
                return self._store.get_range(key, start=start, end=end).to_bytes()
            except FileNotFoundError:
                return None

    def fetch(self, key: str, target: Path) -> bool:
        """See `ObjectStore.fetch`."""
        with self._reported():
            try:
                found = self._store.get(key)
            except FileNotFoundError:
                return False
            with target.open("wb") as stream:
                for part in found.stream():
                    stream.write(part)
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        with self._reported():
            for key in keys:  # one by one: not every store has a request for many
                try:
                    self._store.delete(key)
                except FileNotFoundError:
                    continue

    def prune(self, folder: str) -> None:
        """See `ObjectStore.prune`."""

    def _listed(self, folder: str) -> Any:
        with self._reported():
            return self._store.list_with_delimiter(f"{folder}/" if folder else None)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - see the module

        try:
            yield
        except (BaseError, OSError) as error:
            raise StoreUnavailable(detail=f"{self._shown}: {_detail_of(error)}") from error


def open_bucket(bucket: str, prefix: str, settings: Mapping[str, str], *, shown: str) -> BucketStore:
    """Open a bucket; nothing is sent yet.  `settings` are those of obstore; the environment has the others.

    Raises:
        ModuleNotFoundError: obstore is not installed.
        ValueError: a setting cannot be used.
    """
    from obstore.exceptions import BaseError  # noqa: PLC0415 - see the module
    from obstore.store import S3Store  # noqa: PLC0415

    config: Any = {name: value for name, value in settings.items() if value}
    options: Any = {"connect_timeout": _CONNECT_TIMEOUT, "timeout": _TIMEOUT}
    if settings.get("endpoint", "").startswith("http://"):
        options["allow_http"] = True
    backoff: Any = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2}
    retries: Any = {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT, "backoff": backoff}
    try:
        store = S3Store(bucket, prefix=prefix or None, config=config, client_options=options, retry_config=retries)
    except BaseError as error:
        raise ValueError(f"obstore: {str(error).splitlines()[0]}") from None
    return BucketStore(store, shown)


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _detail_of(error: Exception) -> str:
    """Return what the store answered, or why it did not, without the addresses and bodies in obstore's message."""
    text = str(error)
    status, code, cause = (pattern.search(text) for pattern in (_HTTP_STATUS, _S3_CODE, _CAUSE))
    if status is not None:
        return visible(f"HTTP {status[1].strip()}{f', {code[1]}' if code else ''}")
    if cause is not None:
        return visible(cause[1])
    return visible(text.splitlines()[0][:200] if text else type(error).__name__)
