"""ccxt.pro's streams, and that its book is the server's after fifty thousand commands."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.clients.ccxt_exchange import streaming_exchange_of
from tests.clients.server import JWT_SECRET, MARKETS, Account, Server

from rtx.core.commands import CancelOrder, NewOrder
from rtx.core.events import OrderState
from rtx.core.vocabulary import BUY, GTC, LIMIT, SELL
from rtx.link.client import CommandRejectedError, EngineClient
from rtx.link.handshake import derive_key

pytestmark = pytest.mark.clients

SOL: Final = "SOL/USDT"
SOL_MARKET_ID: Final = 1 + [market["symbol"] for market in MARKETS].index("SOLUSDT")
LEVELS: Final = 1000
"""As many levels as ccxt keeps unless told otherwise; the traffic makes fewer."""

ROUNDS: Final = 10
COMMANDS_A_ROUND: Final = 5_000
TRADERS: Final = 64


class Traffic:
    """Traders who place, cross and cancel at random, each waiting for his answer; straight at the engine, for speed."""

    def __init__(self, link: EngineClient, market_id: int, accounts: tuple[int, ...]) -> None:
        self._link = link
        self._market_id = market_id
        self._traders: list[tuple[int, list[int]]] = [
            (accounts[number % len(accounts)], []) for number in range(TRADERS)
        ]
        self._chance = random.Random(20_260)
        self._left = 0
        self._numbers = 0
        self.sequence = 0

    async def send(self, count: int) -> None:
        """Send so many commands that the exchange accepts."""
        self._left = count
        async with asyncio.TaskGroup() as group:
            for account_id, open_orders in self._traders:
                group.create_task(self._trade(account_id, open_orders))

    async def _trade(self, account_id: int, open_orders: list[int]) -> None:
        while self._left > 0:
            self._left -= 1
            try:
                applied = await self._link.submit(self._command(account_id, open_orders), request_id="traffic")
            except CommandRejectedError:  # of an order that was filled meanwhile
                self._left += 1
                continue
            self.sequence = max(self.sequence, applied.sequence)
            open_orders += [event.order_id for event in applied.events if type(event) is OrderState and event.is_new]

    def _command(self, account_id: int, open_orders: list[int]) -> NewOrder | CancelOrder:
        chance = self._chance
        if open_orders and chance.random() < 0.45:
            order_id = open_orders.pop(chance.randrange(len(open_orders)))
            return CancelOrder(account_id, self._market_id, order_id, "")
        self._numbers += 1
        side = chance.choice((BUY, SELL))
        price = 10_000 + chance.randint(-400, 3) * (1 if side == BUY else -1)
        quantity = chance.randint(1, 2000)
        return NewOrder(account_id, self._market_id, side, LIMIT, GTC, price, quantity, f"t{self._numbers}")


@pytest.fixture(scope="session")
def accounts(server: Server) -> tuple[Account, ...]:
    """Who can trade SOL."""
    return tuple(server.account({"USDT": "100000000", "SOL": "1000000"}) for _ in range(2))


@pytest_asyncio.fixture
async def exchange(server: Server) -> AsyncIterator[Any]:
    """Somebody with ccxt.pro, an address and no account."""
    exchange = streaming_exchange_of(server)
    await exchange.load_markets()
    yield exchange
    await exchange.close()


@pytest_asyncio.fixture
async def traffic(server: Server, accounts: tuple[Account, ...]) -> AsyncIterator[Traffic]:
    """Traders on SOLUSDT."""

    async def locate() -> tuple[str, int]:
        return "127.0.0.1", server.engine_port

    link = EngineClient(derive_key(JWT_SECRET), locate)
    link.start()
    yield Traffic(link, SOL_MARKET_ID, tuple(account.user_id for account in accounts))
    await link.stop()


async def has_reached(exchange: Any, sequence: int) -> None:
    """Wait until the book that ccxt keeps is as new as a position in the journal."""
    while (exchange.orderbooks[SOL]["nonce"] or 0) < sequence:
        await exchange.watch_order_book(SOL, LEVELS)


async def test_the_book_after_fifty_thousand_events(exchange: Any, traffic: Traffic) -> None:
    trade_ids: set[int] = set()
    has_traded = asyncio.Event()

    async def watch_trades() -> None:
        while True:
            trade_ids.update(int(trade["id"]) for trade in await exchange.watch_trades(SOL))
            has_traded.set()

    watching = asyncio.create_task(watch_trades())
    await asyncio.gather(exchange.watch_order_book(SOL, LEVELS), traffic.send(1))
    for _ in range(ROUNDS):
        await traffic.send(COMMANDS_A_ROUND)
        await has_reached(exchange, traffic.sequence)
        held, actual = exchange.orderbooks[SOL], await exchange.fetch_order_book(SOL, 5000)
        # The engine's own checkpoints move the journal on and touch no book.
        assert traffic.sequence <= held["nonce"] <= actual["nonce"]
        assert held["bids"] == actual["bids"]
        assert held["asks"] == actual["asks"]
        assert 0 < len(actual["bids"]) < LEVELS
    (newest,) = await exchange.fetch_trades(SOL, limit=1, params={"fetchTradesMethod": "publicGetTrades"})
    last_trade = int(newest["id"])
    while last_trade not in trade_ids:
        has_traded.clear()
        await has_traded.wait()
    await _cancelled(watching)
    assert sorted(trade_ids) == list(range(min(trade_ids), last_trade + 1))


async def test_other_streams(exchange: Any, traffic: Traffic) -> None:
    async def keep_trading() -> None:
        while True:
            await traffic.send(20)

    trading = asyncio.create_task(keep_trading())
    ticker, tickers, candle, best, trades, book = await asyncio.gather(
        exchange.watch_ticker(SOL),
        exchange.watch_tickers([SOL]),
        exchange.watch_ohlcv(SOL, "1m"),
        exchange.watch_bids_asks([SOL]),
        exchange.watch_trades_for_symbols([SOL, "BTC/USDT"]),
        exchange.watch_order_book_for_symbols([SOL, "BTC/USDT"]),
    )
    await _cancelled(trading)
    assert ticker["symbol"] == SOL
    assert 95 < ticker["last"] < 105
    assert 95 < tickers[SOL]["last"] < 105
    assert 95 < candle[-1][4] < 105
    assert best[SOL]["bid"] < best[SOL]["ask"]
    assert trades[-1]["symbol"] == SOL
    assert book["symbol"] in (SOL, "BTC/USDT")


async def test_a_subscription_ended(exchange: Any, traffic: Traffic) -> None:
    await asyncio.gather(exchange.watch_order_book(SOL), traffic.send(1))
    await exchange.un_watch_order_book(SOL)
    assert SOL not in exchange.orderbooks


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
