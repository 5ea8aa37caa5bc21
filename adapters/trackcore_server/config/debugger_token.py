"""The token of the debugger, as the configuration, or the environment variable that it names, has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trackcore_delivery import UnusableSecret

from trackcore_server.config.configuration import Configuration, ConfigurationError

TOKEN_CHARS = 12
"""How short a token may be."""


def read_debugger_token(
    configuration: Configuration, environ: Mapping[str, str] = os.environ, *, file: Path | None = None
) -> str | None:
    """Return the token; None where none is configured, so that there is no debugger.

    Args:
        configuration: what has the token, or names the variable that has it.
        environ: the environment.
        file: the file that the configuration came from, named by errors.

    Raises:
        ConfigurationError: the variable that it stands in cannot be used, it can be guessed too soon, or the log is
            none that can be looked into.
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
