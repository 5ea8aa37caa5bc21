"""Personal data: which of it is kept of a message, and whose messages are not kept at all."""

from trackcore.privacy.fields import MASK_ACTIONS, FieldMask, apply_masks
from trackcore.privacy.ip import IP_MODES, IpRule
from trackcore.privacy.rules import PrivacyRules, strictest
from trackcore.privacy.scan import Finding, PiiScan, kind_of_name, kind_of_value

__all__ = [
    "IP_MODES",
    "MASK_ACTIONS",
    "FieldMask",
    "Finding",
    "IpRule",
    "PiiScan",
    "PrivacyRules",
    "apply_masks",
    "kind_of_name",
    "kind_of_value",
    "strictest",
]
