"""Candles and tickers: read when there were trades, told once, and closed when they are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.unit.streams.simulated_exchange import MARKET, make_market

from rtx.api.streams.market_view import MarketView
from rtx.api.streams.polled_streams import (
    AllMiniTickersStream,
    AveragePriceStream,
    KlineStream,
    MiniTickerStream,
    PolledStream,
    Polling,
    TickerStream,
)
from rtx.store.candles import Candle
from rtx.store.statistics import AveragePrice, MarketStatistics

SECOND_US = 1_000_000


class FakeStatistics:
    def __init__(self) -> None:
        self.candle_rows: list[Candle] = []
        self.readings = 0
        self.is_down = False

    async def candles(
        self, market_id: int, interval: str, *, now_us: int, limit: int, offset_s: int
    ) -> Sequence[Candle]:
        self._read()
        return [row for row in self.candle_rows if row.open_time_s * SECOND_US <= now_us][-limit:]

    async def first_trade_id(self, market_id: int, since_us: int) -> int:
        return since_us // SECOND_US

    async def day(self, *, now_us: int, market_id: int | None) -> Sequence[MarketStatistics]:
        self._read()
        markets = [MARKET.market_id, 8] if market_id is None else [market_id]
        return [
            MarketStatistics(
                market_id=number, open=100, high=130, low=90, last=120, last_quantity=2, previous_close=99, volume=10,
                quote_volume=11_000, trade_count=4, first_trade_id=1, last_trade_id=4, open_time_us=1_000,
                close_time_us=2_000,
            )
            for number in markets
        ]  # fmt: skip

    async def average_price(self, market_id: int, *, now_us: int) -> AveragePrice:
        self._read()
        return AveragePrice(volume=0, quote_volume=0, last_price=120, close_time_us=7_000)

    def _read(self) -> None:
        self.readings += 1
        if self.is_down:
            raise OSError("the database is away")


class Listener:
    is_combined = False

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def offer(self, text: str) -> None:
        self.heard.append(msgspec.json.decode(text))

    def take(self) -> list[Any]:
        heard, self.heard = self.heard, []
        return heard


class Setting:
    """One stream with one listener."""

    def __init__(self) -> None:
        self.statistics = FakeStatistics()
        self.polling = Polling(self.statistics)
        self.view = MarketView(MARKET)
        self.view.last_trade_id = 4
        self.listener = Listener()

    async def join(self, stream: PolledStream) -> PolledStream:
        stream.attach()
        stream.join(self.listener)
        return stream

    async def tick(self, stream: PolledStream, now_s: float) -> list[Any]:
        stream.tick(int(now_s * SECOND_US))
        await self.polling.settled()
        return self.listener.take()


@pytest.fixture
def setting() -> Setting:
    return Setting()


def candle(open_time_s: int, close: int, trade_count: int) -> Candle:
    volume = trade_count * 2
    return Candle(open_time_s, open_time_s + 60, 100, 130, 90, close, volume, volume * 100, trade_count, 1, 100)


async def test_a_candle_is_told_at_once_and_then_when_there_were_trades(setting: Setting) -> None:
    setting.statistics.candle_rows = [candle(0, 110, 1), candle(60, 120, 3)]
    stream = await setting.join(KlineStream("btcusdt@kline_1m", 1000, setting.view, setting.polling, "1m", 0))
    (message,) = await setting.tick(stream, 70)
    assert (message["e"], message["E"], message["s"]) == ("kline", 70_000, "BTCUSDT")
    assert message["k"] == {
        "t": 60_000, "T": 119_999, "s": "BTCUSDT", "i": "1m", "f": 60, "L": 62, "o": "1.000000", "c": "1.200000",
        "h": "1.300000", "l": "0.900000", "v": "0.00006000", "n": 3, "x": False, "q": "0.000600", "V": "0.00001000",
        "Q": "0.000100", "B": "0",
    }  # fmt: skip
    assert await setting.tick(stream, 72) == []
    setting.view.last_trade_id = 5
    assert len(await setting.tick(stream, 74)) == 1
    assert setting.statistics.readings == 2


async def test_a_candle_is_closed_once_after_its_last_trades_are_committed(setting: Setting) -> None:
    setting.statistics.candle_rows = [candle(0, 110, 1)]
    stream = await setting.join(KlineStream("btcusdt@kline_1m", 1000, setting.view, setting.polling, "1m", 0))
    await setting.tick(stream, 50)
    setting.statistics.candle_rows = [candle(0, 115, 2), candle(60, 120, 1)]
    setting.view.last_trade_id = 6
    (still_open,) = await setting.tick(stream, 60.2)
    assert (still_open["k"]["t"], still_open["k"]["x"], still_open["k"]["c"]) == (0, False, "1.150000")
    closed, following = await setting.tick(stream, 60.6)
    assert (closed["k"]["t"], closed["k"]["x"]) == (0, True)
    assert (following["k"]["t"], following["k"]["x"]) == (60_000, False)
    assert await setting.tick(stream, 62) == []


async def test_a_candle_without_trades_names_none(setting: Setting) -> None:
    setting.statistics.candle_rows = [candle(0, 110, 0)]
    stream = await setting.join(KlineStream("btcusdt@kline_1m", 1000, setting.view, setting.polling, "1m", 0))
    (message,) = await setting.tick(stream, 5)
    assert (message["k"]["f"], message["k"]["L"], message["k"]["n"]) == (-1, -1, 0)


async def test_tickers_say_what_the_rest_endpoints_say(setting: Setting) -> None:
    mini = await setting.join(MiniTickerStream("btcusdt@miniTicker", 1000, setting.view, setting.polling))
    assert await setting.tick(mini, 1) == [
        {
            "E": 1000, "s": "BTCUSDT", "c": "1.200000", "o": "1.000000", "h": "1.300000", "l": "0.900000",
            "v": "0.00010000", "q": "0.011000", "e": "24hrMiniTicker",
        }
    ]  # fmt: skip
    full = await setting.join(TickerStream("btcusdt@ticker", 1, setting.view, setting.polling))
    (ticker,) = await setting.tick(full, 1)
    assert (ticker["e"], ticker["E"], ticker["p"], ticker["P"]) == ("24hrTicker", 1_000_000, "0.200000", "20.000")
    assert (ticker["w"], ticker["x"], ticker["Q"]) == ("110.000000", "0.990000", "0.00002000")
    assert (ticker["b"], ticker["B"], ticker["O"], ticker["C"]) == ("0.000000", "0.00000000", 1000, 2000)
    average = await setting.join(AveragePriceStream("btcusdt@avgPrice", 1000, setting.view, setting.polling))
    assert await setting.tick(average, 1) == [
        {"E": 1000, "s": "BTCUSDT", "i": "5m", "w": "1.200000", "T": 7, "e": "avgPrice"}
    ]


async def test_a_newcomer_gets_what_was_told_last(setting: Setting) -> None:
    stream = await setting.join(MiniTickerStream("btcusdt@miniTicker", 1000, setting.view, setting.polling))
    told = await setting.tick(stream, 1)
    newcomer = Listener()
    stream.join(newcomer)
    assert newcomer.heard == told
    assert setting.listener.heard == []


async def test_all_markets_shows_those_that_changed(setting: Setting) -> None:
    other = MarketView(make_market(8, "ETHUSDT"))
    views = [setting.view, other]
    stream = await setting.join(AllMiniTickersStream("!miniTicker@arr", 1000, lambda: views, setting.polling))
    (everything,) = await setting.tick(stream, 1)
    assert [row["s"] for row in everything] == ["BTCUSDT", "ETHUSDT"]
    assert await setting.tick(stream, 2) == []
    other.last_trade_id = 9
    (changed,) = await setting.tick(stream, 3)
    assert [row["s"] for row in changed] == ["ETHUSDT"]


async def test_a_failed_reading_is_tried_again(setting: Setting) -> None:
    stream = await setting.join(MiniTickerStream("btcusdt@miniTicker", 1000, setting.view, setting.polling))
    setting.statistics.is_down = True
    assert await setting.tick(stream, 1) == []
    setting.statistics.is_down = False
    assert len(await setting.tick(stream, 2)) == 1
