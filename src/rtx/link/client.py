"""The API worker's end of the link: one connection, pipelined, that survives the engine.

Requests of one turn of the event loop leave in one frame. What was sent back, or not answered when the connection
broke, is sent again to the engine that leads next under the same command id, so that a command that did commit is
answered from the journal and not done twice. A request gives up only when its own time is over.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from rtx.core.commands import AnyCommand, encode_command
from rtx.core.events import AnyEvent, Rejected, decode_events
from rtx.core.rejections import Reason
from rtx.link.connection import Address, EngineConnection, open_connection
from rtx.link.following import Following, Locate, position_query
from rtx.link.handshake import new_worker_name
from rtx.link.messages import (
    ANSWERED,
    APPLIED,
    CONFLICT,
    OVERLOADED,
    POSITION_NUMBER,
    QUERY_BOOK,
    QUERY_DEADLINES,
    QUERY_POSITION,
    QUERY_STATE_HASH,
    REJECTED,
    SUBMIT,
    UNAVAILABLE,
    BookAnswer,
    BookQuery,
    Request,
    Response,
)

__all__ = ["EngineClient", "Locate"]

_encoder = msgspec.msgpack.Encoder()
_responses_decoder = msgspec.msgpack.Decoder(list[Response])
_address_decoder = msgspec.msgpack.Decoder(str | None)
_book_decoder = msgspec.msgpack.Decoder(BookAnswer)
_deadlines_decoder = msgspec.msgpack.Decoder(list[tuple[str, int]])

_NOTHING: Final = msgspec.Raw(b"\xc0")
_SWEEP_INTERVAL_S: Final = 0.25
_REQUESTS_PER_FRAME_MAX: Final = 2_000


class Applied(msgspec.Struct, frozen=True):
    """A command that is committed: its place and time in the journal, and what it did."""

    sequence: int
    time_us: int
    events: Sequence[AnyEvent]


class EngineError(Exception):
    """Base of the errors of the link."""


class CommandRejectedError(EngineError):
    """The exchange refused. ``rejections`` has one entry, or both halves of a cancel-replace."""

    def __init__(self, rejections: Sequence[Rejected]) -> None:
        self.rejections = tuple(rejections)
        first = rejections[0]
        self.reason = Reason(first.reason)
        self.field = first.field
        self.step = first.step
        super().__init__(self.reason.name, self.field)


class EngineOverloadedError(EngineError):
    """The engine's queue is full; nothing was done."""


class EngineTimeoutError(EngineError):
    """No answer in time; whether a command was done is not known."""


class EngineFaultError(EngineError):
    """The engine met a fault of its own with this command and stopped before it changed anything."""


class IdempotencyConflictError(EngineError):
    """The command id was used before for another request."""


def new_command_id() -> bytes:
    """A UUID of version 7 (RFC 9562): ordered by time, so that the journal's index grows at its end."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62)
    return value.to_bytes(16)


class _Pending:
    __slots__ = ("deadline_s", "future", "request", "was_sent")

    def __init__(self, request: Request, future: asyncio.Future[Response], deadline_s: float) -> None:
        self.request = request
        self.future = future
        self.deadline_s = deadline_s
        self.was_sent = False


class EngineClient:
    """The engine, as an API worker sees it: whichever leads (see :class:`rtx.link.following.Following`)."""

    def __init__(self, key: bytes, locate: Locate, *, on_connected: Callable[[], None] | None = None) -> None:
        """``on_connected`` is called with each connection that is taken into use."""
        self._key = key
        self._name = new_worker_name()
        self._on_connected = on_connected
        self._following = Following(locate, self._connect, self._send_unanswered)
        self._connection: EngineConnection | None = None
        self._number = 0
        self._pending: dict[int, _Pending] = {}
        self._waiting: dict[int, None] = {}
        """Those of the pending that are not at an engine: sent back, or not sent yet."""
        self._outbox: list[Request] = []
        self._flush_is_scheduled = False
        self._frames_received = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopped = False

    @property
    def is_connected(self) -> bool:
        """Whether there is an authenticated connection at this moment."""
        return self._following.connection is not None

    def start(self) -> None:
        """Begin to connect, in the background; requests may be made at once."""
        self._following.start()
        self._tasks = [asyncio.create_task(self._sweep())]

    async def stop(self) -> None:
        """Close the connection; whoever still waits, or asks from now on, gets :class:`EngineTimeoutError`."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._following.stop()
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(EngineTimeoutError())
        self._pending.clear()

    def look_again(self) -> None:
        """Look for the leader now if there is none: to be called when something says that the lease has changed."""
        self._following.look_again()

    async def submit(
        self,
        command: AnyCommand,
        *,
        request_id: str,
        command_id: bytes | None = None,
        request_hash: bytes = b"",
        timeout_s: float = 10.0,
    ) -> Applied:
        """Have a command done and committed.

        With a ``command_id`` of the caller's (16 bytes) the command is done at most once under it, and asking again
        gives the same answer; with a ``request_hash`` (32 bytes) asking again for something else is refused. Raises
        the subclasses of :class:`EngineError`.
        """
        return self.conclude(
            await self.begin(
                command,
                request_id=request_id,
                command_id=command_id,
                request_hash=request_hash,
                timeout_s=timeout_s,
            )
        )

    def begin(
        self,
        command: AnyCommand,
        *,
        request_id: str,
        command_id: bytes | None = None,
        request_hash: bytes = b"",
        timeout_s: float = 10.0,
    ) -> asyncio.Future[Response]:
        """The first half of :meth:`submit`: send, and give what :meth:`conclude` wants when it is done.

        The future fails with :class:`EngineTimeoutError`.
        """
        payload = msgspec.Raw(encode_command(command))
        identifier = command_id or new_command_id()
        return self._request(SUBMIT, payload, timeout_s, identifier, request_id, command_id is not None, request_hash)

    def conclude(self, response: Response) -> Applied:
        """The second half of :meth:`submit`: read the answer; raises as that does."""
        status = response.status
        if status == APPLIED:
            return Applied(response.sequence, response.time_us, decode_events(response.payload))
        if status == REJECTED:
            raise CommandRejectedError(cast("list[Rejected]", decode_events(response.payload)))
        if status == CONFLICT:
            raise IdempotencyConflictError
        if status == OVERLOADED:
            raise EngineOverloadedError
        raise EngineFaultError

    async def book(self, market_id: int, limit: int, *, timeout_s: float = 10.0) -> tuple[int, BookAnswer]:
        """The best ``limit`` levels a side (0: all) and the journal position they hold at."""
        query = msgspec.Raw(_encoder.encode(BookQuery(market_id, limit)))
        response = await self._request(QUERY_BOOK, query, timeout_s)
        if response.status != ANSWERED:
            raise self._error(response)
        return response.sequence, _book_decoder.decode(response.payload)

    async def deadlines(self, account_id: int, *, timeout_s: float = 10.0) -> list[tuple[str, int]]:
        """The dead-man's switches of an account that are armed: session and deadline in Unix microseconds."""
        query = msgspec.Raw(_encoder.encode(account_id))
        response = await self._request(QUERY_DEADLINES, query, timeout_s)
        if response.status != ANSWERED:
            raise self._error(response)
        return _deadlines_decoder.decode(response.payload)

    async def state_hash(self, *, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """The hash of the engine's whole state and the journal position it holds at."""
        response = await self._request(QUERY_STATE_HASH, _NOTHING, timeout_s)
        if response.status != ANSWERED:
            raise self._error(response)
        return response.sequence, msgspec.msgpack.decode(response.payload, type=bytes)

    async def position(self, *, timeout_s: float = 10.0) -> int:
        """The journal position; that it is answered shows that the engine leads."""
        response = await self._request(QUERY_POSITION, _NOTHING, timeout_s)
        if response.status != ANSWERED:
            raise self._error(response)
        return response.sequence

    def _error(self, response: Response) -> EngineError:
        if response.status == REJECTED:
            return CommandRejectedError(cast("list[Rejected]", decode_events(response.payload)))
        if response.status == OVERLOADED:
            return EngineOverloadedError()
        return EngineFaultError()

    def _request(
        self,
        kind: int,
        payload: msgspec.Raw,
        timeout_s: float,
        command_id: bytes = b"",
        request_id: str = "",
        may_be_known: bool = False,
        request_hash: bytes = b"",
    ) -> asyncio.Future[Response]:
        loop = asyncio.get_running_loop()
        self._number = number = self._number + 1
        request = Request(number, kind, payload, command_id, request_id, may_be_known, request_hash)
        future: asyncio.Future[Response] = loop.create_future()
        if self._is_stopped:
            future.set_exception(EngineTimeoutError())
            return future
        pending = self._pending[number] = _Pending(request, future, loop.time() + timeout_s)
        self._send(pending)
        return future

    def _send(self, pending: _Pending) -> None:
        if not self._following.is_leading:
            self._waiting[pending.request.number] = None
            return
        pending.was_sent = True
        self._outbox.append(pending.request)
        if not self._flush_is_scheduled:
            self._flush_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_scheduled = False
        requests, self._outbox = self._outbox, []
        connection = self._following.connection
        if connection is None:
            return
        for start in range(0, len(requests), _REQUESTS_PER_FRAME_MAX):
            connection.send(_encoder.encode(requests[start : start + _REQUESTS_PER_FRAME_MAX]))

    # -- answers --------------------------------------------------------------------------------------------------

    def receive(self, connection: EngineConnection, payload: bytes) -> None:
        """Called by a connection with each frame of answers."""
        self._frames_received += 1
        is_answered = False
        for response in _responses_decoder.decode(payload):
            if response.status == UNAVAILABLE:
                self._take_back(connection, response)
                continue
            pending = self._pending.pop(response.number, None)
            if pending is not None:
                is_answered = True
                if not pending.future.done():
                    pending.future.set_result(response)
            elif response.number == POSITION_NUMBER:
                term = bytes(response.payload)
                if term != bytes(_NOTHING):
                    connection.term = msgspec.Raw(term)
                self._following.leads(connection)
        if is_answered:
            self._following.answered(connection)

    def _take_back(self, connection: EngineConnection, response: Response) -> None:
        """Keep what was sent back until an engine leads, and look for that."""
        if connection is self._connection and response.number in self._pending:
            self._waiting[response.number] = None
        self._following.sent_back(connection, _address_in(response) if connection.version >= 2 else None)

    def connection_lost(self, connection: EngineConnection) -> None:
        """Called by a connection when it ended."""
        self._following.lost(connection)

    async def _connect(self, address: Address) -> EngineConnection:
        return await open_connection(self._key, address, self, self._name)

    def _send_unanswered(self, connection: EngineConnection) -> None:
        """Send what waits for a leader; over a new connection, everything that was not answered."""
        connection.send(position_query(connection.term))
        numbers, self._waiting = self._waiting, {}
        is_new = connection is not self._connection
        if is_new:
            self._connection = connection
            self._outbox = []
            numbers = dict.fromkeys(self._pending)
        for number in numbers:
            self._send_again(number)
        if is_new and self._on_connected is not None:
            self._on_connected()

    def _send_again(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return
        if pending.future.done():
            # Its caller was cancelled: it may have been done, and nobody wants it done now.
            del self._pending[number]
            return
        if pending.was_sent and pending.request.kind == SUBMIT:
            pending.request = msgspec.structs.replace(pending.request, may_be_known=True)
        self._send(pending)

    async def _sweep(self) -> None:
        """End the requests whose time is over, and notice when the engine is silent.

        A process that was stopped or cut off keeps its connections: nothing else would tell.
        """
        loop = asyncio.get_running_loop()
        frames_before = -1
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            now_s = loop.time()
            expired = [number for number, pending in self._pending.items() if pending.deadline_s <= now_s]
            for number in expired:
                self._waiting.pop(number, None)
                future = self._pending.pop(number).future
                if not future.done():
                    future.set_exception(EngineTimeoutError())
            if not self._pending or not self._following.is_leading:
                frames_before = -1
                continue
            if self._frames_received == frames_before:
                self._following.fell_silent()
            frames_before = self._frames_received


def _address_in(response: Response) -> Address | None:
    """Read where else to ask out of an "unavailable"; raises ``msgspec.DecodeError``."""
    address = _address_decoder.decode(response.payload)
    if not address:
        return None
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise msgspec.ValidationError(f"no address: {address[:100]!r}")
    return host.strip("[]"), int(port)
