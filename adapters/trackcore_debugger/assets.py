"""The files of the page, read once; each has an ETag of its content, so a browser can revalidate its copy."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath

import attrs

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@attrs.frozen(kw_only=True)
class Asset:
    """A file of the page: its content, media type, and a tag that changes with the content."""

    content: bytes
    media_type: str
    tag: str


def load_assets() -> Mapping[str, Asset]:
    """Read all files of the page, by name."""
    found = {}
    for file in files("trackcore_debugger").joinpath("page").iterdir():
        suffix = PurePath(file.name).suffix
        if suffix in _TYPES:
            content = file.read_bytes()
            found[file.name] = Asset(content=content, media_type=_TYPES[suffix], tag=sha256(content).hexdigest()[:16])
    return found
