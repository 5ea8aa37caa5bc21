"""A real PostgreSQL of the tests' own: made in a temporary folder, and run by a user who may run it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import psycopg
from patience import PATIENCE, wait_for

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_PATH = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _FOLDERS)])
_databases = count(1)
_OPTIONS = "-c unix_socket_directories= -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=40"


def why_not() -> str | None:
    """Return why no PostgreSQL can be run here, None if it can."""
    missing = [tool for tool in ("initdb", "pg_ctl", "postgres") if shutil.which(tool, path=_PATH) is None]
    return f"{', '.join(missing)} not found: as root, apt-get install postgresql" if missing else None


@attrs.define
class Cluster:
    """A server with databases.  `kill` is a `kill -9` of all its processes."""

    folder: Path
    port: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.folder.mkdir()
        if os.geteuid() == 0:
            self.folder.parent.chmod(0o755)
            shutil.chown(self.folder, "nobody")
        self._run("initdb", "-D", str(self._data), "-U", "trackcore", "--auth=trust", "-E", "UTF8", "--locale=C")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} {_OPTIONS}"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, as a restart does."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", "fast", "stop")

    def kill(self) -> None:
        """Kill it: its children notice that and end too."""
        pid_file = self._data / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().split()[0])
            _signal(pid, signal.SIGSTOP)  # so that it has no more children
            children = _children_of(pid)
            for one in (pid, *children):
                _signal(one, signal.SIGKILL)
            wait_for(lambda: not any(map(_is_alive, (pid, *children))))
            pid_file.unlink()  # where nobody reaps the dead process, it would seem to run

    def database(self) -> Database:
        """Make an empty database."""
        name = f"test_{next(_databases)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return Database(self, name)

    def url(self, database: str) -> str:
        return f"postgresql://trackcore@127.0.0.1:{self.port}/{database}"

    def _run(self, tool: str, *arguments: str) -> None:
        path = shutil.which(tool, path=_PATH)
        assert path is not None
        command = [path, *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=nobody", "--clear-groups", *command]
        # Not a pipe: the server would keep its end open.
        with (self.folder.parent / "tool").open("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, timeout=PATIENCE, check=False, cwd="/", start_new_session=True
            )
            output.seek(0)
            log = self.folder / "log"
            assert done.returncode == 0, output.read() + (log.read_text()[-1000:] if log.exists() else "")


@attrs.frozen
class Database:
    """An empty database, and what a test asks it."""

    cluster: Cluster
    name: str

    @property
    def url(self) -> str:
        return self.cluster.url(self.name)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(b"SET timezone = 'UTC'")
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def table(self, schema: str, table: str, *key: str) -> dict[Any, dict[str, Any]]:
        """Return the rows of a table by their key: the values that are not null, without bookkeeping."""
        with psycopg.connect(self.url) as connection:
            connection.execute(b"SET timezone = 'UTC'")
            cursor = connection.execute(f'SELECT * FROM "{schema}"."{table}"'.encode())
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor]
        kept = [
            {name: value for name, value in row.items() if value is not None and name not in ("uuid_ts", "_stamps")}
            for row in found
        ]
        by_key = {itemgetter(*(key or ("id",)))(row): row for row in kept}
        assert len(by_key) == len(kept)
        return by_key

    def tables(self, schema: str) -> set[str]:
        """Return the names of the tables of a schema, without that of discards."""
        found = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
        return {name for (name,) in found} - {"_discards"}


def running_cluster() -> Iterator[Cluster]:
    """Run a server until the generator is closed, in a folder that its user may read: pytest's own are private."""
    with TemporaryDirectory(prefix="postgres-") as folder:
        cluster = Cluster(Path(folder) / "cluster")
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.kill()


def _children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
