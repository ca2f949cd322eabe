"""The engine's door: only who knows the secret comes in, and nobody who came in can hold the engine up."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.unit.link.peers import KEY, NOTHING, Peer, answer, running_engine

from rtx.link import messages
from rtx.link.frames import frame
from rtx.link.handshake import OLDEST_PROTOCOL_VERSION, Greeting, Proof, derive_key, proof
from rtx.link.messages import APPLIED, FAULTED, MAXIMUM_FRAME_BYTES, PROTOCOL_VERSION, Request, Response


async def test_a_worker_with_the_secret_is_served() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await peer.prove()
        peer.send_message([Request(1, messages.SUBMIT, NOTHING), Request(2, messages.SUBMIT, NOTHING)])
        for number in (1, 2):
            connection, request = await engine.next_request()
            assert request.number == number
            answer(connection, request)
            (response,) = msgspec.msgpack.decode(await peer.receive(), type=list[Response])
            assert (response.number, response.status) == (number, APPLIED)
        peer.close()


async def test_requests_right_behind_the_proof_are_served() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        greeting = msgspec.msgpack.decode(await peer.receive(), type=Greeting)
        nonce = bytes(32)
        mac = proof(KEY, b"worker", greeting.nonce, nonce)
        large = [Request(number, messages.SUBMIT, NOTHING) for number in range(1, 1_001)]
        peer.writer.write(
            frame(msgspec.msgpack.encode(Proof(PROTOCOL_VERSION, nonce, mac))) + frame(msgspec.msgpack.encode(large))
        )
        assert (await engine.next_request())[1].number == 1
        peer.close()


async def test_a_worker_without_the_secret_is_sent_away() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await peer.prove(key=derive_key("another secret, which is also long enough"))
        assert await peer.is_closed_by_peer()


async def test_a_worker_of_too_old_a_version_is_sent_away() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await peer.prove(version=OLDEST_PROTOCOL_VERSION - 1)
        assert await peer.is_closed_by_peer()


async def test_the_engines_own_proof_does_not_open_the_door() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        greeting = msgspec.msgpack.decode(await peer.receive(), type=Greeting)
        peer.send_message(Proof(PROTOCOL_VERSION, bytes(32), proof(KEY, b"engine", greeting.nonce, bytes(32))))
        assert await peer.is_closed_by_peer()


async def test_a_proof_is_good_for_one_connection() -> None:
    async with running_engine() as engine:
        one, other = await Peer.connect(engine.port), await Peer.connect(engine.port)
        greeting = msgspec.msgpack.decode(await one.receive(), type=Greeting)
        overheard = Proof(PROTOCOL_VERSION, bytes(32), proof(KEY, b"worker", greeting.nonce, bytes(32)))
        one.send_message(overheard)
        await one.receive()
        other.send_message(overheard)
        assert await other.is_closed_by_peer()
        one.close()


@pytest.mark.parametrize(
    "said",
    [
        frame(b"\xc1"),
        frame(b""),
        frame(msgspec.msgpack.encode("hello")),
        frame(msgspec.msgpack.encode([1, b"short", b"mac"])),
        b"GET / HTTP/1.1\r\nHost: engine\r\n\r\n",
        (1_025).to_bytes(4, "big"),
        MAXIMUM_FRAME_BYTES.to_bytes(4, "big"),
    ],
)
async def test_a_stranger_who_talks_nonsense_is_sent_away_at_once(said: bytes) -> None:
    async with running_engine(handshake_timeout_s=3_600.0) as engine:
        peer = await Peer.connect(engine.port)
        peer.writer.write(said)
        assert await peer.is_closed_by_peer()
        assert not engine.has_request
        assert engine.server.connections == set()


@pytest.mark.parametrize("said", [b"", b"\x00\x00", frame(bytes(100))[:50]])
async def test_a_stranger_who_takes_his_time_is_sent_away(said: bytes) -> None:
    async with running_engine(handshake_timeout_s=0.02) as engine:
        peer = await Peer.connect(engine.port)
        peer.writer.write(said)
        assert await peer.is_closed_by_peer()


async def test_a_worker_who_took_the_handshake_may_be_silent() -> None:
    async with running_engine(handshake_timeout_s=0.02) as engine:
        peer, stranger = await Peer.connect(engine.port), await Peer.connect(engine.port)
        await peer.prove()
        assert await stranger.is_closed_by_peer()
        peer.send_message([Request(1, messages.SUBMIT, NOTHING)])
        await engine.next_request()
        peer.close()


@pytest.mark.parametrize("said", [frame(b"\xc1"), (MAXIMUM_FRAME_BYTES + 1).to_bytes(4, "big")])
async def test_a_worker_who_talks_nonsense_is_dropped_and_the_others_stay(said: bytes) -> None:
    async with running_engine() as engine:
        one, other = await Peer.connect(engine.port), await Peer.connect(engine.port)
        await one.prove()
        await other.prove()
        one.writer.write(said)
        assert await one.is_closed_by_peer()
        other.send_message([Request(1, messages.SUBMIT, NOTHING)])
        await engine.next_request()
        other.close()


async def test_a_worker_who_does_not_read_is_dropped() -> None:
    async with running_engine(unsent_bytes_max=1_000_000) as engine:
        peer = await Peer.connect(engine.port)
        await peer.prove()
        peer.send_message([Request(1, messages.SUBMIT, NOTHING)])
        connection, request = await engine.next_request()
        large = msgspec.msgpack.encode(bytes(500_000))
        sent = 0
        while engine.server.connections:
            answer(connection, request, payload=large)
            sent += 1
            assert sent < 1_000
            await asyncio.sleep(0)
        # the kernel's buffers and a bounded rest, then no more
        answer(connection, request, payload=large)
        peer.close()


async def test_answers_larger_than_a_frame_take_several() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await peer.prove()
        peer.send_message([Request(1, messages.SUBMIT, NOTHING)])
        connection, _ = await engine.next_request()
        large = msgspec.Raw(msgspec.msgpack.encode(bytes(MAXIMUM_FRAME_BYTES * 2 // 5)))
        too_large = msgspec.Raw(msgspec.msgpack.encode(bytes(MAXIMUM_FRAME_BYTES)))
        responses = [Response(number, APPLIED, 0, 0, large) for number in range(4)]
        connection.send([*responses, Response(4, APPLIED, 0, 0, too_large)])
        received: list[Response] = []
        while len(received) < 5:
            received += msgspec.msgpack.decode(await peer.receive(), type=list[Response])
        assert [(one.number, one.status) for one in received] == [
            (0, APPLIED),
            (1, APPLIED),
            (2, APPLIED),
            (3, APPLIED),
            (4, FAULTED),
        ]
        peer.close()


async def test_answers_to_a_worker_that_is_gone_do_no_harm() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await peer.prove()
        peer.send_message([Request(1, messages.SUBMIT, NOTHING)])
        connection, request = await engine.next_request()
        peer.close()
        while engine.server.connections:
            answer(connection, request)
            await asyncio.sleep(0)
        answer(connection, request)
