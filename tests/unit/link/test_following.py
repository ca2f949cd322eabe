"""An API worker is at the next leader as soon as that leads, and stays with one that answers whatever else happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.unit.link.peers import (
    COMMAND,
    HOST,
    KEY,
    TIMEOUT_S,
    Engine,
    answer,
    connected_client,
    move_leader,
    running_engine,
)

from rtx.link import connection as link_connection
from rtx.link import following
from rtx.link.client import Applied, EngineClient
from rtx.link.messages import UNAVAILABLE

HOUR_S = 3600.0

Address = tuple[str, int]


class Lease:
    """What the database says of the leader; ``hangs`` and ``fails`` as it may."""

    def __init__(self) -> None:
        self.address: Address | None = None
        self.hangs = False
        self.fails = False
        self.looks = 0
        self.is_looked_at = asyncio.Event()

    async def locate(self) -> Address | None:
        self.looks += 1
        self.is_looked_at.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise ConnectionError("the database is away")
        return self.address

    async def next_look(self) -> None:
        self.is_looked_at.clear()
        await self.is_looked_at.wait()


@contextlib.asynccontextmanager
async def following_client(lease: Lease) -> AsyncIterator[EngineClient]:
    client = EngineClient(KEY, lease.locate)
    client.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield client
    finally:
        await client.stop()


def submission(client: EngineClient) -> asyncio.Task[Applied]:
    return asyncio.create_task(client.submit(COMMAND, request_id="request", timeout_s=TIMEOUT_S))


async def serve_one(client: EngineClient, engine: Engine) -> None:
    task = submission(client)
    answer(*await engine.next_request())
    await task


async def test_while_answers_come_the_lease_is_not_looked_at() -> None:
    lease = Lease()
    async with running_engine() as engine, following_client(lease) as client:
        lease.address = (HOST, engine.port)
        await serve_one(client, engine)
        looks = lease.looks
        for _ in range(100):
            await serve_one(client, engine)
        assert lease.looks == looks


@pytest.mark.parametrize("trouble", ["hangs", "fails"])
async def test_without_the_database_a_worker_goes_on_with_its_connection(trouble: str) -> None:
    lease = Lease()
    async with running_engine() as engine, following_client(lease) as client:
        lease.address = (HOST, engine.port)
        await serve_one(client, engine)
        setattr(lease, trouble, True)
        await serve_one(client, engine)
        # The engine misses the database too; when it leads again it is believed without it.
        task = submission(client)
        connection, request = await engine.next_request()
        engine.leads = False
        answer(connection, request, status=UNAVAILABLE, payload=b"\xc0")
        await lease.next_look()
        engine.leads = True
        engine.server.begin_term(2, 7)
        answer(*await engine.next_request())
        await task


async def test_news_of_the_lease_are_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease()
    async with running_engine() as engine, following_client(lease) as client:
        task = submission(client)
        await lease.next_look()
        monkeypatch.setattr(following, "INTERVAL_MAX_S", HOUR_S)
        monkeypatch.setattr(following, "INTERVAL_GROWTH", HOUR_S / following.INTERVAL_MIN_S)
        # The interval grows with the next look: there would be none for an hour after it.
        await lease.next_look()
        lease.address = (HOST, engine.port)
        client.look_again()
        answer(*await engine.next_request())
        await task


async def test_news_of_the_lease_do_not_disturb_who_is_served() -> None:
    lease = Lease()
    async with running_engine() as engine, following_client(lease) as client:
        lease.address = (HOST, engine.port)
        await serve_one(client, engine)
        looks = lease.looks
        client.look_again()
        await serve_one(client, engine)
        assert lease.looks == looks


async def test_an_engine_that_never_takes_the_connection_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_connection, "CONNECT_TIMEOUT_S", HOUR_S)
    called = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await _reader.read()
        writer.close()

    hung = await asyncio.start_server(say_nothing, HOST, 0)
    lease = Lease()
    lease.address = (HOST, hung.sockets[0].getsockname()[1])
    async with running_engine() as engine, following_client(lease) as client:
        task = submission(client)
        await called.wait()
        lease.address = (HOST, engine.port)
        answer(*await engine.next_request())
        await task
    hung.close()
    await hung.wait_closed()


async def test_what_is_named_and_does_not_lead_gets_no_request() -> None:
    async with running_engine() as old, running_engine() as named, connected_client(old) as client:
        task = submission(client)
        connection, request = await old.next_request()
        old.leads = named.leads = False
        move_leader(client, named)
        answer(connection, request, status=UNAVAILABLE, payload=b"\xc0")
        await named.was_asked.wait()
        # The one that was left leads again after all.
        old.leads = True
        old.server.begin_term(2, 7)
        answer(*await old.next_request())
        await task
        assert not named.has_request


async def test_requests_that_come_while_nobody_leads_are_sent_once_and_need_no_look_up() -> None:
    lease = Lease()
    async with running_engine() as old, running_engine() as new, following_client(lease) as client:
        lease.address = (HOST, old.port)
        sent = submission(client)
        connection, request = await old.next_request()
        old.leads = False
        answer(connection, request, status=UNAVAILABLE, payload=b"\xc0")
        await lease.next_look()
        held = submission(client)
        await lease.next_look()
        assert not old.has_request
        lease.address = (HOST, new.port)
        requests = [await new.next_request() for _ in range(2)]
        assert sorted(one.may_be_known for _, one in requests) == [False, True]
        for one in requests:
            answer(*one)
        await sent
        await held
