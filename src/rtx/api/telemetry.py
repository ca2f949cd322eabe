"""What is counted and written about every request: metrics and one JSON log line, made as cheaply as possible.

Children of the metrics are looked up once per route and status. The log line is encoded directly and goes out in
batches, once per turn of the event loop: at tens of thousands of requests a second a general logger would cost more
than the requests.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import BinaryIO, Final

import msgspec
from prometheus_client import Counter, Histogram

REQUEST_SECONDS_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.045, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip

REQUESTS: Final = Counter("rtx_http_requests", "Answered requests.", ("method", "route", "status"))
ERRORS: Final = Counter("rtx_http_errors", "Refused requests by the code in the answer.", ("method", "route", "code"))
DURATION: Final = Histogram(
    "rtx_http_request_duration_seconds",
    "Time from a request's head to its answer.",
    ("method", "route"),
    buckets=REQUEST_SECONDS_BUCKETS,
)

UNKNOWN_ROUTE: Final = "unknown"
"""The label of paths that no endpoint has: what strangers type must not become metric labels."""


class RequestMetrics:
    """Counts requests; holds the children of the metrics so that a request looks up no labels."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], Counter] = {}
        self._errors: dict[tuple[str, str, int], Counter] = {}
        self._durations: dict[tuple[str, str], Histogram] = {}

    def count(self, method: str, route: str, status: int, code: int, seconds: float) -> None:
        """Count one answer; ``code`` is the error code or 0."""
        requests = self._requests.get((method, route, status))
        if requests is None:
            requests = self._requests[method, route, status] = REQUESTS.labels(method, route, str(status))
        requests.inc()
        duration = self._durations.get((method, route))
        if duration is None:
            duration = self._durations[method, route] = DURATION.labels(method, route)
        duration.observe(seconds)
        if code:
            errors = self._errors.get((method, route, code))
            if errors is None:
                errors = self._errors[method, route, code] = ERRORS.labels(method, route, str(code))
            errors.inc()


class RequestLine(msgspec.Struct, omit_defaults=True):
    """One line of the log; never parameters, which hold signatures."""

    timestamp: str
    level: str
    event: str
    request_id: str
    method: str
    path: str
    status: int
    duration_ms: float
    client: str = ""
    account_id: int = 0
    code: int = 0


class RequestLog:
    """Writes request lines, gathered until the event loop's next turn."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer
        self._encode = msgspec.json.Encoder().encode
        self._pending: list[bytes] = []

    def write(
        self,
        *,
        request_id: str,
        method: str,
        path: str,
        status: int,
        seconds: float,
        client: str,
        account_id: int,
        code: int,
    ) -> None:
        """Write one line."""
        line = RequestLine(
            datetime.now(UTC).isoformat(),
            "error" if status >= 500 else "info",
            "request",
            request_id,
            method,
            path,
            status,
            round(seconds * 1000, 3),
            client,
            account_id,
            code,
        )
        if not self._pending:
            asyncio.get_running_loop().call_soon(self.flush)
        self._pending.append(self._encode(line))

    def flush(self) -> None:
        """Write out what is gathered."""
        if self._pending:
            lines, self._pending = self._pending, []
            lines.append(b"")
            self._stream.write(b"\n".join(lines))
            self._stream.flush()
