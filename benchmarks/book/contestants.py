"""What a book must offer to take part, and the adapters of the peers.

An adapter drives its book in one tight loop of its own, with the calls that the peer's documentation shows, so that no
common layer costs any of them a call per operation. Peers are imported when they are built, so that a missing one can
be named and the others still run.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

from benchmarks.book.flow import ADD, BUY, Fill, Operation, RestingTotals


class FillReport(Enum):
    """What a book tells its caller about the trades that it makes."""

    EVERY_FILL = "every fill: ids, price, quantity"
    FILLED_QUANTITY = "only how much of the new order was filled"
    NOTHING = "nothing"


class Contestant(Protocol):
    """One book, fresh and empty, ready to be driven once.

    ``report`` says what it tells of its trades while it is timed. ``replay`` is called twice, first with the opening
    and then, timed, with the operations of an :class:`~benchmarks.book.flow.OrderFlow`; what the book reports it must
    collect as it comes. ``prepare`` is called before each, off the clock: it adds what the flow has not and a caller of
    this book would have, and builds nothing of the book's own. ``fills`` and ``resting`` are asked afterwards, off the
    clock, and may give None where the book cannot tell; what they give is compared with the flow's own.
    """

    name: str
    report: FillReport

    def prepare(self, operations: Sequence[Operation]) -> Sequence[Any]:
        """What ``replay`` takes; the operations as they are unless a book needs more."""
        return operations

    def replay(self, operations: Sequence[Any]) -> None:
        """Apply the operations in order."""

    def fills(self) -> Sequence[Fill] | None:
        """Every fill since the book was built, in order, or None."""

    def resting(self) -> RestingTotals | None:
        """What rests now, or None."""


ContestantFactory = type[Contestant]


class OrderlyChaos(Contestant):
    """`orderly-chaos` (C++ behind ctypes), with its trade callback: it reports every fill."""

    report = FillReport.EVERY_FILL

    def __init__(self) -> None:
        self.name = f"orderly-chaos {importlib.metadata.version('orderly-chaos')}"
        module = importlib.import_module("orderly_chaos")
        self._trades: list[Any] = []
        self._book = module.LimitOrderBook(on_trade=self._trades.append)
        self._sides = (module.Side.BUY, module.Side.SELL)

    def replay(self, operations: Sequence[Operation]) -> None:
        """Apply the operations in order."""
        limit, cancel, sides = self._book.limit, self._book.cancel, self._sides
        for kind, order_id, side, price, quantity in operations:
            if kind == ADD:
                limit(sides[side], order_id, quantity, price)
            else:
                cancel(order_id)

    def fills(self) -> Sequence[Fill] | None:
        """Every fill, in order."""
        return [(trade.taker_id, trade.maker_id, trade.price, trade.quantity) for trade in self._trades]

    def resting(self) -> RestingTotals | None:
        """What rests now."""
        book = self._book
        return RestingTotals(book.count_buy(), book.count_sell(), book.volume_buy(), book.volume_sell())


class OrderlyChaosWithoutCallback(OrderlyChaos):
    """`orderly-chaos` without a trade callback: cheaper, and it only says how much was filled."""

    report = FillReport.FILLED_QUANTITY

    def __init__(self) -> None:
        super().__init__()
        self.name += ", no callback"
        self._book.on_trade = None

    def fills(self) -> Sequence[Fill] | None:
        """Not told without the callback."""
        return None


class LimitOrderBook(Contestant):
    """`limit-order-book` (C++ behind ctypes): it reports nothing about trades."""

    report = FillReport.NOTHING

    def __init__(self) -> None:
        self.name = f"limit-order-book {importlib.metadata.version('limit-order-book')}"
        self._book = importlib.import_module("limit_order_book.limit_order_book").LimitOrderBook()

    def replay(self, operations: Sequence[Operation]) -> None:
        """Apply the operations in order."""
        buy, sell, cancel = self._book.limit_buy, self._book.limit_sell, self._book.cancel
        for kind, order_id, side, price, quantity in operations:
            if kind != ADD:
                cancel(order_id)
            elif side == BUY:
                buy(order_id, quantity, price)
            else:
                sell(order_id, quantity, price)

    def fills(self) -> Sequence[Fill] | None:
        """Not told."""
        return None

    def resting(self) -> RestingTotals | None:
        """What rests now."""
        book = self._book
        return RestingTotals(book.count_buy(), book.count_sell(), book.volume_buy(), book.volume_sell())


class PyOrderBook(Contestant):
    """`pyorderbook` (pure Python): every match gives a blotter with its trades.

    It names orders by its own random ids and takes the order itself to cancel, so the adapter keeps the orders by
    our id, as any caller of it must.
    """

    report = FillReport.EVERY_FILL
    symbol = "BENCH"

    def __init__(self) -> None:
        self.name = f"pyorderbook {importlib.metadata.version('pyorderbook')}"
        module = importlib.import_module("pyorderbook")
        self._book = module.Book()
        self._makers = (module.bid, module.ask)
        self._bid_side = module.Side.BID
        self._orders: dict[int, Any] = {}
        self._trades: list[Any] = []

    def replay(self, operations: Sequence[Operation]) -> None:
        """Apply the operations in order."""
        match, cancel, makers, symbol = self._book.match, self._book.cancel, self._makers, self.symbol
        orders, trades = self._orders, self._trades
        for kind, order_id, side, price, quantity in operations:
            if kind == ADD:
                order = orders[order_id] = makers[side](symbol, price, quantity)
                blotter = match(order)
                if blotter.trades:
                    trades.extend(blotter.trades)
            else:
                cancel(orders[order_id])

    def fills(self) -> Sequence[Fill] | None:
        """Every fill, in order, under our ids."""
        ids = {order.id: order_id for order_id, order in self._orders.items()}
        return [
            (ids[trade.incoming_order_id], ids[trade.standing_order_id], int(trade.fill_price), trade.fill_quantity)
            for trade in self._trades
        ]

    def resting(self) -> RestingTotals | None:
        """What rests now."""
        open_orders = self._book.order_map.values()
        buys = [order.quantity for order in open_orders if order.side is self._bid_side]
        sells = [order.quantity for order in open_orders if order.side is not self._bid_side]
        return RestingTotals(len(buys), len(sells), sum(buys), sum(sells))


PEERS: tuple[ContestantFactory, ...] = (OrderlyChaos, OrderlyChaosWithoutCallback, LimitOrderBook, PyOrderBook)
