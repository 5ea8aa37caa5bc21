"""Texts in any state: JSON as it was received, Unicode cleaned, blank texts, addresses, times."""

from trackcore.text.addresses import canonical_address
from trackcore.text.blanks import is_blank
from trackcore.text.jsontext import (
    BYTE_ORDER_MARK,
    clean_text,
    encode_json,
    foreign_encoding,
    parse,
    parse_value,
    raw_fields,
    raw_value,
    replace_surrogates,
)
from trackcore.text.printable import visible
from trackcore.text.unexpected import describe_unexpected

__all__ = [
    "BYTE_ORDER_MARK",
    "canonical_address",
    "clean_text",
    "describe_unexpected",
    "encode_json",
    "foreign_encoding",
    "is_blank",
    "parse",
    "parse_value",
    "raw_fields",
    "raw_value",
    "replace_surrogates",
    "visible",
]
