"""One connection of an API worker to an engine: proves itself, then passes frames on."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

import msgspec

from rtx.link.frames import FrameReader, FrameTooLargeError, frame
from rtx.link.handshake import (
    HANDSHAKE_FRAME_BYTES_MAX,
    Greeting,
    HandshakeError,
    Proof,
    check_nonce,
    check_proof,
    common_version,
    new_nonce,
    proof,
)
from rtx.link.messages import MAXIMUM_FRAME_BYTES, PROTOCOL_VERSION

CONNECT_TIMEOUT_S: Final = 2.0

_encoder = msgspec.msgpack.Encoder()
_greeting_decoder = msgspec.msgpack.Decoder(Greeting)
_proof_decoder = msgspec.msgpack.Decoder(Proof)

Address = tuple[str, int]
"""Host and port."""


class Receiver(Protocol):
    """Who is told what comes over a connection."""

    def receive(self, connection: EngineConnection, payload: bytes) -> None:
        """Take a frame of answers; raises ``msgspec.DecodeError``, upon which the connection ends."""
        ...

    def connection_lost(self, connection: EngineConnection) -> None:
        """Hear that a connection that was ready has ended."""
        ...


class EngineConnection(asyncio.Protocol):
    """The worker's end. ``version`` is what both ends speak, once it is ready."""

    def __init__(self, key: bytes, address: Address, receiver: Receiver, name: bytes) -> None:
        self.address = address
        self.version = 0
        self.term = msgspec.Raw(b"\xc0")
        """What the engine said of the term that it began last, encoded; nil: nothing."""

        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key = key
        self._receiver = receiver
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._nonce = new_nonce(name)
        self._engine_nonce = b""
        self._transport: asyncio.Transport | None = None

    @property
    def is_closing(self) -> bool:
        """Whether it is over, or about to be."""
        return self._transport is None or self._transport.is_closing()

    def send(self, payload: bytes) -> None:
        """Send one frame; does nothing when the connection is over."""
        if self._transport is not None:
            self._transport.write(frame(payload))

    def close(self) -> None:
        """End it at once; nothing that comes over it is passed on any more."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.ready.done():
            closed: Exception = ConnectionResetError("the engine closed the connection")
            if self._engine_nonce:
                closed = HandshakeError("the engine did not accept this worker (is JWT_SECRET the same everywhere?)")
            self.ready.set_exception(closed)
        elif not self.ready.cancelled() and self.ready.exception() is None:
            self._receiver.connection_lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                if self.ready.done():
                    self._receiver.receive(self, payload)
                else:
                    self._prove(payload)
        except (HandshakeError, FrameTooLargeError, msgspec.DecodeError) as error:
            if not self.ready.done():
                self.ready.set_exception(HandshakeError(str(error)))
            self.close()

    def _prove(self, payload: bytes) -> None:
        if not self._engine_nonce:
            greeting = _greeting_decoder.decode(payload)
            common_version(greeting.version)
            check_nonce(greeting.nonce)
            self._engine_nonce = greeting.nonce
            mac = proof(self._key, b"worker", greeting.nonce, self._nonce)
            self.send(_encoder.encode(Proof(PROTOCOL_VERSION, self._nonce, mac)))
            return
        received = _proof_decoder.decode(payload)
        version = common_version(received.version)
        check_proof(self._key, b"engine", self._engine_nonce, self._nonce, received)
        self.version = version
        self._reader.maximum_bytes = MAXIMUM_FRAME_BYTES
        self.ready.set_result(None)


async def open_connection(key: bytes, address: Address, receiver: Receiver, name: bytes) -> EngineConnection:
    """Connect to the engine at ``address``, and return when both ends have proved themselves.

    ``name`` (see :func:`rtx.link.handshake.new_worker_name`) says whose it is: the engine ends all older ones of it.
    Raises OSError, TimeoutError (after :data:`CONNECT_TIMEOUT_S`) and :class:`HandshakeError`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, connection = await loop.create_connection(lambda: EngineConnection(key, address, receiver, name), *address)
        try:
            await connection.ready
            if connection.is_closing:
                raise ConnectionResetError("the engine closed the connection")
        except BaseException:
            connection.close()
            raise
    return connection
