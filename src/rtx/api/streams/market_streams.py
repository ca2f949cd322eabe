"""The streams that are made from a market's updates alone: trades, best levels, depth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from rtx.api.streams.book import checksum
from rtx.api.streams.market_view import MarketView
from rtx.api.streams.messages import (
    AggregateTradeMessage,
    BookTickerMessage,
    DepthMessage,
    Levels,
    PartialDepthMessage,
    TradeMessage,
)
from rtx.api.streams.stream import TICK_MS, Stream, Subscriber
from rtx.link.market_data import PublicTrade


class MarketStream(Stream):
    """A stream of one market."""

    def __init__(self, name: str, time_divisor: int, view: MarketView) -> None:
        """Start without subscribers."""
        super().__init__(name, time_divisor)
        self._view = view
        self._market = view.market

    @property
    def view(self) -> MarketView:
        """The market that is followed."""
        return self._view

    def _levels(self, levels: list[tuple[int, int]]) -> Levels:
        price_text, quantity_text = self._market.price_text, self._market.quantity_text
        return [(price_text(price), quantity_text(quantity)) for price, quantity in levels]


class TradesStream(MarketStream):
    """A stream of trades, each told once and in its turn."""

    def attach(self) -> None:
        self._view.trade_listeners[self] = None

    def detach(self) -> None:
        self._view.trade_listeners.pop(self, None)

    def traded(self, trades: Sequence[PublicTrade]) -> None:
        """See :class:`~rtx.api.streams.market_view.TradeListener`."""
        for message in self._messages(trades):
            self._publish(message)

    def tell(self, subscriber: Subscriber, trades: Sequence[PublicTrade]) -> None:
        """Tell one subscriber of trades that it missed."""
        for message in self._messages(trades):
            self._send([subscriber], message)

    @abstractmethod
    def _messages(self, trades: Sequence[PublicTrade]) -> Iterator[msgspec.Struct]:
        """What is said of trades that follow each other; there is at least one."""


class TradeStream(TradesStream):
    """``<symbol>@trade``: every trade, as it is committed."""

    def _messages(self, trades: Sequence[PublicTrade]) -> Iterator[msgspec.Struct]:
        market = self._market
        for trade in trades:
            time = trade.time_us // self.time_divisor
            yield TradeMessage(
                event_time=time,
                symbol=market.symbol,
                trade_id=trade.trade_id,
                price=market.price_text(trade.price),
                quantity=market.quantity_text(trade.quantity),
                trade_time=time,
                buyer_is_maker=trade.buyer_is_maker,
            )


class AggregateTradeStream(TradesStream):
    """``<symbol>@aggTrade``: what one order took at one price, under the number of its first trade."""

    def _messages(self, trades: Sequence[PublicTrade]) -> Iterator[msgspec.Struct]:
        run = [trades[0]]
        for trade in trades[1:]:
            if _is_same_taker(run[-1], trade):
                run.append(trade)
            else:
                yield self._message(run)
                run = [trade]
        yield self._message(run)

    def _message(self, run: Sequence[PublicTrade]) -> AggregateTradeMessage:
        first = run[0]
        time = first.time_us // self.time_divisor
        return AggregateTradeMessage(
            event_time=time,
            symbol=self._market.symbol,
            aggregate_id=first.trade_id,
            price=self._market.price_text(first.price),
            quantity=self._market.quantity_text(sum(trade.quantity for trade in run)),
            first_trade_id=first.trade_id,
            last_trade_id=run[-1].trade_id,
            trade_time=time,
            buyer_is_maker=first.buyer_is_maker,
        )


def _is_same_taker(one: PublicTrade, other: PublicTrade) -> bool:
    """Whether two trades in a row are one order's at one price: all that a command does has the command's time."""
    return (one.time_us, one.price, one.buyer_is_maker) == (other.time_us, other.price, other.buyer_is_maker)


class BookTickerStream(MarketStream):
    """``<symbol>@bookTicker``: the best level of each side whenever one of them changes."""

    needs_every_touch = False

    def __init__(self, name: str, time_divisor: int, view: MarketView) -> None:
        """Start with nothing told."""
        super().__init__(name, time_divisor, view)
        self._told = ((0, 0), (0, 0))

    def attach(self) -> None:
        self._told = self._best()
        self._view.book_listeners[self] = None

    def detach(self) -> None:
        self._view.book_listeners.pop(self, None)

    def first_message(self) -> msgspec.Struct | None:
        return self._message() if self._view.is_ready else None

    def book_changed(self, bids: Iterable[int], asks: Iterable[int]) -> None:
        """See :class:`~rtx.api.streams.market_view.BookListener`."""
        best = self._best()
        if best != self._told:
            self._told = best
            self._publish(self._message())

    def book_replaced(self, since: int, bids: Iterable[int], asks: Iterable[int]) -> None:
        """See :class:`~rtx.api.streams.market_view.BookListener`."""
        self.book_changed(bids, asks)

    def _best(self) -> tuple[tuple[int, int], tuple[int, int]]:
        book = self._view.book
        return book.bids.best(), book.asks.best()

    def _message(self) -> BookTickerMessage:
        market = self._market
        (bid_price, bid_quantity), (ask_price, ask_quantity) = self._best()
        return BookTickerMessage(
            update_id=self._view.sequence,
            symbol=market.symbol,
            bid_price=market.price_text(bid_price),
            bid_quantity=market.quantity_text(bid_quantity),
            ask_price=market.price_text(ask_price),
            ask_quantity=market.quantity_text(ask_quantity),
        )


class DepthStream(MarketStream):
    """``<symbol>@depth``: what was touched since the message before, with no hole between two messages.

    ``U`` is one more than the ``u`` before, ``u`` the journal position of the book after the message. Prices are told
    also when they have the quantity they had: a client may hold a snapshot from in between. Who resumed hears its own
    ``U`` once, until it is where all others are.
    """

    needs_every_touch = True

    def __init__(self, name: str, time_divisor: int, view: MarketView, interval_ms: int) -> None:
        """``interval_ms`` is the least time between two messages."""
        super().__init__(name, time_divisor, view)
        self.period_ticks = interval_ms // TICK_MS
        self._told_sequence = 0
        self._has_gap = False
        self._bids: set[int] = set()
        self._asks: set[int] = set()
        self._resumed: dict[Subscriber, int] = {}

    def attach(self) -> None:
        self._begin()
        self._view.book_listeners[self] = None

    def detach(self) -> None:
        self._view.book_listeners.pop(self, None)

    def resume(self, subscriber: Subscriber, after: int) -> None:
        """Send to a subscriber that holds the book of position ``after``, which the view's touches cover."""
        self.join(subscriber)
        touched = self._view.touches.after(after)
        if touched:
            self._send([subscriber], self._message(after, touched.bids, touched.asks))
            after = self._view.sequence
        self._resumed[subscriber] = after

    def leave(self, subscriber: Subscriber) -> None:
        """See :class:`~rtx.api.streams.stream.Stream`."""
        super().leave(subscriber)
        self._resumed.pop(subscriber, None)

    def book_changed(self, bids: Iterable[int], asks: Iterable[int]) -> None:
        """See :class:`~rtx.api.streams.market_view.BookListener`."""
        self._bids.update(bids)
        self._asks.update(asks)

    def book_replaced(self, since: int, bids: Iterable[int], asks: Iterable[int]) -> None:
        """Begin anew behind a gap, and say so at once: the client's recipe sees the gap and takes a snapshot again."""
        self._begin()
        self._told_sequence = since
        self._has_gap = True
        self.book_changed(bids, asks)

    def tick(self, now_us: int) -> None:
        if not (self._bids or self._asks or self._has_gap):
            return
        message = self._message(self._told_sequence, self._bids, self._asks)
        resumed = self._resumed
        self._begin()
        if resumed:
            self._publish_each_its_own(message, resumed)
        else:
            self._publish(message)

    def _publish_each_its_own(self, message: DepthMessage, resumed: Mapping[Subscriber, int]) -> None:
        """Let everybody's chain go on from where it is; prices that somebody has heard of already do no harm."""
        told = message.first_update_id - 1
        by_position: dict[int, list[Subscriber]] = {}
        for subscriber in self.subscribers:
            by_position.setdefault(resumed.get(subscriber, told), []).append(subscriber)
        for position, subscribers in by_position.items():
            if position < message.last_update_id:
                self._send(subscribers, msgspec.structs.replace(message, first_update_id=position + 1))

    def _message(self, after: int, bids: Iterable[int], asks: Iterable[int]) -> DepthMessage:
        view = self._view
        return DepthMessage(
            event_time=view.time_us // self.time_divisor,
            symbol=self._market.symbol,
            first_update_id=after + 1,
            last_update_id=view.sequence,
            bids=self._levels(view.book.bids.current(bids)),
            asks=self._levels(view.book.asks.current(asks)),
            checksum=checksum(view.book, self._market),
        )

    def _begin(self) -> None:
        self._told_sequence = self._view.sequence
        self._has_gap = False
        self._bids = set()
        self._asks = set()
        self._resumed = {}


class PartialDepthStream(MarketStream):
    """``<symbol>@depth<levels>``: the best levels, when anything in the book changed."""

    needs_every_touch = False

    def __init__(self, name: str, time_divisor: int, view: MarketView, interval_ms: int, levels: int) -> None:
        """``levels`` a side, told at most every ``interval_ms``."""
        super().__init__(name, time_divisor, view)
        self.period_ticks = interval_ms // TICK_MS
        self._level_count = levels
        self._has_changed = False

    def attach(self) -> None:
        self._view.book_listeners[self] = None

    def detach(self) -> None:
        self._view.book_listeners.pop(self, None)

    def first_message(self) -> msgspec.Struct | None:
        return self._message() if self._view.is_ready else None

    def book_changed(self, bids: Iterable[int], asks: Iterable[int]) -> None:
        """See :class:`~rtx.api.streams.market_view.BookListener`."""
        self._has_changed = True

    def book_replaced(self, since: int, bids: Iterable[int], asks: Iterable[int]) -> None:
        """See :class:`~rtx.api.streams.market_view.BookListener`."""
        self._has_changed = True

    def tick(self, now_us: int) -> None:
        if self._has_changed:
            self._has_changed = False
            self._publish(self._message())

    def _message(self) -> PartialDepthMessage:
        book, count = self._view.book, self._level_count
        return PartialDepthMessage(
            last_update_id=self._view.sequence,
            bids=self._levels(book.bids.top(count)),
            asks=self._levels(book.asks.top(count)),
        )
