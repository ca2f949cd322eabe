"""What a market did lately: the 24-hour ticker and the average price, from candles and never from a day of trades."""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec

from rtx.store.connection import Database

DAY_S: Final = 86400

AVERAGE_PRICE_MINUTES: Final = 5

_MICROSECONDS: Final = 1_000_000


class MarketStatistics(msgspec.Struct, frozen=True, gc=False):
    """A market's last 24 hours, to the minute at their beginning.

    Prices in ticks, volume in lots, quote volume in smallest quote units. When nothing traded, every price is the last
    one ever (0 before the first trade) and the trade ids are -1. ``previous_close`` is the last price before.
    """

    market_id: int
    open: int
    high: int
    low: int
    last: int
    last_quantity: int
    previous_close: int
    volume: int
    quote_volume: int
    trade_count: int
    first_trade_id: int
    last_trade_id: int
    open_time_us: int
    close_time_us: int


class AveragePrice(msgspec.Struct, frozen=True, gc=False):
    """What traded in the last minutes, in lots and smallest quote units; ``last_price`` in ticks (0: no trade ever)."""

    volume: int
    quote_volume: int
    last_price: int
    close_time_us: int


# $1: market or null, $2: the first minute, $3: the first whole hour. Minutes until then, hours from there.
_DAY: Final = """
    SELECT market.market_id, day.open, day.high, day.low, last.price, last.quantity, previous.price, day.volume,
        day.quote_volume, day.trade_count, day.first_trade_id, day.last_trade_id
    FROM markets AS market
    CROSS JOIN LATERAL (
        SELECT (array_agg(open ORDER BY open_time_s))[1] AS open, max(high) AS high, min(low) AS low,
            sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trade_count) AS trade_count,
            min(first_trade_id) AS first_trade_id, max(last_trade_id) AS last_trade_id
        FROM (
            SELECT * FROM candles WHERE market_id = market.market_id AND interval_s = 60
                AND open_time_s >= $2 AND open_time_s < $3
            UNION ALL
            SELECT * FROM candles WHERE market_id = market.market_id AND interval_s = 3600 AND open_time_s >= $3
        ) AS part
    ) AS day
    LEFT JOIN LATERAL (
        SELECT price, quantity FROM trades WHERE market_id = market.market_id ORDER BY trade_id DESC LIMIT 1
    ) AS last ON true
    LEFT JOIN trades AS previous
        ON previous.market_id = market.market_id AND previous.trade_id = day.first_trade_id - 1
    WHERE $1::integer IS NULL OR market.market_id = $1
    ORDER BY market.market_id
"""

_AVERAGE_PRICE: Final = """
    SELECT coalesce(sum(volume), 0), coalesce(sum(quote_volume), 0),
        coalesce((SELECT price FROM trades WHERE market_id = $1 ORDER BY trade_id DESC LIMIT 1), 0)
    FROM candles WHERE market_id = $1 AND interval_s = 60 AND open_time_s >= $2
"""


async def day(database: Database, *, now_us: int, market_id: int | None = None) -> list[MarketStatistics]:
    """Return the last 24 hours of one market or (None) of every market, by rising market id."""
    first_minute_s = _ceiling(now_us // _MICROSECONDS - DAY_S, 60)
    rows = await database.fetch(_DAY, market_id, first_minute_s, _ceiling(first_minute_s, 3600))
    return [_statistics(row, first_minute_s * _MICROSECONDS, now_us) for row in rows]


def _statistics(row: asyncpg.Record, open_time_us: int, close_time_us: int) -> MarketStatistics:
    market_id, opened, high, low, last, last_quantity, previous, *counted = row
    last = last or 0
    if opened is None:
        opened = high = low = previous = last
        counted = [0, 0, 0, -1, -1]
    elif previous is None:
        previous = opened
    volume, quote_volume, trade_count, first_trade_id, last_trade_id = map(int, counted)
    return MarketStatistics(
        market_id,
        opened,
        high,
        low,
        last,
        last_quantity or 0,
        previous,
        volume,
        quote_volume,
        trade_count,
        first_trade_id,
        last_trade_id,
        open_time_us,
        close_time_us,
    )


async def average_price(database: Database, market_id: int, *, now_us: int) -> AveragePrice:
    """Return what traded in the current minute and the four before it."""
    minute_s = now_us // _MICROSECONDS // 60 * 60
    row = await database.fetchrow(_AVERAGE_PRICE, market_id, minute_s - (AVERAGE_PRICE_MINUTES - 1) * 60)
    assert row is not None
    return AveragePrice(int(row[0]), int(row[1]), row[2], now_us)


def _ceiling(time_s: int, step_s: int) -> int:
    return -(-time_s // step_s) * step_s
