"""An engine that cannot believe what it finds stops and says which, and lets nothing through."""

from __future__ import annotations

import pytest
from tests.integration.engine.cluster import MARKET, TIMEOUT_S, Cluster, eventually, open_market

from rtx.core.commands import CancelOrder, NewOrder
from rtx.core.vocabulary import BUY, GTC, LIMIT
from rtx.engine.snapshotter import EXIT_JOURNAL
from rtx.link.client import EngineTimeoutError


async def test_a_broken_journal_row_stops_it_before_it_leads(cluster: Cluster) -> None:
    engine = cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
    engine.kill()
    await cluster.pool.execute("UPDATE journal SET time_us = time_us + 1 WHERE sequence = 5")
    engine = cluster.start_engine()
    assert await engine.exit_code() == EXIT_JOURNAL
    assert "the engine halts" in engine.log
    assert "journal row 5" in engine.log
    assert "engine leads" not in engine.log


async def test_tables_that_disagree_with_the_memory_stop_it(cluster: Cluster) -> None:
    engine = cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
        order = NewOrder(1001, MARKET, BUY, LIMIT, GTC, 1, 7, "order")
        await client.submit(order, request_id="order", timeout_s=TIMEOUT_S)
        await cluster.pool.execute("DELETE FROM orders")
        with pytest.raises(EngineTimeoutError):
            await client.submit(CancelOrder(1001, MARKET, client_order_id="order"), request_id="cancel", timeout_s=1)
    assert await engine.exit_code() == EXIT_JOURNAL
    assert "the engine halts" in engine.log
    assert "cancel" not in await cluster.request_ids()


async def test_a_journal_that_does_not_replay_stops_it_while_it_leads(cluster: Cluster) -> None:
    engine = cluster.start_engine(SNAPSHOT_COMMANDS="100")
    async with cluster.client() as client:
        await open_market(client)
        await cluster.pool.execute("UPDATE journal SET time_us = time_us + 1 WHERE sequence = 5")
        for number in range(100):
            order = NewOrder(1001, MARKET, BUY, LIMIT, GTC, 1, 1, f"order-{number}")
            await client.submit(order, request_id=f"order-{number}", timeout_s=TIMEOUT_S)
    assert await engine.exit_code() == EXIT_JOURNAL
    assert "journal row 5" in engine.log


async def test_a_wrong_setting_is_named(cluster: Cluster) -> None:
    engine = cluster.start_engine(LEASE_TTL_S="soon")

    async def has_ended() -> bool:
        return engine.process.poll() is not None

    await eventually(has_ended)
    assert await engine.exit_code() == 2
    assert "RTX_LEASE_TTL_S" in engine.log
