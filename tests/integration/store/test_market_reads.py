"""What the API reads of a market: compared with the obvious sums over the plain list of its trades."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import groupby

import asyncpg
import pytest
import pytest_asyncio
from tests.fakes.leadership import take_lease
from tests.integration.store.trading import ALICE, BOB, MARKET, START_US, Trading

from rtx.core.events import Trade
from rtx.core.vocabulary import BUY, SELL
from rtx.store import candles, migrate, statistics, trades
from rtx.store.candles import Candle
from rtx.store.connection import Database, connect_engine
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore

SECOND_US = 1_000_000
DAY_S = 86400
QUIET_MARKET = 2
TimedTrade = tuple[int, Trade]


async def trade_for_weeks(url: str) -> list[TimedTrade]:
    """Forty days of trading with busy seconds, quiet days, and takers that meet several makers at one price."""
    connection = await connect_engine(url)
    epoch = await take_lease(LeaseStore(connection), "engine")
    assert epoch is not None
    trading = Trading(epoch)
    trading.open_market()
    draw = random.Random(7)
    made: list[TimedTrade] = []
    journal = JournalStore(connection)
    while trading.time_us < START_US + 40 * DAY_S * SECOND_US:
        steps_us = (SECOND_US // 5, 20 * SECOND_US, 1700 * SECOND_US, 3 * DAY_S * SECOND_US)
        trading.time_us += draw.choices(steps_us, (300, 100, 60, 3))[0]
        maker_side = draw.choice((BUY, SELL))
        price = 1000 + draw.randint(-50, 50)
        prices = [price] * draw.randint(1, 3) + [price + (1 if maker_side == SELL else -1)]
        for maker_price in prices:
            trading.place(ALICE, maker_side, maker_price, draw.randint(1, 9))
        limit = 1100 if maker_side == SELL else 900
        left = sum(sum(level[1] for level in side) for side in trading.exchange.book_levels(MARKET, 0))
        events = trading.place(BOB, BUY if maker_side == SELL else SELL, limit, left)
        made.extend((trading.time_us, event) for event in events if isinstance(event, Trade))
        if draw.random() < 0.1:
            await journal.commit(trading.take_batch())
    await journal.commit(trading.take_batch())
    await connection.close()
    return made


@pytest.fixture(scope="module")
def market(module_database_url: str) -> tuple[str, list[TimedTrade]]:
    migrate.upgrade(module_database_url)
    return module_database_url, asyncio.run(trade_for_weeks(module_database_url))


@pytest.fixture(scope="module")
def made(market: tuple[str, list[TimedTrade]]) -> list[TimedTrade]:
    return market[1]


@pytest_asyncio.fixture
async def database(market: tuple[str, list[TimedTrade]]) -> AsyncIterator[Database]:
    connection = await asyncpg.connect(market[0])
    yield connection
    await connection.close()


def group_of(timed: TimedTrade) -> tuple[int, int]:
    return timed[1].taker_order_id, timed[1].price


def aggregate(made: list[TimedTrade]) -> list[trades.AggregateTrade]:
    groups = []
    for _, members in groupby(made, group_of):
        times, fills = zip(*members, strict=True)
        quantity = sum(fill.quantity for fill in fills)
        first, last = fills[0], fills[-1]
        groups.append(
            trades.AggregateTrade(first.trade_id, last.trade_id, first.price, quantity, times[0], first.taker_side)
        )
    return groups


def summarise(open_time_s: int, end_time_s: int, fills: list[Trade], close_before: int) -> Candle:
    if not fills:
        flat = (close_before,) * 4
        return Candle(open_time_s, end_time_s, *flat, 0, 0, 0, 0, 0)
    prices = [fill.price for fill in fills]
    bought = [fill for fill in fills if fill.taker_side == BUY]
    return Candle(
        open_time_s,
        end_time_s,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(fill.quantity for fill in fills),
        sum(fill.quote_quantity for fill in fills),
        len(fills),
        sum(fill.quantity for fill in bought),
        sum(fill.quote_quantity for fill in bought),
    )


def as_public(timed: TimedTrade) -> trades.Trade:
    time_us, trade = timed
    return trades.Trade(trade.trade_id, trade.price, trade.quantity, trade.quote_quantity, time_us, trade.taker_side)


async def test_recent_trades_and_trades_from_an_id(database: Database, made: list[TimedTrade]) -> None:
    expected = [as_public(timed) for timed in made]
    assert await trades.recent(database, MARKET, 7) == expected[-7:]
    assert await trades.recent(database, MARKET, 100_000) == expected
    assert await trades.from_id(database, MARKET, 5, 7) == expected[4:11]
    assert await trades.from_id(database, MARKET, len(made) + 1, 7) == []
    assert await trades.last_price(database, MARKET) == made[-1][1].price
    assert await trades.last_prices(database) == {MARKET: made[-1][1].price}
    assert await trades.recent(database, QUIET_MARKET) == []
    assert await trades.last_price(database, QUIET_MARKET) is None


async def test_fills_of_one_taker_at_one_price_are_aggregated(database: Database, made: list[TimedTrade]) -> None:
    expected = aggregate(made)
    assert any(group.last_trade_id > group.first_trade_id for group in expected)
    assert await trades.aggregated(database, MARKET, limit=1000) == expected[-1000:]
    for limit in (1, 2, 3, 10):
        assert await trades.aggregated(database, MARKET, limit=limit) == expected[-limit:]
        assert await trades.aggregated(database, MARKET, from_id=1, limit=limit) == expected[:limit]
    for position in range(1, 40):
        wanted = [group for group in expected if group.first_trade_id >= position][:4]
        assert await trades.aggregated(database, MARKET, from_id=position, limit=4) == wanted
    assert await trades.aggregated(database, QUIET_MARKET) == []


async def test_aggregated_trades_by_time(database: Database, made: list[TimedTrade]) -> None:
    expected = aggregate(made)
    draw = random.Random(1)
    for _ in range(40):
        start_us, end_us = sorted(draw.choice(made)[0] + draw.choice((-1, 0, 1)) for _ in range(2))
        between = [group for group in expected if start_us <= group.time_us <= end_us]
        assert (
            await trades.aggregated(database, MARKET, start_time_us=start_us, end_time_us=end_us, limit=5)
            == between[:5]
        )
        until = [group for group in expected if group.time_us <= end_us]
        assert await trades.aggregated(database, MARKET, end_time_us=end_us, limit=5) == until[-5:]
        since = [group for group in expected if group.time_us >= start_us]
        assert await trades.aggregated(database, MARKET, start_time_us=start_us, limit=5) == since[:5]


@pytest.mark.parametrize("interval", sorted(candles.INTERVALS))
@pytest.mark.parametrize("offset_s", [0, 5 * 3600 + 1800, -8 * 3600])
async def test_candles_are_the_sums_of_their_trades(
    database: Database, made: list[TimedTrade], interval: str, offset_s: int
) -> None:
    now_us = made[-1][0] + 5 * SECOND_US
    limit = 300
    for start_us in (None, made[len(made) // 2][0], 0):
        found = await candles.find(
            database, MARKET, interval, now_us=now_us, start_time_us=start_us, limit=limit, offset_s=offset_s
        )
        assert found
        for candle in found:
            fills = [
                trade
                for time_us, trade in made
                if candle.open_time_s * SECOND_US <= time_us < candle.end_time_s * SECOND_US
            ]
            before = [trade.price for time_us, trade in made if time_us < candle.open_time_s * SECOND_US]
            assert candle == summarise(candle.open_time_s, candle.end_time_s, fills, before[-1] if before else 0)
        ends = [candle.end_time_s for candle in found]
        assert [candle.open_time_s for candle in found[1:]] == ends[:-1]
        if start_us is None:
            assert ends[-1] * SECOND_US > now_us >= found[-1].open_time_s * SECOND_US
        elif start_us == 0:
            assert found[0].open_time_s * SECOND_US <= made[0][0] < found[0].end_time_s * SECOND_US
        else:
            assert found[0].open_time_s * SECOND_US >= start_us


async def test_days_weeks_and_months_begin_at_local_midnight(database: Database, made: list[TimedTrade]) -> None:
    now_us = made[-1][0]
    zone = timezone(timedelta(hours=5, minutes=30))
    for interval, is_begin in (
        ("1d", lambda _: True),
        ("1w", lambda moment: moment.weekday() == 0),
        ("1M", lambda moment: moment.day == 1),
    ):
        for offset_s, local in ((0, UTC), (19800, zone)):
            for candle in await candles.find(database, MARKET, interval, now_us=now_us, offset_s=offset_s):
                opened = datetime.fromtimestamp(candle.open_time_s, local)
                assert (opened.hour, opened.minute, opened.second) == (0, 0, 0)
                assert is_begin(opened)


async def test_a_market_without_trades_has_no_candles(database: Database) -> None:
    assert await candles.find(database, QUIET_MARKET, "1m", now_us=START_US) == []
    with pytest.raises(KeyError):
        await candles.find(database, MARKET, "2m", now_us=START_US)


async def test_the_last_day_in_figures(database: Database, made: list[TimedTrade]) -> None:
    for now_us in (made[-1][0], made[len(made) // 2][0], made[-1][0] + 2 * DAY_S * SECOND_US):
        # The windows end at the newest trade in every case: figures are of a live market, not of its past.
        (day,) = await statistics.day(database, now_us=now_us)
        assert await statistics.day(database, now_us=now_us, market_id=MARKET) == [day]
        assert 0 <= day.open_time_us - (now_us - DAY_S * SECOND_US) < 60 * SECOND_US
        inside = [trade for time_us, trade in made if time_us >= day.open_time_us]
        before = [trade for time_us, trade in made if time_us < day.open_time_us]
        last = made[-1][1]
        assert (day.last, day.last_quantity) == (last.price, last.quantity)
        assert day.trade_count == len(inside)
        assert day.volume == sum(trade.quantity for trade in inside)
        assert day.quote_volume == sum(trade.quote_quantity for trade in inside)
        if inside:
            prices = [trade.price for trade in inside]
            assert (day.open, day.high, day.low) == (prices[0], max(prices), min(prices))
            assert (day.first_trade_id, day.last_trade_id) == (inside[0].trade_id, inside[-1].trade_id)
            assert day.previous_close == (before[-1].price if before else day.open)
        else:
            assert (day.open, day.high, day.low, day.previous_close) == (last.price,) * 4
            assert (day.first_trade_id, day.last_trade_id) == (-1, -1)


async def test_average_price_of_five_minutes(database: Database, made: list[TimedTrade]) -> None:
    now_us = made[-1][0]
    since_us = (now_us // (60 * SECOND_US) - 4) * 60 * SECOND_US
    inside = [trade for time_us, trade in made if time_us >= since_us]
    average = await statistics.average_price(database, MARKET, now_us=now_us)
    assert average.volume == sum(trade.quantity for trade in inside)
    assert average.quote_volume == sum(trade.quote_quantity for trade in inside)
    assert average.last_price == made[-1][1].price
    quiet = await statistics.average_price(database, QUIET_MARKET, now_us=now_us)
    assert (quiet.volume, quiet.quote_volume, quiet.last_price) == (0, 0, 0)
