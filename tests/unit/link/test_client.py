"""What an API worker is told about its commands, whatever becomes of the connection and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from tests.unit.link.peers import (
    COMMAND,
    EVENTS,
    HOST,
    KEY,
    TIMEOUT_S,
    Engine,
    Peer,
    answer,
    connected_client,
    move_leader,
    running_engine,
)

from rtx.core.commands import decode_command
from rtx.core.events import Rejected, encode_events
from rtx.core.rejections import Reason
from rtx.link.client import (
    Applied,
    CommandRejectedError,
    EngineClient,
    EngineFaultError,
    EngineOverloadedError,
    EngineTimeoutError,
    IdempotencyConflictError,
    new_command_id,
)
from rtx.link.frames import frame
from rtx.link.handshake import OLDEST_PROTOCOL_VERSION, Greeting, Proof
from rtx.link.messages import (
    ANSWERED,
    CONFLICT,
    FAULTED,
    OVERLOADED,
    POSITION_NUMBER,
    PROTOCOL_VERSION,
    QUERY_BOOK,
    REJECTED,
    SUBMIT,
    UNAVAILABLE,
    BookAnswer,
    BookQuery,
    Request,
)
from rtx.link.server import Connection

HASH = b"h" * 32


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with running_engine() as one:
        yield one


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[EngineClient]:
    async with connected_client(engine) as one:
        yield one


def submission(client: EngineClient, *, timeout_s: float = TIMEOUT_S, **more: bytes) -> asyncio.Task[Applied]:
    return asyncio.create_task(client.submit(COMMAND, request_id="request", timeout_s=timeout_s, **more))


async def test_a_command_reaches_the_engine_whole_and_its_answer_the_caller(
    client: EngineClient, engine: Engine
) -> None:
    task = submission(client, request_hash=HASH)
    connection, request = await engine.next_request()
    assert decode_command(request.payload) == COMMAND
    assert (request.kind, request.request_id, request.request_hash) == (SUBMIT, "request", HASH)
    assert (len(request.command_id), request.may_be_known) == (16, False)
    answer(connection, request)
    assert await task == Applied(7, 9, EVENTS)


async def test_a_command_id_of_the_callers_may_be_known(client: EngineClient, engine: Engine) -> None:
    task = submission(client, command_id=b"i" * 16)
    connection, request = await engine.next_request()
    assert (request.command_id, request.may_be_known) == (b"i" * 16, True)
    answer(connection, request)
    await task


async def test_each_caller_gets_the_answer_to_its_own_request(client: EngineClient, engine: Engine) -> None:
    tasks = [submission(client, command_id=bytes([number]) * 16) for number in range(20)]
    requests = [await engine.next_request() for _ in tasks]
    for connection, request in reversed(requests):
        events = [msgspec.structs.replace(EVENTS[0], amount=request.command_id[0])]
        answer(connection, request, payload=encode_events(events))
    amounts = [(await task).events[0].amount for task in tasks]  # type: ignore[union-attr]
    assert amounts == list(range(20))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (OVERLOADED, EngineOverloadedError),
        (CONFLICT, IdempotencyConflictError),
        (FAULTED, EngineFaultError),
    ],
)
async def test_what_the_engine_does_not_do_is_an_error(
    client: EngineClient, engine: Engine, status: int, error: type[Exception]
) -> None:
    task = submission(client)
    answer(*await engine.next_request(), status=status)
    with pytest.raises(error):
        await task


async def test_a_refusal_says_why(client: EngineClient, engine: Engine) -> None:
    task = submission(client)
    halves = [Rejected(Reason.UNKNOWN_ORDER, "order_id", "cancel"), Rejected(Reason.MARKET_CLOSED, "", "order")]
    answer(*await engine.next_request(), status=REJECTED, payload=encode_events(halves))
    with pytest.raises(CommandRejectedError) as caught:
        await task
    assert caught.value.rejections == tuple(halves)
    assert (caught.value.reason, caught.value.field, caught.value.step) == (Reason.UNKNOWN_ORDER, "order_id", "cancel")


async def test_a_book_is_asked_for_and_read(client: EngineClient, engine: Engine) -> None:
    task = asyncio.create_task(client.book(3, 5))
    connection, request = await engine.next_request()
    assert msgspec.msgpack.decode(request.payload, type=BookQuery) == BookQuery(3, 5)
    book = BookAnswer(3, [(9, 1)], [(11, 2)], 10)
    answer(connection, request, status=ANSWERED, payload=msgspec.msgpack.encode(book))
    assert await task == (7, book)


async def test_a_book_of_no_market_is_refused(client: EngineClient, engine: Engine) -> None:
    task = asyncio.create_task(client.book(3, 5))
    refusal = encode_events([Rejected(Reason.UNKNOWN_MARKET, "market_id")])
    answer(*await engine.next_request(), status=REJECTED, payload=refusal)
    with pytest.raises(CommandRejectedError):
        await task


async def test_without_an_answer_in_time_the_outcome_is_unknown(client: EngineClient, engine: Engine) -> None:
    task = submission(client, timeout_s=0)
    connection, request = await engine.next_request()
    with pytest.raises(EngineTimeoutError):
        await task
    # an answer after that disturbs nobody
    answer(connection, request)
    later = submission(client)
    answer(*await engine.next_request())
    await later


async def test_a_second_answer_disturbs_nobody(client: EngineClient, engine: Engine) -> None:
    task = submission(client)
    connection, request = await engine.next_request()
    answer(connection, request)
    answer(connection, request, status=REJECTED, payload=encode_events([Rejected(1)]))
    answer(connection, request, status=UNAVAILABLE)
    assert await task == Applied(7, 9, EVENTS)
    later = submission(client)
    answer(*await engine.next_request())
    await later


async def test_what_was_not_answered_is_sent_again_over_the_next_connection(
    client: EngineClient, engine: Engine
) -> None:
    task, query = submission(client), asyncio.create_task(client.book(3, 5))
    first = [(await engine.next_request())[1] for _ in range(2)]
    for connection in list(engine.server.connections):
        connection.close()
    again = [await engine.next_request() for _ in range(2)]
    for (_, request), before in zip(again, first, strict=True):
        assert (request.command_id, request.kind, bytes(request.payload)) == (
            before.command_id,
            before.kind,
            bytes(before.payload),
        )
        # a query is in no journal
        assert request.may_be_known is (request.kind == SUBMIT)
    assert again[1][1].kind == QUERY_BOOK
    answer(*again[0])
    answer(*again[1], status=ANSWERED, payload=msgspec.msgpack.encode(BookAnswer(3, [], [], 0)))
    assert await task == Applied(7, 9, EVENTS)
    await query


async def test_what_is_asked_while_nobody_leads_is_sent_when_somebody_does() -> None:
    async with running_engine() as engine, connected_client(engine) as client:
        move_leader(client, None)
        for connection in list(engine.server.connections):
            connection.close()
        task = submission(client)
        move_leader(client, engine)
        answer(*await engine.next_request())
        assert await task == Applied(7, 9, EVENTS)


async def test_what_the_engine_sends_back_is_asked_again(client: EngineClient, engine: Engine) -> None:
    tasks = [submission(client) for _ in range(3)]
    for _ in range(3):
        requests = [await engine.next_request() for _ in tasks]
        for connection, request in requests:
            answer(connection, request, status=UNAVAILABLE)
    for _ in tasks:
        connection, request = await engine.next_request()
        assert request.may_be_known
        answer(connection, request)
    for task in tasks:
        await task


async def test_what_nobody_waits_for_any_more_is_not_asked_again(client: EngineClient, engine: Engine) -> None:
    cancelled, kept = submission(client), submission(client)
    first = [await engine.next_request() for _ in range(2)]
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    for connection, request in first:
        answer(connection, request, status=UNAVAILABLE)
    connection, request = await engine.next_request()
    assert request.command_id == first[1][1].command_id
    answer(connection, request)
    await kept
    for one in list(engine.server.connections):
        one.close()
    later = submission(client)
    connection, request = await engine.next_request()
    assert request.command_id not in {first[0][1].command_id, first[1][1].command_id}
    answer(connection, request)
    await later


async def test_a_worker_follows_the_leader_away_from_an_engine_that_takes_nothing() -> None:
    async with running_engine() as old, running_engine() as new, connected_client(old) as client:
        task = submission(client)
        move_leader(client, new)
        sending_back = asyncio.create_task(send_back_everything(old))
        connection, request = await new.next_request()
        assert request.may_be_known
        answer(connection, request)
        assert await task == Applied(7, 9, EVENTS)
        sending_back.cancel()


async def send_back_everything(engine: Engine) -> None:
    while True:
        answer(*await engine.next_request(), status=UNAVAILABLE)


async def test_a_worker_follows_the_leader_away_from_an_engine_that_is_silent() -> None:
    async with running_engine() as old, running_engine() as new, connected_client(old) as client:
        task = submission(client)
        await old.next_request()
        move_leader(client, new)
        answer(*await new.next_request())
        assert await task == Applied(7, 9, EVENTS)


async def test_a_worker_stays_with_a_silent_engine_that_leads(client: EngineClient, engine: Engine) -> None:
    patient, impatient = submission(client), submission(client, timeout_s=0.6)
    connection, request = await engine.next_request()
    await engine.next_request()
    # longer than it takes to look for another leader
    with pytest.raises(EngineTimeoutError):
        await impatient
    assert not engine.has_request
    answer(connection, request)
    await patient


async def test_stopping_ends_all_waiting_and_all_asking(engine: Engine) -> None:
    async with connected_client(engine) as client:
        waiting = submission(client)
        await engine.next_request()
        await client.stop()
        with pytest.raises(EngineTimeoutError):
            await waiting
        with pytest.raises(EngineTimeoutError):
            await client.submit(COMMAND, request_id="late")
        assert not client.is_connected


async def test_a_locator_that_fails_is_asked_again(engine: Engine) -> None:
    failures = iter([ConnectionError("away"), ValueError("odd"), None])
    connected = asyncio.Event()

    async def locate() -> tuple[str, int]:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return HOST, engine.port

    client = EngineClient(KEY, locate, on_connected=connected.set)
    client.start()
    async with asyncio.timeout(TIMEOUT_S):
        await connected.wait()
    await client.stop()


Engineer = Callable[[Peer], Awaitable[None]]


async def greet_with_short_nonce(peer: Peer) -> None:
    peer.send_message(Greeting(PROTOCOL_VERSION, b""))


async def greet_with_nonsense(peer: Peer) -> None:
    peer.send(b"\xc1")


async def greet_with_too_much(peer: Peer) -> None:
    peer.writer.write((2_000_000).to_bytes(4, "big"))


async def prove_nothing(peer: Peer) -> None:
    peer.send_message(Greeting(PROTOCOL_VERSION, bytes(32)))
    await peer.receive()
    peer.send_message(Proof(PROTOCOL_VERSION, b"", bytes(32)))


async def reflect(peer: Peer) -> None:
    peer.send_message(Greeting(PROTOCOL_VERSION, bytes(32)))
    peer.send(await peer.receive())


async def greet_too_old(peer: Peer) -> None:
    peer.send_message(Greeting(OLDEST_PROTOCOL_VERSION - 1, bytes(32)))


async def greet_too_new(peer: Peer) -> None:
    peer.send_message(Greeting(PROTOCOL_VERSION + 2, bytes(32)))


@pytest.mark.parametrize(
    "behave",
    [
        greet_with_short_nonce,
        greet_with_nonsense,
        greet_with_too_much,
        greet_too_old,
        greet_too_new,
        prove_nothing,
        reflect,
    ],
)
async def test_an_engine_that_does_not_prove_itself_gets_no_command(behave: Engineer) -> None:
    left: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await behave(peer)
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        writer.close()
        if not left.done():
            left.set_result(rest)

    server = await asyncio.start_server(accept, HOST, 0)

    async def locate() -> tuple[str, int]:
        return HOST, server.sockets[0].getsockname()[1]

    client = EngineClient(KEY, locate)
    client.start()
    task = submission(client)
    async with asyncio.timeout(TIMEOUT_S):
        assert COMMAND.reference.encode() not in await left
    assert not client.is_connected
    await client.stop()
    server.close()
    with pytest.raises(EngineTimeoutError):
        await task


async def test_an_engine_that_talks_nonsense_later_is_left_and_asked_again() -> None:
    async with running_engine() as engine, connected_client(engine) as client:
        task = submission(client)
        await engine.next_request()
        (connection,) = engine.server.connections
        transport = connection._transport
        assert transport is not None
        transport.write(frame(b"\xc1"))
        answer(*await engine.next_request())
        assert await task == Applied(7, 9, EVENTS)


async def test_a_thousand_commands_of_one_turn_leave_in_few_frames(client: EngineClient, engine: Engine) -> None:
    frames: list[int] = []
    original = engine.server.handle

    def count(connection: Connection, requests: list[Request]) -> None:
        if requests[0].number != POSITION_NUMBER:
            frames.append(len(requests))
        original(connection, requests)

    engine.server.handle = count
    tasks = [submission(client) for _ in range(5_000)]
    for _ in tasks:
        answer(*await engine.next_request())
    assert len(await asyncio.gather(*tasks)) == 5_000
    assert len(frames) == 3


def test_command_ids_are_uuids_that_grow_with_time() -> None:
    ids = [new_command_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all((one[6] >> 4, one[8] >> 6) == (7, 2) for one in ids)
    assert [one[:6] for one in ids] == sorted(one[:6] for one in ids)
