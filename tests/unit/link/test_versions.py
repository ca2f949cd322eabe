"""A program and the one before it talk to each other over the link, whichever of them is the engine.

The version before is written down here in bytes, so that it stays what it was.
"""

from __future__ import annotations

import asyncio
import hmac
from hashlib import sha256
from typing import Any

import msgspec
from tests.unit.link.peers import COMMAND, EVENTS, HOST, KEY, TIMEOUT_S, Peer, answer, running_engine

from rtx.core.events import encode_events
from rtx.link.client import Applied, EngineClient
from rtx.link.messages import PROTOCOL_VERSION

VERSION_BEFORE = 1
WORKER_NONCE = b"w" * 32
ENGINE_NONCE = b"e" * 32
COMMAND_ID = b"c" * 16


def test_these_are_the_versions_that_are_next_to_each_other() -> None:
    assert PROTOCOL_VERSION - 1 == VERSION_BEFORE


def mac(role: bytes, engine_nonce: bytes, worker_nonce: bytes) -> bytes:
    return hmac.new(KEY, role + engine_nonce + worker_nonce, sha256).digest()


async def handshake_as_the_worker_before(peer: Peer) -> None:
    _version, engine_nonce = msgspec.msgpack.decode(await peer.receive())
    peer.send(msgspec.msgpack.encode([VERSION_BEFORE, WORKER_NONCE, mac(b"worker", engine_nonce, WORKER_NONCE)]))
    _version, _nonce, engine_mac = msgspec.msgpack.decode(await peer.receive())
    assert engine_mac == mac(b"engine", engine_nonce, WORKER_NONCE)


async def test_a_worker_of_the_version_before_is_served() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await handshake_as_the_worker_before(peer)
        engine.server.leader_address = "10.0.0.1:1"
        peer.send(msgspec.msgpack.encode([[1, 0, ["deposit"], COMMAND_ID, "request", False, b""]]))
        connection, request = await engine.next_request()
        assert (request.command_id, request.request_id, request.may_be_known) == (COMMAND_ID, "request", False)
        answer(connection, request, payload=encode_events(EVENTS))
        (number, status, sequence, time_us, payload), *rest = msgspec.msgpack.decode(await peer.receive())
        assert (number, status, sequence, time_us, rest) == (1, 0, 7, 9, [])
        assert msgspec.msgpack.encode(payload) == encode_events(EVENTS)
        # Sent back: it would not know what to do with an address.
        answer(connection, request, status=4, payload=b"\xc0")
        assert msgspec.msgpack.decode(await peer.receive()) == [[1, 4, 7, 9, None]]
        # When a term begins it connects anew, which is how it learns that its engine leads again.
        engine.server.begin_term(3, 7)
        assert await peer.is_closed_by_peer()


async def test_an_engine_of_the_version_before_is_followed() -> None:
    requests: asyncio.Queue[Any] = asyncio.Queue()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        peer.send(msgspec.msgpack.encode([VERSION_BEFORE, ENGINE_NONCE]))
        _version, nonce, worker_mac = msgspec.msgpack.decode(await peer.receive())
        assert worker_mac == mac(b"worker", ENGINE_NONCE, nonce)
        peer.send(msgspec.msgpack.encode([VERSION_BEFORE, b"", mac(b"engine", ENGINE_NONCE, nonce)]))
        is_first = True
        try:
            while True:
                for number, kind, *rest in msgspec.msgpack.decode(await peer.receive()):
                    if kind == 3:
                        peer.send(msgspec.msgpack.encode([[number, 2, 7, 9, None]]))
                    elif is_first:
                        is_first = False
                        peer.send(msgspec.msgpack.encode([[number, 4, 0, 0, None]]))
                    else:
                        requests.put_nowait(rest)
                        peer.send(msgspec.msgpack.encode([[number, 0, 7, 9, msgspec.Raw(encode_events(EVENTS))]]))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            peer.close()
            ended.set()

    server = await asyncio.start_server(serve, HOST, 0)

    async def locate() -> tuple[str, int]:
        return HOST, server.sockets[0].getsockname()[1]

    client = EngineClient(KEY, locate)
    client.start()
    async with asyncio.timeout(TIMEOUT_S):
        applied = await client.submit(COMMAND, request_id="request", command_id=COMMAND_ID)
        assert applied == Applied(7, 9, EVENTS)
        _payload, command_id, request_id, may_be_known, request_hash = await requests.get()
        assert (command_id, request_id, may_be_known, request_hash) == (COMMAND_ID, "request", True, b"")
        await client.stop()
        await ended.wait()
        server.close()
        await server.wait_closed()
