"""Another collector, which runs already, beside `trackcore serve`: the same load, measured in the same way.

    python benchmarks/peer.py http://127.0.0.1:8080 --key KEY --process 4711 --process 4712 --count 'psql -tAc ...'

A collector with another API gets bodies from files, in compact JSON.  Each UUID in a field `--id-field` there is an id
of a message, and is replaced in each request.  `peers.md` describes how to compare fairly.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import click
from comparison import Case, batches, compare, rows, singles
from load import Request, make_request
from servers import CURRENT, ProcessTree, RunningServer, file_system, segment_requests
from tables import Report


@attrs.define(kw_only=True)
class Peer:
    """A collector that runs already."""

    address: tuple[str, int]
    processes: ProcessTree
    count: str | None
    """A shell command that prints how many messages it has stored."""
    requests: Mapping[int, Sequence[Request]]
    """By their numbers of messages."""
    name: str = "peer"
    _stored_before: int = 0

    @contextmanager
    def serve(self, data: Path) -> Iterator[RunningServer]:
        """Use it as it is."""
        del data
        self._stored_before = self._stored()
        yield RunningServer(address=self.address, processes=self.processes, requests=self.requests.__getitem__)

    def count_messages(self, data: Path) -> int | None:
        """Return how many messages it has stored since it was served last."""
        del data
        return self._stored() - self._stored_before if self.count else None

    def _stored(self) -> int:
        if self.count is None:
            return 0
        return int(subprocess.run(self.count, shell=True, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S602


_BODY = (str, click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@click.argument("url")
@click.option("--key", default="", metavar="KEY", help="Write key: the user name of Basic.")
@click.option(
    "--process", "roots", multiple=True, type=int, required=True, metavar="PID", help="The roots of its processes."
)
@click.option("--count", metavar="COMMAND", help="A command that prints how many messages it has stored.")
@click.option("--single", type=_BODY, metavar="PATH FILE", help="A request with one message.  [default: Segment's]")
@click.option("--batch", type=_BODY, metavar="PATH FILE", help="A request with 100 messages.  [default: Segment's]")
@click.option("--id-field", default="messageId", show_default=True, metavar="NAME", help="The id of a message.")
@click.option("--connections", default=64, show_default=True, metavar="N")
@click.option("--seconds", default=5.0, show_default=True, metavar="S", help="Length of one round.")
@click.option("--rounds", default=3, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log of trackcore.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    *,
    url: str,
    key: str,
    roots: tuple[int, ...],
    count: str | None,
    single: tuple[str, Path] | None,
    batch: tuple[str, Path] | None,
    id_field: str,
    connections: int,
    seconds: float,
    rounds: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure a collector at URL, and trackcore with one worker, in turns."""
    where = urlsplit(url)
    peer = Peer(
        address=(where.hostname or "", where.port or 80),
        processes=ProcessTree(roots),
        count=count,
        requests={
            kind.messages: _from_file(kind, *file, key, id_field) if file else segment_requests(kind.messages, key)
            for kind, file in ((singles(connections), single), (batches(connections), batch))
        },
    )
    cases = [singles(connections), batches(connections)]
    results = compare([peer, CURRENT], cases, seconds=seconds, rounds=rounds, folder=folder)
    Report(
        title="Another collector, and trackcore",
        rows=rows(results, peer.name),
        settings={"url": url, "seconds": seconds, "rounds": rounds, "file system": file_system(folder)},
    ).tell(as_json=as_json)
    sys.exit(any(result.failures for result in results.values()))


def _from_file(case: Case, path: str, file: Path, key: str, id_field: str) -> Sequence[Request]:
    request = make_request(path, file.read_bytes(), key=key, id_field=id_field)
    if request.messages != case.messages:
        sys.exit(f"{file}: {request.messages} UUIDs in fields {id_field!r}, not {case.messages}")
    return [request]


if __name__ == "__main__":
    main()
