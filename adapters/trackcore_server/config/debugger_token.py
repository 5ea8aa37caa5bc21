"""The token of the debugger, from the configuration or from the environment variable that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from trackcore_delivery import UnusableSecret

from trackcore_server.config.configuration import Configuration, ConfigurationError

TOKEN_CHARS = 12  # the least length of a token


def read_debugger_token(
    configuration: Configuration, environ: Mapping[str, str] = os.environ, *, file: Path | None = None
) -> str | None:
    """Return the token; None if none is configured, so that the debugger is off.

    Raises `ConfigurationError`, which names the `file` of the configuration: the variable cannot be used, the token is
    too easy to guess, or the debugger cannot read the kind of log.
    """
    secret = configuration.debugger.token
    if secret is None:
        return None
    wrong = partial(ConfigurationError, file=file, path="debugger.token")
    if not configuration.log.has_debugger:
        raise wrong(detail="the debugger looks into the embedded log, and the configured one is in Kafka")
    try:
        token = secret.reveal(environ)
    except UnusableSecret as error:
        raise wrong(detail=str(error)) from None
    if len(token) < TOKEN_CHARS:
        which = "this one" if secret.variable is None else f"that of the environment variable {secret.variable}"
        raise wrong(detail=f"a token needs at least {TOKEN_CHARS} characters, {which} has {len(token)}")
    return token
