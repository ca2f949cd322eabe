"""General and market data endpoints (Binance rest-api.md, "General endpoints" and "Market Data endpoints")."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from rtx.api import errors
from rtx.api.errors import ApiError
from rtx.api.market_data import service
from rtx.api.market_data.exchange_information import PERMISSION, STATUSES, describe
from rtx.api.market_data.schemas import ExchangeInformation, SymbolInformation
from rtx.api.markets import Market
from rtx.api.parameters import (
    limit_of,
    mandatory_text,
    market_named,
    market_of,
    optional_boolean,
    optional_number,
    optional_symbols,
    optional_text,
    time_range_us,
)
from rtx.api.requests import BinanceRequest, BinanceRoute, route
from rtx.store import candles as stored_candles
from rtx.store import trades as stored_trades

_DEPTH_DEFAULT: Final = 100
_DEPTH_MAXIMUM: Final = 5000
_ROWS_DEFAULT: Final = 500
_ROWS_MAXIMUM: Final = 1000

_is_time_zone = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-9]{2}))?", re.ASCII).fullmatch
_TIME_ZONE_S_MIN: Final = -12 * 3600
_TIME_ZONE_S_MAX: Final = 14 * 3600

Ticker = TypeVar("Ticker")

_encode = msgspec.json.Encoder().encode


async def ping(_request: BinanceRequest) -> bytes:
    """GET /api/v3/ping."""
    return b"{}"


async def server_time(request: BinanceRequest) -> bytes:
    """GET /api/v3/time."""
    return b'{"serverTime":%d}' % (request.context.clock_us() // request.time_divisor)


async def exchange_information(request: BinanceRequest) -> bytes:
    """GET /api/v3/exchangeInfo."""
    parameters = request.parameters
    # A status or a limit that an operator was told of shows here at once.
    await request.context.markets.read()
    markets = await _chosen_markets(request, exclusive=("permissions", "symbolStatus"))
    permissions = _permissions(parameters)
    if permissions is not None and PERMISSION not in permissions:
        markets = []
    show_permission_sets = optional_boolean(parameters, "showPermissionSets", default=True)
    return _exchange_information(request, _described(markets, show_permission_sets=show_permission_sets))


async def contract_information(request: BinanceRequest) -> bytes:
    """GET /fapi/v1/exchangeInfo and GET /dapi/v1/exchangeInfo: no futures are traded here.

    ccxt asks both before it shows any market, unless it is told that there is only spot.
    """
    return _exchange_information(request, [])


def _exchange_information(request: BinanceRequest, symbols: list[SymbolInformation]) -> bytes:
    return _encode(
        ExchangeInformation(
            timezone="UTC",
            server_time=request.context.clock_us() // request.time_divisor,
            rate_limits=[],
            exchange_filters=[],
            symbols=symbols,
        )
    )


def _described(markets: Sequence[Market], *, show_permission_sets: bool) -> list[SymbolInformation]:
    return [describe(market, show_permission_sets=show_permission_sets) for market in markets]


async def depth(request: BinanceRequest) -> bytes:
    """GET /api/v3/depth."""
    market = await market_named(request.context.markets, request.parameters)
    limit = limit_of(request.parameters, _DEPTH_DEFAULT, _DEPTH_MAXIMUM)
    status = _status(request)
    if status is not None and market.status != status:
        raise _status_differs()
    return await service.depth(request.context, market, limit)


async def trades(request: BinanceRequest) -> bytes:
    """GET /api/v3/trades."""
    market = await market_named(request.context.markets, request.parameters)
    limit = limit_of(request.parameters, _ROWS_DEFAULT, _ROWS_MAXIMUM)
    found = await request.context.history.read(lambda database: stored_trades.recent(database, market.market_id, limit))
    return _encode(service.public_trades(market, found, request.time_divisor))


async def historical_trades(request: BinanceRequest) -> bytes:
    """GET /api/v3/historicalTrades."""
    market = await market_named(request.context.markets, request.parameters)
    limit = limit_of(request.parameters, _ROWS_DEFAULT, _ROWS_MAXIMUM)
    from_id = optional_number(request.parameters, "fromId")
    found = await request.context.history.read(
        lambda database: (
            stored_trades.recent(database, market.market_id, limit)
            if from_id is None
            else stored_trades.from_id(database, market.market_id, from_id, limit)
        )
    )
    return _encode(service.public_trades(market, found, request.time_divisor))


async def aggregated_trades(request: BinanceRequest) -> bytes:
    """GET /api/v3/aggTrades."""
    parameters = request.parameters
    market = await market_named(request.context.markets, parameters)
    start_time_us, end_time_us = time_range_us(parameters)
    from_id = optional_number(parameters, "fromId")
    if from_id is not None and (start_time_us is not None or end_time_us is not None):
        raise _bad_combination()
    return _encode(
        await service.aggregated_trades(
            request.context,
            market,
            from_id=from_id,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit_of(parameters, _ROWS_DEFAULT, _ROWS_MAXIMUM),
            time_divisor=request.time_divisor,
        )
    )


async def candles(request: BinanceRequest) -> bytes:
    """GET /api/v3/klines and GET /api/v3/uiKlines."""
    parameters = request.parameters
    market = await market_named(request.context.markets, parameters)
    interval = mandatory_text(parameters, "interval")
    if interval not in stored_candles.INTERVALS:
        raise ApiError(errors.BAD_INTERVAL, "Invalid interval.")
    start_time_us, end_time_us = time_range_us(parameters)
    return _encode(
        await service.candles(
            request.context,
            market,
            interval,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit_of(parameters, _ROWS_DEFAULT, _ROWS_MAXIMUM),
            offset_s=_time_zone_s(optional_text(parameters, "timeZone")),
            time_divisor=request.time_divisor,
        )
    )


async def average_price(request: BinanceRequest) -> bytes:
    """GET /api/v3/avgPrice."""
    market = await market_named(request.context.markets, request.parameters)
    return _encode(await service.average_price(request.context, market, request.time_divisor))


async def day_ticker(request: BinanceRequest) -> bytes:
    """GET /api/v3/ticker/24hr."""
    kind = optional_text(request.parameters, "type") or "FULL"
    if kind == "FULL":
        return await _tickers(
            request, lambda markets: service.day_tickers(request.context, markets, request.time_divisor)
        )
    if kind == "MINI":
        return await _tickers(
            request, lambda markets: service.mini_tickers(request.context, markets, request.time_divisor)
        )
    raise ApiError(errors.INVALID_TICKER_TYPE, "Invalid ticker type.")


async def price_ticker(request: BinanceRequest) -> bytes:
    """GET /api/v3/ticker/price."""
    return await _tickers(request, lambda markets: service.price_tickers(request.context, markets))


async def book_ticker(request: BinanceRequest) -> bytes:
    """GET /api/v3/ticker/bookTicker."""
    return await _tickers(request, lambda markets: service.book_tickers(request.context, markets))


async def _tickers(request: BinanceRequest, make: Callable[[Sequence[Market]], Awaitable[Sequence[Ticker]]]) -> bytes:
    """Encode one ticker when ``symbol`` was given, else a list."""
    markets = await _chosen_markets(request)
    tickers = await make(markets) if markets else []
    if "symbol" in request.parameters:
        return _encode(tickers[0])
    return _encode(tickers)


async def _chosen_markets(request: BinanceRequest, exclusive: Sequence[str] = ()) -> list[Market]:
    """Give the markets of ``symbol`` or ``symbols``, or else all, as far as they have the ``symbolStatus``.

    ``exclusive`` names parameters that do not go together with ``symbol`` and ``symbols``.
    """
    parameters = request.parameters
    directory = request.context.markets
    status = _status(request)
    symbol = optional_text(parameters, "symbol")
    symbols = optional_symbols(parameters)
    if symbol is not None and symbols is not None:
        raise _bad_combination()
    if (symbol is not None or symbols is not None) and not parameters.keys().isdisjoint(exclusive):
        raise _bad_combination()
    if symbol is not None:
        market = await market_of(directory, symbol)
        if status is not None and market.status != status:
            raise _status_differs()
        return [market]
    if symbols is not None:
        markets = [await market_of(directory, listed) for listed in symbols]
    else:
        await directory.read()
        markets = list(directory.by_id.values())
    return [market for market in markets if status is None or market.status == status]


def _status(request: BinanceRequest) -> int | None:
    name = optional_text(request.parameters, "symbolStatus")
    if name is None:
        return None
    if name not in STATUSES:
        raise ApiError(errors.INVALID_SYMBOL_STATUS, "Invalid symbolStatus.")
    return STATUSES.index(name)


def _permissions(parameters: dict[str, str]) -> list[str] | None:
    text = optional_text(parameters, "permissions")
    if text is None:
        return None
    if not text.startswith("["):
        return [text]
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError as error:
        raise errors.illegal_characters("permissions", r'^\["[A-Z0-9_]+"(,"[A-Z0-9_]+")*\]$') from error


def _time_zone_s(text: str | None) -> int:
    """Read a time zone such as ``8``, ``-1:00`` or ``05:45`` as seconds east of UTC."""
    if text is None:
        return 0
    match = _is_time_zone(text)
    if match is None:
        raise errors.invalid_parameter("timeZone")
    sign, hours, minutes = match.groups()
    if minutes is not None and int(minutes) > 59:
        raise errors.invalid_parameter("timeZone")
    offset_s = int(hours) * 3600 + int(minutes or 0) * 60
    offset_s = -offset_s if sign == "-" else offset_s
    if not _TIME_ZONE_S_MIN <= offset_s <= _TIME_ZONE_S_MAX:
        raise errors.invalid_parameter("timeZone")
    return offset_s


def _bad_combination() -> ApiError:
    return ApiError(errors.OPTIONAL_PARAMS_BAD_COMBO, "Combination of optional parameters invalid.")


def _status_differs() -> ApiError:
    return ApiError(
        errors.SYMBOL_DOES_NOT_MATCH_STATUS, "The symbol's status does not match the requested symbolStatus."
    )


_CANDLE_PARAMETERS: Final = ("symbol", "interval", "startTime", "endTime", "timeZone", "limit")
_TICKER_PARAMETERS: Final = ("symbol", "symbols", "symbolStatus")

ROUTES: Final[list[BinanceRoute]] = [
    route("GET", "/api/v3/ping", ping),
    route("GET", "/api/v3/time", server_time),
    route(
        "GET",
        "/api/v3/exchangeInfo",
        exchange_information,
        (*_TICKER_PARAMETERS, "permissions", "showPermissionSets"),
    ),
    route("GET", "/fapi/v1/exchangeInfo", contract_information),
    route("GET", "/dapi/v1/exchangeInfo", contract_information),
    route("GET", "/api/v3/depth", depth, ("symbol", "limit", "symbolStatus")),
    route("GET", "/api/v3/trades", trades, ("symbol", "limit")),
    route("GET", "/api/v3/historicalTrades", historical_trades, ("symbol", "limit", "fromId")),
    route("GET", "/api/v3/aggTrades", aggregated_trades, ("symbol", "fromId", "startTime", "endTime", "limit")),
    route("GET", "/api/v3/klines", candles, _CANDLE_PARAMETERS),
    route("GET", "/api/v3/uiKlines", candles, _CANDLE_PARAMETERS),
    route("GET", "/api/v3/avgPrice", average_price, ("symbol",)),
    route("GET", "/api/v3/ticker/24hr", day_ticker, (*_TICKER_PARAMETERS, "type")),
    route("GET", "/api/v3/ticker/price", price_ticker, _TICKER_PARAMETERS),
    route("GET", "/api/v3/ticker/bookTicker", book_ticker, _TICKER_PARAMETERS),
]
