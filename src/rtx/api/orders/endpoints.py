"""Trading endpoints and order queries (Binance rest-api.md, "Trading endpoints")."""

from __future__ import annotations

import contextlib
from typing import Final

from rtx.api import errors
from rtx.api.accounts.commissions import rates_of_order
from rtx.api.errors import ApiError
from rtx.api.orders import reading, rendering, service
from rtx.api.orders.reading import ORDER_PARAMETERS
from rtx.api.parameters import (
    limit_of,
    market_named,
    market_of,
    optional_boolean,
    optional_number,
    optional_text,
    time_range_us,
)
from rtx.api.requests import Begun, BinanceRequest, BinanceRoute, route
from rtx.link.client import EngineError
from rtx.store import orders as stored_orders

_ORDERS_DEFAULT: Final = 500
_ORDERS_MAXIMUM: Final = 1000
_HOURS_MAXIMUM: Final = 24


async def place_order(request: BinanceRequest) -> bytes:
    """POST /api/v3/order."""
    market = await market_named(request.context.markets, request.parameters)
    return await _finished(service.begin_placing(request, market))


def begin_placing_order(request: BinanceRequest) -> Begun | None:
    """POST /api/v3/order, in two halves."""
    market = request.context.markets.by_symbol.get(request.parameters.get("symbol", ""))
    return service.begin_placing(request, market) if market is not None else None


async def test_order(request: BinanceRequest) -> bytes:
    """POST /api/v3/order/test."""
    market = await market_named(request.context.markets, request.parameters)
    await service.check(request, market)
    if optional_boolean(request.parameters, "computeCommissionRates", default=False):
        return await rates_of_order(request.context, request.account_id)
    return b"{}"


async def cancel_order(request: BinanceRequest) -> bytes:
    """DELETE /api/v3/order."""
    market = await market_named(request.context.markets, request.parameters)
    return await _finished(service.begin_cancelling(request, market))


def begin_cancelling_order(request: BinanceRequest) -> Begun | None:
    """DELETE /api/v3/order, in two halves."""
    market = request.context.markets.by_symbol.get(request.parameters.get("symbol", ""))
    return service.begin_cancelling(request, market) if market is not None else None


async def _finished(begun: Begun) -> bytes:
    with contextlib.suppress(EngineError):
        await begun.response
    return begun.finish(begun.response)


async def cancel_open_orders(request: BinanceRequest) -> bytes:
    """DELETE /api/v3/openOrders."""
    return await service.cancel_all(request, await market_named(request.context.markets, request.parameters))


async def cancel_replace_order(request: BinanceRequest) -> bytes:
    """POST /api/v3/order/cancelReplace."""
    return await service.cancel_replace(request, await market_named(request.context.markets, request.parameters))


async def amend_order(request: BinanceRequest) -> bytes:
    """PUT /api/v3/order/amend/keepPriority."""
    return await service.amend(request, await market_named(request.context.markets, request.parameters))


async def query_order(request: BinanceRequest) -> bytes:
    """GET /api/v3/order."""
    market = await market_named(request.context.markets, request.parameters)
    order_id, client_order_id = reading.order_reference(request.parameters)
    pool = request.context.pool
    order = None
    if order_id is not None:
        order = await stored_orders.by_id(pool, request.account_id, market.market_id, order_id)
        if order is not None and client_order_id is not None and order.client_order_id != client_order_id:
            order = None
    elif client_order_id is not None:
        order = await stored_orders.by_client_order_id(pool, request.account_id, market.market_id, client_order_id)
    if order is None:
        raise ApiError(errors.NO_SUCH_ORDER, "Order does not exist.")
    return rendering.encode(rendering.queried(market, order, request.time_divisor))


async def query_open_orders(request: BinanceRequest) -> bytes:
    """GET /api/v3/openOrders."""
    markets = request.context.markets
    symbol = optional_text(request.parameters, "symbol")
    market_id = (await market_of(markets, symbol)).market_id if symbol is not None else None
    found = await stored_orders.find_open(request.context.pool, request.account_id, market_id)
    return rendering.encode(
        [rendering.queried(await markets.find_by_id(order.market_id), order, request.time_divisor) for order in found]
    )


async def query_all_orders(request: BinanceRequest) -> bytes:
    """GET /api/v3/allOrders."""
    parameters = request.parameters
    market = await market_named(request.context.markets, parameters)
    start_time_us, end_time_us = time_range_us(parameters, _HOURS_MAXIMUM)
    from_order_id = optional_number(parameters, "orderId")
    limit = limit_of(parameters, _ORDERS_DEFAULT, _ORDERS_MAXIMUM)
    found = await request.context.history.read(
        lambda database: stored_orders.find_all(
            database,
            request.account_id,
            market.market_id,
            from_order_id=from_order_id,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit,
        )
    )
    return rendering.encode([rendering.queried(market, order, request.time_divisor) for order in found])


ROUTES: Final[list[BinanceRoute]] = [
    route("POST", "/api/v3/order", place_order, ORDER_PARAMETERS, permission="trade", begin=begin_placing_order),
    route("GET", "/api/v3/order", query_order, ("symbol", "orderId", "origClientOrderId"), permission="read"),
    route(
        "DELETE",
        "/api/v3/order",
        cancel_order,
        ("symbol", "orderId", "origClientOrderId", "newClientOrderId", "cancelRestrictions"),
        permission="trade",
        begin=begin_cancelling_order,
    ),
    route(
        "POST",
        "/api/v3/order/test",
        test_order,
        ORDER_PARAMETERS | {"computeCommissionRates"},
        permission="trade",
    ),
    route(
        "POST",
        "/api/v3/order/cancelReplace",
        cancel_replace_order,
        ORDER_PARAMETERS
        | {
            "cancelReplaceMode",
            "cancelNewClientOrderId",
            "cancelOrigClientOrderId",
            "cancelOrderId",
            "cancelRestrictions",
            "orderRateLimitExceededMode",
        },
        permission="trade",
    ),
    route(
        "PUT",
        "/api/v3/order/amend/keepPriority",
        amend_order,
        ("symbol", "orderId", "origClientOrderId", "newClientOrderId", "newQty"),
        permission="trade",
    ),
    route("GET", "/api/v3/openOrders", query_open_orders, ("symbol",), permission="read"),
    route("DELETE", "/api/v3/openOrders", cancel_open_orders, ("symbol",), permission="trade"),
    route(
        "GET",
        "/api/v3/allOrders",
        query_all_orders,
        ("symbol", "orderId", "startTime", "endTime", "limit"),
        permission="read",
    ),
]
