"""The process that answers Prometheus: adds up what all processes of the backend counted.

It is apart from the API so that a scrape never waits behind orders, and from the supervisor so that nothing a client
sends can disturb it.
"""

from __future__ import annotations

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Final, NoReturn

from prometheus_client.exposition import choose_encoder

from rtx.observability.metrics import multiprocess_registry
from rtx.supervisor import metrics_directory
from rtx.supervisor.listeners import METRICS_SOCKET_VARIABLE, inherited_socket

_REQUEST_TIMEOUT_S: Final = 10


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_S
    protocol_version = "HTTP/1.1"
    server_version = "rtx"
    sys_version = ""
    directory: Path

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, "text/plain; charset=utf-8", b"The metrics are at /metrics.\n")
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._answer(200, content_type, encode(multiprocess_registry(self.directory)))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Scrapes are no news."""

    def _answer(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket, handler: type[_Handler]) -> None:
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        listener.setblocking(True)
        self.socket = listener


def main() -> int:
    """Serve until SIGTERM."""
    listener = inherited_socket(METRICS_SOCKET_VARIABLE)
    assert listener is not None, "the supervisor passes the socket"
    handler = type("Handler", (_Handler,), {"directory": Path(os.environ[metrics_directory.VARIABLE])})
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    _Server(listener, handler).serve_forever()
    return 0


def _exit(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)
