"""The options of the app, by the configuration."""

from __future__ import annotations

from pathlib import Path

from trackcore_http import ApiOptions, Script, SdkSettings

from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.sources import ConfiguredSource


def read_api_options(configuration: Configuration) -> ApiOptions:
    """Return the options of the app.  Raises `ConfigurationError` if the browser SDK cannot be read."""
    server = configuration.server
    return ApiOptions(
        sdk_settings={
            source.name: SdkSettings(http=source.http, collect_without_consent=source.collect_without_consent)
            for source in configuration.sources
            if isinstance(source, ConfiguredSource)
        },
        analytics_js=None if server.analytics_js is None else _read_script(server.analytics_js),
        unavailable_status=server.unavailable_status,
    )


def _read_script(file: Path) -> Script:
    try:
        content = file.read_bytes()
    except OSError as error:
        detail = f"{file} cannot be read: {error.strerror}"
        raise ConfigurationError(path="server.analytics_js", detail=detail) from None
    if not content:
        raise ConfigurationError(path="server.analytics_js", detail=f"{file} is empty")
    return Script(content)
