"""The statistics that streams show, as PostgreSQL has them.

They are read again and again, and may come from a replica: one that has every trade of which the stream heard.
"""

from __future__ import annotations

from collections.abc import Sequence

from rtx.api.history_reads import HistoryReads
from rtx.store import candles as stored_candles
from rtx.store import statistics as stored_statistics
from rtx.store import trades as stored_trades
from rtx.store.candles import Candle
from rtx.store.statistics import AveragePrice, MarketStatistics


class PostgresStatistics:
    """See :class:`rtx.api.streams.polled_streams.Statistics`."""

    def __init__(self, history: HistoryReads) -> None:
        """``history`` chooses the database."""
        self._history = history

    async def candles(
        self, market_id: int, interval: str, *, now_us: int, limit: int, offset_s: int
    ) -> Sequence[Candle]:
        """The newest candles, ascending."""
        return await self._history.read(
            lambda database: stored_candles.find(
                database, market_id, interval, now_us=now_us, limit=limit, offset_s=offset_s
            )
        )

    async def first_trade_id(self, market_id: int, since_us: int) -> int:
        """The first trade at or after a time."""
        return await self._history.read(lambda database: stored_trades.first_since(database, market_id, since_us))

    async def day(self, *, now_us: int, market_id: int | None) -> Sequence[MarketStatistics]:
        """The last 24 hours of one market or of all."""
        return await self._history.read(
            lambda database: stored_statistics.day(database, now_us=now_us, market_id=market_id)
        )

    async def average_price(self, market_id: int, *, now_us: int) -> AveragePrice:
        """The last minutes."""
        return await self._history.read(
            lambda database: stored_statistics.average_price(database, market_id, now_us=now_us)
        )
