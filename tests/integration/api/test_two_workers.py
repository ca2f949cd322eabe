"""Several workers serve one exchange: what one of them answered holds for the others at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.api.venue import Trader, Venue
from tests.integration.api_v1.backend import JWT_SECRET, Client

from rtx.api import directories, nouns
from rtx.api.api_key_cache import ApiKeyCache
from rtx.api.application import Application
from rtx.api.context import ApiContext, ApiSettings
from rtx.api.directories import make_context
from rtx.api.telemetry import RequestLog
from rtx.store import api_keys as stored_api_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")


class WatchedCache(ApiKeyCache):
    """A cache of keys that says when it heard of something; ``heard`` holds changed keys, "listening" and "deaf"."""

    heard: asyncio.Queue[str]

    def listening(self) -> None:
        super().listening()
        self.heard.put_nowait("listening")

    def deaf(self) -> None:
        super().deaf()
        self.heard.put_nowait("deaf")

    def changed(self, api_key: str) -> None:
        super().changed(api_key)
        self.heard.put_nowait(api_key)

    async def hears(self, what: str) -> None:
        """Wait until ``what`` is the news."""
        while await self.heard.get() != what:
            pass


class SecondWorker:
    """Another worker of the same backend."""

    def __init__(self, context: ApiContext, cache: WatchedCache) -> None:
        self.cache = cache
        self.client = Client(Application(context, nouns.routes(), [], RequestLog()))

    def seen_by(self, trader: Trader) -> Trader:
        """The same trader, sending to this worker."""
        return Trader(self.client, trader.account_id, trader.api_key, trader.secret)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def second(venue: Venue) -> AsyncIterator[SecondWorker]:
    first = venue.backend.context
    context = make_context(
        ApiSettings(jwt_secrets=(JWT_SECRET,)), pool=first.pool, redis_client=first.redis, engine=first.engine
    )
    first_cache = context.api_keys
    cache = WatchedCache(first_cache.find, time.monotonic, ttl_s=3600.0)
    cache.heard = asyncio.Queue()
    context.api_keys = cache
    async with directories.lifespan(context):
        await cache.hears("listening")
        yield SecondWorker(context, cache)


async def test_a_market_created_through_one_is_traded_through_the_other(venue: Venue, second: SecondWorker) -> None:
    trader = await venue.trader({"USDT": 100})
    for _ in range(3):
        symbol = await venue.market()
        placed = await second.seen_by(trader).order(symbol, "BUY", "1", "1")
        found = await trader.get("/api/v3/order", symbol=symbol, orderId=placed["orderId"])
        assert found.json["status"] == "NEW"


async def test_a_revoked_key_stops_working_everywhere(venue: Venue, second: SecondWorker) -> None:
    trader = await venue.trader()
    await second.cache.hears(trader.api_key)  # that it was made
    elsewhere = second.seen_by(trader)
    assert (await elsewhere.get("/api/v3/account")).status == 200
    await stored_api_keys.delete(venue.backend.pool, trader.account_id, trader.api_key)
    await second.cache.hears(trader.api_key)
    assert (await elsewhere.get("/api/v3/account")).code == -2015


async def test_without_its_notifications_a_worker_keeps_no_keys(venue: Venue, second: SecondWorker) -> None:
    trader = await venue.trader()
    elsewhere = second.seen_by(trader)
    assert (await elsewhere.get("/api/v3/account")).status == 200
    pool = venue.backend.pool
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
    )
    await second.cache.hears("deaf")
    # Nobody tells of this change, as when it is made while the worker does not listen.
    await pool.execute("DELETE FROM api_keys WHERE api_key = $1", trader.api_key)
    assert (await elsewhere.get("/api/v3/account")).code == -2015
    await second.cache.hears("listening")
