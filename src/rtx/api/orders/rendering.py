"""Turns what the exchange did to orders into the objects that clients read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from rtx.api.markets import Market
from rtx.api.orders.schemas import (
    AmendedOrder,
    CancelledOrder,
    Fill,
    OrderAcknowledgement,
    OrderResult,
    QueriedOrder,
)
from rtx.core.events import AnyEvent, OrderState, Trade
from rtx.core.vocabulary import (
    BUY,
    EXPIRED,
    EXPIRED_IN_MATCH,
    FOK,
    IOC,
    LIMIT_MAKER,
    OrderStatus,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from rtx.store.orders import Order

SIDES: Final = tuple(side.name for side in Side)
TYPES: Final = tuple(order_type.name for order_type in OrderType)
TIMES_IN_FORCE: Final = tuple(time_in_force.name for time_in_force in TimeInForce)
STATUSES: Final = tuple(status.name for status in OrderStatus)
SELF_TRADE_PREVENTIONS: Final = tuple(mode.name for mode in SelfTradePrevention)

NO_ORDER_LIST: Final = -1
NOT_WORKING: Final = -1

encode: Final = msgspec.json.Encoder().encode


def acknowledgement(market: Market, order: OrderState, time_us: int, time_divisor: int) -> bytes:
    """Encode an ACK answer."""
    return encode(
        OrderAcknowledgement(
            market.symbol, order.order_id, NO_ORDER_LIST, order.client_order_id, time_us // time_divisor
        )
    )


def result(market: Market, order: OrderState, time_us: int, time_divisor: int, fills: list[Fill] | UnsetType) -> bytes:
    """Encode a RESULT answer, or with ``fills`` a FULL one."""
    return encode(
        OrderResult(
            market.symbol,
            order.order_id,
            NO_ORDER_LIST,
            order.client_order_id,
            time_us // time_divisor,
            market.price_text(order.price),
            market.quantity_text(order.quantity),
            market.quantity_text(order.executed_quantity),
            market.quote_text(order.quote_quantity),
            market.quote_text(order.executed_quote_quantity),
            STATUSES[order.status],
            TIMES_IN_FORCE[order.time_in_force],
            TYPES[order.type],
            SIDES[order.side],
            order.working_at_us // time_divisor or NOT_WORKING,
            SELF_TRADE_PREVENTIONS[order.self_trade_prevention],
            fills,
            market.price_text(order.stop_price) if order.type > LIMIT_MAKER else UNSET,
            _prevented_quantity(market, order),
            _expiry_reason(order),
        )
    )


def fills_of(market: Market, order: OrderState, events: Sequence[AnyEvent]) -> list[Fill]:
    """Give the trades of an order, with the fee that it paid in what it received."""
    received = market.base if order.side == BUY else market.quote
    order_id = order.order_id
    fills = []
    for event in events:
        if type(event) is not Trade:
            continue
        if event.taker_order_id == order_id:
            fee = event.taker_fee
        elif event.maker_order_id == order_id:
            fee = event.maker_fee
        else:
            continue
        fills.append(
            Fill(
                market.price_text(event.price),
                market.quantity_text(event.quantity),
                received.text(fee),
                received.symbol,
                event.trade_id,
            )
        )
    return fills


def cancelled(market: Market, order: OrderState, cancel_id: str, time_us: int, time_divisor: int) -> CancelledOrder:
    """Describe an order that was cancelled by the cancellation named ``cancel_id``."""
    return CancelledOrder(
        market.symbol,
        order.client_order_id,
        order.order_id,
        NO_ORDER_LIST,
        cancel_id,
        time_us // time_divisor,
        market.price_text(order.price),
        market.quantity_text(order.quantity),
        market.quantity_text(order.executed_quantity),
        market.quote_text(order.quote_quantity),
        market.quote_text(order.executed_quote_quantity),
        STATUSES[order.status],
        TIMES_IN_FORCE[order.time_in_force],
        TYPES[order.type],
        SIDES[order.side],
        SELF_TRADE_PREVENTIONS[order.self_trade_prevention],
        market.price_text(order.stop_price) if order.type > LIMIT_MAKER else UNSET,
        _prevented_quantity(market, order),
    )


def amended(market: Market, order: OrderState, previous_client_order_id: str, time_divisor: int) -> AmendedOrder:
    """Describe an order whose quantity was reduced."""
    return AmendedOrder(
        market.symbol,
        order.order_id,
        NO_ORDER_LIST,
        previous_client_order_id,
        order.client_order_id,
        market.price_text(order.price),
        market.quantity_text(order.quantity),
        market.quantity_text(order.executed_quantity),
        market.quantity_text(order.prevented_quantity),
        market.quote_text(order.quote_quantity),
        market.quote_text(order.executed_quote_quantity),
        STATUSES[order.status],
        TIMES_IN_FORCE[order.time_in_force],
        TYPES[order.type],
        SIDES[order.side],
        order.working_at_us // time_divisor or NOT_WORKING,
        SELF_TRADE_PREVENTIONS[order.self_trade_prevention],
        market.price_text(order.stop_price) if order.type > LIMIT_MAKER else UNSET,
    )


def queried(market: Market, order: Order, time_divisor: int) -> QueriedOrder:
    """Describe an order that was looked up."""
    is_working = order.working_at_us > 0
    return QueriedOrder(
        market.symbol,
        order.order_id,
        NO_ORDER_LIST,
        order.client_order_id,
        market.price_text(order.price),
        market.quantity_text(order.quantity),
        market.quantity_text(order.executed_quantity),
        market.quote_text(order.executed_quote_quantity),
        STATUSES[order.status],
        TIMES_IN_FORCE[order.time_in_force],
        TYPES[order.type],
        SIDES[order.side],
        market.price_text(order.stop_price),
        market.quantity_text(0),
        order.created_at_us // time_divisor,
        order.updated_at_us // time_divisor,
        is_working,
        order.working_at_us // time_divisor if is_working else NOT_WORKING,
        market.quote_text(order.quote_quantity),
        SELF_TRADE_PREVENTIONS[order.self_trade_prevention],
        _prevented_quantity(market, order),
        _expiry_reason(order),
    )


def _prevented_quantity(market: Market, order: OrderState | Order) -> str | UnsetType:
    if order.prevented_quantity or order.status == EXPIRED_IN_MATCH:
        return market.quantity_text(order.prevented_quantity)
    return UNSET


def _expiry_reason(order: OrderState | Order) -> str | UnsetType:
    if order.status != EXPIRED:
        return UNSET
    if order.time_in_force == IOC:
        return "UNFILLED_IOC_QUANTITY_EXPIRED"
    if order.time_in_force == FOK:
        return "UNFILLED_FOK_ORDER_EXPIRED"
    return "INSUFFICIENT_LIQUIDITY"
