"""Describes markets and their filters as /api/v3/exchangeInfo does (Binance filters.md)."""

from __future__ import annotations

from typing import Final

from rtx.api.decimals import format_amount
from rtx.api.market_data.schemas import SymbolInformation
from rtx.api.markets import Market
from rtx.api.orders.rendering import SELF_TRADE_PREVENTIONS, TYPES
from rtx.core.vocabulary import MAXIMUM_AMOUNT, MarketStatus

STATUSES: Final = tuple(status.name for status in MarketStatus)
PERMISSION: Final = "SPOT"

_PPM_SCALE: Final = 6
_UNBOUNDED_MULTIPLIER_PPM: Final = 10**12

Filter = dict[str, str | int | bool]


def describe(market: Market, *, show_permission_sets: bool) -> SymbolInformation:
    """Give everything that a client has to know about a market before it trades there."""
    return SymbolInformation(
        symbol=market.symbol,
        status=STATUSES[market.status],
        base_asset=market.base.symbol,
        base_asset_precision=market.base.scale,
        quote_asset=market.quote.symbol,
        quote_precision=market.quote.scale,
        quote_asset_precision=market.quote.scale,
        base_commission_precision=market.base.scale,
        quote_commission_precision=market.quote.scale,
        order_types=TYPES,
        iceberg_allowed=False,
        oco_allowed=False,
        oto_allowed=False,
        opo_allowed=False,
        quote_order_qty_market_allowed=True,
        allow_trailing_stop=False,
        cancel_replace_allowed=True,
        amend_allowed=True,
        peg_instructions_allowed=False,
        is_spot_trading_allowed=True,
        is_margin_trading_allowed=False,
        filters=_filters(market),
        permissions=[],
        permission_sets=[[PERMISSION]] if show_permission_sets else [],
        default_self_trade_prevention_mode=SELF_TRADE_PREVENTIONS[0],
        allowed_self_trade_prevention_modes=SELF_TRADE_PREVENTIONS,
    )


def _filters(market: Market) -> list[Filter]:
    limits = market.filters
    maximum_quantity = market.quantity_text(limits.maximum_quantity or MAXIMUM_AMOUNT)
    filters: list[Filter] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": market.price_text(limits.minimum_price or 1),
            "maxPrice": market.price_text(limits.maximum_price or MAXIMUM_AMOUNT),
            "tickSize": market.price_text(1),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": market.quantity_text(limits.minimum_quantity or 1),
            "maxQty": maximum_quantity,
            "stepSize": market.quantity_text(1),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": market.quantity_text(limits.market_minimum_quantity),
            "maxQty": market.quantity_text(limits.market_maximum_quantity)
            if limits.market_maximum_quantity
            else maximum_quantity,
            "stepSize": market.quantity_text(0),
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": market.quote_text(limits.minimum_notional),
            "applyMinToMarket": limits.apply_minimum_to_market,
            "maxNotional": market.quote_text(limits.maximum_notional or MAXIMUM_AMOUNT),
            "applyMaxToMarket": limits.apply_maximum_to_market,
            "avgPriceMins": 0,
        },
    ]
    if limits.bid_multiplier_up or limits.bid_multiplier_down or limits.ask_multiplier_up or limits.ask_multiplier_down:
        filters.append(
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": _upper_multiplier(limits.bid_multiplier_up),
                "bidMultiplierDown": format_amount(limits.bid_multiplier_down, _PPM_SCALE),
                "askMultiplierUp": _upper_multiplier(limits.ask_multiplier_up),
                "askMultiplierDown": format_amount(limits.ask_multiplier_down, _PPM_SCALE),
                "avgPriceMins": 0,
            }
        )
    if limits.maximum_open_orders:
        filters.append({"filterType": "MAX_NUM_ORDERS", "maxNumOrders": limits.maximum_open_orders})
    return filters


def _upper_multiplier(multiplier_ppm: int) -> str:
    """Write an upper bound; Binance has no way to say "none", so none is a million times the price."""
    return format_amount(multiplier_ppm or _UNBOUNDED_MULTIPLIER_PPM, _PPM_SCALE)
