"""Reads stream names: ``btcusdt@depth@100ms`` and its kin."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec

KLINE_INTERVALS: Final = frozenset(
    ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
)

_KLINE_OFFSETS_S: Final = {"": 0, "@+08:00": 8 * 3600}

_NAME: Final = re.compile(r"(?P<symbol>[^@!A-Z\s]{1,32})@(?P<channel>[A-Za-z]+)(?P<rest>.{0,32})")


class StreamKind(Enum):
    """What a stream carries."""

    TRADE = "trade"
    AGGREGATE_TRADE = "aggTrade"
    BOOK_TICKER = "bookTicker"
    DEPTH_DIFFERENCE = "depth"
    PARTIAL_DEPTH = "partialDepth"
    MINI_TICKER = "miniTicker"
    TICKER = "ticker"
    AVERAGE_PRICE = "avgPrice"
    KLINE = "kline"


class StreamName(msgspec.Struct, frozen=True):
    """A parsed name. ``symbol`` is upper case, "" for all markets; the other fields matter to their kinds alone."""

    text: str
    symbol: str
    kind: StreamKind
    interval_ms: int = 0
    levels: int = 0
    kline_interval: str = ""
    kline_offset_s: int = 0


def parse_stream_name(text: str) -> StreamName | None:
    """Read a name; None when no such stream exists. Whether the symbol exists is not looked at."""
    if text == "!miniTicker@arr":
        return StreamName(text, "", StreamKind.MINI_TICKER)
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    symbol, channel, rest = match["symbol"].upper(), match["channel"], match["rest"]
    if channel == "depth":
        return _parse_depth(text, symbol, rest)
    if channel == "kline":
        return _parse_kline(text, symbol, rest)
    if rest or channel not in _PLAIN_CHANNELS:
        return None
    return StreamName(text, symbol, _PLAIN_CHANNELS[channel])


_PLAIN_CHANNELS: Final = {
    kind.value: kind
    for kind in (
        StreamKind.TRADE,
        StreamKind.AGGREGATE_TRADE,
        StreamKind.BOOK_TICKER,
        StreamKind.MINI_TICKER,
        StreamKind.TICKER,
        StreamKind.AVERAGE_PRICE,
    )
}

_DEPTH_INTERVALS_MS: Final = {"": 1000, "@1000ms": 1000, "@100ms": 100}


def _parse_depth(text: str, symbol: str, rest: str) -> StreamName | None:
    levels, at, speed = rest.partition("@")
    interval_ms = _DEPTH_INTERVALS_MS.get(at + speed)
    if interval_ms is None:
        return None
    if not levels:
        return StreamName(text, symbol, StreamKind.DEPTH_DIFFERENCE, interval_ms)
    if levels not in {"5", "10", "20"}:
        return None
    return StreamName(text, symbol, StreamKind.PARTIAL_DEPTH, interval_ms, int(levels))


def _parse_kline(text: str, symbol: str, rest: str) -> StreamName | None:
    interval, at, offset = rest.removeprefix("_").partition("@")
    offset_s = _KLINE_OFFSETS_S.get(at + offset)
    if not rest.startswith("_") or interval not in KLINE_INTERVALS or offset_s is None:
        return None
    return StreamName(text, symbol, StreamKind.KLINE, kline_interval=interval, kline_offset_s=offset_s)
