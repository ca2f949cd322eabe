"""What was on its way to an engine since before is never done after its worker may have had another answer."""

from __future__ import annotations

import asyncio

import msgspec
from tests.unit.link.peers import COMMAND, KEY, NOTHING, TIMEOUT_S, Peer, answer, connected_client, running_engine

from rtx.link.client import EngineClient
from rtx.link.handshake import NONCE_BYTES, Greeting, Proof, new_worker_name, proof
from rtx.link.messages import (
    ANSWERED,
    POSITION_NUMBER,
    PROTOCOL_VERSION,
    QUERY_POSITION,
    SUBMIT,
    UNAVAILABLE,
    Request,
    Response,
)

REQUEST = Request(1, SUBMIT, NOTHING, b"c" * 16, "request")


async def prove_as(peer: Peer, name: bytes) -> None:
    """Do a worker's part of the handshake, with its name."""
    greeting = msgspec.msgpack.decode(await peer.receive(), type=Greeting)
    nonce = name + bytes(NONCE_BYTES - len(name))
    peer.send_message(Proof(PROTOCOL_VERSION, nonce, proof(KEY, b"worker", greeting.nonce, nonce)))
    await peer.receive()


async def responses(peer: Peer) -> list[Response]:
    return msgspec.msgpack.decode(await peer.receive(), type=list[Response])


async def test_a_new_connection_of_a_worker_ends_its_old_one() -> None:
    async with running_engine() as engine:
        name = new_worker_name()
        old, other, new = [await Peer.connect(engine.port) for _ in range(3)]
        await prove_as(old, name)
        await prove_as(other, new_worker_name())
        await prove_as(new, name)
        assert await old.is_closed_by_peer()
        for peer in (other, new):
            peer.send_message([REQUEST])
            answer(*await engine.next_request())
            assert len(await responses(peer)) == 1
            peer.close()


async def test_what_was_on_its_way_when_a_term_began_is_sent_back() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        await prove_as(peer, new_worker_name())
        engine.server.begin_term(5, 100)
        (announcement,) = await responses(peer)
        assert (announcement.number, announcement.status, announcement.sequence) == (POSITION_NUMBER, ANSWERED, 100)
        # Also what asked for the position before it knew of this term, or in another one.
        for term in (NOTHING, msgspec.Raw(msgspec.msgpack.encode(4))):
            peer.send_message([Request(POSITION_NUMBER, QUERY_POSITION, term)])
            peer.send_message([REQUEST])
            assert [response.status for response in await responses(peer)] == [UNAVAILABLE]
        peer.send_message([Request(POSITION_NUMBER, QUERY_POSITION, announcement.payload)])
        peer.send_message([REQUEST])
        assert (await engine.next_request())[1] == REQUEST
        peer.close()


async def test_a_worker_that_connects_while_a_term_begins_is_served() -> None:
    async with running_engine() as engine:
        peer = await Peer.connect(engine.port)
        greeting = msgspec.msgpack.decode(await peer.receive(), type=Greeting)
        engine.server.begin_term(5, 100)
        nonce = bytes(NONCE_BYTES)
        peer.send_message(Proof(PROTOCOL_VERSION, nonce, proof(KEY, b"worker", greeting.nonce, nonce)))
        await peer.receive()
        peer.send_message([REQUEST])
        assert (await engine.next_request())[1] == REQUEST
        peer.close()


async def test_a_worker_that_was_sent_back_asks_again_when_the_term_begins() -> None:
    async with running_engine() as engine, connected_client(engine) as client:
        engine.leads = False
        task = asyncio.create_task(submit(client))
        answer(*await engine.next_request(), status=UNAVAILABLE, payload=b"\xc0")
        engine.leads = True
        engine.server.begin_term(2, 7)
        connection, request = await engine.next_request()
        assert request.may_be_known
        answer(connection, request)
        await task


async def test_what_a_worker_sent_just_before_a_term_began_is_done_in_it() -> None:
    async with running_engine() as engine, connected_client(engine) as client:
        task = asyncio.create_task(submit(client))
        # Reaches the worker before it hears that its request came back.
        engine.server.begin_term(2, 7)
        connection, request = await engine.next_request()
        assert request.may_be_known
        answer(connection, request)
        await task


async def test_a_worker_goes_where_the_engine_sends_it() -> None:
    async with running_engine() as old, running_engine() as new, connected_client(old) as client:
        task = asyncio.create_task(submit(client))
        connection, request = await old.next_request()
        old.leads = False
        # The lease still names the old one.
        old.server.leader_address = f"127.0.0.1:{new.port}"
        answer(connection, request, status=UNAVAILABLE, payload=b"\xc0")
        answer(*await new.next_request())
        await task


async def submit(client: EngineClient) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        await client.submit(COMMAND, request_id="request", timeout_s=TIMEOUT_S)
