"""Assets, markets and fees, as operators set them up and change them."""

from __future__ import annotations

import re
from typing import Final

import structlog

from rtx.api.admin.commands import ALREADY_EXISTS, submit
from rtx.api.admin.market_definition import (
    FILTER_NAMES,
    Units,
    filters_view,
    read_filters,
    read_rate_ppm,
    read_units,
)
from rtx.api.auth.json_body import JsonObject, refuse
from rtx.api.context import ApiContext
from rtx.api.decimals import format_amount, format_rate_ppm
from rtx.api.errors import INVALID_PARAMETER, NOT_FOUND, ApiError, invalid_symbol
from rtx.core.commands import (
    CreateAsset,
    CreateMarket,
    SetAccountFeeTier,
    SetFeeTier,
    SetMarketFilters,
    SetMarketStatus,
)
from rtx.core.events import AssetCreated, MarketCreated
from rtx.core.vocabulary import MarketStatus
from rtx.store import users
from rtx.store.markets import Asset, Directory, Market, read_directory

ASSET_MEMBERS: Final = ("symbol", "precision")
MARKET_MEMBERS: Final = (
    "symbol",
    "baseAsset",
    "quoteAsset",
    "tickSize",
    "stepSize",
    "baseAssetPrecision",
    "quoteAssetPrecision",
    "status",
    *FILTER_NAMES,
)
STATUS_NAMES: Final = tuple(status.name for status in MarketStatus)

MAXIMUM_FEE_TIER: Final = 1000

_DEFAULT_PRECISION: Final = 8
_MAXIMUM_PRECISION: Final = 18
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,20}", re.ASCII)

_log = structlog.get_logger(__name__)


async def create_asset(context: ApiContext, body: JsonObject, request_id: str) -> dict[str, object]:
    """Introduce an asset; raises :class:`ApiError`, 409 when it exists."""
    symbol = _read_symbol(body, "symbol")
    asset = await _create_asset(context, symbol, body.integer("precision", 0, _MAXIMUM_PRECISION), request_id)
    await context.markets.read()
    return {"asset": asset.symbol, "precision": asset.scale}


async def create_market(context: ApiContext, body: JsonObject, request_id: str) -> dict[str, object]:
    """Open a market, with its assets where they do not exist yet; raises :class:`ApiError`, 409 when it exists.

    All that the body says is checked before the first asset is created.
    """
    directory = await read_directory(context.pool)
    symbol = _read_symbol(body, "symbol")
    base_symbol, quote_symbol = _read_symbol(body, "baseAsset"), _read_symbol(body, "quoteAsset")
    if base_symbol == quote_symbol:
        refuse("quoteAsset", "must be another asset than baseAsset")
    base_scale = _read_precision(body, "baseAssetPrecision", directory, base_symbol)
    quote_scale = _read_precision(body, "quoteAssetPrecision", directory, quote_symbol)
    units = read_units(body, base_scale, quote_scale)
    filters = read_filters(body, units)
    status = MarketStatus[body.optional("status", lambda name: body.choice(name, STATUS_NAMES), "TRADING")]
    if any(market.symbol == symbol for market in directory.markets):
        raise ApiError(ALREADY_EXISTS, f"The market {symbol} exists already.", 409, field="symbol")
    base_id = await _asset_id(context, directory, base_symbol, base_scale, request_id)
    quote_id = await _asset_id(context, directory, quote_symbol, quote_scale, request_id)
    command = CreateMarket(symbol, base_id, quote_id, units.tick_size, units.lot_size, filters, status.value)
    applied = await submit(context, command, request_id)
    await context.markets.read()
    _log.info("market_created", symbol=symbol, sequence=applied.sequence, request_id=request_id)
    [created] = [event for event in applied.events if isinstance(event, MarketCreated)]
    return await market_view(context, created.symbol)


async def list_markets(context: ApiContext) -> list[dict[str, object]]:
    """All markets with all their limits."""
    directory = await read_directory(context.pool)
    return [_view(market, directory) for market in directory.markets]


async def market_view(context: ApiContext, symbol: str) -> dict[str, object]:
    """One market with all its limits; raises :class:`ApiError` 404."""
    return _view(*await _find(context, symbol))


async def set_status(context: ApiContext, symbol: str, body: JsonObject, request_id: str) -> dict[str, object]:
    """Move a market to another status (or leave it where it is); raises :class:`ApiError`, 404 when unknown."""
    status = MarketStatus[body.choice("status", STATUS_NAMES)]
    market, _ = await _find(context, symbol)
    if market.status != status:
        applied = await submit(context, SetMarketStatus(market.market_id, status.value), request_id)
        _log.info(
            "market_status_changed",
            symbol=symbol,
            status=status.name,
            sequence=applied.sequence,
            request_id=request_id,
        )
        await context.markets.read()
    return await market_view(context, symbol)


async def set_filters(context: ApiContext, symbol: str, body: JsonObject, request_id: str) -> dict[str, object]:
    """Replace all limits of a market; raises :class:`ApiError`, 404 for an unknown market."""
    market, directory = await _find(context, symbol)
    filters = read_filters(body, _units(market, directory))
    applied = await submit(context, SetMarketFilters(market.market_id, filters), request_id)
    _log.info("market_filters_changed", symbol=symbol, sequence=applied.sequence, request_id=request_id)
    await context.markets.read()
    return await market_view(context, symbol)


async def set_fee_tier(context: ApiContext, tier: str, body: JsonObject, request_id: str) -> dict[str, object]:
    """Set the rates of a fee tier, which need not exist yet; raises :class:`ApiError`."""
    command = SetFeeTier(_read_tier(tier), read_rate_ppm(body, "makerRate"), read_rate_ppm(body, "takerRate"))
    applied = await submit(context, command, request_id)
    _log.info("fee_tier_set", tier=command.tier, sequence=applied.sequence, request_id=request_id)
    return {
        "tier": command.tier,
        "makerRate": format_rate_ppm(command.maker_rate_ppm),
        "takerRate": format_rate_ppm(command.taker_rate_ppm),
    }


async def set_user_fee_tier(context: ApiContext, user_id: str, body: JsonObject, request_id: str) -> dict[str, object]:
    """Put a user into a fee tier; raises :class:`ApiError`, 404 for an unknown user or tier."""
    tier = body.integer("tier", 0, MAXIMUM_FEE_TIER)
    is_number = user_id.isascii() and user_id.isdecimal() and len(user_id) <= 18
    if not is_number or await users.by_id(context.pool, int(user_id)) is None:
        raise ApiError(NOT_FOUND, "There is no such user.", 404, field="userId")
    applied = await submit(context, SetAccountFeeTier(int(user_id), tier), request_id)
    _log.info("user_fee_tier_set", user_id=int(user_id), tier=tier, sequence=applied.sequence, request_id=request_id)
    return {"userId": int(user_id), "tier": tier}


async def _create_asset(context: ApiContext, symbol: str, scale: int, request_id: str) -> Asset:
    applied = await submit(context, CreateAsset(symbol, scale), request_id)
    [created] = [event for event in applied.events if isinstance(event, AssetCreated)]
    _log.info("asset_created", symbol=symbol, precision=scale, sequence=applied.sequence, request_id=request_id)
    return Asset(created.asset_id, created.symbol, created.scale)


async def _asset_id(context: ApiContext, directory: Directory, symbol: str, scale: int, request_id: str) -> int:
    asset = _find_asset(directory, symbol) or await _create_asset(context, symbol, scale, request_id)
    return asset.asset_id


async def _find(context: ApiContext, symbol: str) -> tuple[Market, Directory]:
    directory = await read_directory(context.pool)
    for market in directory.markets:
        if market.symbol == symbol:
            return market, directory
    error = invalid_symbol()
    raise ApiError(error.code, error.message, 404, field="symbol")


def _find_asset(directory: Directory, symbol: str) -> Asset | None:
    return next((asset for asset in directory.assets if asset.symbol == symbol), None)


def _read_symbol(body: JsonObject, name: str) -> str:
    symbol = body.text(name, 100)
    if _SYMBOL.fullmatch(symbol) is None:
        refuse(name, "must be 1 to 20 of the characters A-Z and 0-9")
    return symbol


def _read_precision(body: JsonObject, name: str, directory: Directory, symbol: str) -> int:
    asset = _find_asset(directory, symbol)
    default = asset.scale if asset is not None else _DEFAULT_PRECISION
    scale = body.optional(name, lambda given: body.integer(given, 0, _MAXIMUM_PRECISION), default)
    if asset is not None and scale != asset.scale:
        refuse(name, f"must be {asset.scale}, the precision with which {symbol} exists")
    return scale


def _read_tier(tier: str) -> int:
    if not (tier.isascii() and tier.isdecimal() and len(tier) <= 4 and int(tier) <= MAXIMUM_FEE_TIER):
        text = f"The fee tier in the path must be a whole number from 0 to {MAXIMUM_FEE_TIER}."
        raise ApiError(INVALID_PARAMETER, text, field="tier")
    return int(tier)


def _units(market: Market, directory: Directory) -> Units:
    scales = {asset.asset_id: asset.scale for asset in directory.assets}
    return Units(market.tick_size, market.lot_size, scales[market.base_asset_id], scales[market.quote_asset_id])


def _view(market: Market, directory: Directory) -> dict[str, object]:
    units = _units(market, directory)
    symbols = {asset.asset_id: asset.symbol for asset in directory.assets}
    return {
        "symbol": market.symbol,
        "status": MarketStatus(market.status).name,
        "baseAsset": symbols[market.base_asset_id],
        "baseAssetPrecision": units.base_scale,
        "quoteAsset": symbols[market.quote_asset_id],
        "quoteAssetPrecision": units.quote_scale,
        "tickSize": format_amount(market.tick_size, units.quote_scale),
        "stepSize": format_amount(market.lot_size, units.base_scale),
        **filters_view(market.filters, units),
    }
