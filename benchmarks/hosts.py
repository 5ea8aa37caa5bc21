"""Servers that can host trackcore, beside each other: the same app on the same log, under the same load.

    python benchmarks/hosts.py
    python benchmarks/hosts.py --only 'trackcore serve' --only uvicorn --connections 64

Each host runs one worker process.  In `docs/explanation`, `performance.md` has the results and `hosts.md`
what each host promises.  `comparison.py` describes how servers are measured.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import click
from comparison import batches, compare, rows, singles
from servers import CURRENT, RunningServer, file_system, running, write_configuration
from tables import Report

_BIN = Path(sys.executable).parent
_PORT = '"${1##*:}"'
"""In the shell, the port of an address that follows the command."""

_GUNICORN = "gunicorn --no-control-socket --keep-alive 75 --worker-tmp-dir /dev/shm --log-level warning"
_THREADS = 16
_WSGI, _ASGI = "'trackcore_server:create_app()'", "'trackcore_server:create_asgi_app()'"


@attrs.frozen
class Host:
    """A server that is started by a shell command, on the address in `$1`."""

    name: str
    command: str

    @contextmanager
    def serve(self, data: Path) -> Iterator[RunningServer]:
        """Run it on a log in a folder."""
        config = write_configuration(data)
        environment = f"TRACKCORE_CONFIG={shlex.quote(str(config))}"
        with running(["env", environment, "sh", "-c", f"exec {_BIN}/{self.command}", "sh"], data) as server:
            yield server

    def count_messages(self, data: Path) -> int:
        """Return the number of messages in the log."""
        return CURRENT.count_messages(data)


_SERVE = attrs.evolve(CURRENT, name="trackcore serve")
HOSTS = (
    Host("gunicorn, threads", f'{_GUNICORN} --worker-class gthread --threads {_THREADS} --bind "$1" {_WSGI}'),
    Host(
        "gunicorn, our threaded worker",
        f'{_GUNICORN} --worker-class trackcore_server.worker.Worker --threads {_THREADS} --bind "$1" {_WSGI}',
    ),
    _SERVE,
    Host("gunicorn, uvicorn's worker", f'{_GUNICORN} -k uvicorn_worker.UvicornWorker --bind "$1" {_ASGI}'),
    Host("uvicorn", f"uvicorn --port {_PORT} --no-access-log --factory trackcore_server:create_asgi_app"),
    Host(
        "granian, ASGI",
        f"granian --interface asgi --port {_PORT} --log-level error --factory trackcore_server:create_asgi_app",
    ),
    Host(
        "granian, WSGI, 16 threads",
        f"granian --interface wsgi --blocking-threads {_THREADS} --port {_PORT} --log-level error --factory"
        " trackcore_server:create_app",
    ),
    Host(
        "granian, WSGI, 64 threads",
        f"granian --interface wsgi --blocking-threads 64 --port {_PORT} --log-level error --factory"
        " trackcore_server:create_app",
    ),
)


@click.command()
@click.option("--only", multiple=True, type=click.Choice([host.name for host in HOSTS]), help="Measure only these.")
@click.option(
    "--connections", multiple=True, type=int, default=(8, 64), show_default=True, metavar="N", help="Can be repeated."
)
@click.option("--seconds", default=5.0, show_default=True, metavar="S", help="Length of one round.")
@click.option("--rounds", default=3, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    *,
    only: Sequence[str],
    connections: Sequence[int],
    seconds: float,
    rounds: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure the servers that can host trackcore, with single messages and with batches of 100."""
    hosts = [host for host in HOSTS if host.name in only or not only]
    cases = [kind(number) for kind in (singles, batches) for number in connections]
    results = compare(hosts, cases, seconds=seconds, rounds=rounds, folder=folder)
    Report(
        title="Hosts, one worker process each",
        rows=rows(results, hosts[0].name),
        settings={"seconds": seconds, "rounds": rounds, "file system": file_system(folder)},
    ).tell(as_json=as_json)
    sys.exit(any(result.failures for result in results.values()))


if __name__ == "__main__":
    main()
