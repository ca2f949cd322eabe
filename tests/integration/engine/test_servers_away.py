"""PostgreSQL and Redis go away and come back under load: the engine waits for the one and does without the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.integration.engine.cluster import MARKET, TIMEOUT_S, Cluster, Load, eventually, open_market, running_cluster

from rtx.core.commands import NewOrder
from rtx.core.vocabulary import BUY, GTC, LIMIT
from rtx.embedded import EmbeddedPostgresql, EmbeddedValkey
from rtx.link.client import EngineClient
from rtx.link.market_data import channel, decode_market_update
from rtx.store import migrate


@pytest.fixture
def own_postgresql(tmp_path: Path) -> Iterator[EmbeddedPostgresql]:
    """A PostgreSQL that the test may stop."""
    with EmbeddedPostgresql(tmp_path / "postgresql") as server:
        yield server


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that the test may kill."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest_asyncio.fixture
async def own_cluster(own_postgresql: EmbeddedPostgresql, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster on that PostgreSQL."""
    await asyncio.to_thread(migrate.upgrade, own_postgresql.database_url)
    async with running_cluster(own_postgresql.database_url, redis_url, tmp_path) as running:
        yield running


@pytest.mark.kill
async def test_postgresql_stopped_at_once_and_started_again(
    own_cluster: Cluster, own_postgresql: EmbeddedPostgresql
) -> None:
    cluster = own_cluster
    await asyncio.to_thread(own_postgresql.stop)
    # it waits for a database that is not there yet
    engine = cluster.start_engine()

    async def has_tried() -> bool:
        return "no leadership now" in engine.log

    await eventually(has_tried)
    await asyncio.to_thread(own_postgresql.start)
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            await load.answered(600)
            await asyncio.to_thread(own_postgresql.stop, "immediate")
            await asyncio.to_thread(own_postgresql.start)
            await load.answered(200)
        assert engine.process.poll() is None
        await cluster.check(client, load)


@pytest.mark.kill
async def test_connections_cut_during_commits(cluster: Cluster) -> None:
    engine = cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            for _ in range(3):
                await load.answered(250)
                cut = await cluster.pool.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'rtx-engine' AND datname = current_database()"
                )
                assert cut == 1
        assert engine.log.count("term ended") == 3
        assert (await cluster.lease()).epoch == 4
        await cluster.check(client, load)


@pytest.mark.kill
async def test_a_commit_that_takes_too_long(cluster: Cluster) -> None:
    engine = cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            await load.answered(500)
            async with cluster.pool.acquire() as connection, connection.transaction():
                # Held until the engine has given the commit up, whose outcome it does not know then.
                await connection.execute("LOCK TABLE balances IN EXCLUSIVE MODE")

                async def has_given_up() -> bool:
                    return "term ended" in engine.log

                await eventually(has_given_up)
            await load.answered(200)
        await cluster.check(client, load)


@pytest.mark.kill
async def test_commands_go_on_without_redis(cluster: Cluster, own_valkey: EmbeddedValkey) -> None:
    cluster.redis_url = own_valkey.redis_url
    engine = cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            await load.answered(500)
            await asyncio.to_thread(own_valkey.kill)
            await load.answered(1_000)
        assert "term ended" not in engine.log
        await cluster.check(client, load)
        await asyncio.to_thread(own_valkey.start)
        await market_data_is_back(client, own_valkey.redis_url)


async def market_data_is_back(client: EngineClient, redis_url: str) -> None:
    """An order shows in the market's channel."""
    async with Redis.from_url(redis_url) as redis, redis.pubsub() as subscription:
        await subscription.subscribe(channel(MARKET))
        order = NewOrder(1001, MARKET, BUY, LIMIT, GTC, 1, 7, "after")
        applied = await client.submit(order, request_id="after", timeout_s=TIMEOUT_S)
        async with asyncio.timeout(TIMEOUT_S):
            async for message in subscription.listen():
                if message["type"] == "message":
                    update = decode_market_update(message["data"])
                    if update.sequence >= applied.sequence:
                        return
