"""Candles of every interval, made from those of a minute, an hour and a day that the commit writes.

The window is worked out here: which candles are wanted is known before the database is asked, so it only sums up what
falls into each, and the ones in which nothing traded are filled in flat.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Final

import asyncpg
import msgspec

from rtx.store import trades
from rtx.store.connection import Database

_LENGTHS_S: Final = {
    "1s": 1,
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14400,
    "6h": 21600,
    "8h": 28800,
    "12h": 43200,
    "1d": 86400,
    "3d": 259200,
    "1w": 604800,
    "1M": 0,  # a calendar month has no fixed length
}

INTERVALS: Final = frozenset(_LENGTHS_S)
"""The intervals of the Binance Spot API, as it spells them."""

_WRITTEN_LENGTHS_S: Final = (86400, 3600, 60)

_FIRST_MONDAY_S: Final = 4 * 86400
"""Weeks begin on Mondays, and 1970-01-01 was a Thursday."""

_MICROSECONDS: Final = 1_000_000


class Candle(msgspec.Struct, frozen=True, gc=False):
    """Prices in ticks, volumes in lots, quote volumes in smallest quote units; ``end_time_s`` is exclusive."""

    open_time_s: int
    end_time_s: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trade_count: int
    taker_buy_volume: int
    taker_buy_quote_volume: int


_FIRST_TRADE_TIME: Final = "SELECT time_us FROM trades WHERE market_id = $1 ORDER BY trade_id LIMIT 1"

# $3: where each candle opens and, last, where the last one ends.
_FROM_CANDLES: Final = """
    SELECT width_bucket(open_time_s, $3::bigint[]) AS number,
        (array_agg(open ORDER BY open_time_s))[1], max(high), min(low), (array_agg(close ORDER BY open_time_s DESC))[1],
        sum(volume), sum(quote_volume), sum(trade_count), sum(taker_buy_volume), sum(taker_buy_quote_volume)
    FROM candles
    WHERE market_id = $1 AND interval_s = $2 AND open_time_s >= ($3::bigint[])[1]
        AND open_time_s < ($3::bigint[])[cardinality($3::bigint[])]
    GROUP BY number ORDER BY number
"""

_FROM_TRADES: Final = """
    SELECT width_bucket(time_us / 1000000, $4::bigint[]) AS number,
        (array_agg(price ORDER BY trade_id))[1], max(price), min(price), (array_agg(price ORDER BY trade_id DESC))[1],
        sum(quantity), sum(quote_quantity), count(*), coalesce(sum(quantity) FILTER (WHERE taker_side = 0), 0),
        coalesce(sum(quote_quantity) FILTER (WHERE taker_side = 0), 0)
    FROM trades WHERE market_id = $1 AND trade_id >= $2 AND trade_id < $3
    GROUP BY number ORDER BY number
"""

_PRICE_BEFORE_ID: Final = """
    SELECT price FROM trades WHERE market_id = $1 AND trade_id < $2 ORDER BY trade_id DESC LIMIT 1
"""

_CLOSE_BEFORE: Final = """
    SELECT close FROM candles WHERE market_id = $1 AND interval_s = 60 AND open_time_s < $2
    ORDER BY open_time_s DESC LIMIT 1
"""


async def find(
    database: Database,
    market_id: int,
    interval: str,
    *,
    now_us: int,
    start_time_us: int | None = None,
    end_time_us: int | None = None,
    limit: int = 500,
    offset_s: int = 0,
) -> list[Candle]:
    """Return the candles that open in the given time (both ends inclusive), oldest first.

    With ``start_time_us`` the first ``limit`` from there, else the newest. None ends before the market's first trade or
    opens after ``now_us``; where nothing traded a candle is flat at the price before. Days, weeks and months begin at
    midnight ``offset_s`` seconds east of UTC (whole minutes). Raises ``KeyError`` for an interval that is none.
    """
    length_s = _LENGTHS_S[interval]
    first_trade_time_us = await database.fetchval(_FIRST_TRADE_TIME, market_id)
    if first_trade_time_us is None:
        return []
    last_s = (now_us if end_time_us is None else min(end_time_us, now_us)) // _MICROSECONDS
    earliest_s = _open_time(first_trade_time_us // _MICROSECONDS, length_s, offset_s)
    if start_time_us is None:
        opens = _opens_until(last_s, earliest_s, length_s, offset_s, limit)
    else:
        opens = _opens_from(max(earliest_s, -(-start_time_us // _MICROSECONDS)), last_s, length_s, offset_s, limit)
    if not opens:
        return []
    opens.append(_next_open_time(opens[-1], length_s, offset_s))
    if length_s == 1:
        return await _from_trades(database, market_id, opens)
    return await _from_candles(database, market_id, opens, _written_length_s(length_s, offset_s))


async def _from_candles(database: Database, market_id: int, opens: list[int], written_length_s: int) -> list[Candle]:
    rows = await database.fetch(_FROM_CANDLES, market_id, written_length_s, opens)
    previous_close = None
    if not rows or rows[0]["number"] > 1:
        previous_close = await database.fetchval(_CLOSE_BEFORE, market_id, opens[0])
    return _fill(opens, rows, previous_close)


async def _from_trades(database: Database, market_id: int, opens: list[int]) -> list[Candle]:
    first = await trades.first_since(database, market_id, opens[0] * _MICROSECONDS)
    end = await trades.first_since(database, market_id, opens[-1] * _MICROSECONDS)
    rows = await database.fetch(_FROM_TRADES, market_id, first, end, opens)
    return _fill(opens, rows, await database.fetchval(_PRICE_BEFORE_ID, market_id, first))


def _fill(opens: list[int], rows: list[asyncpg.Record], previous_close: int | None) -> list[Candle]:
    """Return a candle for each open time; leading ones without a price before them are left out."""
    traded = {row[0]: row for row in rows}
    close = previous_close
    candles = []
    for number, (open_time_s, end_time_s) in enumerate(pairwise(opens), start=1):
        row = traded.get(number)
        if row is not None:
            candles.append(Candle(open_time_s, end_time_s, *map(int, row[1:])))
            close = row[4]
        elif close is not None:
            candles.append(Candle(open_time_s, end_time_s, close, close, close, close, 0, 0, 0, 0, 0))
    return candles


def _written_length_s(length_s: int, offset_s: int) -> int:
    """Return the longest written interval whose candles never straddle two of the wanted ones."""
    for written_s in _WRITTEN_LENGTHS_S:
        if length_s % written_s == 0 and offset_s % written_s == 0:
            return written_s
    raise ValueError(f"offset_s must be whole minutes, not {offset_s}")


def _opens_until(last_s: int, earliest_s: int, length_s: int, offset_s: int, limit: int) -> list[int]:
    opens: list[int] = []
    open_s = _open_time(last_s, length_s, offset_s)
    while open_s >= earliest_s and len(opens) < limit:
        opens.append(open_s)
        open_s = _open_time(open_s - 1, length_s, offset_s)
    opens.reverse()
    return opens


def _opens_from(start_s: int, last_s: int, length_s: int, offset_s: int, limit: int) -> list[int]:
    opens: list[int] = []
    open_s = _open_time(start_s, length_s, offset_s)
    if open_s < start_s:
        open_s = _next_open_time(open_s, length_s, offset_s)
    while open_s <= last_s and len(opens) < limit:
        opens.append(open_s)
        open_s = _next_open_time(open_s, length_s, offset_s)
    return opens


def _open_time(time_s: int, length_s: int, offset_s: int) -> int:
    """Return when the candle that ``time_s`` falls into opens."""
    if length_s == 0:
        local = datetime.fromtimestamp(time_s, timezone(timedelta(seconds=offset_s)))
        return int(local.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())
    origin_s = (_FIRST_MONDAY_S if length_s == _LENGTHS_S["1w"] else 0) - offset_s
    return (time_s - origin_s) // length_s * length_s + origin_s


def _next_open_time(open_s: int, length_s: int, offset_s: int) -> int:
    """Return when the candle after the one that opens at ``open_s`` opens; no month has more than 31 days."""
    if length_s == 0:
        return _open_time(open_s + 31 * 86400 + 86400 // 2, 0, offset_s)
    return open_s + length_s
