"""Our own contestants: the order book alone, and the whole exchange around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import rtx.core.book
from benchmarks.book.contestants import Contestant, ContestantFactory, FillReport
from benchmarks.book.flow import ADD, BUY, SELL, Fill, Operation, RestingTotals
from rtx.core.book import Book, BookOrder
from rtx.core.commands import (
    CancelOrder,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    SetFeeTier,
)
from rtx.core.events import AnyEvent, Trade
from rtx.core.exchange import Exchange
from rtx.core.vocabulary import FIRST_USER_ACCOUNT_ID, GTC, LIMIT

FORM: Final = "plain Python" if rtx.core.book.__file__.endswith(".py") else "compiled by mypyc"
ACCOUNTS: Final = 100
FUNDING: Final = 10**15
FEE_PPM: Final = 1_000
BATCH_OPERATIONS: Final = 100
"""How often the exchange is asked for what changed, as the engine does once a batch."""

TIME_US: Final = 1_700_000_000_000_000
MARKET_ID: Final = 1
QUOTE_PER_TICK_LOT: Final = 1

OwnedOperation: TypeAlias = tuple[int, int, str, int, int, int, int]
"""(ADD or CANCEL, account id, client order id, order id, BUY or SELL, price in ticks, quantity in lots)."""


def _totals(orders: Sequence[BookOrder]) -> RestingTotals:
    buys = [order.remaining for order in orders if order.side == BUY]
    sells = [order.remaining for order in orders if order.side == SELL]
    return RestingTotals(len(buys), len(sells), sum(buys), sum(sells))


class RtxBook(Contestant):
    """The order book alone: match, then rest what is left. Which order has which id is its caller's to know."""

    report = FillReport.EVERY_FILL

    def __init__(self) -> None:
        self.name = f"rtx, the book, {FORM}"
        self._book = Book()
        self._orders: dict[int, BookOrder] = {}
        self._fills: list[Fill] = []

    def replay(self, operations: Sequence[Operation]) -> None:
        """Apply the operations in order."""
        book, orders, fills = self._book, self._orders, self._fills
        place, remove = book.place, book.remove
        account_id, quote_per_tick_lot = FIRST_USER_ACCOUNT_ID, QUOTE_PER_TICK_LOT
        for kind, order_id, side, price, quantity in operations:
            if kind != ADD:
                remove(orders.pop(order_id))
                continue
            order = BookOrder(order_id, account_id, side, price, quantity)
            matches = place(order, quote_per_tick_lot)
            if matches is not None:
                for maker, maker_price, traded in matches:
                    fills.append((order_id, maker.order_id, maker_price, traded))
                    if not maker.remaining:
                        del orders[maker.order_id]
                if not order.remaining:
                    continue
            orders[order_id] = order

    def fills(self) -> Sequence[Fill] | None:
        """Every fill, in order."""
        return self._fills

    def resting(self) -> RestingTotals | None:
        """What rests now."""
        return _totals([order for order in self._orders.values() if order.level is not None])


class RtxExchange(Contestant):
    """The whole state machine: accounts, balances, fees, filters, ledger; commands in, events out.

    Its order ids are the flow's, because both count from 1. Accounts and client order ids, of which a book knows
    nothing, are dealt out off the clock; commands are built on it.
    """

    report = FillReport.EVERY_FILL

    def __init__(self) -> None:
        self.name = f"rtx, the whole state machine, {FORM}"
        self._exchange = Exchange()
        self._with_trades: list[list[AnyEvent]] = []
        apply = self._exchange.apply
        for symbol in ("BASE", "QUOTE"):
            apply(CreateAsset(symbol, 0), TIME_US)
        base_asset_id, quote_asset_id = self._exchange.assets
        filters = MarketFilters(maximum_open_orders=1_000_000)
        apply(CreateMarket("BENCH", base_asset_id, quote_asset_id, 1, QUOTE_PER_TICK_LOT, filters), TIME_US)
        apply(SetFeeTier(0, FEE_PPM, FEE_PPM), TIME_US)
        for account_id in range(FIRST_USER_ACCOUNT_ID, FIRST_USER_ACCOUNT_ID + ACCOUNTS):
            for asset_id in (base_asset_id, quote_asset_id):
                apply(Deposit(account_id, asset_id, FUNDING, f"{account_id}-{asset_id}"), TIME_US)

    def prepare(self, operations: Sequence[Operation]) -> Sequence[OwnedOperation]:
        """The operations, each with its account and its client order id."""
        return [
            (kind, FIRST_USER_ACCOUNT_ID + order_id % ACCOUNTS, str(order_id), order_id, side, price, quantity)
            for kind, order_id, side, price, quantity in operations
        ]

    def replay(self, operations: Sequence[OwnedOperation]) -> None:
        """Apply the operations in order, in batches."""
        exchange, keep = self._exchange, self._with_trades.append
        apply = exchange.apply
        for start in range(0, len(operations), BATCH_OPERATIONS):
            batch = operations[start : start + BATCH_OPERATIONS]
            for kind, account_id, client_order_id, order_id, side, price, quantity in batch:
                if kind == ADD:
                    command = NewOrder(account_id, MARKET_ID, side, LIMIT, GTC, price, quantity, client_order_id)
                    events = apply(command, TIME_US)
                    if type(events[0]) is Trade:
                        keep(events)
                else:
                    apply(CancelOrder(account_id, MARKET_ID, order_id), TIME_US)
            exchange.take_changed_balances()
            exchange.take_changed_levels()

    def fills(self) -> Sequence[Fill] | None:
        """Every fill, in order."""
        return [
            (event.taker_order_id, event.maker_order_id, event.price, event.quantity)
            for events in self._with_trades
            for event in events
            if isinstance(event, Trade)
        ]

    def resting(self) -> RestingTotals | None:
        """What rests now."""
        return _totals(list(self._exchange.orders.values()))


OURS: tuple[ContestantFactory, ...] = (RtxBook, RtxExchange)
