"""A worker's copy of one market, and what keeps it equal to the engine's.

Between two updates that follow each other nothing can be missing. Where one does not follow, the view asks to be
synchronised (:mod:`rtx.api.streams.feed` does it) and keeps what arrives until then. Streams never see the seam: the
difference between the old and the new copy reaches them like any other change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from rtx.api.markets import Market
from rtx.api.streams.book import Book, Level
from rtx.api.streams.recent_touches import RecentTouches, TouchedPrices
from rtx.link.market_data import MarketUpdate, PublicTrade
from rtx.link.messages import BookAnswer

HELD_UPDATES_MAX: Final = 5000


class BookListener(Protocol):
    """Somebody who follows the book; ``needs_every_touch``: also prices that have again the quantity they had."""

    needs_every_touch: bool

    def book_changed(self, bids: Iterable[int], asks: Iterable[int]) -> None:
        """The quantity at these prices was touched; the view already shows the new ones."""
        ...

    def book_replaced(self, since: int, bids: Iterable[int], asks: Iterable[int]) -> None:
        """The book is another one; which prices were touched is known only for what happened after ``since``."""
        ...


class TradeListener(Protocol):
    """Somebody who follows the trades."""

    def traded(self, trades: Sequence[PublicTrade]) -> None:
        """These trades happened; no trade is ever left out or told twice."""
        ...


class MarketView:
    """The copy. ``sequence`` is the journal position it shows, 0 before the first synchronisation."""

    def __init__(self, market: Market) -> None:
        """Start without a book."""
        self.market = market
        self.book = Book()
        self.sequence = 0
        self.time_us = 0
        self.last_trade_id: int | None = None
        self.is_synchronising = False
        self.touches = RecentTouches()
        self.book_listeners: dict[BookListener, None] = {}
        self.trade_listeners: dict[TradeListener, None] = {}
        self._held: deque[MarketUpdate] = deque(maxlen=HELD_UPDATES_MAX)

    @property
    def is_ready(self) -> bool:
        """Whether there is a book at all."""
        return self.sequence > 0

    @property
    def is_followed_closely(self) -> bool:
        """Whether a listener needs to know of every price that was touched."""
        return any(listener.needs_every_touch for listener in self.book_listeners)

    def accept(self, update: MarketUpdate) -> bool:
        """Take an update; False when something before it is missing (it is kept then)."""
        if self.is_synchronising or not self._follows(update):
            self._held.append(update)
            return self.is_synchronising
        self._apply(update)
        return True

    def replace(
        self, sequence: int, answer: BookAnswer, touched: TouchedPrices | None, *, touched_since: int, now_us: int
    ) -> None:
        """Take over the engine's book at ``sequence``.

        ``touched`` are the prices where something happened after the position ``touched_since``. They count as changed
        even with the quantity they had: a client may hold a snapshot from between. ``touched_since`` is the position
        shown before, unless that is too long ago. None: nobody looked, because no listener needs to know.
        """
        is_continued = touched_since <= self.sequence
        bids = self.book.bids.replace(answer.bids)
        asks = self.book.asks.replace(answer.asks)
        if touched is None:
            if sequence > self.sequence:
                self.touches.restart(sequence)
            touched = TouchedPrices()
        elif not is_continued:
            self.touches.restart(touched_since)
        self.sequence = sequence
        self.time_us = now_us
        bids.update(dict.fromkeys(touched.bids))
        asks.update(dict.fromkeys(touched.asks))
        if is_continued:
            self.touches.note(sequence, bids, asks)
        else:
            self.touches.note(sequence, touched.bids, touched.asks)
        for listener in self.book_listeners:
            if is_continued:
                listener.book_changed(bids, asks)
            else:
                listener.book_replaced(touched_since, touched.bids, touched.asks)

    def release_held(self) -> bool:
        """Apply what was kept during a synchronisation; False when something is missing still."""
        while self._held:
            if not self._follows(self._held[0]):
                return False
            self._apply(self._held.popleft())
        return True

    def tell_trades(self, trades: Sequence[PublicTrade]) -> None:
        """Pass on those of ``trades`` (ascending, without holes) that were not told before."""
        if not trades:
            return
        last_trade_id = self.last_trade_id
        if last_trade_id is not None and trades[0].trade_id <= last_trade_id:
            trades = [trade for trade in trades if trade.trade_id > last_trade_id]
            if not trades:
                return
        self.last_trade_id = trades[-1].trade_id
        for listener in self.trade_listeners:
            listener.traded(trades)

    def _follows(self, update: MarketUpdate) -> bool:
        if update.sequence <= self.sequence:
            return True
        if not 0 < update.previous_sequence <= self.sequence:
            return False
        trades = update.trades
        return not trades or self.last_trade_id is None or trades[0].trade_id <= self.last_trade_id + 1

    def _apply(self, update: MarketUpdate) -> None:
        if update.sequence <= self.sequence:
            return
        self.sequence = update.sequence
        self.time_us = update.time_us
        self.book.bids.apply(update.bids)
        self.book.asks.apply(update.asks)
        if update.bids or update.asks:
            bids, asks = _prices(update.bids), _prices(update.asks)
            self.touches.note(update.sequence, bids, asks)
            for listener in self.book_listeners:
                listener.book_changed(bids, asks)
        self.tell_trades(update.trades)


def _prices(levels: Sequence[Level]) -> list[int]:
    return [price for price, _quantity in levels]
