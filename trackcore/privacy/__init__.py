"""Personal data: which of it is kept of a message, and whose messages are not kept at all."""

from trackcore.privacy.fields import MASK_ACTIONS, FieldMask, apply_masks
from trackcore.privacy.ip import IP_MODES, IpRule
from trackcore.privacy.rules import PrivacyRules, strictest
from trackcore.privacy.scan import Finding, PiiScan, kind_of_name, kind_of_value
from trackcore.privacy.subjects import (
    SUBJECT_KINDS,
    Subject,
    SubjectKind,
    Suppressions,
    digest_of,
    id_forms,
    pseudonymized,
    quoted_in,
    subjects_of,
    without_messages,
)
from trackcore.privacy.suppressing import Suppressing, SuppressingSink

__all__ = [
    "IP_MODES",
    "MASK_ACTIONS",
    "SUBJECT_KINDS",
    "FieldMask",
    "Finding",
    "IpRule",
    "PiiScan",
    "PrivacyRules",
    "Subject",
    "SubjectKind",
    "Suppressing",
    "SuppressingSink",
    "Suppressions",
    "apply_masks",
    "digest_of",
    "id_forms",
    "kind_of_name",
    "kind_of_value",
    "pseudonymized",
    "quoted_in",
    "strictest",
    "subjects_of",
    "without_messages",
]
