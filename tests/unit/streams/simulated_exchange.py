"""Engines that follow each other, their journal and their ways through Redis, small enough to stop anywhere.

One market. Commands belong to the leader's open batch until it commits. What a leader published waits in its own outbox
until :meth:`SimulatedExchange.publish` lets it through to every inbox: several leaders' updates come late and mixed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from rtx.api.markets import Asset, Market
from rtx.api.streams.history import GapTooLongError, NotCommittedError
from rtx.api.streams.recent_touches import TouchedPrices
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


class Inbox:
    """One worker's subscription: ``is_up`` as long as Redis is, ``is_losing`` when messages vanish without a trace."""

    def __init__(self) -> None:
        self.is_up = True
        self.is_losing = False
        self._messages: deque[MarketUpdate] = deque()

    def put(self, update: MarketUpdate) -> None:
        if self.is_up and not self.is_losing:
            self._messages.append(update)

    def deliver(self, receive: Callable[[MarketUpdate], None], count: int = 1_000_000) -> None:
        """Let the oldest messages arrive."""
        for _ in range(min(count, len(self._messages))):
            receive(self._messages.popleft())

    def cut(self) -> None:
        """Redis is away."""
        self.is_up = False
        self._messages.clear()


class Leader:
    """One term: what it has matched and not committed, and what it published."""

    def __init__(self, bids: dict[int, int], asks: dict[int, int], sequence: int, changed_sequence: int) -> None:
        self.bids = dict(bids)
        self.asks = dict(asks)
        self.sequence = sequence
        self.changed_sequence = changed_sequence
        self.newest_sequence = sequence
        self.outbox: deque[MarketUpdate] = deque()
        self.rows: list[tuple[bool, int] | None] = []
        self.trades: list[PublicTrade] = []
        self.commit_or_end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def announce(self) -> None:
        """What the publisher says once a second: nothing happened since the last update."""
        self._put(self.changed_sequence, self.newest_sequence)

    def publish(self, trades: list[PublicTrade], bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        self._put(self.changed_sequence, self.sequence, trades, bids, asks)
        self.changed_sequence = self.newest_sequence = self.sequence

    def _put(
        self,
        previous: int,
        sequence: int,
        trades: list[PublicTrade] | None = None,
        bids: list[tuple[int, int]] | None = None,
        asks: list[tuple[int, int]] | None = None,
    ) -> None:
        self.outbox.append(
            MarketUpdate(MARKET.market_id, previous, sequence, sequence * 1000, trades or [], bids or [], asks or [])
        )


class SimulatedExchange:
    """The journal, the leaders one after the other, and PostgreSQL as streams ask it."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.trades: list[PublicTrade] = []
        self.sequence = 1
        """Position of the newest committed row."""

        self.journal: dict[int, tuple[bool, int] | None] = {}
        self.gap_rows_max = 10**9
        self.lookups = 0
        self.inboxes: list[Inbox] = []
        self._changed_sequence = 1
        self._elected = asyncio.Event()
        self.terms: list[Leader] = []
        self.leader: Leader | None = None
        self.elect()

    def inbox(self) -> Inbox:
        """A subscription of one worker."""
        self.inboxes.append(Inbox())
        return self.inboxes[-1]

    # -- the leader -----------------------------------------------------------------------------------------------

    def level(self, is_bid: bool, price: int, quantity: int) -> None:
        """A command that leaves ``quantity`` at ``price``."""
        leader = self.leader
        if leader is None:
            return
        leader.sequence += 1
        side = leader.bids if is_bid else leader.asks
        if quantity:
            side[price] = quantity
        else:
            side.pop(price, None)
        leader.rows.append((is_bid, price))

    def trade(self, price: int, quantity: int) -> None:
        """A command that trades, and takes the asks at that price away."""
        leader = self.leader
        if leader is None:
            return
        self.level(False, price, 0)
        self._trade(leader, price, quantity)

    def order_with_trades(self, price: int, quantities: list[int]) -> None:
        """One command that trades more than once at a price."""
        leader = self.leader
        assert leader is not None
        self.level(False, price, 0)
        for quantity in quantities:
            self._trade(leader, price, quantity)

    def deposit(self) -> None:
        """A command that touches no book."""
        if self.leader is not None:
            self.leader.sequence += 1
            self.leader.rows.append(None)

    def commit(self, *, is_published: bool = True) -> None:
        """End the batch: journal, then answers and Redis."""
        leader = self.leader
        if leader is None:
            return
        first = self.sequence + 1
        self.journal.update(enumerate(leader.rows, first))
        touched = [row for row in leader.rows if row is not None]
        self.sequence = leader.sequence
        self.bids, self.asks = dict(leader.bids), dict(leader.asks)
        self.trades += leader.trades
        self._changed_sequence = max(
            (number for number, row in enumerate(leader.rows, first) if row is not None),
            default=self._changed_sequence,
        )
        trades, leader.rows, leader.trades = leader.trades, [], []
        if not is_published:
            return
        if touched:
            bids = dict.fromkeys(price for is_bid, price in touched if is_bid)
            asks = dict.fromkeys(price for is_bid, price in touched if not is_bid)
            leader.publish(
                trades,
                [(price, leader.bids.get(price, 0)) for price in bids],
                [(price, leader.asks.get(price, 0)) for price in asks],
            )
        wake(leader)

    def crash(self, *, is_committed: bool, is_late: bool) -> None:
        """The leader is gone; its open batch was committed, and not published, or is lost.

        ``is_late``: what it published before comes through some time, because it was only cut off or stopped.
        """
        leader = self.leader
        if leader is None:
            return
        if is_committed:
            self.commit(is_published=False)
        if not is_late:
            leader.outbox.clear()
        self.leader = None
        self._elected.clear()
        wake(leader)

    def elect(self, *, knows_changes: bool = True) -> None:
        """A new leader, if there is none; ``knows_changes``: it followed the journal for long enough."""
        if self.leader is not None:
            return
        changed_sequence = self._changed_sequence if knows_changes else self.sequence
        self.leader = Leader(self.bids, self.asks, self.sequence, changed_sequence)
        self.terms.append(self.leader)
        self.leader.announce()
        self._elected.set()

    def hand_over(self, *, knows_changes: bool = True) -> None:
        """Commit, publish, and let another one lead."""
        self.commit()
        leader, self.leader = self.leader, None
        self.elect(knows_changes=knows_changes)
        if leader is not None:
            wake(leader)

    def announce(self, term: int = -1) -> None:
        """A leader, or one that does not know yet that it leads no more, says where the market stands."""
        self.terms[term % len(self.terms)].announce()

    def publish(self, term: int = -1, count: int = 1_000_000) -> None:
        """Let some of what a leader published through."""
        outbox = self.terms[term % len(self.terms)].outbox
        for _ in range(min(count, len(outbox))):
            update = outbox.popleft()
            for inbox in self.inboxes:
                inbox.put(update)

    def publish_everything(self) -> None:
        for term in range(len(self.terms)):
            self.publish(term)

    def _trade(self, leader: Leader, price: int, quantity: int) -> None:
        trade_id = len(self.trades) + len(leader.trades) + 1
        time_us = leader.sequence * 1000
        leader.trades.append(PublicTrade(trade_id, price, quantity, price * quantity, time_us, buyer_is_maker=False))

    # -- what workers ask -----------------------------------------------------------------------------------------

    async def read_book(self, market_id: int, limit: int) -> tuple[int, BookAnswer]:
        """The leader's book as of its last command, answered when that is committed; asked again of the next leader."""
        assert market_id == MARKET.market_id
        while True:
            leader = self.leader
            if leader is None:
                await self._elected.wait()
                continue
            sequence = leader.sequence
            answer = BookAnswer(market_id, sorted(leader.bids.items(), reverse=True), sorted(leader.asks.items()), 0)
            if not leader.rows:
                await asyncio.sleep(0)
                return sequence, answer
            await asyncio.shield(leader.commit_or_end)
            if self.sequence >= sequence and leader is self.leader:
                return sequence, answer

    async def last_trade_id(self, market_id: int) -> int:
        await asyncio.sleep(0)
        return len(self.trades)

    async def trades_after(self, market_id: int, trade_id: int, limit: int) -> list[PublicTrade]:
        await asyncio.sleep(0)
        return self.trades[trade_id : trade_id + limit]

    async def touched_prices(self, market_id: int, after: int, up_to: int) -> TouchedPrices:
        self.lookups += 1
        await asyncio.sleep(0)
        if up_to > self.sequence:
            raise NotCommittedError
        if up_to - after > self.gap_rows_max:
            raise GapTooLongError
        touched = TouchedPrices()
        for sequence in range(after + 1, up_to + 1):
            row = self.journal.get(sequence)
            if row is not None:
                (touched.bids if row[0] else touched.asks).add(row[1])
        return touched


def wake(leader: Leader) -> None:
    """Let those go on who wait for a leader's commit."""
    waiting, leader.commit_or_end = leader.commit_or_end, asyncio.get_running_loop().create_future()
    waiting.set_result(None)
