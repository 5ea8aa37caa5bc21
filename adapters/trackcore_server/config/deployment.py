"""The location of a server's files, for `serve`, which writes them, and for the commands that read them.

A *data folder* contains `trackcore.toml` and the log `trackcore.db`; either may be missing.  The configuration is, in
this order: `--config`; `trackcore.toml` in the folder that `--data` names; the file that `TRACKCORE_CONFIG` names;
`./trackcore.toml`; `./trackcore-data/trackcore.toml`.  The data folder is that of `--data`; else `[server] data`, which
is the folder of the configuration unless it is set; else `./trackcore-data`.  `--data` may also name the file of a log,
which is read with the configuration in its folder.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import attrs

from trackcore import Source
from trackcore_server.config.configuration import Configuration, ConfigurationError, load_configuration, rebase
from trackcore_server.process.signals import STOP_SIGNALS, held_back

CONFIG_VARIABLE = "TRACKCORE_CONFIG"
CONFIG_NAME = "trackcore.toml"
DEFAULT_FOLDER = Path("trackcore-data")

_DEFAULT_SOURCE = "default"

_NEW_CONFIGURATION = """\
# Created by `trackcore serve`.  After a change, restart it or send it SIGHUP.

[[sources]]
name = "{name}"
write_keys = ["{key}"]
"""


@attrs.frozen(kw_only=True)
class Deployment:
    """The effective configuration, its file (None: the defaults), and the data folder.

    `is_own` is true if no configuration file was named, so that the one in the data folder applies.
    """

    configuration: Configuration
    file: Path | None
    folder: Path
    is_own: bool = False


def find_configuration_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file that `TRACKCORE_CONFIG` names, else the one in the working folder, if any."""
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    here = Path(CONFIG_NAME)
    return here if here.exists() else None


def find_deployment(*, config: Path | None, data: Path | None) -> Deployment:
    """Find the configuration and the data folder; see the module.  Raises `ConfigurationError`."""
    if data is not None and data.is_file():
        found = find_deployment(config=config, data=data.parent)
        return attrs.evolve(found, configuration=_with_log(found.configuration, Path.cwd() / data))
    file, is_own = find_file(config=config, data=data)
    if file is None:
        folder = data or DEFAULT_FOLDER
        return Deployment(configuration=rebase(Configuration(), folder), file=None, folder=folder, is_own=True)
    configuration = load_configuration(file, folder=data)
    return Deployment(configuration=configuration, file=file, folder=configuration.server.data, is_own=is_own)


def _with_log(configuration: Configuration, path: Path) -> Configuration:
    """Return a configuration with the log in this file.  The state of delivery is that of the configured log alone."""
    if path.resolve() in [known.resolve() for known in configuration.log.paths]:
        return configuration
    delivery = attrs.evolve(configuration.delivery, path=None)
    return attrs.evolve(configuration, log=configuration.log.in_file(path), delivery=delivery)


def find_file(*, config: Path | None, data: Path | None) -> tuple[Path | None, bool]:
    """Find the configuration file, None if there is none, and whether it is the data folder's own; see the module."""
    if data is not None and data.is_file():
        raise ConfigurationError(file=data, detail="is a file; expected a data folder, or a configuration, *.toml")
    named = config or (None if data else find_configuration_file())
    if named is not None:
        return named, False
    own = (data or DEFAULT_FOLDER) / CONFIG_NAME
    return (own if own.exists() else None), True


def create_configuration(folder: Path) -> Deployment:
    """Create a data folder with a configuration of one source and a random write key, accessible only to the owner."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / CONFIG_NAME
    text = _NEW_CONFIGURATION.format(name=_DEFAULT_SOURCE, key=secrets.token_urlsafe(18))
    # An empty file would prevent the next start.  If there is one already, another `trackcore serve` was faster.
    with held_back(*STOP_SIGNALS, signal.SIGHUP), suppress(FileExistsError):
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    return find_deployment(config=None, data=folder)


def with_write_keys(configuration: Configuration, write_keys: Sequence[str]) -> Configuration:
    """Add a source for each write key that no source has yet: `default`, `default-2` and so on."""
    sources = list(configuration.sources)
    for key in write_keys:
        if not any(key in source.write_keys for source in sources):
            sources.append(Source(name=_free_name({source.name for source in sources}), write_keys=(key,)))
    return attrs.evolve(configuration, sources=tuple(sources))


def _free_name(taken: set[str]) -> str:
    names = chain([_DEFAULT_SOURCE], (f"{_DEFAULT_SOURCE}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)
