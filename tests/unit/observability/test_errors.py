"""Reports of unexpected errors, as they arrive at a Sentry server."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

PROGRAM = """
import logging, sys
from rtx.observability.errors import configure_error_reports, flush_error_reports
from rtx.observability.logging import configure_logging, get_logger

configure_logging("info", role="api-1")
configure_error_reports(sys.argv[1], environment="test", release="1.2.3", role="api-1")

def fail():
    secret_of_the_order = "do not " + "tell"
    raise RuntimeError("what went wrong")

try:
    fail()
except RuntimeError as error:
    get_logger("rtx.api").error("request.failed", request_id="abc-1", signature="0123abcd", exc_info=error)
    logging.getLogger("asyncio").exception("a task failed")
    get_logger("rtx.api").warning("expected", exc_info=error)
flush_error_reports(10)
"""


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    bodies: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body.decode())
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[str]]]:
    """A server that takes reports: its DSN, and what it got."""
    bodies: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Collector,), {"bodies": bodies}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_logged_exceptions_are_reported_without_what_they_were_about(sentry: tuple[str, list[str]]) -> None:
    dsn, bodies = sentry
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM, dsn], env=environment, capture_output=True, check=True)
    reports = [body for body in bodies if "what went wrong" in body]
    assert len(reports) == 2
    assert "request.failed" in reports[0]
    assert "abc-1" in reports[0]
    assert "a task failed" in reports[1]
    for report in reports:
        assert '"1.2.3"' in report
        assert "0123abcd" not in report
        assert "do not tell" not in report
    assert len(done.stdout.splitlines()) == 3
