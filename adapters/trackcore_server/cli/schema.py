"""`trackcore schema`: the rules of a message as JSON Schema, for validators in other languages."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import msgspec
from trackcore_http import openapi_document

from trackcore import Call, Endpoint, JSONObject, Limits, batch_schema, message_schema
from trackcore.plans import PlanDocument, PlanSchemas
from trackcore.text import encode_json
from trackcore.wire import with_dialect
from trackcore_server.cli._options import Failure, location_options
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.deployment import find_deployment
from trackcore_server.config.plan_files import load_plan_of

_EXAMPLES = """\b
Examples:
  trackcore schema
  trackcore schema track > track.schema.json
  trackcore schema batch | jq .properties
  trackcore schema track --source website
  trackcore schema --openapi --source website > openapi.json
"""


@click.command(epilog=_EXAMPLES)
@click.argument("call", type=click.Choice(get_args(Endpoint)), required=False, metavar="[CALL]")
@click.option("--source", metavar="NAME", help="With the tracking plan of this source.")
@click.option("--openapi", is_flag=True, help="Print the OpenAPI description of the whole API instead.")
@location_options
def schema(*, call: Endpoint | None, source: str | None, openapi: bool, config: Path | None, data: Path | None) -> None:
    """Print the JSON Schema (2020-12) of messages of CALL, or of all messages that the server accepts.

    CALL is identify, track, page, screen, group, alias, or batch for a whole batch. The limits come from the
    configuration. Rules that JSON Schema cannot express, such as sizes in bytes, appear only in descriptions.

    With --source, the schema is that of messages that also follow the tracking plan of the source: which events there
    are, with which properties. A server never publishes it.
    """
    configuration = find_deployment(config=config, data=data).configuration
    plan = None if source is None else _plan_of(configuration, source)
    if openapi and call is not None:
        raise click.UsageError("--openapi describes all calls; leave out CALL")
    limits = configuration.limits
    found = openapi_document(limits, "", plan) if openapi else with_dialect(_schema(call, limits, plan))
    click.echo(msgspec.json.format(encode_json(found), indent=2))


def _plan_of(configuration: Configuration, name: str) -> PlanDocument:
    if name not in {source.name for source in configuration.sources}:
        raise click.BadParameter(f"there is no source {name!r}", param_hint="--source")
    plan = load_plan_of(configuration, name)
    if plan is None:
        raise Failure(f"the source {name!r} has no tracking plan")
    return plan.document


def _schema(call: Endpoint | None, limits: Limits, plan: PlanDocument | None) -> JSONObject:
    plans = None if plan is None else PlanSchemas(plan)
    definitions: JSONObject = {} if plans is None else {"$defs": plans.definitions()}
    if call is not None and call != "batch":
        return _of_call(call, limits, plans) | definitions
    message = {"title": "Message", "anyOf": [_of_call(each, limits, plans) for each in get_args(Call)]}
    return (message if call is None else batch_schema(limits, message)) | definitions


def _of_call(call: Call, limits: Limits, plans: PlanSchemas | None) -> JSONObject:
    conditions = [] if plans is None else plans.conditions(call)
    return {**message_schema(call, limits=limits), **({"allOf": conditions} if conditions else {})}
