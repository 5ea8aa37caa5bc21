"""The rules about personal data that a configuration describes, with their key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trackcore_delivery import UnusableSecret

from trackcore.privacy import PrivacyRules
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.debugger_token import TOKEN_CHARS
from trackcore_server.config.sources import ConfiguredSource

KEY_CHARS = 16
"""The least length of a key: who guesses it can compute the hash of every address and of every known person."""


def privacy_rules(configuration: Configuration, environ: Mapping[str, str] = os.environ) -> dict[str, PrivacyRules]:
    """Return the rules by the name of their source.  Raises `ConfigurationError` if the key cannot be used."""
    key = privacy_key(configuration, environ)
    sources = (source for source in configuration.sources if isinstance(source, ConfiguredSource))
    rules = {
        source.name: PrivacyRules(ip=source.ip.rule(key), masks=[mask.mask(key) for mask in source.mask])
        for source in sources
    }
    return {name: rule for name, rule in rules.items() if not rule.keep_all}


def read_admin_token(
    configuration: Configuration, environ: Mapping[str, str] = os.environ, *, file: Path | None = None
) -> str | None:
    """Return the token for requests about persons; None if none is configured, so that there are none over HTTP.

    Raises `ConfigurationError`: the variable cannot be used, or the token is too easy to guess.
    """
    secret = configuration.admin.token
    if secret is None:
        return None
    try:
        token = secret.reveal(environ)
    except UnusableSecret as error:
        raise ConfigurationError(file=file, path="admin.token", detail=str(error)) from None
    if len(token) < TOKEN_CHARS:
        detail = f"a token needs at least {TOKEN_CHARS} characters, this one has {len(token)}"
        raise ConfigurationError(file=file, path="admin.token", detail=detail)
    return token


def privacy_key(configuration: Configuration, environ: Mapping[str, str] = os.environ) -> bytes:
    """Return the key of hashes, empty if none is configured.

    Raises `ConfigurationError` if the environment variable that it names cannot be used, or the key is too short.
    """
    secret = configuration.privacy.key
    if secret is None:
        return b""
    try:
        key = secret.reveal(environ)
    except UnusableSecret as error:
        raise ConfigurationError(path="privacy.key", detail=str(error)) from None
    if len(key) < KEY_CHARS:
        detail = f"a key needs at least {KEY_CHARS} characters, this one has {len(key)}"
        raise ConfigurationError(path="privacy.key", detail=detail)
    return key.encode()
