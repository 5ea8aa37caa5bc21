"""For adapters: names of the core that a log, a destination or an HTTP adapter needs beside the API of applications."""

from trackcore.credentials import write_key, write_key_fault
from trackcore.failures import failure_body
from trackcore.integrations import ALL
from trackcore.limits import MAX_BATCH_MESSAGES, MAX_MESSAGE_BYTES, MEBIBYTE
from trackcore.log import event_of
from trackcore.marks import decode_mark, encode_mark, mark_at, message_identity, thinned
from trackcore.masking import mask_write_keys
from trackcore.messages import MESSAGE_TYPES
from trackcore.metrics import METRICS_BY_NAME, REASONS_OF_REQUESTS, UNKNOWN, Cells, Labels, outcome_of, read_values
from trackcore.origins import find_source, write_keys_in_body
from trackcore.paths import BODY_PATHS, BodyPath, normalize_path, single_slashes
from trackcore.rejected import record_of
from trackcore.text.timetext import EPOCH
from trackcore.timestamps import MILLISECOND, truncate_to_milliseconds
from trackcore.typing import SentAs

__all__ = [
    "ALL",
    "BODY_PATHS",
    "EPOCH",
    "MAX_BATCH_MESSAGES",
    "MAX_MESSAGE_BYTES",
    "MEBIBYTE",
    "MESSAGE_TYPES",
    "METRICS_BY_NAME",
    "MILLISECOND",
    "REASONS_OF_REQUESTS",
    "UNKNOWN",
    "BodyPath",
    "Cells",
    "Labels",
    "SentAs",
    "decode_mark",
    "encode_mark",
    "event_of",
    "failure_body",
    "find_source",
    "mark_at",
    "mask_write_keys",
    "message_identity",
    "normalize_path",
    "outcome_of",
    "read_values",
    "record_of",
    "single_slashes",
    "thinned",
    "truncate_to_milliseconds",
    "write_key",
    "write_key_fault",
    "write_keys_in_body",
]
