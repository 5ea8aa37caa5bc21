"""Suppressed persons, and the jobs that forget persons: a SQLite file beside the log, read by every process."""

from trackcore_privacy.file import (
    LOOK_SECONDS,
    Job,
    PrivacyFile,
    Step,
    Suppressed,
    SuppressionReader,
    UnusablePrivacyFile,
)

__all__ = [
    "LOOK_SECONDS",
    "Job",
    "PrivacyFile",
    "Step",
    "Suppressed",
    "SuppressionReader",
    "UnusablePrivacyFile",
]
