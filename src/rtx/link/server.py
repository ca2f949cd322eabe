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
    common_version,
    new_nonce,
    proof,
    worker_name,
)
from rtx.link.messages import (
    ANSWERED,
    FAULTED,
    MAXIMUM_FRAME_BYTES,
    POSITION_NUMBER,
    PROTOCOL_VERSION,
    UNAVAILABLE,
    Request,
    Response,
)

UNSENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""An API worker that lets more answers pile up is dropped: it asks again when it reads again."""

_log = structlog.get_logger(__name__)

_NOTHING: Final = msgspec.Raw(b"\xc0")

_encoder = msgspec.msgpack.Encoder()
_proof_decoder = msgspec.msgpack.Decoder(Proof)
_request_decoder = msgspec.msgpack.Decoder(list[Request])


class Connection(Protocol):
    """Where answers go."""

    @property
    def is_closed(self) -> bool:
        """Whether the API worker is gone, or has another connection now: what it still wants it asks for again."""
        ...

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
        self.leader_address = ""
        """Where another engine leads, or is about to, as far as this one knows (``host:port``): told with each
        "unavailable", so that an API worker goes there without asking the database."""
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

    def begin_term(self, epoch: int, sequence: int) -> None:
        """Tell every API worker that this engine leads now, from this journal position on.

        Who was sent back, or connected beforehand, need not try again to find out. What was on its way over a
        connection since an earlier term is sent back: its worker may have had it answered elsewhere since.
        """
        for connection in list(self.connections):
            connection.begin_term(epoch, sequence)

    def end_older(self, name: bytes) -> None:
        """End the connections that a worker has had until now.

        It sends what was not answered again over its new one. Requests that still lie unread in an old one must not be
        done after that: the answer that it got meanwhile may be a refusal.
        """
        for connection in list(self.connections):
            connection.end_if_of(name)

    def _new_connection(self) -> _ServerConnection:
        return _ServerConnection(self)


class _ServerConnection(asyncio.Protocol):
    def __init__(self, server: LinkServer) -> None:
        self._server = server
        self._reader = FrameReader(HANDSHAKE_FRAME_BYTES_MAX)
        self._nonce = new_nonce()
        self._version = 0
        self._worker_name = b""
        self._awaited = b""
        """What the worker has to give back before it is listened to in this term; empty: nothing."""
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
                if self._version:
                    self._take(_request_decoder.decode(payload))
                else:
                    self._authenticate(payload)
        except (HandshakeError, FrameTooLargeError, msgspec.DecodeError) as error:
            _log.warning("link_refused", reason=str(error))
            self._abort()

    def _take(self, requests: list[Request]) -> None:
        if self._awaited:
            if any(
                request.number == POSITION_NUMBER and bytes(request.payload) == self._awaited for request in requests
            ):
                self._awaited = b""
            else:
                late = [request for request in requests if request.number != POSITION_NUMBER]
                if late:
                    self.send([Response(request.number, UNAVAILABLE, 0, 0, _NOTHING) for request in late])
                return
        self._server.handle(self, requests)

    @property
    def is_closed(self) -> bool:
        return self._transport is None

    def send(self, responses: list[Response]) -> None:
        transport = self._transport
        if transport is None:
            return
        if self._server.leader_address and self._version >= 2:
            responses = [_with_address(response, self._server.leader_address) for response in responses]
        for answers in message_frames(responses, _too_large):
            transport.write(answers)
        if transport.get_write_buffer_size() > self._server.unsent_bytes_max:
            _log.warning("worker_dropped", reason="it does not read its answers")
            self._abort()

    def begin_term(self, epoch: int, sequence: int) -> None:
        """Say that the engine leads, to a worker that understands it; one of an older version is to connect anew.

        A worker that has not proved itself yet has sent nothing over this connection in an earlier term.
        """
        if not self._version:
            return
        if self._version >= 2:
            self._awaited = _encoder.encode(epoch)
            self.send([Response(POSITION_NUMBER, ANSWERED, sequence, 0, msgspec.Raw(self._awaited))])
        else:
            self._abort()

    def end_if_of(self, name: bytes) -> None:
        """End it at once if it is of the worker with this name."""
        if self._worker_name == name:
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
        version = common_version(received.version)
        check_proof(self._server.key, b"worker", self._nonce, received.nonce, received)
        self._server.end_older(worker_name(received.nonce))
        self._version, self._worker_name = version, worker_name(received.nonce)
        self._reader.maximum_bytes = MAXIMUM_FRAME_BYTES
        if self._deadline is not None:
            self._deadline.cancel()
        mac = proof(self._server.key, b"engine", self._nonce, received.nonce)
        assert self._transport is not None
        self._transport.write(frame(_encoder.encode(Proof(PROTOCOL_VERSION, b"", mac))))

    def _end_handshake(self) -> None:
        if not self._version:
            self._abort()


def _with_address(response: Response, address: str) -> Response:
    """Add to an "unavailable" where else to ask."""
    if response.status != UNAVAILABLE:
        return response
    return msgspec.structs.replace(response, payload=msgspec.Raw(_encoder.encode(address)))


def _too_large(response: Response) -> Response:
    """What is said instead of an answer that no API worker would read."""
    _log.error("answer_too_large", number=response.number, status=response.status)
    return Response(response.number, FAULTED, response.sequence, response.time_us, _NOTHING)
