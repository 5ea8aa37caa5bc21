"""Every limit of the API: its unit, its source, and the limits of other implementations.

The documentation has "32KB" and "500KB" without naming the measured bytes.  trackcore counts bytes after
decompression, and a size equal to its limit is still allowed.  See
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size
"""

from __future__ import annotations

import attrs

MAX_MESSAGE_BYTES = 32_768
MAX_BATCH_MESSAGES = 2_500
MEBIBYTE = 1 << 20
"""Bytes."""

_positive = attrs.validators.gt(0)


@attrs.frozen(kw_only=True)
class Limits:
    """The limits in force.  The defaults are the API's; a deployment may set its own."""

    request_bytes: int = attrs.field(default=524_288, validator=_positive)
    """Bytes of one request body.  Documented: "500KB per batch request".  SDKs build more (Python up to 508,100; Kotlin
    and Swift 507,100; React Native 513,100; Rust 524,288), and a 400 is a permanent loss: hence 512 KiB."""

    message_bytes: int = attrs.field(default=MAX_MESSAGE_BYTES, validator=_positive)
    """Bytes of one message, measured on its own source text.  Documented: "32KB per call".  The Python, Java, Ruby and
    Rust SDKs check 32,768; Go and PHP 32,000."""

    shared_bytes: int = attrs.field(default=8_388_608, validator=_positive)
    """Bytes of `context`, `integrations` and `sentAt` of a batch, counted once for each of its messages.  Undocumented;
    without it 500 KB could become a gigabyte.  Eight MiB is 3 KB for each of 2,500 messages."""

    batch_messages: int = attrs.field(default=MAX_BATCH_MESSAGES, validator=_positive)
    """Messages in one batch.  Documented since 2024; the excess is rejected, the rest accepted."""

    message_id_chars: int = attrs.field(default=100, validator=_positive)
    """Characters of a messageId.  One page has "limited to 100 characters", another "fewer than 100": 100 pass."""

    depth: int = attrs.field(default=64, validator=[_positive, attrs.validators.le(128)])
    """Levels of objects and arrays below a message.  Undocumented; deeper nesting only serves to exhaust a stack."""

    advised_requests_per_second: int = attrs.field(default=500, validator=_positive)
    """Requests per second and source.  Documented as advice, not as a hard limit: more is counted and logged."""


DEFAULT_LIMITS = Limits()
