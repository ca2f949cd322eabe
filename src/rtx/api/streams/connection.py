"""One client's WebSocket: what it subscribed to, what it asks, and how fast it reads.

Messages wait in a queue of its own with an end: a client that does not keep up is closed, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from rtx.api.errors import ApiError
from rtx.api.streams.cancel_on_disconnect import ConnectionSwitch
from rtx.api.streams.control import (
    CANNOT_RESUME,
    INVALID_REQUEST,
    ControlError,
    ControlRequest,
    parse_request,
    render_error,
    render_result,
)
from rtx.api.streams.hub import StreamHub, UnknownStreamError
from rtx.api.streams.market_streams import TradesStream
from rtx.api.streams.messages import ServerShutdownMessage
from rtx.api.streams.resumption import ResumeRefusedError, Subscription
from rtx.api.streams.stream import Stream
from rtx.cancellation import end_tasks
from rtx.observability.metrics import STREAM_CONNECTIONS, STREAM_SLOW_CONSUMERS

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = structlog.get_logger("rtx.api.streams.connection")


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may use."""

    streams_max: int = 1024
    requests_per_s: int = 5
    request_bytes_max: int = 64 * 1024
    queue_messages_max: int = 8192
    queue_bytes_max: int = 4 * 1024 * 1024
    close_timeout_s: float = 2.0
    shutdown_timeout_s: float = 5.0


class Closing(NamedTuple):
    """Why the connection ends (RFC 6455, 7.4)."""

    code: int
    reason: str


TOO_MANY_REQUESTS: Final = Closing(1008, "Too many requests")
TOO_SLOW: Final = Closing(1008, "Too slow: messages were not read in time")
TOO_BIG: Final = Closing(1009, "Message too big")
GOING_AWAY: Final = Closing(1001, "Server shutdown")
BROKEN: Final = Closing(1011, "Internal error")
NOT_RESUMED: Final = Closing(1013, "Cannot resume any more; connect again")
SWITCH_GONE: Final = Closing(1008, "Cancel on disconnect has gone off, or was replaced by another connection")

BY_EXCHANGE: Final = (GOING_AWAY, BROKEN, NOT_RESUMED)
"""Endings that are not the client's doing: it gets its time to come back before its orders are cancelled."""


class StreamConnection:
    """Runs one accepted WebSocket; a :class:`~rtx.api.streams.stream.QueuedSubscriber`."""

    def __init__(
        self,
        hub: StreamHub,
        receive: Receive,
        send: Send,
        *,
        is_combined: bool,
        time_divisor: int,
        now_us: Callable[[], int],
        limits: StreamLimits,
        abort: Callable[[], None],
        switch: ConnectionSwitch,
    ) -> None:
        """``abort`` ends the transport without ado, for a client that does not even take the closing frame."""
        self.is_combined = is_combined
        self._hub = hub
        self._receive = receive
        self._send = send
        self._time_divisor = time_divisor
        self._now_us = now_us
        self._limits = limits
        self._abort = abort
        self._switch = switch
        switch.on_gone = lambda: self._finish(SWITCH_GONE)
        self._streams: dict[str, Stream] = {}
        self._queue: deque[str] = deque()
        self._queue_bytes = 0
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._closes_when_empty = False
        self._end: asyncio.Future[Closing | None] = asyncio.get_running_loop().create_future()
        self._has_ended = asyncio.Event()
        self._allowance = _Allowance(limits.requests_per_s)

    def offer(self, text: str) -> None:
        """Queue a message; never waits, never raises."""
        if self._end.done():
            return
        self._queue.append(text)
        self._queue_bytes += len(text)
        if self._queue_bytes > self._limits.queue_bytes_max or len(self._queue) > self._limits.queue_messages_max:
            STREAM_SLOW_CONSUMERS.inc()
            self._finish(TOO_SLOW)
        else:
            self._wake.set()

    async def drained(self) -> None:
        """See :class:`~rtx.api.streams.stream.QueuedSubscriber`."""
        while not self._is_nearly_empty():
            self._has_room.clear()
            await self._has_room.wait()

    async def run(self, subscriptions: Sequence[Subscription]) -> None:
        """Serve the client until either side ends it; ``subscriptions`` are what the address named, prepared."""
        STREAM_CONNECTIONS.inc()
        self._hub.connections.add(self)
        tasks = [
            asyncio.create_task(self._guard(self._begin(subscriptions))),
            asyncio.create_task(self._guard(self._write())),
        ]
        closing: Closing | None = GOING_AWAY
        try:
            closing = await self._end
        finally:
            for task in tasks:
                task.cancel()
            self._switch.connection_ended(by_exchange=self._closes_when_empty or closing in BY_EXCHANGE)
            self._leave_all()
            self._hub.connections.discard(self)
            STREAM_CONNECTIONS.dec()
        await end_tasks(*tasks)
        # what was just being joined when the cancellation came
        self._leave_all()
        if closing is not None:
            await self._close(closing)
        self._has_ended.set()

    async def announce_shutdown(self) -> None:
        """Send ``serverShutdown`` behind what is queued, close with 1001, and wait for that (not for ever)."""
        event = msgspec.json.encode(ServerShutdownMessage(self._now_us() // self._time_divisor)).decode()
        self.offer(f'{{"stream":"!serverShutdown","data":{event}}}' if self.is_combined else event)
        self._closes_when_empty = True
        self._wake.set()
        try:
            async with asyncio.timeout(self._limits.shutdown_timeout_s):
                await self._has_ended.wait()
        except TimeoutError:
            self._finish(GOING_AWAY)

    def _leave_all(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self._hub.leave(stream, self)

    def _finish(self, closing: Closing | None) -> None:
        if not self._end.done():
            self._queue.clear()
            self._end.set_result(closing)

    async def _close(self, closing: Closing) -> None:
        message = {"type": "websocket.close", "code": closing.code, "reason": closing.reason}
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                await self._send(message)
        except TimeoutError:
            self._abort()
        except OSError:
            pass  # the client was faster

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except OSError:
            self._finish(None)
        except ResumeRefusedError:
            self._finish(NOT_RESUMED)
        except Exception:  # noqa: BLE001 - one broken connection must not stop the others
            _log.exception("stream.connection_failed")
            self._finish(BROKEN)

    async def _write(self) -> None:
        queue = self._queue
        while True:
            while queue:
                text = queue.popleft()
                self._queue_bytes -= len(text)
                if not self._has_room.is_set() and self._is_nearly_empty():
                    self._has_room.set()
                await self._send({"type": "websocket.send", "text": text})
            if self._closes_when_empty:
                self._finish(GOING_AWAY)
                return
            self._wake.clear()
            await self._wake.wait()

    def _is_nearly_empty(self) -> bool:
        limits = self._limits
        return self._queue_bytes * 4 <= limits.queue_bytes_max and len(self._queue) * 4 <= limits.queue_messages_max

    async def _begin(self, subscriptions: Sequence[Subscription]) -> None:
        await self._join(subscriptions)
        await self._read()

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._finish(None)
                return
            if not self._allowance.take():
                self._finish(TOO_MANY_REQUESTS)
                return
            text = message.get("text")
            content: str | bytes = message["bytes"] if text is None else text
            if len(content) > self._limits.request_bytes_max:
                self._finish(TOO_BIG)
                return
            try:
                await self._serve(parse_request(content))
            except ControlError as error:
                self.offer(render_error(error))

    async def _serve(self, request: ControlRequest) -> None:
        match request.method:
            case "SUBSCRIBE":
                await self._subscribe(request)
            case "UNSUBSCRIBE":
                for name in request.names():
                    stream = self._streams.pop(name, None)
                    if stream is not None:
                        self._hub.leave(stream, self)
                self.offer(render_result(None, request.request_id))
            case "LIST_SUBSCRIPTIONS":
                self.offer(render_result(list(self._streams), request.request_id))
            case "cancelOnDisconnect.enable":
                await self._set_switch(request, self._switch.enable(request.named))
            case "cancelOnDisconnect.disable":
                await self._set_switch(request, self._switch.disable())
            case "SET_PROPERTY":
                self.is_combined = request.property_value()
                self.offer(render_result(None, request.request_id))
            case _:
                request.property_name(parameter_count=1)
                self.offer(render_result(self.is_combined, request.request_id))

    async def _set_switch(self, request: ControlRequest, setting: Awaitable[dict[str, object] | None]) -> None:
        try:
            result = await setting
        except ApiError as error:
            raise request.refuse(error.code, error.message) from None
        self.offer(render_result(result, request.request_id))

    async def _subscribe(self, request: ControlRequest) -> None:
        names = [name for name in request.names() if name not in self._streams]
        positions = request.positions()
        for name in positions:
            if name in self._streams:
                message = f"Invalid request: resume names {name}, which this connection listens to already"
                raise request.refuse(INVALID_REQUEST, message)
        if len(self._streams) + len(names) > self._limits.streams_max:
            message = f"Invalid request: too many streams, a connection can listen to {self._limits.streams_max}"
            raise request.refuse(INVALID_REQUEST, message)
        try:
            streams = [await self._hub.find(name, self._time_divisor) for name in names]
        except UnknownStreamError as error:
            raise request.refuse(INVALID_REQUEST, f"Invalid request: invalid stream {error}") from None
        subscriptions = [Subscription(stream, positions.get(stream.name)) for stream in streams]
        try:
            await self._hub.prepare(subscriptions)
        except ResumeRefusedError as error:
            raise request.refuse(CANNOT_RESUME, str(error)) from None
        # the answer goes out before the first message of the streams
        self.offer(render_result(None, request.request_id))
        await self._join(subscriptions)

    async def _join(self, subscriptions: Sequence[Subscription]) -> None:
        """Join all streams; first those that need no waiting."""
        for stream, after in sorted(subscriptions, key=_is_slow):
            if after is None:
                joined = self._hub.join(stream, self)
            else:
                joined = await self._hub.resume(stream, after, self)
            self._streams[stream.name] = joined


def _is_slow(subscription: Subscription) -> bool:
    """Whether trades may have to be read before the stream is joined."""
    return subscription.after is not None and isinstance(subscription.stream, TradesStream)


class _Allowance:
    """So many requests a second, with as many at once."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at_s = time.monotonic()

    def take(self) -> bool:
        now_s = time.monotonic()
        self._left = min(float(self._per_s), self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
