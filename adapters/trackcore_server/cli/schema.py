"""`trackcore schema`: the rules of a message as JSON Schema, for validators in other languages."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import msgspec

from trackcore import Endpoint, JSONObject, Limits, any_message_schema, batch_schema, message_schema
from trackcore.text import encode_json
from trackcore.wire import with_dialect
from trackcore_server.cli._options import location_options
from trackcore_server.config.deployment import find_deployment

_EXAMPLES = """\b
Examples:
  trackcore schema
  trackcore schema track > track.schema.json
  trackcore schema batch | jq .properties
"""


@click.command(epilog=_EXAMPLES, short_help="Print the JSON Schema of a message.")
@click.argument("call", type=click.Choice(get_args(Endpoint)), required=False, metavar="[CALL]")
@location_options
def schema(*, call: Endpoint | None, config: Path | None, data: Path | None) -> None:
    """Print the JSON Schema (2020-12) of messages of CALL, or of all messages that the server accepts.

    CALL is identify, track, page, screen, group, alias, or batch for a whole batch. The limits come from the
    configuration. Rules that JSON Schema cannot express, such as sizes in bytes, appear only in descriptions.
    """
    limits = find_deployment(config=config, data=data).configuration.limits
    click.echo(msgspec.json.format(encode_json(with_dialect(_schema(call, limits))), indent=2))


def _schema(call: Endpoint | None, limits: Limits) -> JSONObject:
    if call is None:
        return any_message_schema(limits)
    return batch_schema(limits) if call == "batch" else message_schema(call, limits=limits)
