"""What is counted and written about every request: metrics and one JSON log line, made as cheaply as possible.

At tens of thousands of requests a second a general logger and a metric's own locking would cost more than much of what
they tell of, so both gather: log lines for a turn of the event loop, counts for half a second.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_left
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

FLUSH_INTERVAL_S: Final = 0.5

UNKNOWN_ROUTE: Final = "unknown"
"""The label of paths that no endpoint has: what strangers type must not become metric labels."""


class _Tally:
    """What was counted of one kind of answer since the last flush."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(REQUEST_SECONDS_BUCKETS) + 1)


class RequestMetrics:
    """Counts requests in plain numbers and adds them to the metrics in batches.

    A sample of a metric that several processes share costs a lock and a write to a mapped file; five of them for every
    request would be a tenth of what an order costs.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, int, int], _Tally] = {}
        self._is_flush_scheduled = False

    def count(self, method: str, route: str, status: int, code: int, seconds: float) -> None:
        """Count one answer; ``code`` is the error code or 0."""
        tally = self._tallies.get((method, route, status, code))
        if tally is None:
            tally = self._tallies[method, route, status, code] = _Tally()
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(REQUEST_SECONDS_BUCKETS, seconds)] += 1
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Add what was counted to the metrics."""
        self._is_flush_scheduled = False
        for (method, route, status, code), tally in self._tallies.items():
            if not tally.count:
                continue
            REQUESTS.labels(method, route, str(status)).inc(tally.count)
            if code:
                ERRORS.labels(method, route, str(code)).inc(tally.count)
            _observe(DURATION.labels(method, route), tally)
            tally.clear()


def _observe(histogram: Histogram, tally: _Tally) -> None:
    """Add many samples at once, for which the library has no call: by what its ``observe`` does for each."""
    histogram._sum.inc(tally.seconds)
    for bucket, count in zip(histogram._buckets, tally.buckets, strict=True):
        if count:
            bucket.inc(count)


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
