"""The settings of destinations that are files in a folder or in a bucket."""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import timedelta
from typing import ClassVar

import attrs
from trackcore_delivery import ByteCount, DeliveredDestination, Secret, SenderContext, positive, real_place

from trackcore_objects.folder import FolderStore
from trackcore_objects.s3 import open_bucket
from trackcore_objects.store import ObjectStore

_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]+)(?:/+(?P<prefix>[^?#]*?))?/*", re.ASCII)
_OTHER_SCHEME = re.compile(r"(?!s3:)[A-Za-z0-9+.-]+://")


def _check_location(_: object, __: object, location: str) -> None:
    if not location.strip():
        raise ValueError("expected a folder or s3://BUCKET/PREFIX")
    if _OTHER_SCHEME.match(location):
        raise ValueError(
            f"there is no such store: {location.partition(':')[0]}; expected a folder or s3://BUCKET/PREFIX"
        )
    if location.startswith("s3:") and _S3.fullmatch(location) is None:
        raise ValueError("expected s3://BUCKET or s3://BUCKET/PREFIX")


def _check_endpoint(_: object, __: object, endpoint: str | None) -> None:
    if endpoint is not None and not re.match(r"https?://[^/\s]", endpoint):
        raise ValueError("expected an URL with http:// or https://")


@attrs.frozen(kw_only=True)
class StoredDestination(DeliveredDestination):
    """A destination of files in `location`: a folder, relative to that of the log, or `s3://BUCKET/PREFIX`.

    Settings of the bucket that are left out come from Amazon's environment variables, or from the machine.  A batch is
    at least one file, so batches are large.
    """

    extra: ClassVar[str] = "s3"
    """The extra that has what a bucket needs."""

    location: str = attrs.field(validator=_check_location)
    endpoint: str | None = attrs.field(default=None, validator=_check_endpoint)
    region: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None

    batch_messages: int = attrs.field(default=50_000, validator=positive)
    batch_bytes: ByteCount = attrs.field(default=ByteCount(64 << 20), validator=positive)
    batch_wait: timedelta = timedelta(minutes=5)
    retry_window: timedelta = timedelta(days=7)

    def open_store(self, context: SenderContext) -> ObjectStore:
        """Open the store; it is not used yet.  Raises `UnusableSecret` or `ValueError` if a setting cannot be used."""
        match = _S3.fullmatch(self.location)
        if match is None:
            return FolderStore(context.folder / self.location)
        secrets = {name: secret.reveal(context.environ) for name, secret in self.secrets()}
        settings = {"endpoint": self.endpoint or "", "region": self.region or "", **secrets}
        try:
            return open_bucket(match["bucket"], match["prefix"] or "", settings, shown=self.location)
        except ModuleNotFoundError as error:
            needed = f"a location in S3 needs {error.name}: pip install 'trackcore[{self.extra}]'"
            raise ValueError(needed) from error

    def place(self, context: SenderContext) -> Hashable:
        """See `DeliveredDestination.place`."""
        match = _S3.fullmatch(self.location)
        if match is None:
            return self.kind, real_place(context.folder / self.location)
        return self.kind, self.endpoint, match["bucket"], (match["prefix"] or "").strip("/")
