"""A standby plans what it will need, and changes nothing by that."""

from __future__ import annotations

from typing import Any

import asyncpg
from tests.fakes.leadership import take_lease
from tests.integration.store.trading import ALICE, BOB, MARKET, QUOTE, Trading

from rtx.core.commands import AnyCommand, CancelOrder, Checkpoint, Deposit, NewOrder
from rtx.core.vocabulary import BUY, GTC, LIMIT, SELL
from rtx.store.connection import create_pool
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore
from rtx.store.warm_up import warm_up

STATEMENTS = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'WITH lease%'"


async def test_usual_commits_need_no_planning_any_more(connection: asyncpg.Connection[Any], migrated_url: str) -> None:
    epoch = await take_lease(LeaseStore(connection))
    assert epoch is not None
    trading = Trading(epoch)
    trading.open_market()
    journal = JournalStore(connection)
    await journal.commit(trading.take_batch())
    pool = await create_pool(migrated_url, application_name="rtx-test", minimum_size=2, maximum_size=2)
    try:
        await warm_up(connection, pool, 2)
    finally:
        pool.terminate()
    assert await connection.fetchval("SELECT max(sequence) FROM journal") == trading.sequence
    planned = await connection.fetch(STATEMENTS)

    def order(account_id: int, side: int, price: int, name: str) -> NewOrder:
        return NewOrder(account_id, MARKET, side, LIMIT, GTC, price, 1, name)

    batches: list[list[AnyCommand]] = [
        [Checkpoint()],
        [Deposit(ALICE, QUOTE, 1, "warm")],
        [order(ALICE, BUY, 10, "resting"), order(ALICE, BUY, 9, "leaving")],
        [CancelOrder(ALICE, MARKET, client_order_id="leaving")],
        [order(BOB, SELL, 10, "meeting")],
        [order(ALICE, BUY, 10, "one"), order(BOB, SELL, 10, "other")],
        [order(ALICE, BUY, 8, "staying")],
        [order(ALICE, BUY, 7, "coming"), CancelOrder(ALICE, MARKET, client_order_id="staying")],
    ]
    for commands in batches:
        for command in commands:
            trading.apply(command)
        await journal.commit(trading.take_batch())
    assert await connection.fetch(STATEMENTS) == planned
