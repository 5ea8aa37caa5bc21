"""gunicorn's worker for an ASGI app: one loop serves all connections of the process.

gunicorn starts, watches, reloads and stops it as any worker.  The rest is ours: `http_connection` parses and serves,
`async_server` accepts, cuts and stops.  It promises clients what the threaded worker promises, by the same settings of
gunicorn.  Use it for any server that other machines can reach:

    gunicorn --worker-class trackcore_server.worker.AsyncWorker 'trackcore_server:create_asgi_app()'
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.sock import ssl_context

from trackcore_server.hosting.async_server import AsyncServer
from trackcore_server.hosting.http_host import HttpLimits
from trackcore_server.hosting.lifespan import StartFailed
from trackcore_server.hosting.stopping import StoppableWorker
from trackcore_server.hosting.worker import REQUEST_SECONDS
from trackcore_server.process.signals import ignore_stops

_OTHER_FILES = 1_024
"""The number of files that a process may need besides its connections."""

_UNLIMITED_LINE = 65_536
"""The limit of a request line where gunicorn's setting is 0, for none."""


_YOUNG_OBJECTS = 20_000
"""The number of new objects that starts the garbage collector; by default it is 700, or 2,000 in newer versions."""


class AsyncWorker(StoppableWorker):
    """A worker that serves an ASGI app in one loop."""

    request_seconds = REQUEST_SECONDS

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Warn of settings that have no effect on this worker."""
        unused = {"threads": cfg.threads > 1, "accesslog": cfg.accesslog, "proxy_protocol": cfg.proxy_protocol != "off"}
        for name in (name for name, is_set in unused.items() if is_set):
            log.warning("The setting %s has no effect on this worker.", name)

    def run(self) -> None:
        """Serve until a signal stops the worker and the requests in progress are answered.

        Until the app has started, the worker has not booted: if it cannot start, gunicorn stops.
        """
        self.booted = False
        spare_collector()
        raise_file_limit(self.cfg.worker_connections + _OTHER_FILES)
        try:
            with asyncio.Runner(loop_factory=_loop_factory(self.cfg.asgi_loop)) as runner:
                runner.run(self._serve())
        except StartFailed:  # it is logged
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        finally:
            for each in self.sockets:
                each.close()
        ignore_stops()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()

        def begin() -> None:
            loop.add_signal_handler(signal.SIGTERM, server.stop)
            loop.add_signal_handler(signal.SIGQUIT, partial(server.stop, is_hasty=True))
            self.booted = True

        def tick() -> None:
            self.notify()
            if not self.alive or self.ppid != os.getppid():
                server.stop()

        server = AsyncServer(
            app=self.wsgi,
            sockets=self.sockets,
            limits=self._limits(),
            backlog=self.cfg.backlog,
            graceful_seconds=self.cfg.graceful_timeout,
            most_requests=self.max_requests,
            tls=ssl_context(self.cfg) if self.cfg.is_ssl else None,
            access_log=getattr(self.wsgi, "access_log", None),
            on_ready=begin,
            on_tick=tick,
        )
        await server.serve()

    def _limits(self) -> HttpLimits:
        return HttpLimits(
            request_line=self.cfg.limit_request_line or _UNLIMITED_LINE,
            headers=self.cfg.limit_request_fields,
            header_size=self.cfg.limit_request_field_size,
            request_seconds=self.request_seconds,
            keepalive_seconds=max(self.cfg.keepalive, 1),
            connections=self.cfg.worker_connections,
        )


def spare_collector() -> None:
    """Let the garbage collector run less often, and ignore all objects that exist: they live as long as the process.

    Requests leave no cycles behind.  Yet those in progress would start the collector, in vain, several times in each
    turn of the loop: that was a tenth of all CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def raise_file_limit(files: int) -> None:
    """Allow this process to open so many files, as far as the system lets it.

    The usual limit is 1,024, for programs that use `select`; a connection is a file too.
    """
    current, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if most == resource.RLIM_INFINITY else min(files, most)
    if current != resource.RLIM_INFINITY and current < wanted:
        with suppress(OSError, ValueError):  # a system may refuse it all the same
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of gunicorn's setting `asgi_loop`; `auto` is uvloop where it is installed."""
    if name != "asyncio":
        try:
            from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
        except ImportError:
            pass
        else:
            return new_event_loop
    return asyncio.new_event_loop
