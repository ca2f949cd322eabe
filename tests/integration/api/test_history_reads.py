"""History comes from a streaming replica where that is as good as the primary, and is right wherever it comes from."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from tests.integration.api.venue import Trader, Venue, now_ms
from tests.integration.api_v1.backend import JWT_SECRET, Client, running_backend
from tests.integration.cli.program import Program
from tests.streaming_replica import Primary, StreamingReplica, thaw

from rtx.api import nouns
from rtx.api.application import Application
from rtx.api.context import ApiSettings
from rtx.api.directories import make_context
from rtx.api.history_reads import HistoryReads
from rtx.api.streams.statistics import PostgresStatistics
from rtx.api.telemetry import RequestLog
from rtx.store.connection import create_pool
from rtx.store.migrate import upgrade
from rtx.supervisor.backend import read_state

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT_S = 30.0
POLL_INTERVAL_S = 0.05

Pool = asyncpg.Pool


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Primary]:
    with Primary(tmp_path_factory.mktemp("primary")) as server:
        yield server


@pytest.fixture(scope="module")
def replica(primary: Primary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreamingReplica]:
    upgrade(primary.database_url)
    with StreamingReplica(tmp_path_factory.mktemp("replica"), primary) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def venue(primary: Primary, replica: StreamingReplica, shared_redis_url: str) -> AsyncIterator[Venue]:
    """A backend whose worker reads the primary alone."""
    async with running_backend(primary.database_url, shared_redis_url) as backend:
        yield Venue(backend)


class Reader:
    """Another worker of the same backend, with a replica."""

    def __init__(self, venue: Venue, pool: Pool[asyncpg.Record]) -> None:
        first = venue.backend.context
        context = make_context(
            ApiSettings(jwt_secrets=(JWT_SECRET,)),
            pool=first.pool,
            redis_client=first.redis,
            engine=first.engine,
            history=HistoryReads(first.pool, pool, first.engine.position),
        )
        self.history = context.history
        self.client = Client(Application(context, nouns.routes(), [], RequestLog()))

    def seen_by(self, trader: Trader) -> Trader:
        """The same trader, sending to this worker."""
        return Trader(self.client, trader.account_id, trader.api_key, trader.secret)

    async def until_read_from_replica(self, trader: Trader, symbol: str) -> None:
        """Read until the replica answers again."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                before = reads("replica")
                assert (await self.seen_by(trader).get("/api/v3/allOrders", symbol=symbol)).status == 200
                if reads("replica") > before:
                    return
                await asyncio.sleep(POLL_INTERVAL_S)


def reads(source: str) -> float:
    return REGISTRY.get_sample_value("rtx_history_reads_total", {"source": source}) or 0.0


@pytest_asyncio.fixture(loop_scope="module")
async def reader(venue: Venue, replica: StreamingReplica) -> AsyncIterator[Reader]:
    pool = await create_pool(replica.database_url, application_name="rtx-test-history", minimum_size=0, maximum_size=3)
    try:
        yield Reader(venue, pool)
    finally:
        pool.terminate()


async def traded(venue: Venue) -> tuple[Trader, str]:
    """A trader who bought, and the market."""
    symbol = await venue.market()
    buyer = await venue.trader({"USDT": 1000})
    seller = await venue.trader({symbol.removesuffix("USDT"): 10})
    await seller.order(symbol, "SELL", "2", "10")
    await buyer.order(symbol, "BUY", "1", "10")
    return buyer, symbol


HISTORY: list[tuple[str, dict[str, Any], bool]] = [
    ("/api/v3/allOrders", {}, True),
    ("/api/v3/myTrades", {}, True),
    ("/api/v3/trades", {}, False),
    ("/api/v3/historicalTrades", {}, False),
    ("/api/v3/historicalTrades", {"fromId": 1}, False),
    ("/api/v3/aggTrades", {}, False),
    ("/api/v3/klines", {"interval": "1d"}, False),
]

STATISTICS = ["/api/v3/avgPrice", "/api/v3/ticker/24hr"]


@pytest.mark.parametrize(("path", "parameters", "is_signed"), HISTORY)
async def test_history_comes_from_the_replica_and_is_the_same(
    venue: Venue, reader: Reader, path: str, parameters: dict[str, Any], is_signed: bool
) -> None:
    trader, symbol = await traded(venue)
    await reader.until_read_from_replica(trader, symbol)
    replica_reads, primary_reads = reads("replica"), reads("primary")
    if is_signed:
        answer = await reader.seen_by(trader).get(path, symbol=symbol, **parameters)
        expected = await trader.get(path, symbol=symbol, **parameters)
    else:
        query = "&".join(f"{name}={value}" for name, value in {"symbol": symbol, **parameters}.items())
        answer = await reader.client.get(f"{path}?{query}")
        expected = await venue.public.get(f"{path}?{query}")
    assert (answer.status, answer.json) == (200, expected.json)
    assert answer.json != []
    assert (reads("replica"), reads("primary")) == (replica_reads + 1, primary_reads + 1)


@pytest.mark.parametrize("path", STATISTICS)
async def test_statistics_come_from_the_replica(venue: Venue, reader: Reader, path: str) -> None:
    trader, symbol = await traded(venue)
    await reader.until_read_from_replica(trader, symbol)
    before = reads("replica")
    assert (await reader.client.get(f"{path}?symbol={symbol}")).status == 200
    assert reads("replica") == before + 1


async def test_what_streams_show_comes_from_the_replica_and_is_the_same(venue: Venue, reader: Reader) -> None:
    trader, symbol = await traded(venue)
    market_id = await venue.market_id(symbol)
    await reader.until_read_from_replica(trader, symbol)
    now_us = now_ms() * 1000
    before = reads("replica")
    questions: list[Callable[[PostgresStatistics], Awaitable[Any]]] = [
        lambda statistics: statistics.candles(market_id, "1d", now_us=now_us, limit=2, offset_s=0),
        lambda statistics: statistics.first_trade_id(market_id, 0),
        lambda statistics: statistics.day(now_us=now_us, market_id=market_id),
        lambda statistics: statistics.average_price(market_id, now_us=now_us),
    ]
    for ask in questions:
        answer = await ask(PostgresStatistics(reader.history))
        assert answer
        assert answer == await ask(PostgresStatistics(HistoryReads(venue.backend.pool)))
    assert reads("replica") == before + len(questions)


@pytest.mark.parametrize("path", ["/api/v3/account", "/api/v3/openOrders", "/api/v3/account/commission"])
async def test_what_decisions_rest_on_comes_from_the_primary(
    venue: Venue, reader: Reader, replica: StreamingReplica, path: str
) -> None:
    trader, symbol = await traded(venue)
    with paused(replica):
        placed = await trader.order(symbol, "BUY", "1", "9")
        parameters = {} if path == "/api/v3/account" else {"symbol": symbol}
        answer = await reader.seen_by(trader).get(path, **parameters)
        assert answer.json == (await trader.get(path, **parameters)).json
        found = await reader.seen_by(trader).get("/api/v3/order", symbol=symbol, orderId=placed["orderId"])
        assert found.json["status"] == "NEW"


async def test_a_replica_that_is_behind_is_not_read(venue: Venue, reader: Reader, replica: StreamingReplica) -> None:
    trader, symbol = await traded(venue)
    await reader.until_read_from_replica(trader, symbol)
    with paused(replica):
        before = reads("replica")
        # Placed through one worker, looked for through another one.
        placed = await trader.order(symbol, "BUY", "1", "9")
        for _ in range(3):
            answer = await reader.seen_by(trader).get("/api/v3/allOrders", symbol=symbol)
            assert answer.json[-1]["orderId"] == placed["orderId"]
        assert reads("replica") == before
    await reader.until_read_from_replica(trader, symbol)


async def test_a_replica_that_dies_is_missed_by_nobody(venue: Venue, reader: Reader, replica: StreamingReplica) -> None:
    trader, symbol = await traded(venue)
    await reader.until_read_from_replica(trader, symbol)
    replica.stop("immediate")
    try:
        for _ in range(3):
            answer = await reader.seen_by(trader).get("/api/v3/myTrades", symbol=symbol)
            assert (answer.status, len(answer.json)) == (200, 1)
    finally:
        replica.start()
    await reader.until_read_from_replica(trader, symbol)


async def test_a_replica_that_hangs_holds_nobody_up_for_long(
    venue: Venue, reader: Reader, replica: StreamingReplica
) -> None:
    trader, symbol = await traded(venue)
    await reader.until_read_from_replica(trader, symbol)
    frozen = replica.freeze()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(5):
                answer = await reader.seen_by(trader).get("/api/v3/myTrades", symbol=symbol)
                assert (answer.status, len(answer.json)) == (200, 1)
    finally:
        thaw(frozen)
    await reader.until_read_from_replica(trader, symbol)


async def test_a_database_of_another_exchange_is_not_read(venue: Venue, primary: Primary) -> None:
    trader, symbol = await traded(venue)
    with psycopg.connect(primary.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE another")
    url = urlsplit(primary.database_url)._replace(path="/another").geturl()
    upgrade(url)
    pool = await create_pool(url, application_name="rtx-test-history", minimum_size=0, maximum_size=1)
    # It has more rows than are wanted, and they are its own.
    await pool.execute(
        "INSERT INTO journal (sequence, epoch, time_us, command_id, request_id, request_hash, command, events,"
        " previous_hash, hash) SELECT 1000000, epoch, time_us, command_id, request_id, request_hash, command, events,"
        " previous_hash, hash FROM (SELECT 1 AS epoch, 1 AS time_us, '\\x00112233445566778899aabbccddeeff'::bytea"
        " AS command_id, '' AS request_id, ''::bytea AS request_hash, ''::bytea AS command, ''::bytea AS events,"
        " decode(repeat('00', 32), 'hex') AS previous_hash, decode(repeat('11', 32), 'hex') AS hash) AS row"
    )
    before = reads("replica")
    try:
        answer = await Reader(venue, pool).seen_by(trader).get("/api/v3/myTrades", symbol=symbol)
    finally:
        pool.terminate()
    assert (answer.status, len(answer.json)) == (200, 1)
    assert reads("replica") == before


async def test_rtx_serve_reads_from_the_replica_that_it_is_told(
    venue: Venue, primary: Primary, replica: StreamingReplica, shared_redis_url: str, tmp_path: Path
) -> None:
    _, symbol = await traded(venue)
    expected = (await venue.public.get(f"/api/v3/trades?symbol={symbol}")).json
    program = Program(
        "serve",
        "--state-file",
        str(tmp_path / "state.json"),
        DATABASE_URL=primary.database_url,
        DATABASE_REPLICA_URL=replica.database_url,
        REDIS_URL=shared_redis_url,
        JWT_SECRET=JWT_SECRET,
        RTX_HOST="127.0.0.1",
        RTX_PORT="0",
        RTX_METRICS_PORT="0",
        RTX_API_WORKERS="1",
    )
    try:
        await asyncio.to_thread(program.read_until, "api worker serves")
        state = read_state(tmp_path / "state.json")
        assert state is not None
        said = asyncio.create_task(asyncio.to_thread(program.read_until, "history is read from the replica"))
        async with asyncio.timeout(TIMEOUT_S):
            while not said.done():
                assert await asyncio.to_thread(read_trades, state.port, symbol) == expected
                await asyncio.wait([said], timeout=POLL_INTERVAL_S)
        await said
        assert await asyncio.to_thread(read_trades, state.port, symbol) == expected
    finally:
        await asyncio.to_thread(program.close)


def read_trades(port: int, symbol: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v3/trades?symbol={symbol}") as response:
        return json.load(response)


class paused:  # noqa: N801 - reads as what it does
    """Hold the replica's replay up during the block."""

    def __init__(self, replica: StreamingReplica) -> None:
        self._url = urlsplit(replica.database_url)._replace(path="/postgres").geturl()

    def __enter__(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
            while connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
                pass

    def __exit__(self, *_raised: object) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_resume()")
