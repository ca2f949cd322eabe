"""What the tables must hold, worked out from the events alone.

This does not use the projection that wrote the tables: a mistake there would be made twice and never be found. What is
kept is bounded by what is open (orders, candles, balances); rows that nothing will change any more are handed over to
be compared and forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import asdict, astuple

from rtx.core.events import (
    AccountFeeTierSet,
    AnyEvent,
    AssetCreated,
    FeeTierSet,
    MarketCreated,
    MarketFiltersChanged,
    MarketStatusChanged,
    OrderState,
    Trade,
)
from rtx.core.ledger import postings
from rtx.core.market import Market
from rtx.core.vocabulary import BUY, PARTIALLY_FILLED
from rtx.store.verification import Row
from rtx.verification.journal import row_difference

CANDLE_INTERVALS_S: Final = (60, 3_600, 86_400)

_OrderHistory = tuple[OrderState, int, int, int]
"""An order's newest state, the journal rows that placed and changed it, and the time of the latter."""


class FinishedRows(msgspec.Struct):
    """Rows that nothing will change any more, each with the columns of :mod:`rtx.store.verification`."""

    orders: list[Row] = []
    trades: list[Row] = []
    postings: list[Row] = []
    candles: list[Row] = []


class Expectations:
    """Takes the events of one journal row after the other."""

    def __init__(self) -> None:
        self.finished = FinishedRows()
        self.open_orders: dict[int, _OrderHistory] = {}
        self.order_count = 0
        self.trade_count = 0
        self.last_trade_ids: dict[int, int] = {}
        self.candle_count = 0
        self.ledger: dict[tuple[int, int], int] = {}
        """What each account was posted of each asset, by (account id, asset id)."""
        self.assets: dict[int, Row] = {}
        self.markets: dict[int, tuple[MarketCreated, int]] = {}
        """Markets as they are now, and when they were created (in microseconds)."""
        self.fee_tiers: dict[int, Row] = {}
        self.account_fee_tiers: dict[int, Row] = {}
        self._candles: dict[tuple[int, int], list[int]] = {}

    def add(self, sequence: int, time_us: int, events: Sequence[AnyEvent], markets: dict[int, Market]) -> None:
        """Take the events of a journal row; ``markets`` has at least those that exist after it.

        Raises DifferenceFoundError when the row changes an order that is not open.
        """
        line = 0
        for event in events:
            if type(event) is OrderState:
                self._add_order(sequence, time_us, event)
                continue
            if type(event) is Trade:
                self._add_trade(sequence, time_us, event)
            else:
                self._add_to_directory(time_us, event)
            for account_id, asset_id, amount in postings(event, markets):
                self.finished.postings.append((sequence, line, account_id, asset_id, amount))
                key = (account_id, asset_id)
                self.ledger[key] = self.ledger.get(key, 0) + amount
                line += 1

    def take_finished(self) -> FinishedRows:
        """What was finished since the last call, by key."""
        finished = self.finished
        self.finished = FinishedRows()
        for rows in (finished.orders, finished.trades, finished.candles):
            rows.sort()
        return finished

    def finish(self) -> None:
        """Take what is still open as it is: the journal has ended."""
        self.finished.orders += [order_row(*history) for history in self.open_orders.values()]
        for (market_id, interval_s), candle in self._candles.items():
            self._finish_candle(market_id, interval_s, candle)
        self._candles.clear()

    def market_rows(self) -> list[Row]:
        """The markets as the table has to have them."""
        return [
            (
                market.market_id,
                market.symbol,
                market.base_asset_id,
                market.quote_asset_id,
                market.tick_size,
                market.lot_size,
                market.status,
                asdict(market.filters),
                created_at_us,
            )
            for _, (market, created_at_us) in sorted(self.markets.items())
        ]

    def _add_order(self, sequence: int, time_us: int, event: OrderState) -> None:
        order_id = event.order_id
        if event.is_new:
            created_sequence = sequence
            self.order_count += 1
        else:
            history = self.open_orders.get(order_id)
            if history is None:
                raise row_difference(sequence, "different", f"no change of order {order_id}, which is not open", None)
            created_sequence = history[1]
        if event.status <= PARTIALLY_FILLED:
            self.open_orders[order_id] = (event, created_sequence, sequence, time_us)
        else:
            self.open_orders.pop(order_id, None)
            self.finished.orders.append(order_row(event, created_sequence, sequence, time_us))

    def _add_trade(self, sequence: int, time_us: int, event: Trade) -> None:
        self.finished.trades.append((*astuple(event), sequence, time_us))
        market_id = event.market_id
        self.last_trade_ids[market_id] = event.trade_id
        self.trade_count += 1
        price, quantity, quote_quantity = event.price, event.quantity, event.quote_quantity
        bought, quote_bought = (quantity, quote_quantity) if event.taker_side == BUY else (0, 0)
        time_s = time_us // 1_000_000
        for interval_s in CANDLE_INTERVALS_S:
            open_time_s = time_s - time_s % interval_s
            candle = self._candles.get((market_id, interval_s))
            if candle is not None and candle[0] == open_time_s:
                candle[2] = max(candle[2], price)
                candle[3] = min(candle[3], price)
                candle[4] = price
                candle[5] += 1
                candle[7] = event.trade_id
                candle[8] += quantity
                candle[9] += quote_quantity
                candle[10] += bought
                candle[11] += quote_bought
                continue
            if candle is not None:
                self._finish_candle(market_id, interval_s, candle)
            trade_id = event.trade_id
            candle = [open_time_s, price, price, price, price, 1, trade_id, trade_id]
            self._candles[market_id, interval_s] = [*candle, quantity, quote_quantity, bought, quote_bought]

    def _finish_candle(self, market_id: int, interval_s: int, candle: list[int]) -> None:
        self.finished.candles.append((market_id, interval_s, *candle))
        self.candle_count += 1

    def _add_to_directory(self, time_us: int, event: AnyEvent) -> None:
        if type(event) is AssetCreated:
            self.assets[event.asset_id] = (event.asset_id, event.symbol, event.scale)
        elif type(event) is MarketCreated:
            self.markets[event.market_id] = (event, time_us)
        elif type(event) is MarketStatusChanged:
            self._change_market(event.market_id, status=event.status)
        elif type(event) is MarketFiltersChanged:
            self._change_market(event.market_id, filters=event.filters)
        elif type(event) is FeeTierSet:
            self.fee_tiers[event.tier] = (event.tier, event.maker_rate_ppm, event.taker_rate_ppm)
        elif type(event) is AccountFeeTierSet:
            self.account_fee_tiers[event.account_id] = (event.account_id, event.tier)

    def _change_market(self, market_id: int, **changes: Any) -> None:
        market, created_at_us = self.markets[market_id]
        self.markets[market_id] = (msgspec.structs.replace(market, **changes), created_at_us)


def order_row(event: OrderState, created_sequence: int, updated_sequence: int, updated_at_us: int) -> Row:
    """An order as the table has to have it."""
    fields = astuple(event)
    # The table's key comes first; of the event's fields only is_new is not the order's own.
    return (fields[1], fields[2], fields[0], *fields[3:18], created_sequence, updated_sequence, updated_at_us)
