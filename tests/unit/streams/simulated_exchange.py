"""An engine, its journal and its way through Redis, small enough to stop anywhere: in the middle of a batch as well."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from rtx.api.markets import Asset, Market
from rtx.api.streams.history import GapTooLongError, NotCommittedError
from rtx.api.streams.market_view import TouchedPrices
from rtx.core.commands import MarketFilters
from rtx.link.market_data import MarketUpdate, PublicTrade
from rtx.link.messages import BookAnswer

BITCOIN = Asset(1, "BTC", 8)
DOLLAR = Asset(2, "USDT", 6)


def make_market(market_id: int = 7, symbol: str = "BTCUSDT") -> Market:
    """A market with ticks of 0.01 USDT and lots of 0.00001 BTC."""
    return Market(
        market_id, symbol, BITCOIN, DOLLAR, tick_size=10_000, lot_size=1_000, status=0, filters=MarketFilters()
    )


MARKET = make_market()


class SimulatedExchange:
    """One market. Commands belong to the open batch until :meth:`commit`, which publishes."""

    def __init__(self) -> None:
        self.sequence = 1
        self.committed_sequence = 1
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.trades: list[PublicTrade] = []
        self.committed_trades = 0
        self.redis: deque[MarketUpdate] = deque()
        self.redis_is_up = True
        self.losing_messages = False
        self.previous_sequence = 1
        self.journal: dict[int, tuple[bool, int]] = {}
        self.gap_rows_max = 10**9
        self._touched: tuple[dict[int, None], dict[int, None]] = ({}, {})
        self._batch_trades: list[PublicTrade] = []
        self._commits: list[asyncio.Future[None]] = []

    def level(self, is_bid: bool, price: int, quantity: int) -> None:
        """A command that leaves ``quantity`` at ``price``."""
        self.sequence += 1
        side = self.bids if is_bid else self.asks
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)
        self._touched[0 if is_bid else 1][price] = None
        self.journal[self.sequence] = (is_bid, price)

    def trade(self, price: int, quantity: int) -> None:
        """A command that trades, and takes the asks at that price away."""
        self.level(False, price, 0)
        trade = PublicTrade(len(self.trades) + 1, price, quantity, price * quantity, self.sequence * 1000, False)
        self.trades.append(trade)
        self._batch_trades.append(trade)

    def commit(self, *, new_leader: bool = False) -> None:
        """End the batch: journal, then Redis."""
        self.committed_sequence = self.sequence
        self.committed_trades = len(self.trades)
        bids, asks = self._touched
        update = MarketUpdate(
            MARKET.market_id,
            0 if new_leader else self.previous_sequence,
            self.sequence,
            self.sequence * 1000,
            self._batch_trades,
            [(price, self.bids.get(price, 0)) for price in bids],
            [(price, self.asks.get(price, 0)) for price in asks],
        )
        self.previous_sequence = self.sequence
        self._touched = ({}, {})
        self._batch_trades = []
        self._publish(update)
        commits, self._commits = self._commits, []
        for commit in commits:
            commit.set_result(None)

    def announce(self) -> None:
        """What the publisher says once a second."""
        at = self.previous_sequence
        self._publish(MarketUpdate(MARKET.market_id, at, at, at * 1000, [], [], []))

    def deliver(self, receive: Callable[[MarketUpdate], None], count: int) -> None:
        """Let the oldest messages arrive."""
        for _ in range(min(count, len(self.redis))):
            receive(self.redis.popleft())

    async def read_book(self, market_id: int, limit: int) -> tuple[int, BookAnswer]:
        """The book as of the last command, answered when that is committed."""
        assert market_id == MARKET.market_id
        sequence = self.sequence
        answer = BookAnswer(market_id, sorted(self.bids.items(), reverse=True), sorted(self.asks.items()), 0)
        if sequence > self.committed_sequence:
            commit: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._commits.append(commit)
            await commit
        else:
            await asyncio.sleep(0)
        return sequence, answer

    async def last_trade_id(self, market_id: int) -> int:
        await asyncio.sleep(0)
        return self.committed_trades

    async def trades_after(self, market_id: int, trade_id: int, limit: int) -> list[PublicTrade]:
        await asyncio.sleep(0)
        return self.trades[trade_id : min(trade_id + limit, self.committed_trades)]

    async def touched_prices(self, market_id: int, after: int, up_to: int) -> TouchedPrices:
        await asyncio.sleep(0)
        if up_to > self.committed_sequence:
            raise NotCommittedError
        if up_to - after > self.gap_rows_max:
            raise GapTooLongError
        touched = TouchedPrices()
        for sequence in range(after + 1, up_to + 1):
            is_bid, price = self.journal[sequence]
            (touched.bids if is_bid else touched.asks).add(price)
        return touched

    def _publish(self, update: MarketUpdate) -> None:
        if self.redis_is_up and not self.losing_messages:
            self.redis.append(update)
