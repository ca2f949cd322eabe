"""Streams of several workers while engines hand over, die and come back, and Valkey does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.engine.cluster import running_cluster
from tests.integration.streams.replicas import MovingBook, MovingClient, MovingTrades, Replicas, running_replicas
from tests.integration.streams.traffic import Traffic
from websockets.exceptions import InvalidStatus

from rtx.api import errors
from rtx.api.streams import resumption
from rtx.embedded import EmbeddedValkey
from rtx.observability.metrics import STREAM_RESYNCHRONISATIONS
from rtx.store.migrate import upgrade


@pytest.fixture
async def replicas(database_url: str, own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Two engines and two workers."""
    upgrade(database_url)
    async with (
        running_cluster(database_url, own_valkey.redis_url, tmp_path) as cluster,
        running_replicas(cluster) as running,
    ):
        yield running


@contextlib.asynccontextmanager
async def running(*clients: MovingClient) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        yield
        for task in tasks:
            task.cancel()


async def compare(replicas: Replicas, symbol: str, sequence: int, *clients: MovingClient) -> None:
    """Wait until everybody has heard everything, then compare it with what every worker says."""
    trades = (await replicas.venue.public.get(f"/api/v3/trades?symbol={symbol}&limit=1")).json
    for client in clients:
        await client.until(sequence if isinstance(client, MovingBook) else trades[-1]["id"])
    for worker in replicas.workers:
        book = (await worker.venue.public.get(f"/api/v3/depth?symbol={symbol}&limit=5000")).json
        for client in clients:
            if isinstance(client, MovingBook):
                assert client.book.bids == dict(book["bids"])
                assert client.book.asks == dict(book["asks"])
    for client in clients:
        if isinstance(client, MovingBook):
            assert (client.book.gaps, client.book.broken_chains, client.snapshots) == (0, 0, 1)
        elif isinstance(client, MovingTrades):
            ids = client.trade_ids
            assert ids == list(range(ids[0], trades[-1]["id"] + 1))


class Market:
    """A market with traffic, and at every worker a client that keeps the book and one that hears the trades."""

    def __init__(self, replicas: Replicas, symbol: str, traffic: Traffic) -> None:
        self.symbol = symbol
        self.traffic = traffic
        self.books = [MovingBook(worker, symbol) for worker in replicas.workers]
        self.trades = [MovingTrades(worker, symbol) for worker in replicas.workers]
        self.clients: list[MovingClient] = [*self.books, *self.trades]
        self._replicas = replicas

    @classmethod
    async def open(cls, replicas: Replicas) -> Market:
        symbol = await replicas.venue.market()
        return cls(replicas, symbol, await Traffic.start(replicas.venue, symbol))

    async def until_heard(self) -> None:
        """Trade until every client has heard of something."""
        while any(client.position() is None for client in self.clients):
            await self.traffic.burst(20)

    async def trade_during(self, fault: asyncio.Task[None]) -> None:
        """Trade until a fault is over, and a little longer."""
        while not fault.done():
            await self.traffic.burst(20)
        await fault
        await self.traffic.burst(20)

    async def compare(self) -> None:
        await compare(self._replicas, self.symbol, await self.traffic.burst(20), *self.clients)


async def test_streams_go_on_over_handovers_and_the_leaders_death(replicas: Replicas) -> None:
    market = await Market.open(replicas)
    async with running(*market.clients):
        await market.until_heard()
        await market.compare()
        for fault in (replicas.hand_over, replicas.kill_leader, replicas.hand_over):
            await market.trade_during(asyncio.create_task(fault()))
            await market.compare()


async def test_a_handover_has_no_worker_read_a_book_again(replicas: Replicas) -> None:
    market = await Market.open(replicas)
    quiet = await Market.open(replicas)
    async with running(*market.clients, *quiet.clients):
        await market.until_heard()
        await quiet.until_heard()
        await market.compare()
        await quiet.compare()
        before = resynchronisations()
        await replicas.hand_over()
        await market.compare()
        await quiet.compare()
        assert resynchronisations() == before


def resynchronisations() -> float:
    return float(next(iter(STREAM_RESYNCHRONISATIONS.collect())).samples[0].value)


async def test_without_valkey_orders_go_on_and_streams_resume_also_when_the_leader_changed_meanwhile(
    replicas: Replicas, own_valkey: EmbeddedValkey
) -> None:
    market = await Market.open(replicas)
    async with running(*market.clients):
        await market.until_heard()
        await market.compare()
        await asyncio.to_thread(own_valkey.kill)
        for _ in range(5):
            await market.traffic.burst(40)
        await market.trade_during(asyncio.create_task(replicas.hand_over()))
        await market.traffic.burst(40)
        await asyncio.to_thread(own_valkey.start)
        for _ in range(3):
            await market.compare()


async def test_a_client_goes_on_at_another_worker_without_a_snapshot(replicas: Replicas) -> None:
    market = await Market.open(replicas)
    one, other = replicas.workers
    async with running(*market.clients):
        await market.until_heard()
        for server in (other, one, other):
            for client in market.clients:
                client.cut()
            for _ in range(3):
                await market.traffic.burst(40)
            for client in market.clients:
                client.move_to(server)
            await market.compare()
        assert all(book.book.resumes == 3 for book in market.books)


async def test_a_client_goes_on_at_a_worker_that_has_only_just_started(replicas: Replicas) -> None:
    market = await Market.open(replicas)
    async with running(*market.clients):
        await market.until_heard()
        for client in market.clients:
            client.cut()
        for _ in range(5):
            await market.traffic.burst(40)
        await replicas.hand_over()
        await market.traffic.burst(40)
        late = await replicas.add_worker()
        for client in market.clients:
            client.move_to(late)
        await market.compare()
        assert all(book.book.resumes == 1 for book in market.books)


async def test_a_resume_that_cannot_be_is_refused_before_there_is_a_connection(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = await Market.open(replicas)
    sequence = await market.traffic.burst(40)
    stream = f"{market.symbol.lower()}@depth"
    worker = await replicas.add_worker()
    monkeypatch.setattr(resumption, "JOURNAL_ROWS_MAX", 1)
    for resume, code, reason in (
        (f"{stream}:{sequence + 1_000_000}", errors.CANNOT_RESUME, b"the newest is"),
        (f"{stream}:{sequence - 30}", errors.CANNOT_RESUME, b"take a snapshot"),
        (f"{stream}:-1", errors.INVALID_PARAMETER, b"'resume' must be"),
        (f"{stream}", errors.INVALID_PARAMETER, b"'resume' must be"),
        ("other@depth:1", errors.INVALID_PARAMETER, b"not subscribed to"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with worker.connected(f"/ws/{stream}?resume={resume}"):
                pass
        response = refused.value.response
        assert response.status_code == 400
        assert b'"code":%d,' % code in response.body
        assert reason in response.body


async def test_depth_waits_for_the_next_leader_and_never_shows_less_than_was_answered(replicas: Replicas) -> None:
    market = await Market.open(replicas)
    await market.traffic.burst(20)
    is_over = asyncio.Event()
    answered = 0
    reads = 0

    async def trade() -> None:
        nonlocal answered
        while not is_over.is_set():
            answered = max(answered, await market.traffic.burst(10))

    async def read() -> None:
        nonlocal reads
        shown = 0
        while not is_over.is_set():
            for worker in replicas.workers:
                before = answered
                answer = await worker.venue.public.get(f"/api/v3/depth?symbol={market.symbol}&limit=5")
                assert answer.status == 200, answer.body
                assert answer.json["lastUpdateId"] >= max(before, shown)
                shown = answer.json["lastUpdateId"]
                reads += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(trade())
        group.create_task(read())
        for fault in (replicas.hand_over, replicas.kill_leader, replicas.hand_over):
            await fault()
        is_over.set()
    assert reads > 10
