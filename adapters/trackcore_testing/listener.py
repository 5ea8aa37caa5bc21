"""The listener: accepts connections on a port, and serves each in a thread of its own."""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("trackcore.testing")

_POLL_SECONDS = 0.02
"""How long `close` may have to wait for the thread that accepts."""


class Listener(socketserver.ThreadingTCPServer):
    """Listens from its creation on, and accepts from its start on, until it is closed.  Port 0 takes a free one.

    Raises `OSError` if it cannot listen.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._serve = serve
        self._open: set[socket.socket] = set()
        super().__init__((host, port), socketserver.BaseRequestHandler)
        self._thread = threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), daemon=True)

    def start(self) -> None:
        """Accept connections."""
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address as a URL without a slash at its end."""
        host, port, *_ = self.socket.getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("a connection was closed already")

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection.  It counts as open before its thread begins, so that `close` misses none."""
        request, client_address = super().get_request()
        self._open.add(request)
        return request, client_address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its thread."""
        del client_address
        self._serve(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an unexpected error; the connection is closed, and the server goes on."""
        del request, client_address
        log.error("a connection failed", exc_info=sys.exception())
