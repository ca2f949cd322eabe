"""The payloads of the streams, member by member as in Binance's web-socket-streams.md.

Times are in the connection's unit (milliseconds, or microseconds where it asked for them). The event's type, where
there is one, comes first.
"""

from __future__ import annotations

import msgspec

Levels = list[tuple[str, str]]


class TradeMessage(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="trade",
    rename={
        "event_time": "E", "symbol": "s", "trade_id": "t", "price": "p", "quantity": "q",
        "trade_time": "T", "buyer_is_maker": "m", "ignored": "M",
    },
):  # fmt: skip
    """One trade."""

    event_time: int
    symbol: str
    trade_id: int
    price: str
    quantity: str
    trade_time: int
    buyer_is_maker: bool
    ignored: bool = True


class AggregateTradeMessage(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="aggTrade",
    rename={
        "event_time": "E", "symbol": "s", "aggregate_id": "a", "price": "p", "quantity": "q",
        "first_trade_id": "f", "last_trade_id": "l", "trade_time": "T", "buyer_is_maker": "m", "ignored": "M",
    },
):  # fmt: skip
    """What one order took at one price."""

    event_time: int
    symbol: str
    aggregate_id: int
    price: str
    quantity: str
    first_trade_id: int
    last_trade_id: int
    trade_time: int
    buyer_is_maker: bool
    ignored: bool = True


class BookTickerMessage(
    msgspec.Struct,
    gc=False,
    rename={
        "update_id": "u", "symbol": "s", "bid_price": "b", "bid_quantity": "B", "ask_price": "a", "ask_quantity": "A",
    },
):  # fmt: skip
    """The best level of each side."""

    update_id: int
    symbol: str
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str


class DepthMessage(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="depthUpdate",
    rename={
        "event_time": "E", "symbol": "s", "first_update_id": "U", "last_update_id": "u", "bids": "b",
        "asks": "a", "checksum": "crc",
    },
):  # fmt: skip
    """What changed in the book from one journal position to another."""

    event_time: int
    symbol: str
    first_update_id: int
    last_update_id: int
    bids: Levels
    asks: Levels
    checksum: int


class PartialDepthMessage(msgspec.Struct, gc=False, rename={"last_update_id": "lastUpdateId"}):
    """The best levels of the book."""

    last_update_id: int
    bids: Levels
    asks: Levels


class MiniTickerMessage(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="24hrMiniTicker",
    rename={
        "event_time": "E", "symbol": "s", "close": "c", "open": "o", "high": "h", "low": "l",
        "volume": "v", "quote_volume": "q",
    },
):  # fmt: skip
    """The last 24 hours, in short."""

    event_time: int
    symbol: str
    close: str
    open: str
    high: str
    low: str
    volume: str
    quote_volume: str


class TickerMessage(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="24hrTicker",
    rename={
        "event_time": "E", "symbol": "s", "price_change": "p", "price_change_percent": "P",
        "weighted_average_price": "w", "previous_close": "x", "close": "c", "last_quantity": "Q", "bid_price": "b",
        "bid_quantity": "B", "ask_price": "a", "ask_quantity": "A", "open": "o", "high": "h", "low": "l",
        "volume": "v", "quote_volume": "q", "open_time": "O", "close_time": "C", "first_trade_id": "F",
        "last_trade_id": "L", "trade_count": "n",
    },
):  # fmt: skip
    """The last 24 hours."""

    event_time: int
    symbol: str
    price_change: str
    price_change_percent: str
    weighted_average_price: str
    previous_close: str
    close: str
    last_quantity: str
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str
    open: str
    high: str
    low: str
    volume: str
    quote_volume: str
    open_time: int
    close_time: int
    first_trade_id: int
    last_trade_id: int
    trade_count: int


class AveragePriceMessage(
    msgspec.Struct,
    gc=False,
    tag_field="e",
    tag="avgPrice",
    rename={"event_time": "E", "symbol": "s", "interval": "i", "price": "w", "last_trade_time": "T"},
):
    """The average price of the last minutes."""

    event_time: int
    symbol: str
    interval: str
    price: str
    last_trade_time: int


class KlineBody(
    msgspec.Struct,
    gc=False,
    rename={
        "open_time": "t", "close_time": "T", "symbol": "s", "interval": "i", "first_trade_id": "f",
        "last_trade_id": "L", "open": "o", "close": "c", "high": "h", "low": "l", "volume": "v", "trade_count": "n",
        "is_closed": "x", "quote_volume": "q", "taker_buy_volume": "V", "taker_buy_quote_volume": "Q", "ignored": "B",
    },
):  # fmt: skip
    """One candle."""

    open_time: int
    close_time: int
    symbol: str
    interval: str
    first_trade_id: int
    last_trade_id: int
    open: str
    close: str
    high: str
    low: str
    volume: str
    trade_count: int
    is_closed: bool
    quote_volume: str
    taker_buy_volume: str
    taker_buy_quote_volume: str
    ignored: str = "0"


class KlineMessage(
    msgspec.Struct, gc=False, tag_field="e", tag="kline", rename={"event_time": "E", "symbol": "s", "kline": "k"}
):
    """A candle as it is now."""

    event_time: int
    symbol: str
    kline: KlineBody


class ServerShutdownMessage(msgspec.Struct, gc=False, tag_field="e", tag="serverShutdown", rename={"event_time": "E"}):
    """The server ends this connection; another one can be opened at once."""

    event_time: int
