"""Names of streams."""

from __future__ import annotations

import pytest

from rtx.api.streams.stream_names import StreamKind, parse_stream_name


@pytest.mark.parametrize(
    ("text", "kind", "interval_ms", "levels"),
    [
        ("btcusdt@trade", StreamKind.TRADE, 0, 0),
        ("btcusdt@aggTrade", StreamKind.AGGREGATE_TRADE, 0, 0),
        ("btcusdt@bookTicker", StreamKind.BOOK_TICKER, 0, 0),
        ("btcusdt@depth", StreamKind.DEPTH_DIFFERENCE, 1000, 0),
        ("btcusdt@depth@1000ms", StreamKind.DEPTH_DIFFERENCE, 1000, 0),
        ("btcusdt@depth@100ms", StreamKind.DEPTH_DIFFERENCE, 100, 0),
        ("btcusdt@depth5", StreamKind.PARTIAL_DEPTH, 1000, 5),
        ("btcusdt@depth20@100ms", StreamKind.PARTIAL_DEPTH, 100, 20),
        ("btcusdt@miniTicker", StreamKind.MINI_TICKER, 0, 0),
        ("btcusdt@ticker", StreamKind.TICKER, 0, 0),
        ("btcusdt@avgPrice", StreamKind.AVERAGE_PRICE, 0, 0),
    ],
)
def test_streams_that_exist(text: str, kind: StreamKind, interval_ms: int, levels: int) -> None:
    name = parse_stream_name(text)
    assert name is not None
    assert (name.text, name.symbol, name.kind) == (text, "BTCUSDT", kind)
    assert (name.interval_ms, name.levels) == (interval_ms, levels)


def test_candles_and_all_markets() -> None:
    minute = parse_stream_name("btcusdt@kline_1m")
    assert minute is not None
    assert (minute.kind, minute.kline_interval, minute.kline_offset_s) == (StreamKind.KLINE, "1m", 0)
    hong_kong_month = parse_stream_name("btcusdt@kline_1M@+08:00")
    assert hong_kong_month is not None
    assert (hong_kong_month.kline_interval, hong_kong_month.kline_offset_s) == ("1M", 28800)
    everything = parse_stream_name("!miniTicker@arr")
    assert everything is not None
    assert (everything.symbol, everything.kind) == ("", StreamKind.MINI_TICKER)


@pytest.mark.parametrize(
    "text",
    [
        "", "btcusdt", "@trade", "btcusdt@", "BTCUSDT@trade", "btcusdt@Trade", "btcusdt@trade@100ms", "btcusdt@depth7",
        "btcusdt@depth@250ms", "btcusdt@depth5@", "btcusdt@kline", "btcusdt@kline_", "btcusdt@kline_1x",
        "btcusdt@kline_1m@+09:00", "btcusdt@ticker_1h", "!ticker@arr", "btc usdt@trade", "btcusdt@trade\n",
    ],
)  # fmt: skip
def test_names_of_no_stream(text: str) -> None:
    assert parse_stream_name(text) is None
