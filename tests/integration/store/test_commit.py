"""The commit on PostgreSQL: who may write meanwhile, what the tables hold after it, and that they then reconcile."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from tests.fakes.leadership import take_lease
from tests.integration.store.trading import ALICE, BASE, BOB, MARKET, QUOTE, Trading
from tests.property.generator import CommandGenerator, opening_commands
from tests.reference.exchange import ReferenceExchange

from rtx.core.commands import AmendOrder, CreateAsset, MarketFilters, SetFeeTier, SetMarketFilters, SetMarketStatus
from rtx.core.events import OrderState, Trade
from rtx.core.rejections import RejectedError
from rtx.core.vocabulary import BUY, CANCEL_ONLY, FILLED, PARTIALLY_FILLED, SELL
from rtx.store import markets, orders, reconciliation, trades
from rtx.store.commit_statement import PARTS, commit_statement
from rtx.store.connection import Connection, connect_engine, create_pool
from rtx.store.errors import StaleEpochError
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore


async def lead(connection: Connection, ttl_s: float = 60.0) -> Trading:
    epoch = await take_lease(LeaseStore(connection), "engine", ttl_s=ttl_s)
    assert epoch is not None
    return Trading(epoch)


async def waits_for_a_lock(observer: Connection, process_id: int) -> None:
    """Return once the server says that this session waits for a lock."""
    question = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
    while not await observer.fetchval(question, process_id):
        pass


async def test_a_takeover_waits_for_a_commit_on_its_way_and_a_renewal_does_not(
    connection: Connection, migrated_url: str
) -> None:
    trading = await lead(connection, ttl_s=0.0)
    trading.open_market()
    other, observer = await connect_engine(migrated_url), await connect_engine(migrated_url)
    transaction = connection.transaction()
    await transaction.start()
    await JournalStore(connection).commit(trading.take_batch())

    assert await LeaseStore(other).renew(trading.epoch, 0.0)
    takeover = asyncio.ensure_future(take_lease(LeaseStore(other), "other"))
    await waits_for_a_lock(observer, other.get_server_pid())
    assert not takeover.done()
    await transaction.commit()
    assert await takeover == trading.epoch + 1

    for closing in (other, observer):
        await closing.close()


async def test_a_commit_that_meets_a_takeover_waits_and_is_then_refused(
    connection: Connection, migrated_url: str
) -> None:
    trading = await lead(connection, ttl_s=0.0)
    trading.open_market()
    other, observer = await connect_engine(migrated_url), await connect_engine(migrated_url)
    transaction = other.transaction()
    await transaction.start()
    assert await take_lease(LeaseStore(other), "other") == trading.epoch + 1

    commit = asyncio.ensure_future(JournalStore(connection).commit(trading.take_batch()))
    await waits_for_a_lock(observer, connection.get_server_pid())
    await transaction.commit()
    with pytest.raises(StaleEpochError):
        await commit
    for table in ("journal", "assets", "balances", "postings"):
        assert await observer.fetchval(f"SELECT count(*) FROM {table}") == 0

    for closing in (other, observer):
        await closing.close()


async def test_tables_hold_what_the_events_say(connection: Connection) -> None:
    trading = await lead(connection)
    journal = JournalStore(connection)
    trading.open_market()
    trading.place(ALICE, SELL, 100, 5, "maker")
    await journal.commit(trading.take_batch())
    trading.place(BOB, BUY, 101, 3, "taker")
    trading.apply(AmendOrder(ALICE, MARKET, 4, client_order_id="maker", new_client_order_id="amended"))
    await journal.commit(trading.take_batch())

    maker = await orders.by_client_order_id(connection, ALICE, MARKET, "amended")
    taker = await orders.by_client_order_id(connection, BOB, MARKET, "taker")
    assert maker is not None
    assert taker is not None
    assert (maker.status, maker.quantity, maker.executed_quantity) == (PARTIALLY_FILLED, 4, 3)
    assert (taker.status, taker.quantity, taker.executed_quantity) == (FILLED, 3, 3)
    assert maker.executed_quote_quantity == taker.executed_quote_quantity == 300
    assert maker.updated_at_us == trading.time_us
    assert taker.updated_at_us == taker.created_at_us == trading.time_us - 1
    assert await orders.by_client_order_id(connection, ALICE, MARKET, "maker") is None
    trade = await connection.fetchrow("SELECT * FROM trades")
    assert trade is not None
    assert (trade["sequence"], trade["maker_order_id"], trade["taker_order_id"]) == (
        trading.sequence - 1,
        maker.order_id,
        taker.order_id,
    )
    lines = await connection.fetch(
        "SELECT account_id, asset_id, amount FROM postings WHERE sequence = $1 ORDER BY line", trading.sequence - 1
    )
    assert sorted(tuple(line) for line in lines) == [
        (ALICE, BASE, -3),
        (ALICE, QUOTE, 300),
        (BOB, BASE, 3),
        (BOB, QUOTE, -300),
    ]


async def test_a_change_of_the_directory_is_announced_at_its_commit(connection: Connection, migrated_url: str) -> None:
    listener = await asyncpg.connect(migrated_url)
    announced = asyncio.Event()

    def on_announcement(*_: Any) -> None:
        announced.set()

    await listener.add_listener(markets.CHANNEL, on_announcement)
    trading = await lead(connection)
    journal = JournalStore(connection)
    trading.open_market()
    await journal.commit(trading.take_batch())
    await announced.wait()

    announced.clear()
    filters = MarketFilters(minimum_quantity=2, bid_multiplier_up=2_000_000)
    trading.apply(SetMarketStatus(MARKET, CANCEL_ONLY))
    trading.apply(SetMarketFilters(MARKET, filters))
    trading.apply(SetFeeTier(0, 100, 200))
    await journal.commit(trading.take_batch())
    await announced.wait()
    directory = await markets.read_directory(connection)
    assert [asset.symbol for asset in directory.assets] == ["BASE", "QUOTE"]
    assert (directory.markets[0].status, directory.markets[0].filters) == (CANCEL_ONLY, filters)
    assert directory.fee_tiers == (markets.FeeTier(0, 100, 200),)
    await listener.close()


async def test_a_refused_change_of_the_directory_leaves_nothing(connection: Connection, migrated_url: str) -> None:
    trading = await lead(connection, ttl_s=0.0)
    assert await take_lease(LeaseStore(connection), "other") is not None
    trading.apply(CreateAsset("BASE", 2))
    pool = await create_pool(migrated_url, application_name="test")
    batch = trading.take_batch()
    for database in (connection, pool):
        with pytest.raises(StaleEpochError):
            await JournalStore(database).commit(batch)
    assert (await markets.read_directory(pool)).assets == ()
    assert await connection.fetchval("SELECT count(*) FROM journal") == 0
    await pool.close()


async def test_random_trading_leaves_tables_that_reconcile_and_match_the_exchange(connection: Connection) -> None:
    trading = await lead(connection)
    journal = JournalStore(connection)
    reference = ReferenceExchange()
    generator = CommandGenerator("commit", reference)
    states: dict[int, OrderState] = {}
    fills: list[Trade] = []
    for number in range(3000):
        opening = opening_commands()
        command = opening[number] if number < len(opening) else generator.next()
        reference.apply(command, trading.time_us + 1)
        try:
            events = trading.apply(command)
        except RejectedError:
            continue
        states.update((event.order_id, event) for event in events if isinstance(event, OrderState))
        fills.extend(event for event in events if isinstance(event, Trade))
        if generator.random.random() < 0.05:
            await journal.commit(trading.take_batch())
    if trading.entries:
        await journal.commit(trading.take_batch())

    report = await reconciliation.check(connection)
    assert report.findings == ()
    assert report.checked["orders"] == len(states) > 100
    assert report.checked["trades"] == len(fills) > 100
    for state in states.values():
        order = await orders.by_id(connection, state.account_id, state.market_id, state.order_id)
        assert order is not None
        common = [name for name in state.__struct_fields__ if name != "is_new"]
        assert [getattr(order, name) for name in common] == [getattr(state, name) for name in common]
    for market_id in trading.exchange.markets:
        stored = await trades.from_id(connection, market_id, 1, 100_000)
        assert [(trade.trade_id, trade.price, trade.quantity) for trade in stored] == [
            (fill.trade_id, fill.price, fill.quantity) for fill in fills if fill.market_id == market_id
        ]
    assert await journal.read_after(0, 100_000)


async def test_a_commit_finds_orders_by_their_primary_key_however_large_the_tables_are(connection: Connection) -> None:
    trading = await lead(connection)
    journal = JournalStore(connection)
    trading.open_market()
    await connection.execute(f"PREPARE commit_all AS {commit_statement(tuple(part.name for part in PARTS))}")
    nothing = ", ".join(["NULL"] * (1 + sum(part.parameter_count for part in PARTS)))
    for _ in range(2):
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE commit_all ({nothing})"))
        assert "Index Scan using orders_pkey on orders" in plan
        assert "Seq Scan" not in plan
        for number in range(2000):
            trading.place(ALICE, SELL if number % 2 else BUY, 100 + number % 3, 1)
        await journal.commit(trading.take_batch())
        await connection.execute("ANALYZE")


async def test_what_never_reached_the_server_is_not_called_refused(connection: Connection) -> None:
    trading = await lead(connection)
    trading.open_market()
    connection.terminate()
    with pytest.raises(asyncpg.InterfaceError):
        await JournalStore(connection).commit(trading.take_batch())
