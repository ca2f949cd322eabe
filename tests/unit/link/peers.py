"""Both ends of the link for tests: an engine that answers as the test says, and a peer that speaks bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from rtx.core.commands import Deposit
from rtx.core.events import Deposited, encode_events
from rtx.link.client import EngineClient
from rtx.link.frames import frame
from rtx.link.handshake import Greeting, Proof, derive_key, new_nonce, proof
from rtx.link.messages import (
    ANSWERED,
    APPLIED,
    POSITION_NUMBER,
    PROTOCOL_VERSION,
    UNAVAILABLE,
    Request,
    Response,
)
from rtx.link.server import Connection, LinkServer

KEY: Final = derive_key("the secret of the tests, which is long enough")
HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 10.0
NOTHING: Final = msgspec.Raw(b"\xc0")
COMMAND: Final = Deposit(1001, 1, 5, "reference")
EVENTS: Final = [Deposited(1001, 1, 5, "reference")]


class Engine:
    """Listens as the engine does; the test takes the requests and answers them, or not.

    Whether it leads it says itself.
    """

    def __init__(self, key: bytes = KEY, **limits: Any) -> None:
        self.server = LinkServer(key, self._handle, **limits)
        self.port = 0
        self.leads = True
        self.was_asked = asyncio.Event()
        """Whether it leads."""
        self._requests: asyncio.Queue[tuple[Connection, Request]] = asyncio.Queue()

    async def start(self) -> None:
        self.port = await self.server.start(HOST, self.port)

    def _handle(self, connection: Connection, requests: list[Request]) -> None:
        for request in requests:
            if request.number != POSITION_NUMBER:
                self._requests.put_nowait((connection, request))
                continue
            self.was_asked.set()
            if self.leads:
                connection.send([Response(POSITION_NUMBER, ANSWERED, 7, 9, NOTHING)])
            else:
                connection.send([Response(POSITION_NUMBER, UNAVAILABLE, 0, 0, NOTHING)])

    async def next_request(self) -> tuple[Connection, Request]:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._requests.get()

    @property
    def has_request(self) -> bool:
        return not self._requests.empty()


@contextlib.asynccontextmanager
async def running_engine(**limits: Any) -> AsyncIterator[Engine]:
    engine = Engine(**limits)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.server.stop()


@contextlib.asynccontextmanager
async def connected_client(*engines: Engine) -> AsyncIterator[EngineClient]:
    """A client of the first engine; ``client.leader`` may be set to another one."""
    connected = asyncio.Event()

    async def locate() -> tuple[str, int] | None:
        leader = leaders[0]
        return None if leader is None else (HOST, leader.port)

    leaders: list[Engine | None] = [engines[0]]
    client = EngineClient(KEY, locate, on_connected=connected.set)
    client.leaders = leaders  # type: ignore[attr-defined]
    client.start()
    async with asyncio.timeout(TIMEOUT_S):
        await connected.wait()
    try:
        yield client
    finally:
        await client.stop()


def move_leader(client: EngineClient, engine: Engine | None) -> None:
    """Have the lease name another engine."""
    client.leaders[0] = engine  # type: ignore[attr-defined]


def answer(connection: Connection, request: Request, status: int = APPLIED, payload: bytes | None = None) -> None:
    """Answer one request."""
    raw = msgspec.Raw(encode_events(EVENTS) if payload is None else payload)
    connection.send([Response(request.number, status, 7, 9, raw)])


class Peer:
    """A raw connection that says what the test wants said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Peer:
        return cls(*await asyncio.open_connection(HOST, port))

    def send(self, payload: bytes) -> None:
        self.writer.write(frame(payload))

    def send_message(self, message: object) -> None:
        self.send(msgspec.msgpack.encode(message))

    async def receive(self) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            (length,) = struct.unpack(">I", await self.reader.readexactly(4))
            return await self.reader.readexactly(length)

    async def is_closed_by_peer(self) -> bool:
        """Read to the end, which must come by itself."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionResetError:
                pass
        self.close()
        return True

    def close(self) -> None:
        self.writer.close()

    async def prove(self, key: bytes = KEY, version: int = PROTOCOL_VERSION) -> None:
        """Do the worker's part of the handshake and check the engine's."""
        greeting = msgspec.msgpack.decode(await self.receive(), type=Greeting)
        nonce = new_nonce()
        self.send_message(Proof(version, nonce, proof(key, b"worker", greeting.nonce, nonce)))
        if key == KEY and version == PROTOCOL_VERSION:
            received = msgspec.msgpack.decode(await self.receive(), type=Proof)
            assert received.mac == proof(key, b"engine", greeting.nonce, nonce)
