"""A real interface of S3 for the tests: moto's server on loopback; and stores that fail at a chosen moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any

import attrs
from moto.server import ThreadedMotoServer
from obstore.store import S3Store
from patience import PATIENCE
from trackcore_delivery import Secret
from trackcore_objects import ObjectStore, StoredFile, StoreUnavailable

ENVIRON = {"KEY_ID": "key-of-the-test", "KEY": "s3cr3t-of-the-test"}
"""The credentials that `SETTINGS` refer to; moto accepts any."""

_numbers = count(1)


@attrs.frozen
class Buckets:
    """A server with buckets."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, name: str, prefix: str = "a/b") -> dict[str, Any]:
        """Return the settings of a destination that writes to a bucket of that name."""
        return {
            "location": f"s3://{name}/{prefix}",
            "endpoint": self.endpoint,
            "access_key_id": Secret("env:KEY_ID"),
            "secret_access_key": Secret("env:KEY"),
        }

    def make(self) -> Bucket:
        """Make an empty bucket."""
        bucket = Bucket(self, f"bucket-{next(_numbers)}")
        bucket.create()
        return bucket


@attrs.frozen
class Bucket:
    """A bucket, as a test sees it."""

    buckets: Buckets
    name: str

    def create(self) -> None:
        self._request("PUT")

    def remove(self) -> None:
        """Delete the bucket, which must be empty."""
        self._request("DELETE")

    def lines(self, prefix: str = "p") -> list[str]:
        """Return the lines of settings that name this bucket."""
        return [
            f'location = "s3://{self.name}/{prefix}"',
            f'endpoint = "{self.buckets.endpoint}"',
            'access_key_id = "env:KEY_ID"',
            'secret_access_key = "env:KEY"',
        ]

    @property
    def content(self) -> dict[str, bytes]:
        """Every object: its key and its bytes."""
        store = self._store()
        keys = [item["path"] for page in store.list() for item in page]
        return {key: store.get(key).bytes().to_bytes() for key in sorted(keys)}

    def _store(self) -> S3Store:
        config: Any = {"endpoint": self.buckets.endpoint, "access_key_id": "x", "secret_access_key": "y"}
        return S3Store(self.name, config=config, client_options={"allow_http": True})

    def _request(self, method: str) -> None:
        connection = HTTPConnection("127.0.0.1", self.buckets.port, timeout=PATIENCE)
        connection.request(method, f"/{self.name}")
        status = connection.getresponse().status
        connection.close()
        assert status // 100 == 2, status


@contextmanager
def serving_buckets() -> Iterator[Buckets]:
    """Run a server for buckets."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield Buckets(server.get_host_and_port()[1])
    finally:
        server.stop()


@attrs.define
class FailingStore:
    """A store of which the call of a number fails: before it has done anything, or after it has done everything."""

    store: ObjectStore
    fails_at: int
    is_done: bool
    calls: int = 0

    def names(self, folder: str) -> Sequence[str]:
        return self._run(self.store.names, folder)  # type: ignore[no-any-return]

    def folders(self, folder: str) -> Sequence[str]:
        return self._run(self.store.folders, folder)  # type: ignore[no-any-return]

    def files_below(self, folder: str) -> Sequence[StoredFile]:
        return self._run(self.store.files_below, folder)  # type: ignore[no-any-return]

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        return self._run(self.store.read_range, key, start, end)  # type: ignore[no-any-return]

    def put_new(self, key: str, content: Path | bytes) -> bool:
        return self._run(self.store.put_new, key, content)  # type: ignore[no-any-return]

    def replace(self, key: str, content: Path) -> None:
        self._run(self.store.replace, key, content)

    def copy(self, key: str, target: str) -> None:
        self._run(self.store.copy, key, target)

    def prune(self, folder: str) -> None:
        self._run(self.store.prune, folder)

    def read(self, key: str) -> bytes | None:
        return self._run(self.store.read, key)  # type: ignore[no-any-return]

    def fetch(self, key: str, target: Path) -> bool:
        return self._run(self.store.fetch, key, target)  # type: ignore[no-any-return]

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._run(self.store.delete, [key])

    def _run(self, call: Any, *arguments: Any) -> Any:
        self.calls += 1
        is_failing = self.calls == self.fails_at
        if is_failing and not self.is_done:
            raise StoreUnavailable(detail="failed before")
        result = call(*arguments)
        if is_failing:
            raise StoreUnavailable(detail="failed after")
        return result
