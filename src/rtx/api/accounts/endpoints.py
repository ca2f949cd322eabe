"""Account endpoints (Binance rest-api.md, "Account Endpoints") and the wallet reads that ccxt makes."""

from __future__ import annotations

from typing import Final

import msgspec

from rtx.api import errors
from rtx.api.accounts import commissions, service
from rtx.api.errors import ApiError
from rtx.api.parameters import (
    limit_of,
    market_named,
    market_of,
    optional_boolean,
    optional_number,
    optional_text,
    time_range_us,
)
from rtx.api.requests import BinanceRequest, BinanceRoute, route

_TRADES_DEFAULT: Final = 500
_TRADES_MAXIMUM: Final = 1000
_HOURS_MAXIMUM: Final = 24

_TRADE_FILTERS: Final = frozenset({"orderId", "startTime", "endTime", "fromId"})
_TRADE_FILTER_COMBINATIONS: Final = frozenset(
    frozenset(combination)
    for combination in (
        (),
        ("orderId",),
        ("startTime",),
        ("endTime",),
        ("fromId",),
        ("startTime", "endTime"),
        ("orderId", "fromId"),
    )
)
"""rest-api.md, "Account trade list", Notes."""

_encode = msgspec.json.Encoder().encode


async def account(request: BinanceRequest) -> bytes:
    """GET /api/v3/account."""
    omit_zero_balances = optional_boolean(request.parameters, "omitZeroBalances", default=False)
    return _encode(
        await service.information(
            request.context,
            request.account_id,
            omit_zero_balances=omit_zero_balances,
            time_divisor=request.time_divisor,
        )
    )


async def own_trades(request: BinanceRequest) -> bytes:
    """GET /api/v3/myTrades."""
    parameters = request.parameters
    market = await market_named(request.context.markets, parameters)
    start_time_us, end_time_us = time_range_us(parameters, _HOURS_MAXIMUM)
    order_id = optional_number(parameters, "orderId")
    from_id = optional_number(parameters, "fromId")
    if frozenset(_TRADE_FILTERS & parameters.keys()) not in _TRADE_FILTER_COMBINATIONS:
        raise ApiError(errors.OPTIONAL_PARAMS_BAD_COMBO, "Combination of optional parameters invalid.")
    return _encode(
        await service.trades(
            request.context,
            request.account_id,
            market,
            order_id=order_id,
            from_id=from_id,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit_of(parameters, _TRADES_DEFAULT, _TRADES_MAXIMUM),
            time_divisor=request.time_divisor,
        )
    )


async def account_commission(request: BinanceRequest) -> bytes:
    """GET /api/v3/account/commission."""
    market = await market_named(request.context.markets, request.parameters)
    return await commissions.rates_in_market(request.context, request.account_id, market)


async def order_rate_limits(_request: BinanceRequest) -> bytes:
    """GET /api/v3/rateLimit/order: there are no limits on unfilled orders, so there is nothing to list."""
    return b"[]"


async def trade_fees(request: BinanceRequest) -> bytes:
    """GET /sapi/v1/asset/tradeFee."""
    symbol = optional_text(request.parameters, "symbol")
    market = await market_of(request.context.markets, symbol) if symbol is not None else None
    return await commissions.trade_fees(request.context, request.account_id, market)


async def coins(request: BinanceRequest) -> bytes:
    """GET /sapi/v1/capital/config/getall."""
    return _encode(await service.coins(request.context, request.account_id))


async def margin_pairs(_request: BinanceRequest) -> bytes:
    """GET /sapi/v1/margin/allPairs and /sapi/v1/margin/isolated/allPairs: nothing is traded on margin.

    ccxt asks for both lists before it shows any market.
    """
    return b"[]"


ROUTES: Final[list[BinanceRoute]] = [
    route("GET", "/api/v3/account", account, ("omitZeroBalances",), permission="read"),
    route("GET", "/api/v3/myTrades", own_trades, _TRADE_FILTERS | {"symbol", "limit"}, permission="read"),
    route("GET", "/api/v3/account/commission", account_commission, ("symbol",), permission="read"),
    route("GET", "/api/v3/rateLimit/order", order_rate_limits, permission="read"),
    route("GET", "/sapi/v1/asset/tradeFee", trade_fees, ("symbol",), permission="read"),
    route("GET", "/sapi/v1/capital/config/getall", coins, permission="read"),
    route("GET", "/sapi/v1/margin/allPairs", margin_pairs, ("symbol",), permission="read"),
    route("GET", "/sapi/v1/margin/isolated/allPairs", margin_pairs, ("symbol",), permission="read"),
]
