"""The statistics that streams show, as PostgreSQL has them."""

from __future__ import annotations

from collections.abc import Sequence

from rtx.store import candles as stored_candles
from rtx.store import statistics as stored_statistics
from rtx.store import trades as stored_trades
from rtx.store.candles import Candle
from rtx.store.connection import Pool
from rtx.store.statistics import AveragePrice, MarketStatistics


class PostgresStatistics:
    """See :class:`rtx.api.streams.polled_streams.Statistics`."""

    def __init__(self, pool: Pool) -> None:
        """``pool`` stays the caller's."""
        self._pool = pool

    async def candles(
        self, market_id: int, interval: str, *, now_us: int, limit: int, offset_s: int
    ) -> Sequence[Candle]:
        """The newest candles, ascending."""
        return await stored_candles.find(self._pool, market_id, interval, now_us=now_us, limit=limit, offset_s=offset_s)

    async def first_trade_id(self, market_id: int, since_us: int) -> int:
        """The first trade at or after a time."""
        return await stored_trades.first_since(self._pool, market_id, since_us)

    async def day(self, *, now_us: int, market_id: int | None) -> Sequence[MarketStatistics]:
        """The last 24 hours of one market or of all."""
        return await stored_statistics.day(self._pool, now_us=now_us, market_id=market_id)

    async def average_price(self, market_id: int, *, now_us: int) -> AveragePrice:
        """The last minutes."""
        return await stored_statistics.average_price(self._pool, market_id, now_us=now_us)
