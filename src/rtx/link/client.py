"""The API worker's end of the link: one connection, pipelined, that survives the engine.

Requests of one turn of the event loop leave in one frame. What was not answered when the connection broke is sent again
over the next one under the same command id, so that a command that did commit is answered from the journal and not done
twice. A request gives up only when its own time is over.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

import msgspec
import structlog

from rtx.core.commands import AnyCommand, encode_command
from rtx.core.events import AnyEvent, Rejected, decode_events
from rtx.core.rejections import Reason
from rtx.link.frames import FrameReader, FrameTooLargeError, frame
from rtx.link.handshake import (
    HANDSHAKE_FRAME_BYTES_MAX,
    Greeting,
    HandshakeError,
    Proof,
    check_nonce,
    check_proof,
    new_nonce,
    proof,
)
from rtx.link.messages import (
    ANSWERED,
    APPLIED,
    CONFLICT,
    MAXIMUM_FRAME_BYTES,
    OVERLOADED,
    PROTOCOL_VERSION,
    QUERY_BOOK,
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

_log = structlog.get_logger(__name__)

_encoder = msgspec.msgpack.Encoder()
_greeting_decoder = msgspec.msgpack.Decoder(Greeting)
_proof_decoder = msgspec.msgpack.Decoder(Proof)
_responses_decoder = msgspec.msgpack.Decoder(list[Response])
_book_decoder = msgspec.msgpack.Decoder(BookAnswer)

_NOTHING: Final = msgspec.Raw(b"\xc0")
_SWEEP_INTERVAL_S: Final = 0.25
_CONNECT_TIMEOUT_S: Final = 2.0
_RECONNECT_INTERVAL_S: Final = 0.05
_REFUSED_INTERVAL_S: Final = 1.0
"""Between attempts while the engine does not accept the proof: somebody has to change a setting first."""
_FIRST_RETRY_DELAY_S: Final = 0.02
_RETRY_DELAY_MAX_S: Final = 0.2
_REQUESTS_PER_FRAME_MAX: Final = 2_000

Locate = Callable[[], Awaitable[tuple[str, int] | None]]
"""Finds host and port of the engine that leads; None when there is none at the moment."""


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
    __slots__ = ("deadline_s", "future", "request")

    def __init__(self, request: Request, future: asyncio.Future[Response], deadline_s: float) -> None:
        self.request = request
        self.future = future
        self.deadline_s = deadline_s


class EngineClient:
    """The engine, as an API worker sees it.

    It follows the leader: when the engine it is connected to is silent or takes nothing, it looks who leads now.
    """

    def __init__(self, key: bytes, locate: Locate, *, on_connected: Callable[[], None] | None = None) -> None:
        self._key = key
        self._locate = locate
        self._on_connected = on_connected
        self._number = 0
        self._pending: dict[int, _Pending] = {}
        self._outbox: list[Request] = []
        self._flush_is_scheduled = False
        self._transport: asyncio.Transport | None = None
        self._address: tuple[str, int] | None = None
        self._frames_received = 0
        self._unavailable: list[int] = []
        self._retry: asyncio.TimerHandle | None = None
        self._retry_delay_s = _FIRST_RETRY_DELAY_S
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopped = False
        self._lost = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether there is an authenticated connection at this moment."""
        return self._transport is not None

    def start(self) -> None:
        """Begin to connect, in the background; requests may be made at once."""
        work = (self._keep_connected(), self._follow_leader(), self._sweep())
        self._tasks = [asyncio.create_task(one) for one in work]

    async def stop(self) -> None:
        """Close the connection; whoever still waits, or asks from now on, gets :class:`EngineTimeoutError`."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._retry is not None:
            self._retry.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(EngineTimeoutError())
        self._pending.clear()

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
        self._pending[number] = _Pending(request, future, loop.time() + timeout_s)
        self._send(request)
        return future

    def _send(self, request: Request) -> None:
        if self._transport is None:
            return
        self._outbox.append(request)
        if not self._flush_is_scheduled:
            self._flush_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_scheduled = False
        requests, self._outbox = self._outbox, []
        if self._transport is None:
            return
        for start in range(0, len(requests), _REQUESTS_PER_FRAME_MAX):
            self._transport.write(frame(_encoder.encode(requests[start : start + _REQUESTS_PER_FRAME_MAX])))

    # -- answers --------------------------------------------------------------------------------------------------

    def _receive(self, payload: bytes) -> None:
        self._frames_received += 1
        for response in _responses_decoder.decode(payload):
            if response.status == UNAVAILABLE:
                self._send_later(response.number)
                continue
            self._retry_delay_s = _FIRST_RETRY_DELAY_S
            pending = self._pending.pop(response.number, None)
            if pending is not None and not pending.future.done():
                pending.future.set_result(response)

    def _send_later(self, number: int) -> None:
        """Ask again in a while, together with all others that were sent back."""
        self._unavailable.append(number)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._retry_delay_s, self._send_unavailable)
            self._retry_delay_s = min(self._retry_delay_s * 1.5, _RETRY_DELAY_MAX_S)

    def _send_unavailable(self) -> None:
        self._retry = None
        numbers, self._unavailable = self._unavailable, []
        for number in dict.fromkeys(numbers):
            self._send_again(number)

    def _send_again(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending is None:
            return
        if pending.future.done():
            # Its caller was cancelled: it may have been done, and nobody wants it done now.
            del self._pending[number]
            return
        if pending.request.kind == SUBMIT:
            pending.request = msgspec.structs.replace(pending.request, may_be_known=True)
        self._send(pending.request)

    async def _sweep(self) -> None:
        """End the requests whose time is over."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            now_s = loop.time()
            expired = [number for number, pending in self._pending.items() if pending.deadline_s <= now_s]
            for number in expired:
                future = self._pending.pop(number).future
                if not future.done():
                    future.set_exception(EngineTimeoutError())

    async def _follow_leader(self) -> None:
        """Leave an engine that is silent, or sends everything back, when another one leads.

        A process that was stopped or cut off keeps its connections: nothing else would tell.
        """
        frames_before = -1
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            if self._transport is None or not self._pending:
                frames_before = -1
                continue
            is_silent, frames_before = self._frames_received == frames_before, self._frames_received
            if not is_silent and not self._unavailable:
                continue
            address = await self._find_leader()
            if address is not None and address != self._address and self._transport is not None:
                _log.info("link_moves", reason="another engine leads")
                self._transport.abort()

    async def _find_leader(self) -> tuple[str, int] | None:
        try:
            return await self._locate()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            _log.warning("leader_not_found", error=repr(error))
            return None

    # -- connection -----------------------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        while True:
            try:
                await self._connect()
            except (OSError, TimeoutError):
                await asyncio.sleep(_RECONNECT_INTERVAL_S)
                continue
            except Exception as error:  # noqa: BLE001 - a worker that gave up would never answer again
                _log.error("link_refused", reason=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_REFUSED_INTERVAL_S)
                continue
            await self._lost.wait()

    async def _connect(self) -> None:
        address = await self._find_leader()
        if address is None:
            raise OSError("no engine leads")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            transport, protocol = await loop.create_connection(lambda: _ClientConnection(self, self._key), *address)
            try:
                await protocol.ready
                if transport.is_closing():
                    raise ConnectionResetError("the engine closed the connection")
            except BaseException:
                transport.abort()
                raise
        self._lost.clear()
        self._transport = transport
        self._address = address
        self._outbox = []
        self._unavailable = []
        for number in list(self._pending):
            self._send_again(number)
        if self._on_connected is not None:
            self._on_connected()

    def connection_lost(self, transport: asyncio.Transport | None) -> None:
        """Called by the connection when it ended."""
        if transport is not None and transport is self._transport:
            self._transport = None
            self._lost.set()

    def receive(self, payload: bytes) -> None:
        """Called by the connection with each frame of answers."""
        self._receive(payload)


class _ClientConnection(asyncio.Protocol):
    """Proves itself to the engine, then passes frames on."""

    def __init__(self, client: EngineClient, key: bytes) -> None:
        self._client = client
        self._key = key
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._nonce = new_nonce()
        self._engine_nonce = b""
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            closed: Exception = ConnectionResetError("the engine closed the connection")
            if self._engine_nonce:
                closed = HandshakeError("the engine did not accept this worker (is JWT_SECRET the same everywhere?)")
            self.ready.set_exception(closed)
        self._client.connection_lost(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                if self.ready.done():
                    self._client.receive(payload)
                else:
                    self._prove(payload)
        except (HandshakeError, FrameTooLargeError, msgspec.DecodeError) as error:
            if not self.ready.done():
                self.ready.set_exception(HandshakeError(str(error)))
            assert self._transport is not None
            self._transport.abort()

    def _prove(self, payload: bytes) -> None:
        assert self._transport is not None
        if not self._engine_nonce:
            greeting = _greeting_decoder.decode(payload)
            check_nonce(greeting.nonce)
            self._engine_nonce = greeting.nonce
            mac = proof(self._key, b"worker", greeting.nonce, self._nonce)
            self._transport.write(frame(_encoder.encode(Proof(PROTOCOL_VERSION, self._nonce, mac))))
            return
        received = _proof_decoder.decode(payload)
        check_proof(self._key, b"engine", self._engine_nonce, self._nonce, received)
        self._reader.maximum_bytes = MAXIMUM_FRAME_BYTES
        self.ready.set_result(None)
