"""Public market data: what is shown is what happened, at once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.venue import Trader, Venue, now_ms

from rtx.core.commands import MarketFilters
from rtx.core.vocabulary import MarketStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def get(venue: Venue, path: str) -> Any:
    answer = await venue.public.get(f"/api/v3/{path}")
    assert answer.status == 200, answer.body
    return answer.json


async def market_with_trades(venue: Venue) -> tuple[str, Trader, Trader]:
    """Three trades: 1 at 100 and 0.5 at 110 of one taker who bought, then 0.25 at 90 of one who sold."""
    symbol = await venue.market()
    seller = await venue.trader({symbol.removesuffix("USDT"): 10})
    buyer = await venue.trader({"USDT": 10_000})
    await seller.order(symbol, "SELL", "1", "100")
    await seller.order(symbol, "SELL", "2", "110")
    await buyer.order(symbol, "BUY", "1.5", "110")
    await buyer.order(symbol, "BUY", "3", "90")
    await seller.order(symbol, "SELL", "0.25", "90")
    return symbol, seller, buyer


async def test_ping_and_time(venue: Venue) -> None:
    assert await get(venue, "ping") == {}
    before_ms = now_ms()
    assert before_ms <= (await get(venue, "time"))["serverTime"] <= now_ms()


async def test_a_new_market_is_known_at_once_and_described_in_full(venue: Venue) -> None:
    filters = MarketFilters(
        minimum_price=2,
        maximum_price=1000,
        minimum_quantity=3,
        maximum_quantity=4000,
        market_maximum_quantity=2000,
        minimum_notional=5 * 10**8,
        maximum_notional=10**13,
        bid_multiplier_up=1_200_000,
        bid_multiplier_down=200_000,
        ask_multiplier_up=5_000_000,
        ask_multiplier_down=800_000,
        maximum_open_orders=25,
    )
    symbol = await venue.market(filters=filters)
    described = (await get(venue, f"exchangeInfo?symbol={symbol}"))["symbols"]
    base = symbol.removesuffix("USDT")
    modes = ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"]
    assert described == [
        {
            "symbol": symbol,
            "status": "TRADING",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": "USDT",
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": [
                "LIMIT",
                "MARKET",
                "LIMIT_MAKER",
                "STOP_LOSS",
                "STOP_LOSS_LIMIT",
                "TAKE_PROFIT",
                "TAKE_PROFIT_LIMIT",
            ],
            "icebergAllowed": False,
            "ocoAllowed": False,
            "otoAllowed": False,
            "opoAllowed": False,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": False,
            "cancelReplaceAllowed": True,
            "amendAllowed": True,
            "pegInstructionsAllowed": False,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": "0.02000000",
                    "maxPrice": "10.00000000",
                    "tickSize": "0.01000000",
                },
                {"filterType": "LOT_SIZE", "minQty": "0.00003000", "maxQty": "0.04000000", "stepSize": "0.00001000"},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.00000000",
                    "maxQty": "0.02000000",
                    "stepSize": "0.00000000",
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": "5.00000000",
                    "applyMinToMarket": True,
                    "maxNotional": "100000.00000000",
                    "applyMaxToMarket": False,
                    "avgPriceMins": 0,
                },
                {
                    "filterType": "PERCENT_PRICE_BY_SIDE",
                    "bidMultiplierUp": "1.200000",
                    "bidMultiplierDown": "0.200000",
                    "askMultiplierUp": "5.000000",
                    "askMultiplierDown": "0.800000",
                    "avgPriceMins": 0,
                },
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 25},
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "NONE",
            "allowedSelfTradePreventionModes": modes,
        }
    ]


async def test_which_markets_exchange_info_lists(venue: Venue) -> None:
    first, second = await venue.market(), await venue.market()

    async def listed(query: str = "") -> list[str]:
        return [row["symbol"] for row in (await get(venue, f"exchangeInfo?{query}"))["symbols"]]

    assert {first, second} <= set(await listed())
    assert await listed(f"symbols=%5B%22{second}%22,%22{first}%22%5D") == [second, first]
    assert await listed("permissions=MARGIN") == []
    assert {first, second} <= set(await listed("permissions=%5B%22MARGIN%22,%22SPOT%22%5D"))
    await venue.set_status(second, MarketStatus.BREAK)
    halted = await listed("symbolStatus=BREAK")
    assert second in halted
    assert first not in halted
    assert (await get(venue, f"exchangeInfo?symbol={first}&showPermissionSets=false"))["symbols"][0][
        "permissionSets"
    ] == []


async def test_there_are_no_futures(venue: Venue) -> None:
    for path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"):
        answer = await venue.public.get(path)
        assert (answer.status, answer.json["symbols"]) == (200, [])


async def test_the_book_shows_what_was_just_answered(venue: Venue) -> None:
    symbol, seller, buyer = await market_with_trades(venue)
    book = await get(venue, f"depth?symbol={symbol}")
    assert book["bids"] == [["90.00000000", "2.75000000"]]
    assert book["asks"] == [["110.00000000", "1.50000000"]]
    for number in range(5):
        await buyer.order(symbol, "BUY", "1", str(80 + number))
        later = await get(venue, f"depth?symbol={symbol}")
        assert later["lastUpdateId"] > book["lastUpdateId"]
        assert later["bids"][1] == [f"{80 + number}.00000000", "1.00000000"]
        book = later
    limited = await get(venue, f"depth?symbol={symbol}&limit=2")
    assert limited["bids"] == book["bids"][:2]
    await seller.delete("/api/v3/openOrders", symbol=symbol)
    assert (await get(venue, f"depth?symbol={symbol}"))["asks"] == []


async def test_trades_one_by_one_and_together(venue: Venue) -> None:
    symbol, _, _ = await market_with_trades(venue)
    trades = await get(venue, f"trades?symbol={symbol}")
    times = [trade.pop("time") for trade in trades]
    assert times == sorted(times)
    assert trades[0] == {
        "id": 1,
        "price": "100.00000000",
        "qty": "1.00000000",
        "quoteQty": "100.00000000",
        "isBuyerMaker": False,
        "isBestMatch": True,
    }
    assert [(trade["id"], trade["isBuyerMaker"]) for trade in trades] == [(1, False), (2, False), (3, True)]
    assert [trade["id"] for trade in await get(venue, f"trades?symbol={symbol}&limit=2")] == [2, 3]
    assert [trade["id"] for trade in await get(venue, f"historicalTrades?symbol={symbol}&fromId=2")] == [2, 3]

    together = await get(venue, f"aggTrades?symbol={symbol}")
    assert together[0] == {
        "a": 1,
        "p": "100.00000000",
        "q": "1.00000000",
        "f": 1,
        "l": 1,
        "T": times[0],
        "m": False,
        "M": True,
    }
    assert [trade["a"] for trade in await get(venue, f"aggTrades?symbol={symbol}&fromId=3")] == [3]
    since = await get(venue, f"aggTrades?symbol={symbol}&startTime={times[0]}&endTime={times[2]}")
    assert [trade["a"] for trade in since] == [1, 2, 3]
    assert await get(venue, f"aggTrades?symbol={symbol}&endTime={times[0] - 1}") == []


async def test_candles(venue: Venue) -> None:
    symbol, _, _ = await market_with_trades(venue)
    for path in ("klines", "uiKlines"):
        day = (await get(venue, f"{path}?symbol={symbol}&interval=1d"))[-1]
        assert day[1:6] == ["100.00000000", "110.00000000", "90.00000000", "90.00000000", "1.75000000"]
        assert day[6] == day[0] + 86_400_000 - 1
        assert day[7:] == ["177.50000000", 3, "1.50000000", "155.00000000", "0"]
    in_new_york = (await get(venue, f"klines?symbol={symbol}&interval=1d&timeZone=-5"))[-1]
    assert in_new_york[0] % 86_400_000 == 5 * 3_600_000
    assert await get(venue, f"klines?symbol={await venue.market()}&interval=1m") == []


async def test_average_and_last_price(venue: Venue) -> None:
    symbol, _, _ = await market_with_trades(venue)
    average = await get(venue, f"avgPrice?symbol={symbol}")
    assert (average["mins"], average["price"]) == (5, "101.42857142")
    assert await get(venue, f"ticker/price?symbol={symbol}") == {"symbol": symbol, "price": "90.00000000"}
    untraded = await venue.market()
    prices = {row["symbol"]: row["price"] for row in await get(venue, "ticker/price")}
    assert (prices[symbol], prices[untraded]) == ("90.00000000", "0.00000000")


async def test_best_prices(venue: Venue) -> None:
    symbol, _, _ = await market_with_trades(venue)
    best = {
        "symbol": symbol,
        "bidPrice": "90.00000000",
        "bidQty": "2.75000000",
        "askPrice": "110.00000000",
        "askQty": "1.50000000",
    }
    empty = await venue.market()
    assert await get(venue, f"ticker/bookTicker?symbol={symbol}") == best
    listed = await get(venue, f"ticker/bookTicker?symbols=%5B%22{symbol}%22,%22{empty}%22%5D")
    zero = "0.00000000"
    assert listed == [
        best,
        {"symbol": empty, "bidPrice": zero, "bidQty": zero, "askPrice": zero, "askQty": zero},
    ]


async def test_the_day_in_full_and_in_short(venue: Venue) -> None:
    symbol, _, _ = await market_with_trades(venue)
    day = await get(venue, f"ticker/24hr?symbol={symbol}")
    open_time, close_time = day.pop("openTime"), day.pop("closeTime")
    # The window opens on a full minute.
    assert abs(close_time - open_time - 86_400_000) < 60_000
    short = {
        "symbol": symbol,
        "openPrice": "100.00000000",
        "highPrice": "110.00000000",
        "lowPrice": "90.00000000",
        "lastPrice": "90.00000000",
        "volume": "1.75000000",
        "quoteVolume": "177.50000000",
        "firstId": 1,
        "lastId": 3,
        "count": 3,
    }
    assert day == short | {
        "priceChange": "-10.00000000",
        "priceChangePercent": "-10.000",
        "weightedAvgPrice": "101.42857142",
        "prevClosePrice": "100.00000000",
        "lastQty": "0.25000000",
        "bidPrice": "90.00000000",
        "bidQty": "2.75000000",
        "askPrice": "110.00000000",
        "askQty": "1.50000000",
    }
    mini = await get(venue, f"ticker/24hr?symbol={symbol}&type=MINI")
    assert {name: mini[name] for name in short} == short
    everything = {row["symbol"]: row for row in await get(venue, "ticker/24hr")}
    assert everything[symbol]["volume"] == "1.75000000"
    untraded = await venue.market()
    assert (await get(venue, f"ticker/24hr?symbol={untraded}"))["count"] == 0
