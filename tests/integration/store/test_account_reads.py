"""What the API reads of an account: its orders, its trades, its balances and its fees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio
from tests.fakes.leadership import take_lease
from tests.integration.store.trading import ALICE, BASE, BOB, MARKET, QUOTE, Trading

from rtx.core.commands import CreateMarket, Deposit, MarketFilters, NewOrder, SetAccountFeeTier, SetFeeTier
from rtx.core.events import OrderState, Trade
from rtx.core.vocabulary import BUY, GTC, LIMIT, NEW, PARTIALLY_FILLED, SELL
from rtx.store import balances, markets, migrate, orders, trades
from rtx.store.connection import Database, connect_engine
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore
from rtx.store.orders import Order

CAROL = 1003
OTHER_MARKET = 2
Fill = tuple[int, Trade]


class History:
    """What happened, as a plain list to compare with."""

    def __init__(self) -> None:
        self.trading: Trading
        self.states: dict[int, OrderState] = {}
        self.fills: list[Fill] = []

    def of(self, account_id: int, market_id: int = MARKET) -> list[OrderState]:
        """Return the account's orders in a market by id."""
        return [
            state
            for _, state in sorted(self.states.items())
            if (state.account_id, state.market_id) == (account_id, market_id)
        ]

    def fills_of(self, account_id: int) -> list[tuple[int, int, bool]]:
        """Return (trade id, order id, is maker) of every side of a fill that the account was."""
        sides = []
        for _, fill in self.fills:
            if fill.taker_account_id == account_id:
                sides.append((fill.trade_id, fill.taker_order_id, False))
            if fill.maker_account_id == account_id:
                sides.append((fill.trade_id, fill.maker_order_id, True))
        return sides


async def trade(url: str) -> History:
    connection = await connect_engine(url)
    epoch = await take_lease(LeaseStore(connection), "engine")
    assert epoch is not None
    history = History()
    trading = history.trading = Trading(epoch)
    trading.open_market()
    trading.apply(CreateMarket("QUOTEBASE", QUOTE, BASE, tick_size=1000, lot_size=1, filters=MarketFilters()))
    trading.apply(SetFeeTier(0, 1000, 2000))
    trading.apply(SetFeeTier(3, 0, 500))
    trading.apply(SetAccountFeeTier(BOB, 3))
    trading.apply(Deposit(CAROL, BASE, 1_000_000, "carol"))
    draw = random.Random(11)
    for number in range(600):
        account_id = draw.choice((ALICE, ALICE, BOB))
        side = draw.choice((BUY, SELL))
        market_id = OTHER_MARKET if draw.random() < 0.1 else MARKET
        price = draw.randint(900, 1100)
        command = NewOrder(account_id, market_id, side, LIMIT, GTC, price, draw.randint(1, 5000), f"name-{number}")
        for event in trading.apply(command):
            if isinstance(event, Trade) and event.market_id == MARKET:
                history.fills.append((trading.time_us, event))
            elif isinstance(event, OrderState):
                history.states[event.order_id] = event
    await JournalStore(connection).commit(trading.take_batch())
    await connection.close()
    return history


@pytest.fixture(scope="module")
def traded(module_database_url: str) -> tuple[str, History]:
    migrate.upgrade(module_database_url)
    return module_database_url, asyncio.run(trade(module_database_url))


@pytest.fixture(scope="module")
def history(traded: tuple[str, History]) -> History:
    return traded[1]


@pytest_asyncio.fixture
async def database(traded: tuple[str, History]) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(traded[0])
    yield connection
    await connection.close()


def ids(found: list[Order]) -> list[int]:
    return [order.order_id for order in found]


async def test_an_order_is_found_by_its_owner_only(database: Database, history: History) -> None:
    state = history.of(ALICE)[0]
    found = await orders.by_id(database, ALICE, MARKET, state.order_id)
    assert found is not None
    assert (found.order_id, found.client_order_id) == (state.order_id, state.client_order_id)
    assert found == await orders.by_client_order_id(database, ALICE, MARKET, state.client_order_id)
    for account_id, market_id in ((BOB, MARKET), (ALICE, OTHER_MARKET), (CAROL, MARKET)):
        assert await orders.by_id(database, account_id, market_id, state.order_id) is None
        assert await orders.by_client_order_id(database, account_id, market_id, state.client_order_id) is None


async def test_open_orders(database: Database, history: History) -> None:
    def is_open(state: OrderState) -> bool:
        return state.status in (NEW, PARTIALLY_FILLED)

    for account_id in (ALICE, BOB, CAROL):
        by_market = [
            [state.order_id for state in history.of(account_id, market_id) if is_open(state)]
            for market_id in (MARKET, OTHER_MARKET)
        ]
        assert ids(await orders.find_open(database, account_id, MARKET)) == by_market[0]
        assert ids(await orders.find_open(database, account_id)) == by_market[0] + by_market[1]


async def test_order_history_by_id(database: Database, history: History) -> None:
    expected = [state.order_id for state in history.of(ALICE)]
    assert ids(await orders.find_all(database, ALICE, MARKET, limit=1000)) == expected
    assert ids(await orders.find_all(database, ALICE, MARKET, limit=5)) == expected[-5:]
    assert ids(await orders.find_all(database, ALICE, MARKET, from_order_id=expected[10], limit=5)) == expected[10:15]
    assert await orders.find_all(database, CAROL, MARKET) == []


async def test_order_history_by_time(database: Database, history: History) -> None:
    states = history.of(ALICE)
    draw = random.Random(5)
    for _ in range(50):
        start_us, end_us = sorted(draw.choice(states).created_at_us + draw.randint(-1, 1) for _ in range(2))
        since = [state.order_id for state in states if state.created_at_us >= start_us]
        until = [state.order_id for state in states if state.created_at_us <= end_us]
        between = [order_id for order_id in since if order_id in until]
        assert ids(await orders.find_all(database, ALICE, MARKET, start_time_us=start_us, limit=7)) == since[:7]
        assert ids(await orders.find_all(database, ALICE, MARKET, end_time_us=end_us, limit=7)) == until[-7:]
        found = await orders.find_all(database, ALICE, MARKET, start_time_us=start_us, end_time_us=end_us, limit=1000)
        assert ids(found) == between


async def test_account_trades(database: Database, history: History) -> None:
    for account_id in (ALICE, BOB, CAROL):
        expected = history.fills_of(account_id)
        found = await trades.of_account(database, account_id, MARKET, limit=1000)
        assert [(t.trade_id, t.order_id, t.is_maker) for t in found] == expected
        newest = await trades.of_account(database, account_id, MARKET, limit=5)
        assert newest == found[-5:]
        oldest = await trades.of_account(database, account_id, MARKET, from_id=10, limit=5)
        assert oldest == [t for t in found if t.trade_id >= 10][:5]
    both_sides = [fill for _, fill in history.fills if fill.maker_account_id == fill.taker_account_id]
    assert both_sides


async def test_account_trades_by_time(database: Database, history: History) -> None:
    found = await trades.of_account(database, ALICE, MARKET, limit=1000)
    draw = random.Random(3)
    for _ in range(30):
        start_us, end_us = sorted(draw.choice(found).time_us + draw.randint(-1, 1) for _ in range(2))
        between = [t for t in found if start_us <= t.time_us <= end_us]
        assert between == await trades.of_account(
            database, ALICE, MARKET, start_time_us=start_us, end_time_us=end_us, limit=1000
        )


async def test_trades_of_one_order_with_what_each_side_paid(database: Database, history: History) -> None:
    for state in history.of(ALICE)[:60]:
        found = await trades.of_account(database, ALICE, MARKET, order_id=state.order_id)
        assert sum(t.quantity for t in found) == state.executed_quantity
        assert sum(t.quote_quantity for t in found) == state.executed_quote_quantity
        for t in found:
            assert t.is_buyer == (state.side == BUY)
            received = t.quantity if t.is_buyer else t.quote_quantity
            assert t.fee == received * (1000 if t.is_maker else 2000) // 1_000_000
    bobs = history.of(BOB)[0].order_id
    assert await trades.of_account(database, ALICE, MARKET, order_id=bobs) == []


async def test_balances_are_those_of_the_exchange(database: Database, history: History) -> None:
    for account_id in (1, 2, ALICE, BOB, CAROL):
        found = await balances.find(database, account_id)
        account = history.trading.exchange.accounts[account_id]
        expected = [
            (balance.asset_id, balance.available, balance.held)
            for _, balance in sorted(account.balances.items())
            if balance.available or balance.held
        ]
        assert [(b.asset_id, b.available, b.held) for b in found if b.available or b.held] == expected
    assert await balances.find(database, 999_999) == []


async def test_fee_tiers_of_accounts(database: Database) -> None:
    assert await markets.fee_tier_of(database, ALICE) == markets.FeeTier(0, 1000, 2000)
    assert await markets.fee_tier_of(database, BOB) == markets.FeeTier(3, 0, 500)


async def test_before_anything_was_set_nobody_pays_fees(connection: Database) -> None:
    assert await markets.fee_tier_of(connection, ALICE) == markets.FeeTier(0, 0, 0)
    assert await markets.read_directory(connection) == markets.Directory((), (), ())
