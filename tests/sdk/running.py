"""Running a client script in the environment of its SDK."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from patience import PATIENCE
from sdk.installing import environment, node, python_of
from sdk.sdks import Sdk
from sdk.servers import Server, read_json, stop

from trackcore import JSONObject

CLIENTS = Path(__file__).parent / "clients"


@contextmanager
def start_client(
    sdk: Sdk, server: Server, calls: Sequence[JSONObject], *, write_key: str, batch_size: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an SDK's client on a list of calls; it runs by itself, and writes its report when it is done."""
    calls_file, report_file = server.folder / "calls.json", server.folder / "report.json"
    calls_file.write_text(json.dumps(calls))
    installed = environment(sdk.environment)
    script = (
        (python_of(installed), str(CLIENTS / "python_client.py"))
        if sdk.language == "Python"
        else (node(), str(CLIENTS / "node_client.cjs"))
    )
    options = json.dumps(sdk.options(batch_size=batch_size, installed=str(installed)))
    command = (*script, server.url, write_key, str(calls_file), str(report_file), options)
    with (
        (server.folder / "client.txt").open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                stop(process)


def await_report(process: subprocess.Popen[bytes], server: Server) -> JSONObject:
    """Wait until a client is done and read its report."""
    code = process.wait(PATIENCE)
    assert code == 0, (server.folder / "client.txt").read_text()
    return read_json(server.folder / "report.json")


def run_client(sdk: Sdk, server: Server, calls: Sequence[JSONObject], *, write_key: str, batch_size: int) -> JSONObject:
    """Run an SDK's client on a list of calls and return its report."""
    with start_client(sdk, server, calls, write_key=write_key, batch_size=batch_size) as process:
        return await_report(process, server)
