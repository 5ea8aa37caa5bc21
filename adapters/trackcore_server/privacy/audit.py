"""The audit of requests about persons: a JSON line for each, with a hash of the id and never the id."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from trackcore_privacy import PrivacyFile

from trackcore import format_timestamp
from trackcore.privacy import Subject
from trackcore.text import encode_json
from trackcore_server.config.configuration import Configuration

log = logging.getLogger("trackcore.privacy")


def audit(
    configuration: Configuration, file: PrivacyFile, action: str, request: str, subjects: Sequence[Subject]
) -> None:
    """Append a line to the audit file beside the log, durably, and write it to the server's log."""
    names = [file.name_of(subject) for subject in subjects]
    kinds = [subject.kind for subject in subjects]
    at = format_timestamp(datetime.now(UTC))
    line = encode_json({"at": at, "action": action, "request": request, "subjects": names, "kinds": kinds})
    path = configuration.privacy_path.with_name(f"{configuration.privacy_path.stem}-audit.jsonl")
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, line + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    log.info("%s %s: %s", action, request, ", ".join(names[:10]))
