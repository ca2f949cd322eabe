"""Whether a command makes sense in itself, before any state is looked at.

The API refuses most of this already, in its own words; the core does not rely on it.
"""

from __future__ import annotations

from rtx.core.commands import CancelAllAfter, CancelOrder, CreateMarket, MarketFilters, NewOrder, SetFeeTier
from rtx.core.rejections import Reason, RejectedError
from rtx.core.vocabulary import (
    FEE_ACCOUNT_ID,
    FEE_RATE_DENOMINATOR,
    FOK,
    GTC,
    LIMIT,
    LIMIT_MAKER,
    LONGEST_CANCEL_ALL_AFTER_US,
    LONGEST_SESSION,
    MARKET,
    MAXIMUM_AMOUNT,
    SELL,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
    CancelRestriction,
    MarketStatus,
    SelfTradePrevention,
)

_STOP_TYPES = (STOP_LOSS, STOP_LOSS_LIMIT, TAKE_PROFIT, TAKE_PROFIT_LIMIT)
_PRICED_TYPES = (LIMIT, LIMIT_MAKER, STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT)
_TIMED_TYPES = (LIMIT, STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT)


def check_order(order: NewOrder) -> None:
    """Refuse values out of range (INVALID_FIELD) and fields that do not go together (UNSUPPORTED_ORDER_COMBINATION)."""
    _check_ranges(order)
    _check_combination(order)


def _check_ranges(order: NewOrder) -> None:
    for field, highest in (
        ("side", SELL),
        ("type", TAKE_PROFIT_LIMIT),
        ("time_in_force", FOK),
        ("self_trade_prevention", len(SelfTradePrevention) - 1),
        ("price", MAXIMUM_AMOUNT),
        ("quantity", MAXIMUM_AMOUNT),
        ("quote_quantity", MAXIMUM_AMOUNT),
        ("stop_price", MAXIMUM_AMOUNT),
    ):
        if not 0 <= getattr(order, field) <= highest:
            raise RejectedError(Reason.INVALID_FIELD, field)
    if not FEE_ACCOUNT_ID < order.account_id <= MAXIMUM_AMOUNT:
        raise RejectedError(Reason.INVALID_FIELD, "account_id")
    if not order.client_order_id:
        raise RejectedError(Reason.INVALID_FIELD, "client_order_id")


def _check_combination(order: NewOrder) -> None:
    order_type = order.type
    field = ""
    if (order.price > 0) != (order_type in _PRICED_TYPES):
        field = "price"
    elif (order.stop_price > 0) != (order_type in _STOP_TYPES):
        field = "stop_price"
    elif order.quote_quantity and order_type != MARKET:
        field = "quote_quantity"
    elif (order.quantity > 0) == (order.quote_quantity > 0):
        field = "quantity"
    elif order.time_in_force != GTC and order_type not in _TIMED_TYPES:
        field = "time_in_force"
    if field:
        raise RejectedError(Reason.UNSUPPORTED_ORDER_COMBINATION, field)


def check_cancel(command: CancelOrder) -> None:
    """Refuse a condition that does not exist."""
    if not 0 <= command.restriction < len(CancelRestriction):
        raise RejectedError(Reason.INVALID_FIELD, "restriction")


def check_cancel_all_after(command: CancelAllAfter) -> None:
    """Refuse accounts that never have orders, names that are too long and times out of range."""
    if not FEE_ACCOUNT_ID < command.account_id <= MAXIMUM_AMOUNT:
        raise RejectedError(Reason.INVALID_FIELD, "account_id")
    if len(command.session) > LONGEST_SESSION:
        raise RejectedError(Reason.INVALID_FIELD, "session")
    if not 0 <= command.timeout_us <= LONGEST_CANCEL_ALL_AFTER_US:
        raise RejectedError(Reason.INVALID_FIELD, "timeout_us")


def check_market_definition(command: CreateMarket, base_scale: int) -> int:
    """Refuse a market that could round; returns the smallest quote units of one lot at one tick."""
    if not command.symbol:
        raise RejectedError(Reason.INVALID_FIELD, "symbol")
    if command.base_asset_id == command.quote_asset_id:
        raise RejectedError(Reason.INVALID_FIELD, "quote_asset_id")
    for field in ("tick_size", "lot_size"):
        if not 0 < getattr(command, field) <= MAXIMUM_AMOUNT:
            raise RejectedError(Reason.INVALID_FIELD, field)
    if not 0 <= command.status < len(MarketStatus):
        raise RejectedError(Reason.INVALID_FIELD, "status")
    quote_per_tick_lot: int
    quote_per_tick_lot, rest = divmod(command.tick_size * command.lot_size, 10**base_scale)
    if rest or not quote_per_tick_lot:
        raise RejectedError(Reason.TICK_LOT_NOT_WHOLE, "lot_size")
    if quote_per_tick_lot > MAXIMUM_AMOUNT:
        raise RejectedError(Reason.INVALID_FIELD, "tick_size")
    check_market_filters(command.filters)
    return quote_per_tick_lot


def check_market_filters(filters: MarketFilters) -> None:
    """Refuse limits that are negative or that no order could pass."""
    for field in filters.__struct_fields__:
        if not 0 <= getattr(filters, field) <= MAXIMUM_AMOUNT:
            raise RejectedError(Reason.INVALID_FIELD, field)
    for lowest, highest in (
        ("minimum_price", "maximum_price"),
        ("minimum_quantity", "maximum_quantity"),
        ("market_minimum_quantity", "market_maximum_quantity"),
        ("minimum_notional", "maximum_notional"),
        ("bid_multiplier_down", "bid_multiplier_up"),
        ("ask_multiplier_down", "ask_multiplier_up"),
    ):
        maximum = getattr(filters, highest)
        if maximum and getattr(filters, lowest) > maximum:
            raise RejectedError(Reason.INVALID_FIELD, highest)


def check_rates(command: SetFeeTier) -> None:
    """Refuse rates outside 0 to 100 %."""
    if not 0 <= command.tier <= MAXIMUM_AMOUNT:
        raise RejectedError(Reason.INVALID_FIELD, "tier")
    for field in ("maker_rate_ppm", "taker_rate_ppm"):
        if not 0 <= getattr(command, field) <= FEE_RATE_DENOMINATOR:
            raise RejectedError(Reason.INVALID_FIELD, field)
