"""The market data objects of Binance's REST API, field for field."""

from __future__ import annotations

from msgspec import Struct


class PublicTrade(Struct, frozen=True, rename="camel", gc=False):
    """A trade as everybody may see it."""

    id: int
    price: str
    qty: str
    quote_qty: str
    time: int
    is_buyer_maker: bool
    is_best_match: bool


class AggregatedTrade(Struct, frozen=True, gc=False):
    """Trades of one taker at one price; Binance's names are single letters."""

    a: int
    p: str
    q: str
    f: int
    l: int  # noqa: E741 - the name is Binance's
    T: int
    m: bool
    M: bool


class AveragePrice(Struct, frozen=True, rename="camel", gc=False):
    """Volume-weighted average over the last minutes."""

    mins: int
    price: str
    close_time: int


class PriceTicker(Struct, frozen=True, gc=False):
    """The last price of a market."""

    symbol: str
    price: str


class BookTicker(Struct, frozen=True, rename="camel", gc=False):
    """The best level of each side; zeros where there is none."""

    symbol: str
    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str


class MiniTicker(Struct, frozen=True, rename="camel", gc=False):
    """Statistics of a day, type MINI."""

    symbol: str
    open_price: str
    high_price: str
    low_price: str
    last_price: str
    volume: str
    quote_volume: str
    open_time: int
    close_time: int
    first_id: int
    last_id: int
    count: int


class DayTicker(Struct, frozen=True, rename="camel", gc=False):
    """Statistics of a day, type FULL."""

    symbol: str
    price_change: str
    price_change_percent: str
    weighted_avg_price: str
    prev_close_price: str
    last_price: str
    last_qty: str
    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str
    open_price: str
    high_price: str
    low_price: str
    volume: str
    quote_volume: str
    open_time: int
    close_time: int
    first_id: int
    last_id: int
    count: int


class SymbolInformation(Struct, frozen=True, rename="camel", gc=False):
    """What a market trades, and its rules."""

    symbol: str
    status: str
    base_asset: str
    base_asset_precision: int
    quote_asset: str
    quote_precision: int
    quote_asset_precision: int
    base_commission_precision: int
    quote_commission_precision: int
    order_types: tuple[str, ...]
    iceberg_allowed: bool
    oco_allowed: bool
    oto_allowed: bool
    opo_allowed: bool
    quote_order_qty_market_allowed: bool
    allow_trailing_stop: bool
    cancel_replace_allowed: bool
    amend_allowed: bool
    peg_instructions_allowed: bool
    is_spot_trading_allowed: bool
    is_margin_trading_allowed: bool
    filters: list[dict[str, str | int | bool]]
    permissions: list[str]
    permission_sets: list[list[str]]
    default_self_trade_prevention_mode: str
    allowed_self_trade_prevention_modes: tuple[str, ...]


class ExchangeInformation(Struct, frozen=True, rename="camel", gc=False):
    """All markets."""

    timezone: str
    server_time: int
    rate_limits: list[dict[str, str | int]]
    exchange_filters: list[dict[str, str | int]]
    symbols: list[SymbolInformation]
