"""What ccxt reads: markets, books, trades, candles, tickers, and what belongs to an account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ccxt
import pytest
from tests.clients.ccxt_exchange import exchange_of
from tests.clients.server import Account, Server

pytestmark = pytest.mark.clients

BTC = "BTC/USDT"
ETH = "ETH/USDT"


@dataclass
class Scene:
    """A book of two levels a side, after the taker has bought 0.2 BTC at 50010."""

    maker: Any
    taker: Any
    ask: dict[str, Any]
    buy: dict[str, Any]


@pytest.fixture
def scene(maker: Any, taker: Any) -> Scene:
    ask = maker.create_order(BTC, "limit", "sell", 0.5, 50_010)
    maker.create_order(BTC, "limit", "sell", 1, 50_020)
    maker.create_order(BTC, "limit", "buy", 1, 50_000)
    maker.create_order(BTC, "limit", "buy", 2, 49_990)
    return Scene(maker, taker, ask, taker.create_order(BTC, "limit", "buy", 0.2, 50_010))


def test_markets_need_nothing_but_the_address(server: Server, maker_account: Account) -> None:
    for account in (None, maker_account):
        exchange = exchange_of(server, account)
        markets = exchange.load_markets()
        assert sorted(markets) == [BTC, "DOT/USDT", ETH, "SOL/USDT"]
        market = markets[BTC]
        assert (market["type"], market["active"], market["taker"], market["maker"]) == ("spot", True, 0.001, 0.001)
        assert market["precision"] == {"amount": 0.00001, "price": 0.01, "base": 1e-8, "quote": 1e-8}
        assert market["limits"]["amount"] == {"min": 0.001, "max": 9000.0}
        assert market["limits"]["price"] == {"min": 0.01, "max": 1_000_000.0}
        assert market["limits"]["cost"]["min"] == 5.0


def test_the_exchange_itself(maker: Any) -> None:
    assert abs(maker.fetch_time() - maker.milliseconds()) < 60_000
    assert maker.fetch_status()["status"] == "ok"
    currencies = maker.fetch_currencies()
    assert sorted(currencies) == ["BTC", "DOT", "ETH", "SOL", "USDT"]
    assert currencies["BTC"]["active"]


def test_the_book(scene: Scene) -> None:
    book = scene.taker.fetch_order_book(BTC)
    assert book["asks"] == [[50_010.0, 0.3], [50_020.0, 1.0]]
    assert book["bids"] == [[50_000.0, 1.0], [49_990.0, 2.0]]
    assert scene.taker.fetch_order_book(BTC, 1)["bids"] == [[50_000.0, 1.0]]
    assert scene.taker.fetch_order_book(ETH)["asks"] == []


@pytest.mark.parametrize("method", ["publicGetAggTrades", "publicGetTrades", "publicGetHistoricalTrades"])
def test_public_trades(scene: Scene, method: str) -> None:
    last = scene.taker.fetch_trades(BTC, limit=5, params={"fetchTradesMethod": method})[-1]
    assert (last["price"], last["amount"], last["cost"], last["side"]) == (50_010.0, 0.2, 10_002.0, "buy")
    assert scene.taker.fetch_trades(BTC, since=last["timestamp"])[-1]["timestamp"] == last["timestamp"]


def test_candles_of_every_interval(scene: Scene) -> None:
    timeframes = list(scene.taker.timeframes)
    assert len(timeframes) == 16
    for timeframe in timeframes:
        candles = [candle for candle in scene.taker.fetch_ohlcv(BTC, timeframe) if candle[5] > 0]
        start, first, high, low, close, volume = candles[-1]
        assert close == 50_010.0, timeframe
        assert low <= min(first, close) <= max(first, close) <= high, timeframe
        assert volume >= 0.2, timeframe
        if timeframe[-1] in "smhd" and timeframe != "3d":
            assert start % (scene.taker.parse_timeframe(timeframe) * 1000) == 0, timeframe


def test_tickers(scene: Scene) -> None:
    ticker = scene.taker.fetch_ticker(BTC)
    assert (ticker["last"], ticker["bid"], ticker["ask"]) == (50_010.0, 50_000.0, 50_010.0)
    assert (ticker["bidVolume"], ticker["askVolume"]) == (1.0, 0.3)
    assert ticker["baseVolume"] >= 0.2
    assert scene.taker.fetch_tickers()[BTC]["last"] == 50_010.0
    assert list(scene.taker.fetch_tickers([BTC])) == [BTC]
    best = scene.taker.fetch_bids_asks([BTC])[BTC]
    assert (best["bid"], best["ask"]) == (50_000.0, 50_010.0)
    assert scene.taker.fetch_last_prices()[BTC]["price"] == 50_010.0


def test_the_balance_with_what_orders_hold(scene: Scene) -> None:
    balance = scene.maker.fetch_balance()
    assert balance["BTC"]["used"] == 1.3
    assert balance["USDT"]["used"] == 50_000 + 2 * 49_990
    for asset in ("BTC", "USDT"):
        held = balance[asset]
        assert held["total"] == pytest.approx(held["free"] + held["used"], abs=1e-8)


def test_own_trades_and_their_fees(scene: Scene) -> None:
    bought = scene.taker.fetch_my_trades(BTC)[-1]
    sold = scene.maker.fetch_my_trades(BTC)[-1]
    assert (bought["order"], bought["side"], bought["takerOrMaker"]) == (scene.buy["id"], "buy", "taker")
    assert (sold["order"], sold["side"], sold["takerOrMaker"]) == (scene.ask["id"], "sell", "maker")
    assert bought["fee"] == {"cost": 0.0002, "currency": "BTC"}
    assert sold["fee"] == {"cost": 10.002, "currency": "USDT"}
    assert bought["id"] == sold["id"]
    assert scene.taker.fetch_order_trades(scene.buy["id"], BTC)[0]["id"] == bought["id"]
    fees = scene.taker.fetch_trading_fees()[BTC]
    assert (fees["maker"], fees["taker"]) == (0.001, 0.001)
    assert scene.taker.fetch_trading_fee(BTC)["taker"] == 0.001


def test_own_orders(scene: Scene) -> None:
    cancelled = scene.maker.create_order(BTC, "limit", "buy", 1, 49_000)
    scene.maker.cancel_order(cancelled["id"], BTC)

    open_orders = scene.maker.fetch_open_orders(BTC)
    assert [order["price"] for order in open_orders] == [50_010.0, 50_020.0, 50_000.0, 49_990.0]
    assert (open_orders[0]["filled"], open_orders[0]["remaining"], open_orders[0]["status"]) == (0.2, 0.3, "open")
    assert scene.maker.fetch_order(scene.ask["id"], BTC)["average"] == 50_010.0
    assert scene.maker.fetch_open_orders(ETH) == []
    assert scene.maker.fetch_canceled_orders(BTC)[-1]["id"] == cancelled["id"]
    assert scene.taker.fetch_closed_orders(BTC)[-1]["id"] == scene.buy["id"]
    assert scene.taker.fetch_canceled_and_closed_orders(BTC)[-1]["id"] == scene.buy["id"]
    assert [order["id"] for order in scene.maker.fetch_orders(BTC, limit=2)] == [open_orders[-1]["id"], cancelled["id"]]
    since = scene.maker.fetch_orders(BTC, since=scene.ask["timestamp"])
    assert scene.ask["id"] in [order["id"] for order in since]
    scene.maker.options["fetchOpenOrders"] = {"warnWithoutSymbol": False}
    assert [order["id"] for order in scene.maker.fetch_open_orders()] == [order["id"] for order in open_orders]


def test_a_market_that_is_not_there(maker: Any) -> None:
    with pytest.raises(ccxt.BadSymbol):
        maker.fetch_order_book("DOGE/USDT")
    with pytest.raises(ccxt.BadSymbol, match=r"-1121.*Invalid symbol\."):
        maker.public_get_depth({"symbol": "DOGEUSDT"})
