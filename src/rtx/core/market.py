"""A market: its definition, its limits, its book and the stop orders that wait for a price."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from rtx.core.book import Book
from rtx.core.commands import MarketFilters, NewOrder
from rtx.core.events import MarketCreated
from rtx.core.orders import Order
from rtx.core.rejections import Reason, RejectedError
from rtx.core.vocabulary import (
    BUY,
    FEE_RATE_DENOMINATOR,
    MARKET,
    MAXIMUM_AMOUNT,
    SELL,
    STOP_LOSS_LIMIT,
)

NO_MAXIMUM: Final = MAXIMUM_AMOUNT - 1
"""As good as no bound: beyond it the bounds leave the decision to the filters, and it still fits a machine word."""


class Asset:
    """Something that can be owned; its smallest unit is 10**-``scale``. ``supply``: what all accounts have together."""

    __slots__ = ("asset_id", "scale", "supply", "symbol")

    def __init__(self, asset_id: int, symbol: str, scale: int) -> None:
        self.asset_id = asset_id
        self.symbol = symbol
        self.scale = scale
        self.supply = 0


class WaitingOrders:
    """Stop orders of a market, by trigger price.

    Rising ones (STOP_LOSS to buy, TAKE_PROFIT to sell) wait for a trade at or above their stop price, falling ones
    (STOP_LOSS to sell, TAKE_PROFIT to buy) for one at or below it. Both lists are in the order in which they trigger.
    """

    __slots__ = ("falling", "rising")

    def __init__(self) -> None:
        self.rising: list[tuple[int, int]] = []
        self.falling: list[tuple[int, int]] = []

    def add(self, order: Order) -> None:
        if is_rising(order.type, order.side):
            insort(self.rising, (order.stop_price, order.order_id))
        else:
            insort(self.falling, (-order.stop_price, order.order_id))

    def remove(self, order: Order) -> None:
        if is_rising(order.type, order.side):
            entries, entry = self.rising, (order.stop_price, order.order_id)
        else:
            entries, entry = self.falling, (-order.stop_price, order.order_id)
        del entries[bisect_left(entries, entry)]

    def take_triggered(self, low: int, high: int) -> list[int]:
        """Take out the ids of the orders that trades between ``low`` and ``high`` trigger, in their order."""
        rising, falling = self.rising, self.falling
        rising_count = bisect_left(rising, (high + 1, 0))
        falling_count = bisect_left(falling, (-low + 1, 0))
        triggered = [order_id for _, order_id in rising[:rising_count]]
        triggered += [order_id for _, order_id in falling[:falling_count]]
        del rising[:rising_count]
        del falling[:falling_count]
        return triggered

    def __bool__(self) -> bool:
        return bool(self.rising or self.falling)


def is_rising(order_type: int, side: int) -> bool:
    """Whether a stop order waits for the price to rise."""
    return (order_type <= STOP_LOSS_LIMIT) == (side == BUY)


class Market:
    """One market. ``quote_per_tick_lot``: smallest quote units of one lot at one tick.

    ``lowest_*`` and ``highest_*`` are bounds within which the price (by side) and the quantity of a limit order keep
    all limits on them; beyond them :meth:`check_filters` decides. They follow the filters and the last price.
    """

    __slots__ = (
        "base_asset_id",
        "book",
        "filters",
        "has_notional_limits",
        "highest_ask",
        "highest_bid",
        "highest_quantity",
        "last_price",
        "lot_size",
        "lowest_ask",
        "lowest_bid",
        "market_id",
        "maximum_notional",
        "maximum_open_orders",
        "maximum_price",
        "maximum_quantity",
        "minimum_notional",
        "minimum_price",
        "minimum_quantity",
        "next_trade_id",
        "quote_asset_id",
        "quote_per_tick_lot",
        "status",
        "symbol",
        "tick_size",
        "waiting",
    )

    def __init__(self, definition: MarketCreated, quote_per_tick_lot: int) -> None:
        self.market_id = definition.market_id
        self.symbol = definition.symbol
        self.base_asset_id = definition.base_asset_id
        self.quote_asset_id = definition.quote_asset_id
        self.tick_size = definition.tick_size
        self.lot_size = definition.lot_size
        self.quote_per_tick_lot = quote_per_tick_lot
        self.status = definition.status
        self.last_price = 0  # in ticks, 0 before the first trade; changed by set_last_price alone
        self.next_trade_id = 1
        self.book = Book()
        self.waiting = WaitingOrders()
        self.set_filters(definition.filters)

    def set_filters(self, filters: MarketFilters) -> None:
        self.filters = filters
        self.minimum_price = filters.minimum_price or 1
        self.maximum_price = filters.maximum_price or MAXIMUM_AMOUNT
        self.minimum_quantity = filters.minimum_quantity or 1
        self.maximum_quantity = filters.maximum_quantity or MAXIMUM_AMOUNT
        self.minimum_notional = filters.minimum_notional
        self.maximum_notional = filters.maximum_notional
        self.has_notional_limits = bool(filters.minimum_notional or filters.maximum_notional)
        self.maximum_open_orders = filters.maximum_open_orders or NO_MAXIMUM
        self.highest_quantity = min(self.maximum_quantity, NO_MAXIMUM)
        self._set_price_bounds()

    def set_last_price(self, price: int) -> None:
        """Note the price of the last trade (ticks; 0: none yet)."""
        self.last_price = price
        self._set_price_bounds()

    def _set_price_bounds(self) -> None:
        filters = self.filters
        self.lowest_bid, self.highest_bid = self._price_bounds(filters.bid_multiplier_down, filters.bid_multiplier_up)
        self.lowest_ask, self.highest_ask = self._price_bounds(filters.ask_multiplier_down, filters.ask_multiplier_up)

    def _price_bounds(self, down: int, up: int) -> tuple[int, int]:
        lowest, highest = self.minimum_price, min(self.maximum_price, NO_MAXIMUM)
        if self.last_price:
            lowest = max(lowest, -(-self.last_price * down // FEE_RATE_DENOMINATOR))
            if up:
                highest = min(highest, self.last_price * up // FEE_RATE_DENOMINATOR)
        return lowest, highest

    def is_within_bounds(self, side: int, price: int, quantity: int) -> bool:
        """Whether a limit order keeps all limits on its price, its quantity and its value.

        False only says that it may not: :meth:`check_filters` decides.
        """
        if side == BUY:
            if not self.lowest_bid <= price <= self.highest_bid:
                return False
        elif side != SELL or not self.lowest_ask <= price <= self.highest_ask:
            return False
        if not self.minimum_quantity <= quantity <= self.highest_quantity:
            return False
        if not self.has_notional_limits:
            return True
        notional = price * quantity * self.quote_per_tick_lot
        return self.minimum_notional <= notional and (notional <= self.maximum_notional or not self.maximum_notional)

    def check_filters(self, order: NewOrder, open_order_count: int) -> None:
        """Refuse an order outside the limits (Binance filters.md), in the sequence in which they are written there."""
        price, quantity, order_type = order.price, order.quantity, order.type
        if price and not self.minimum_price <= price <= self.maximum_price:
            raise RejectedError(Reason.FILTER_PRICE, "price")
        stop_price = order.stop_price
        if stop_price and not self.minimum_price <= stop_price <= self.maximum_price:
            raise RejectedError(Reason.FILTER_PRICE, "stop_price")
        if quantity and not self.minimum_quantity <= quantity <= self.maximum_quantity:
            raise RejectedError(Reason.FILTER_LOT_SIZE, "quantity")
        filters = self.filters
        if not price and quantity:
            minimum, maximum = filters.market_minimum_quantity, filters.market_maximum_quantity
            if quantity < minimum or (maximum and quantity > maximum):
                raise RejectedError(Reason.FILTER_MARKET_LOT_SIZE, "quantity")
        if price and self.last_price:
            self._check_percent_price(order.side, price)
        if filters.minimum_notional or filters.maximum_notional:
            self._check_notional(order, order_type)
        if open_order_count >= filters.maximum_open_orders > 0:
            raise RejectedError(Reason.FILTER_MAX_NUM_ORDERS)

    def _check_percent_price(self, side: int, price: int) -> None:
        filters = self.filters
        if side == BUY:
            up, down = filters.bid_multiplier_up, filters.bid_multiplier_down
        else:
            up, down = filters.ask_multiplier_up, filters.ask_multiplier_down
        scaled = price * FEE_RATE_DENOMINATOR
        if (up and scaled > self.last_price * up) or (down and scaled < self.last_price * down):
            raise RejectedError(Reason.FILTER_PERCENT_PRICE_BY_SIDE, "price")

    def _check_notional(self, order: NewOrder, order_type: int) -> None:
        filters = self.filters
        minimum, maximum = filters.minimum_notional, filters.maximum_notional
        if order.quote_quantity:
            notional = order.quote_quantity
        elif order_type == MARKET:
            notional = order.quantity * self.last_price * self.quote_per_tick_lot
        else:
            notional = order.quantity * (order.price or order.stop_price) * self.quote_per_tick_lot
        if order_type == MARKET:
            if not order.quote_quantity and not self.last_price:
                return
            minimum = minimum if filters.apply_minimum_to_market else 0
            maximum = maximum if filters.apply_maximum_to_market else 0
        if notional < minimum or (maximum and notional > maximum):
            raise RejectedError(Reason.FILTER_NOTIONAL, "quote_quantity" if order.quote_quantity else "quantity")
