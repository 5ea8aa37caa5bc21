"""One Python SDK as a client: HOST WRITE_KEY CALLS REPORT OPTIONS, run by the interpreter of the SDK's environment.

CALLS is a JSON file with a list of `{"case", "call", "fields"}`, the fields under their wire names; `{"$date": text}`
is a datetime, `{"$day": text}` a date, `{"$big": text}` an integer beyond 64 bits.  OPTIONS is a JSON object: `module`
is the module of the SDK's client class, `settings` are the arguments of its constructor.  All calls are made, then the
SDK is flushed, and REPORT lists the calls and the errors of the SDK.
"""

from __future__ import annotations

import atexit
import json
import sys
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

# The SDKs' argument names; they are the same for all.
ARGUMENTS = {
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "previousId": "previous_id",
    "groupId": "group_id",
    "messageId": "message_id",
}


def main(host: str, write_key: str, calls_file: str, report_file: str, options_text: str) -> None:
    options = json.loads(options_text)
    errors: list[str] = []

    def on_error(error: Exception, messages: list[Any]) -> None:
        errors.append(f"{type(error).__name__}: {error} ({len(messages)} messages)")

    calls = json.loads(Path(calls_file).read_text(), object_hook=revive)
    module = import_module(options["module"])
    client = module.Client(write_key, host=host, on_error=on_error, **options["settings"])
    made = 0
    for call in calls:
        arguments = {ARGUMENTS.get(name, name): value for name, value in call["fields"].items()}
        try:
            accepted, _ = getattr(client, call["call"])(**arguments)
        except Exception as error:  # noqa: BLE001 - the report passes it on to the test
            errors.append(f"{call['case']}: {type(error).__name__}: {error}")
        else:
            made += accepted
    client.flush()
    atexit.unregister(client.join)  # it would wait for the rest of an upload interval, with nothing left to upload
    report = {"calls": len(calls), "made": made, "errors": errors}
    Path(report_file).write_text(json.dumps(report))


def revive(value: dict[str, Any]) -> Any:
    if "$date" in value:
        return datetime.fromisoformat(value["$date"])
    if "$day" in value:
        return date.fromisoformat(value["$day"])
    if "$big" in value:
        return int(value["$big"])
    return value


if __name__ == "__main__":
    main(*sys.argv[1:])
