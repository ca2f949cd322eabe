"""Those who wait for a lease or an order hear of it also after their connection was lost."""

from __future__ import annotations

import asyncio

import asyncpg
from tests.fakes.leadership import take_lease

from rtx.store.connection import connect_engine
from rtx.store.engine_watch import EngineWatch
from rtx.store.lease import LeaseStore


async def test_a_lost_connection_is_replaced(migrated_url: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    watch = EngineWatch(lambda: connect_engine(migrated_url, application_name="watch"))
    await watch.start()
    try:
        cut = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'watch'"
        )
        assert cut == 1
        # It may have missed something, so it wakes whoever waits.
        assert await watch.wait(10.0)
        waiting = asyncio.create_task(watch.wait(10.0))
        await take_lease(LeaseStore(connection))
        assert await waiting
    finally:
        watch.stop()
