"""The log of librdkafka, without the settings that it quotes.

librdkafka warns of `sasl.mechanism` set to a value that it then shows, and begins each line with the `client.id`.  The
quoted settings of a line change with its version, so every value is masked in every line, unless it is one of the words
that its documentation lists.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from os.path import commonprefix
from typing import TypeAlias

import attrs

ClientSetting: TypeAlias = str | int | float | bool
"""A value of a librdkafka setting (https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md)."""

PUBLIC = frozenset(
    {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl", "plain", "scram-sha-256", "scram-sha-512", "oauthbearer"}
    | {"gssapi", "default", "oidc", "none", "https", "any", "v4", "v6", "true", "false", "all", "trackcore", ""}
    | {"gzip", "snappy", "lz4", "zstd", "inherit", "resolve_canonical_bootstrap_servers_only", "use_all_dns_ips"}
)
"""Possible values of settings, in lower case, which are not secret."""

_LONG = 4
"""The length in characters from which a value is masked within words too."""

_CUT = 32
"""The length above which the beginning of a value is masked too.  librdkafka cuts a client's name to 128 bytes."""

log = logging.getLogger("trackcore.kafka")


def masked(text: str, client: Mapping[str, ClientSetting], *, is_public: Collection[str] = PUBLIC) -> str:
    """Return a text with `***` for each value of a setting, and for one that was cut."""
    whole = {str(value) for value in client.values() if not isinstance(value, bool)}
    ended = whole | {value.partition("\0")[0] for value in whole}  # to librdkafka a text ends with NUL
    values = ended | {value.strip() for value in ended}  # and has no white space around it
    for value in sorted(values, key=len, reverse=True):
        if value and value.lower() not in is_public:
            pattern = re.escape(value)
            text = re.sub(pattern if len(value) >= _LONG else rf"(?<!\w){pattern}(?!\w)", "***", text)
            text = _without_beginnings(text, value)
    return text


def _without_beginnings(text: str, value: str) -> str:
    """Mask the beginnings of a long value in a text: librdkafka cuts names and lines."""
    beginning = value[:_CUT]
    while len(value) > _CUT and (start := text.find(beginning)) >= 0:
        length = len(commonprefix([text[start:], value]))  # noqa: RUF071 - by characters, as is meant here
        text = f"{text[:start]}***{text[start + length :]}"
    return text


@attrs.frozen
class MaskingLogger:
    """The `logger` of a client: masks its lines and passes them to `trackcore.kafka`."""

    _client: Mapping[str, ClientSetting] = attrs.field(repr=False)

    def log(self, level: int, template: str, *values: object) -> None:
        """Log a line: called by the client."""
        if log.isEnabledFor(level):
            log.log(level, "%s", masked(template % values if values else template, self._client))
