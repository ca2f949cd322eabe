"""Streams that show statistics: candles, 24-hour tickers, average prices.

They are read from PostgreSQL at their pace, and only when there were trades: so they say what the REST endpoints say,
cost nothing per trade, and need nothing brought back after an interruption.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import structlog

from rtx.api.market_data.service import AVERAGE_PRICE_MINUTES, average_price_text, percent_text
from rtx.api.markets import Market
from rtx.api.streams.market_view import MarketView
from rtx.api.streams.messages import AveragePriceMessage, KlineBody, KlineMessage, MiniTickerMessage, TickerMessage
from rtx.api.streams.stream import TICK_MS, Stream, Subscriber

if TYPE_CHECKING:
    from rtx.store.candles import Candle
    from rtx.store.statistics import AveragePrice, MarketStatistics

_SECOND_TICKS: Final = 1000 // TICK_MS
_KLINE_TICKS: Final = 2000 // TICK_MS
_MICROSECONDS: Final = 1_000_000

CLOSING_DELAY_US: Final = 500_000
"""How long after its end a candle is told as closed: a trade of its last moment may still be being committed."""

_log = structlog.get_logger("rtx.api.streams.polled_streams")


class Statistics(Protocol):
    """What is read; see the functions of the same names in :mod:`rtx.store`."""

    async def candles(
        self, market_id: int, interval: str, *, now_us: int, limit: int, offset_s: int
    ) -> Sequence[Candle]:
        """The newest candles, ascending."""
        ...

    async def first_trade_id(self, market_id: int, since_us: int) -> int:
        """The first trade at or after a time."""
        ...

    async def day(self, *, now_us: int, market_id: int | None) -> Sequence[MarketStatistics]:
        """The last 24 hours of one market or of all."""
        ...

    async def average_price(self, market_id: int, *, now_us: int) -> AveragePrice:
        """The last minutes."""
        ...


class Polling:
    """Where the streams read from, and the tasks in which they do."""

    def __init__(self, statistics: Statistics) -> None:
        """Start with no task."""
        self.statistics = statistics
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, stream: PolledStream, now_us: int) -> asyncio.Task[None]:
        """Have a stream read."""
        task = asyncio.create_task(stream.refresh(now_us))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self) -> None:
        """Wait until nothing is being read."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))


class PolledStream(Stream):
    """Reads again when something may be new, one reading at a time; a newcomer gets what was told last."""

    period_ticks = _SECOND_TICKS

    def __init__(self, name: str, time_divisor: int, polling: Polling) -> None:
        """Start with nothing told."""
        super().__init__(name, time_divisor)
        self._polling = polling
        self._statistics = polling.statistics
        self._reading: asyncio.Task[None] | None = None
        self._last_message: msgspec.Struct | list[msgspec.Struct] | None = None

    def attach(self) -> None:
        self._last_message = None

    def detach(self) -> None:
        if self._reading is not None:
            self._reading.cancel()

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        if self._last_message is not None:
            self._send([subscriber], self._last_message)

    def tick(self, now_us: int) -> None:
        if (self._reading is None or self._reading.done()) and (self._last_message is None or self._is_due(now_us)):
            self._reading = self._polling.start(self, now_us)

    async def refresh(self, now_us: int) -> None:
        """Read and tell; a failure is tried again at the next tick."""
        try:
            await self._read(now_us)
        except Exception as error:  # noqa: BLE001 - the database comes back, and the stream must be there then
            _log.warning("stream.not_read", stream=self.name, error=repr(error))

    def _tell(self, message: msgspec.Struct | list[msgspec.Struct]) -> None:
        self._last_message = message
        self._publish(message)

    @abstractmethod
    def _is_due(self, now_us: int) -> bool:
        """Whether something may be new."""

    @abstractmethod
    async def _read(self, now_us: int) -> None:
        """Read and tell."""


class PolledMarketStream(PolledStream):
    """Statistics of one market."""

    def __init__(self, name: str, time_divisor: int, view: MarketView, polling: Polling) -> None:
        """Start with nothing read."""
        super().__init__(name, time_divisor, polling)
        self._view = view
        self._market = view.market
        self._read_trade_id: int | None = None

    def _is_due(self, now_us: int) -> bool:
        return self._view.last_trade_id != self._read_trade_id

    async def _read(self, now_us: int) -> None:
        trade_id = self._view.last_trade_id
        await self._read_market(now_us)
        self._read_trade_id = trade_id

    @abstractmethod
    async def _read_market(self, now_us: int) -> None:
        """Read and tell."""


class KlineStream(PolledMarketStream):
    """``<symbol>@kline_<interval>``: the candle that is open, and each once more when it is closed."""

    def __init__(
        self, name: str, time_divisor: int, view: MarketView, polling: Polling, interval: str, offset_s: int
    ) -> None:
        """``offset_s``: how far east of UTC the intervals begin."""
        super().__init__(name, time_divisor, view, polling)
        self.period_ticks = _SECOND_TICKS if interval == "1s" else _KLINE_TICKS
        self._interval = interval
        self._offset_s = offset_s
        self._open: Candle | None = None
        self._first_trade: tuple[int, int] | None = None

    def attach(self) -> None:
        super().attach()
        self._open = None
        self._first_trade = None

    def _is_due(self, now_us: int) -> bool:
        return super()._is_due(now_us) or (self._open is not None and self._is_over(self._open, now_us))

    async def _read_market(self, now_us: int) -> None:
        before = self._open
        if before is not None and not self._is_over(before, now_us):
            # just behind the end: the candle is still the one to show
            now_us = min(now_us, before.end_time_s * _MICROSECONDS - 1)
        candles = await self._statistics.candles(
            self._view.market.market_id, self._interval, now_us=now_us, limit=2, offset_s=self._offset_s
        )
        for candle in candles[:-1]:
            if before is not None and candle.open_time_s == before.open_time_s:
                self._tell(await self._message(candle, now_us, is_closed=True))
        if candles:
            self._open = candles[-1]
            self._tell(await self._message(candles[-1], now_us, is_closed=False))

    def _is_over(self, candle: Candle, now_us: int) -> bool:
        return now_us >= candle.end_time_s * _MICROSECONDS + CLOSING_DELAY_US

    async def _first_trade_id(self, candle: Candle) -> int:
        """Number of a candle's first trade; a market's trades are numbered without holes, so it gives the last one."""
        if self._first_trade is None or self._first_trade[0] != candle.open_time_s:
            since_us = candle.open_time_s * _MICROSECONDS
            trade_id = await self._statistics.first_trade_id(self._market.market_id, since_us)
            self._first_trade = candle.open_time_s, trade_id
        return self._first_trade[1]

    async def _message(self, candle: Candle, now_us: int, *, is_closed: bool) -> KlineMessage:
        market, divisor = self._market, self.time_divisor
        first_trade_id = await self._first_trade_id(candle) if candle.trade_count else -1
        return KlineMessage(
            event_time=now_us // divisor,
            symbol=market.symbol,
            kline=KlineBody(
                open_time=candle.open_time_s * _MICROSECONDS // divisor,
                close_time=candle.end_time_s * _MICROSECONDS // divisor - 1,
                symbol=market.symbol,
                interval=self._interval,
                first_trade_id=first_trade_id,
                last_trade_id=first_trade_id + candle.trade_count - 1 if candle.trade_count else -1,
                open=market.price_text(candle.open),
                close=market.price_text(candle.close),
                high=market.price_text(candle.high),
                low=market.price_text(candle.low),
                volume=market.quantity_text(candle.volume),
                trade_count=candle.trade_count,
                is_closed=is_closed,
                quote_volume=market.quote_text(candle.quote_volume),
                taker_buy_volume=market.quantity_text(candle.taker_buy_volume),
                taker_buy_quote_volume=market.quote_text(candle.taker_buy_quote_volume),
            ),
        )


class MiniTickerStream(PolledMarketStream):
    """``<symbol>@miniTicker``: the last 24 hours in short, when there were trades."""

    async def _read_market(self, now_us: int) -> None:
        for row in await self._statistics.day(now_us=now_us, market_id=self._market.market_id):
            self._tell(mini_ticker(self._market, row, now_us, self.time_divisor))


class TickerStream(PolledMarketStream):
    """``<symbol>@ticker``: the last 24 hours, when there were trades."""

    async def _read_market(self, now_us: int) -> None:
        for row in await self._statistics.day(now_us=now_us, market_id=self._market.market_id):
            self._tell(self._message(row, now_us))

    def _message(self, row: MarketStatistics, now_us: int) -> TickerMessage:
        market, book, divisor = self._market, self._view.book, self.time_divisor
        bid_price, bid_quantity = book.bids.best()
        ask_price, ask_quantity = book.asks.best()
        change = row.last - row.open
        return TickerMessage(
            event_time=now_us // divisor,
            symbol=market.symbol,
            price_change=market.price_text(change),
            price_change_percent=percent_text(change, row.open),
            weighted_average_price=average_price_text(market, row.volume, row.quote_volume, 0),
            previous_close=market.price_text(row.previous_close),
            close=market.price_text(row.last),
            last_quantity=market.quantity_text(row.last_quantity),
            bid_price=market.price_text(bid_price),
            bid_quantity=market.quantity_text(bid_quantity),
            ask_price=market.price_text(ask_price),
            ask_quantity=market.quantity_text(ask_quantity),
            open=market.price_text(row.open),
            high=market.price_text(row.high),
            low=market.price_text(row.low),
            volume=market.quantity_text(row.volume),
            quote_volume=market.quote_text(row.quote_volume),
            open_time=row.open_time_us // divisor,
            close_time=row.close_time_us // divisor,
            first_trade_id=row.first_trade_id,
            last_trade_id=row.last_trade_id,
            trade_count=row.trade_count,
        )


class AveragePriceStream(PolledMarketStream):
    """``<symbol>@avgPrice``: the average price of the last five minutes, when there were trades."""

    async def _read_market(self, now_us: int) -> None:
        row = await self._statistics.average_price(self._market.market_id, now_us=now_us)
        self._tell(
            AveragePriceMessage(
                event_time=now_us // self.time_divisor,
                symbol=self._market.symbol,
                interval=f"{AVERAGE_PRICE_MINUTES}m",
                price=average_price_text(self._market, row.volume, row.quote_volume, row.last_price),
                last_trade_time=row.close_time_us // self.time_divisor,
            )
        )


class AllMiniTickersStream(PolledStream):
    """``!miniTicker@arr``: the short statistics of every market in which there were trades."""

    def __init__(
        self, name: str, time_divisor: int, views: Callable[[], Sequence[MarketView]], polling: Polling
    ) -> None:
        """``views`` gives all markets there are at the moment."""
        super().__init__(name, time_divisor, polling)
        self._views = views
        self._read_trade_ids: dict[int, int | None] = {}

    def attach(self) -> None:
        super().attach()
        self._read_trade_ids = {}

    def _is_due(self, now_us: int) -> bool:
        return bool(self._changed())

    async def _read(self, now_us: int) -> None:
        changed = self._changed()
        rows = await self._statistics.day(now_us=now_us, market_id=None)
        messages: list[msgspec.Struct] = [
            mini_ticker(changed[row.market_id].market, row, now_us, self.time_divisor)
            for row in rows
            if row.market_id in changed
        ]
        self._read_trade_ids.update((market_id, view.last_trade_id) for market_id, view in changed.items())
        if messages:
            self._tell(messages)

    def _changed(self) -> dict[int, MarketView]:
        return {
            view.market.market_id: view
            for view in self._views()
            if view.market.market_id not in self._read_trade_ids
            or self._read_trade_ids[view.market.market_id] != view.last_trade_id
        }


def mini_ticker(market: Market, row: MarketStatistics, now_us: int, time_divisor: int) -> MiniTickerMessage:
    """The last 24 hours of one market in short."""
    return MiniTickerMessage(
        event_time=now_us // time_divisor,
        symbol=market.symbol,
        close=market.price_text(row.last),
        open=market.price_text(row.open),
        high=market.price_text(row.high),
        low=market.price_text(row.low),
        volume=market.quantity_text(row.volume),
        quote_volume=market.quote_text(row.quote_volume),
    )
