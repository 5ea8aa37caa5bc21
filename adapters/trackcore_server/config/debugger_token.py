"""The token of the debugger, from the configuration or from the environment variable that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trackcore_delivery import UnusableSecret

from trackcore_server.config.configuration import Configuration, ConfigurationError

TOKEN_CHARS = 12
"""The least length of a token."""


def read_debugger_token(
    configuration: Configuration, environ: Mapping[str, str] = os.environ, *, file: Path | None = None
) -> str | None:
    """Return the token; None if none is configured, so that the debugger is off.

    Args:
        configuration: contains the token, or names the variable that contains it.
        environ: the environment.
        file: the file that the configuration came from, named by errors.

    Raises:
        ConfigurationError: the variable cannot be used, the token is too easy to guess, or the debugger cannot read
            the kind of log.
    """
    if configuration.debugger.token is None:
        return None
    if not configuration.log.has_debugger:
        detail = "the debugger looks into the embedded log, and the configured one is in Kafka"
        raise ConfigurationError(file=file, path="debugger.token", detail=detail)
    try:
        token = configuration.debugger.token.reveal(environ)
    except UnusableSecret as error:
        raise ConfigurationError(file=file, path="debugger.token", detail=str(error)) from None
    if len(token) < TOKEN_CHARS:
        variable = configuration.debugger.token.variable
        which = "this one" if variable is None else f"that of the environment variable {variable}"
        detail = f"a token needs at least {TOKEN_CHARS} characters, {which} has {len(token)}"
        raise ConfigurationError(file=file, path="debugger.token", detail=detail)
    return token
