"""What librdkafka logs, without the settings that it quotes.

It warns of `sasl.mechanism` set to a value that it then shows, and begins each line with the `client.id`.  Which line
quotes which setting changes with its version, so every value is masked in every line, unless it is one of the words
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
"""Words that settings choose from, in lower case: these are no secrets."""

_LONG = 4
"""From how many characters on a value is masked also within a word."""

_CUT = 32
"""Of longer values also the beginning is masked.  librdkafka cuts the name of a client to 128 bytes."""

log = logging.getLogger("trackcore.kafka")


def masked(text: str, client: Mapping[str, ClientSetting], *, is_public: Collection[str] = PUBLIC) -> str:
    """Return a text in which each value of a setting is `***`, also one that was cut."""
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
    """Mask what a text has of the beginning of a long value: librdkafka cuts names and lines."""
    beginning = value[:_CUT]
    while len(value) > _CUT and (start := text.find(beginning)) >= 0:
        length = len(commonprefix([text[start:], value]))  # noqa: RUF071 - by characters, as is meant here
        text = f"{text[:start]}***{text[start + length :]}"
    return text


@attrs.frozen
class MaskingLogger:
    """The `logger` of a client: what is logged goes to `trackcore.kafka`, masked."""

    _client: Mapping[str, ClientSetting] = attrs.field(repr=False)

    def log(self, level: int, template: str, *values: object) -> None:
        """Log a line: called by the client."""
        if log.isEnabledFor(level):
            log.log(level, "%s", masked(template % values if values else template, self._client))
