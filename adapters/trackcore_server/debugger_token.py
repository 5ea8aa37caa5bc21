"""The token of the debugger, as the configuration, or the environment variable that it names, has it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from trackcore_delivery import UnusableSecret

from trackcore_server.config import Configuration, ConfigurationMistake, LogSettings

TOKEN_CHARS = 12
"""How short a token may be."""


def read_debugger_token(configuration: Configuration, environ: Mapping[str, str] = os.environ) -> str | None:
    """Give the token; None where none is configured, so that there is no debugger.

    Raises:
        ConfigurationMistake: the variable that it stands in cannot be used, it can be guessed too soon, or the log is
            none that can be looked into.
    """
    if configuration.debugger.token is None:
        return None
    if not isinstance(configuration.log, LogSettings):
        detail = "the debugger looks into the embedded log, and the configured one is in Kafka"
        raise ConfigurationMistake(path="debugger.token", detail=detail)
    try:
        token = configuration.debugger.token.reveal(environ)
    except UnusableSecret as error:
        raise ConfigurationMistake(path="debugger.token", detail=str(error)) from error
    if len(token) < TOKEN_CHARS:
        detail = f"a token needs at least {TOKEN_CHARS} characters, this one has {len(token)}"
        raise ConfigurationMistake(path="debugger.token", detail=detail)
    return token
