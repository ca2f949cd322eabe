"""The engine's end of the link: accepts API workers and hands their requests over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import msgspec
import structlog

from rtx.link.frames import FrameReader, FrameTooLargeError, frame
from rtx.link.handshake import (
    HANDSHAKE_TIMEOUT_S,
    Greeting,
    HandshakeError,
    Proof,
    check_proof,
    new_nonce,
    proof,
)
from rtx.link.messages import PROTOCOL_VERSION, Request, Response

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

    def __init__(self, key: bytes, handle: RequestHandler) -> None:
        self._key = key
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._connections: set[_ServerConnection] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (the one given, or a free one for 0)."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_connection, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Close every connection: the API workers connect again and re-send what was not answered."""
        for connection in list(self._connections):
            connection.close()

    def _new_connection(self) -> _ServerConnection:
        return _ServerConnection(self._key, self._handle, self._connections)


class _ServerConnection(asyncio.Protocol):
    def __init__(self, key: bytes, handle: RequestHandler, connections: set[_ServerConnection]) -> None:
        self._key = key
        self._handle = handle
        self._connections = connections
        self._reader = FrameReader()
        self._nonce = new_nonce()
        self._is_authenticated = False
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self._end_handshake)
        self._transport.write(frame(_encoder.encode(Greeting(PROTOCOL_VERSION, self._nonce))))

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                if self._is_authenticated:
                    self._handle(self, _request_decoder.decode(payload))
                else:
                    self._authenticate(payload)
        except (HandshakeError, FrameTooLargeError, msgspec.DecodeError) as error:
            _log.warning("link_refused", reason=str(error))
            self.close()

    def send(self, responses: list[Response]) -> None:
        if self._transport is not None:
            self._transport.write(frame(_encoder.encode(responses)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _authenticate(self, payload: bytes) -> None:
        received = _proof_decoder.decode(payload)
        check_proof(self._key, b"worker", self._nonce, received.nonce, received)
        self._is_authenticated = True
        if self._deadline is not None:
            self._deadline.cancel()
        answer = Proof(PROTOCOL_VERSION, b"", proof(self._key, b"engine", self._nonce, received.nonce))
        assert self._transport is not None
        self._transport.write(frame(_encoder.encode(answer)))

    def _end_handshake(self) -> None:
        if not self._is_authenticated:
            self.close()
