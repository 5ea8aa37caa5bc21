"""Where files are put: a folder, relative to that of the log, or `s3://BUCKET/PREFIX`."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path

from trackcore_delivery import real_place

from trackcore_objects.folder import FolderStore
from trackcore_objects.s3 import open_bucket
from trackcore_objects.store import ObjectStore

_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]+)(?:/+(?P<prefix>[^?#]*?))?/*", re.ASCII)
_OTHER_SCHEME = re.compile(r"(?!s3:)[A-Za-z0-9+.-]+://")


def check_location(_: object, __: object, location: str) -> None:
    """Raise `ValueError` for a text that is neither a folder nor a bucket."""
    if not location.strip():
        raise ValueError("expected a folder or s3://BUCKET/PREFIX")
    if _OTHER_SCHEME.match(location):
        scheme = location.partition(":")[0]
        raise ValueError(f"there is no such store: {scheme}; expected a folder or s3://BUCKET/PREFIX")
    if location.startswith("s3:") and _S3.fullmatch(location) is None:
        raise ValueError("expected s3://BUCKET or s3://BUCKET/PREFIX")


def check_endpoint(_: object, __: object, endpoint: str | None) -> None:
    """Raise `ValueError` for a text that is not the URL of a store."""
    if endpoint is not None and not re.match(r"https?://[^/\s]", endpoint):
        raise ValueError("expected a URL with http:// or https://")


def open_store(location: str, folder: Path, settings: Mapping[str, str]) -> ObjectStore:
    """Open a store; it is not used yet.  `settings` are those of a bucket, by the names that obstore gives to them.

    Raises:
        ModuleNotFoundError: the library for buckets is not installed.
        ValueError: a setting cannot be used.
    """
    match = _S3.fullmatch(location)
    if match is None:
        return FolderStore(folder / location)
    return open_bucket(match["bucket"], match["prefix"] or "", settings, shown=location)


def place_of_location(location: str, folder: Path, endpoint: str | None) -> Hashable:
    """Return where files are, so that two places are equal if a file of one could be a file of the other."""
    match = _S3.fullmatch(location)
    if match is None:
        return real_place(folder / location)
    return endpoint, match["bucket"], (match["prefix"] or "").strip("/")


def shown_location(location: str, folder: Path) -> str:
    """Return a location as people name it: the path of a folder, or the URL of a bucket."""
    return location if _S3.fullmatch(location) else str(folder / location)
