"""A closed loop of many connections in one thread: send, wait for the whole answer, send the next.

The load runs on the machine that is measured, so it has to be cheap: plain sockets and epoll, requests ready-made, some
ten microseconds for a request. HTTP/1.1 answers with a Content-Length are understood, nothing else.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

RECEIVE_BYTES: Final = 65_536
IDLE_SECONDS_MAX: Final = 10.0
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_ERROR_BODY: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class LoadError(Exception):
    """The server broke off, fell silent, or answered in a form that the loop does not know."""


@dataclass(slots=True)
class LoadResult:
    """What one stretch of load saw; times in seconds."""

    elapsed_seconds: float = 0.0
    client_cpu_seconds: float = 0.0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    latencies_seconds: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """All answers, of whatever kind."""
        return len(self.latencies_seconds)

    @property
    def accepted_per_second(self) -> float:
        """Answers 200 a second."""
        return self.accepted / self.elapsed_seconds if self.elapsed_seconds else 0.0

    def latency_ms(self, quantile: float) -> float:
        """The latency below which this share of all answers came (0.5: the median)."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(int(len(ordered) * quantile), len(ordered) - 1)] * 1000.0 if ordered else 0.0

    def add(self, other: LoadResult) -> None:
        """Take in another stretch of the same load."""
        self.elapsed_seconds += other.elapsed_seconds
        self.client_cpu_seconds += other.client_cpu_seconds
        self.accepted += other.accepted
        self.refused.update(other.refused)
        self.latencies_seconds += other.latencies_seconds


class _Connection:
    __slots__ = ("buffer", "sent_at", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=IDLE_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)  # a time limit on the socket would cost a system call before each of ours
        self.buffer = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def whole_answer(self) -> bytes | None:
        """Read what is there; the answer once it is complete, else None."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise LoadError("the server closed a connection")
        answer = self.buffer + received if self.buffer else received
        head_end = answer.find(b"\r\n\r\n")
        if head_end >= 0:
            length = _LENGTH.search(answer, 0, head_end + 2)
            if length is None:
                raise LoadError(f"an answer without Content-Length: {answer[:head_end]!r}")
            missing = head_end + 4 + int(length[1]) - len(answer)
            if missing < 0:
                raise LoadError("the server sent more than one answer to one request")
            if missing == 0:
                self.buffer = b""
                return answer
        self.buffer = answer
        return None


def drive(address: tuple[str, int], requests: Sequence[bytes], *, connections: int, seconds: float) -> LoadResult:
    """Send the requests in order from ``connections`` connections, until they are used up or ``seconds`` are over.

    What is under way at the end is waited for and counted, with the time it takes. Raises :class:`LoadError`.
    """
    result = LoadResult()
    try:
        opened = [_Connection(address) for _ in range(min(connections, len(requests)))]
    except OSError as error:
        raise LoadError(f"no connection to {address[0]}:{address[1]}: {error!r}") from error
    with select.epoll() as poll:
        by_descriptor = {connection.socket.fileno(): connection for connection in opened}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        gc.collect()
        gc.disable()
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            _loop(poll, by_descriptor, iter(requests), started + seconds, result)
        except OSError as error:
            raise LoadError(f"a connection broke: {error!r}") from error
        finally:
            gc.enable()
            for connection in opened:
                connection.socket.close()
        result.elapsed_seconds = time.perf_counter() - started
        result.client_cpu_seconds = time.process_time() - cpu_started
    return result


def _loop(
    poll: select.epoll,
    by_descriptor: dict[int, _Connection],
    requests: Iterator[bytes],
    deadline: float,
    result: LoadResult,
) -> None:
    for connection in by_descriptor.values():
        connection.send(next(requests))
    under_way = len(by_descriptor)
    latencies, clock = result.latencies_seconds, time.perf_counter
    while under_way:
        events = poll.poll(IDLE_SECONDS_MAX)
        if not events:
            raise LoadError(f"no answer for {IDLE_SECONDS_MAX:.0f} s with {under_way} requests under way")
        for descriptor, _ in events:
            connection = by_descriptor[descriptor]
            answer = connection.whole_answer()
            if answer is None:
                continue
            now = clock()
            latencies.append(now - connection.sent_at)
            if answer.startswith(b"HTTP/1.1 200 "):
                result.accepted += 1
            else:
                result.refused[_describe(answer)] += 1
            request = next(requests, None) if now < deadline else None
            if request is None:
                under_way -= 1
            else:
                connection.send(request)


def _describe(answer: bytes) -> str:
    """`400 -2010 text` of an answer that is not 200."""
    status = answer[9:12].decode(errors="replace")
    try:
        error = _ERROR_BODY.decode(answer[answer.index(b"\r\n\r\n") + 4 :])
    except (ValueError, msgspec.DecodeError):
        return status
    return f"{status} {error.get('code', '')} {error.get('msg', '')}".rstrip()
