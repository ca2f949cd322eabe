"""Puts market data together from the engine's books and the stored trades."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rtx.api.context import ApiContext
from rtx.api.decimals import divide_rounded_down, format_amount
from rtx.api.market_data.schemas import (
    AggregatedTrade,
    AveragePrice,
    BookTicker,
    DayTicker,
    MiniTicker,
    PriceTicker,
    PublicTrade,
)
from rtx.api.markets import Market
from rtx.api.refusals import refusal_of
from rtx.core.vocabulary import SELL
from rtx.link.client import EngineError
from rtx.link.messages import BookAnswer
from rtx.store import candles as stored_candles
from rtx.store import statistics as stored_statistics
from rtx.store import trades as stored_trades
from rtx.store.statistics import MarketStatistics
from rtx.store.trades import Trade

Candle = list[int | str]

AVERAGE_PRICE_MINUTES = 5


async def book(context: ApiContext, market: Market, limit: int) -> tuple[int, BookAnswer]:
    """Give the journal position and the best ``limit`` levels a side."""
    try:
        return await context.books.book(market.market_id, limit)
    except EngineError as error:
        raise refusal_of(error) from None


async def depth(context: ApiContext, market: Market, limit: int) -> bytes:
    """Encode the answer of /api/v3/depth."""
    sequence, answer = await book(context, market, limit)
    bids = _levels(market, answer.bids, limit)
    asks = _levels(market, answer.asks, limit)
    return f'{{"lastUpdateId":{sequence},"bids":[{bids}],"asks":[{asks}]}}'.encode("ascii")


def _levels(market: Market, levels: Sequence[tuple[int, int]], limit: int) -> str:
    price_text, quantity_text = market.price_text, market.quantity_text
    return ",".join([f'["{price_text(price)}","{quantity_text(quantity)}"]' for price, quantity in levels[:limit]])


def public_trades(market: Market, trades: Sequence[Trade], time_divisor: int) -> list[PublicTrade]:
    """Describe trades for everybody."""
    return [
        PublicTrade(
            trade.trade_id,
            market.price_text(trade.price),
            market.quantity_text(trade.quantity),
            market.quote_text(trade.quote_quantity),
            trade.time_us // time_divisor,
            is_buyer_maker=trade.taker_side == SELL,
            is_best_match=True,
        )
        for trade in trades
    ]


async def aggregated_trades(
    context: ApiContext,
    market: Market,
    *,
    from_id: int | None,
    start_time_us: int | None,
    end_time_us: int | None,
    limit: int,
    time_divisor: int,
) -> list[AggregatedTrade]:
    """Give trades of one taker at one price together."""
    found = await context.history.read(
        lambda database: stored_trades.aggregated(
            database,
            market.market_id,
            from_id=from_id,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit,
        )
    )
    return [
        AggregatedTrade(
            a=trade.first_trade_id,
            p=market.price_text(trade.price),
            q=market.quantity_text(trade.quantity),
            f=trade.first_trade_id,
            l=trade.last_trade_id,
            T=trade.time_us // time_divisor,
            m=trade.taker_side == SELL,
            M=True,
        )
        for trade in found
    ]


async def candles(
    context: ApiContext,
    market: Market,
    interval: str,
    *,
    start_time_us: int | None,
    end_time_us: int | None,
    limit: int,
    offset_s: int,
    time_divisor: int,
) -> list[Candle]:
    """Give candles as the arrays of /api/v3/klines."""
    now_us = context.clock_us()
    found = await context.history.read(
        lambda database: stored_candles.find(
            database,
            market.market_id,
            interval,
            now_us=now_us,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit,
            offset_s=offset_s,
        )
    )
    units_per_s = 1_000_000 // time_divisor
    return [
        [
            candle.open_time_s * units_per_s,
            market.price_text(candle.open),
            market.price_text(candle.high),
            market.price_text(candle.low),
            market.price_text(candle.close),
            market.quantity_text(candle.volume),
            candle.end_time_s * units_per_s - 1,
            market.quote_text(candle.quote_volume),
            candle.trade_count,
            market.quantity_text(candle.taker_buy_volume),
            market.quote_text(candle.taker_buy_quote_volume),
            "0",
        ]
        for candle in found
    ]


async def average_price(context: ApiContext, market: Market, time_divisor: int) -> AveragePrice:
    """Give the volume-weighted average price of the last minutes, or the last price when nothing was traded."""
    now_us = context.clock_us()
    average = await context.history.read(
        lambda database: stored_statistics.average_price(database, market.market_id, now_us=now_us)
    )
    return AveragePrice(
        AVERAGE_PRICE_MINUTES,
        average_price_text(market, average.volume, average.quote_volume, average.last_price),
        average.close_time_us // time_divisor,
    )


async def price_tickers(context: ApiContext, markets: Sequence[Market]) -> list[PriceTicker]:
    """Give the last price of each market; zero before the first trade."""
    if len(markets) == 1:
        price = await stored_trades.last_price(context.pool, markets[0].market_id)
        prices = {markets[0].market_id: price or 0}
    else:
        prices = await stored_trades.last_prices(context.pool)
    return [PriceTicker(market.symbol, market.price_text(prices.get(market.market_id, 0))) for market in markets]


async def book_tickers(context: ApiContext, markets: Sequence[Market]) -> list[BookTicker]:
    """Give the best level of each side of each market."""
    answers = await asyncio.gather(*(book(context, market, 1) for market in markets))
    return [
        BookTicker(market.symbol, *_best_levels(market, answer))
        for market, (_, answer) in zip(markets, answers, strict=True)
    ]


async def day_tickers(context: ApiContext, markets: Sequence[Market], time_divisor: int) -> list[DayTicker]:
    """Give the statistics of the last 24 hours of each market."""
    statistics, answers = await asyncio.gather(
        _day_statistics(context, markets), asyncio.gather(*(book(context, market, 1) for market in markets))
    )
    return [
        _day_ticker(market, statistics[market.market_id], answer, time_divisor)
        for market, (_, answer) in zip(markets, answers, strict=True)
        if market.market_id in statistics
    ]


async def mini_tickers(context: ApiContext, markets: Sequence[Market], time_divisor: int) -> list[MiniTicker]:
    """Give the statistics of the last 24 hours of each market, in short."""
    statistics = await _day_statistics(context, markets)
    return [
        _mini_ticker(market, statistics[market.market_id], time_divisor)
        for market in markets
        if market.market_id in statistics
    ]


async def _day_statistics(context: ApiContext, markets: Sequence[Market]) -> dict[int, MarketStatistics]:
    market_id = markets[0].market_id if len(markets) == 1 else None
    now_us = context.clock_us()
    found = await context.history.read(
        lambda database: stored_statistics.day(database, now_us=now_us, market_id=market_id)
    )
    return {statistics.market_id: statistics for statistics in found}


def average_price_text(market: Market, volume: int, quote_volume: int, price: int) -> str:
    """Write ``quote_volume`` (smallest units) over ``volume`` (lots) as a price, rounded down.

    Where there was no volume it is ``price`` (ticks).
    """
    if not volume:
        return market.price_text(price)
    return market.quote_text(quote_volume * 10**market.base.scale // (volume * market.lot_size))


def percent_text(change: int, base: int) -> str:
    """Write ``change`` in per cent of ``base`` with three digits after the point; zero when there is no base."""
    return format_amount(divide_rounded_down(change * 100_000, base) if base else 0, 3)


def _best_levels(market: Market, answer: BookAnswer) -> tuple[str, str, str, str]:
    bid_price, bid_quantity = answer.bids[0] if answer.bids else (0, 0)
    ask_price, ask_quantity = answer.asks[0] if answer.asks else (0, 0)
    return (
        market.price_text(bid_price),
        market.quantity_text(bid_quantity),
        market.price_text(ask_price),
        market.quantity_text(ask_quantity),
    )


def _day_ticker(market: Market, day: MarketStatistics, answer: BookAnswer, time_divisor: int) -> DayTicker:
    bid_price, bid_quantity, ask_price, ask_quantity = _best_levels(market, answer)
    change = day.last - day.open
    return DayTicker(
        symbol=market.symbol,
        price_change=market.price_text(change),
        price_change_percent=percent_text(change, day.open),
        weighted_avg_price=average_price_text(market, day.volume, day.quote_volume, 0),
        prev_close_price=market.price_text(day.previous_close),
        last_price=market.price_text(day.last),
        last_qty=market.quantity_text(day.last_quantity),
        bid_price=bid_price,
        bid_qty=bid_quantity,
        ask_price=ask_price,
        ask_qty=ask_quantity,
        open_price=market.price_text(day.open),
        high_price=market.price_text(day.high),
        low_price=market.price_text(day.low),
        volume=market.quantity_text(day.volume),
        quote_volume=market.quote_text(day.quote_volume),
        open_time=day.open_time_us // time_divisor,
        close_time=day.close_time_us // time_divisor,
        first_id=day.first_trade_id,
        last_id=day.last_trade_id,
        count=day.trade_count,
    )


def _mini_ticker(market: Market, day: MarketStatistics, time_divisor: int) -> MiniTicker:
    return MiniTicker(
        symbol=market.symbol,
        open_price=market.price_text(day.open),
        high_price=market.price_text(day.high),
        low_price=market.price_text(day.low),
        last_price=market.price_text(day.last),
        volume=market.quantity_text(day.volume),
        quote_volume=market.quote_text(day.quote_volume),
        open_time=day.open_time_us // time_divisor,
        close_time=day.close_time_us // time_divisor,
        first_id=day.first_trade_id,
        last_id=day.last_trade_id,
        count=day.trade_count,
    )
