"""The engine's end of the link: accepts API workers and hands their requests over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

import msgspec
import structlog

from rtx.link.frames import FrameReader, FrameTooLargeError, frame, message_frames
from rtx.link.handshake import (
    HANDSHAKE_FRAME_BYTES_MAX,
    HANDSHAKE_TIMEOUT_S,
    Greeting,
    HandshakeError,
    Proof,
    check_nonce,
    check_proof,
    new_nonce,
    proof,
)
from rtx.link.messages import FAULTED, MAXIMUM_FRAME_BYTES, PROTOCOL_VERSION, Request, Response

UNSENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""An API worker that lets more answers pile up is dropped: it asks again when it reads again."""

_log = structlog.get_logger(__name__)

_encoder = msgspec.msgpack.Encoder()
_proof_decoder = msgspec.msgpack.Decoder(Proof)
_request_decoder = msgspec.msgpack.Decoder(list[Request])


class Connection(Protocol):
    """Where answers go."""

    def send(self, responses: list[Response]) -> None:
        """Send answers; does nothing when the API worker is gone (it asks again over its next connection)."""
        ...


RequestHandler = Callable[[Connection, list[Request]], None]


class LinkServer:
    """Listens for API workers. ``handle`` is called in the event loop with every frame's requests."""

    def __init__(
        self,
        key: bytes,
        handle: RequestHandler,
        *,
        unsent_bytes_max: int = UNSENT_BYTES_MAX,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
    ) -> None:
        self.key = key
        self.handle = handle
        self.unsent_bytes_max = unsent_bytes_max
        self.handshake_timeout_s = handshake_timeout_s
        self.connections: set[_ServerConnection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (the one given, or a free one for 0)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_connection, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close()

    def _new_connection(self) -> _ServerConnection:
        return _ServerConnection(self)


class _ServerConnection(asyncio.Protocol):
    def __init__(self, server: LinkServer) -> None:
        self._server = server
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._nonce = new_nonce()
        self._is_authenticated = False
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._deadline = asyncio.get_running_loop().call_later(self._server.handshake_timeout_s, self._end_handshake)
        self._transport.write(frame(_encoder.encode(Greeting(PROTOCOL_VERSION, self._nonce))))

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                if self._is_authenticated:
                    self._server.handle(self, _request_decoder.decode(payload))
                else:
                    self._authenticate(payload)
        except (HandshakeError, FrameTooLargeError, msgspec.DecodeError) as error:
            _log.warning("link_refused", reason=str(error))
            self._abort()

    def send(self, responses: list[Response]) -> None:
        transport = self._transport
        if transport is None:
            return
        for answers in message_frames(responses, _too_large):
            transport.write(answers)
        if transport.get_write_buffer_size() > self._server.unsent_bytes_max:
            _log.warning("worker_dropped", reason="it does not read its answers")
            self._abort()

    def close(self) -> None:
        """Close once what was sent is through."""
        if self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        """Close at once; nothing is sent any more."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _authenticate(self, payload: bytes) -> None:
        received = _proof_decoder.decode(payload)
        check_nonce(received.nonce)
        check_proof(self._server.key, b"worker", self._nonce, received.nonce, received)
        self._is_authenticated = True
        self._reader.maximum_bytes = MAXIMUM_FRAME_BYTES
        if self._deadline is not None:
            self._deadline.cancel()
        mac = proof(self._server.key, b"engine", self._nonce, received.nonce)
        assert self._transport is not None
        self._transport.write(frame(_encoder.encode(Proof(PROTOCOL_VERSION, b"", mac))))

    def _end_handshake(self) -> None:
        if not self._is_authenticated:
            self._abort()


def _too_large(response: Response) -> Response:
    """What is said instead of an answer that no API worker would read."""
    _log.error("answer_too_large", number=response.number, status=response.status)
    return Response(response.number, FAULTED, response.sequence, response.time_us, msgspec.Raw(b"\xc0"))
