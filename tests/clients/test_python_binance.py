"""python-binance, synchronous, asynchronous and threaded, told another address."""

from __future__ import annotations

import asyncio
import queue
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.clients.server import Account, Server

with warnings.catch_warnings():
    # It still uses the names that websockets had before version 14.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance.async_client import AsyncClient
    from binance.client import Client
    from binance.exceptions import BinanceAPIException
    from binance.ws.depthcache import DepthCacheManager
    from binance.ws.streams import BinanceSocketManager, ThreadedWebsocketManager

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

BTC: Final = "BTCUSDT"
MESSAGE_TIMEOUT_S: Final = 20


@pytest.fixture
def addresses(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend's addresses in place of Binance's."""
    for client in (Client, AsyncClient):
        monkeypatch.setattr(client, "API_URL", f"{server.url}/api")
        monkeypatch.setattr(client, "MARGIN_API_URL", f"{server.url}/sapi")
    monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", f"{server.websocket_url}/")


# Even the synchronous client looks for an event loop, and leaves one behind where it finds none: so all tests have one.
@pytest_asyncio.fixture
async def seller(addresses: None, maker_account: Account, maker: Any) -> AsyncIterator[Any]:
    """The maker's synchronous client, with an ask of 1 BTC at 50010 and a bid of 1 BTC at 49990 in the book."""
    client = Client(maker_account.api_key, maker_account.secret)
    client.order_limit_sell(symbol=BTC, quantity=1, price="50010")
    client.order_limit_buy(symbol=BTC, quantity=1, price="49990")
    yield client
    client.close_connection()


@pytest_asyncio.fixture
async def buyer(addresses: None, taker_account: Account, taker: Any) -> AsyncIterator[Any]:
    """The taker's synchronous client."""
    client = Client(taker_account.api_key, taker_account.secret)
    yield client
    client.close_connection()


async def test_market_data(seller: Any, buyer: Any) -> None:
    bought = buyer.order_market_buy(symbol=BTC, quantity="0.2")
    trade_id = bought["fills"][0]["tradeId"]
    assert buyer.ping() == {}
    assert buyer.get_server_time()["serverTime"] > 0
    assert buyer.get_system_status() == {"status": 0, "msg": "normal"}
    assert [market["symbol"] for market in buyer.get_exchange_info()["symbols"]] == [
        BTC,
        "ETHUSDT",
        "SOLUSDT",
        "DOTUSDT",
    ]
    assert buyer.get_symbol_info(BTC)["baseAsset"] == "BTC"
    book = buyer.get_order_book(symbol=BTC)
    assert (book["bids"], book["asks"]) == ([["49990.00000000", "1.00000000"]], [["50010.00000000", "0.80000000"]])
    assert buyer.get_recent_trades(symbol=BTC)[-1]["id"] == trade_id
    assert buyer.get_historical_trades(symbol=BTC, fromId=trade_id)[0]["id"] == trade_id
    assert buyer.get_aggregate_trades(symbol=BTC)[-1]["l"] == trade_id
    assert list(buyer.aggregate_trade_iter(BTC, start_str="1 minute ago UTC"))[-1]["l"] == trade_id
    assert buyer.get_klines(symbol=BTC, interval=Client.KLINE_INTERVAL_1HOUR)[-1][4] == "50010.00000000"
    assert buyer.get_ui_klines(symbol=BTC, interval="1d")[-1][4] == "50010.00000000"
    assert buyer.get_historical_klines(BTC, "1m", "1 hour ago UTC")[-1][4] == "50010.00000000"
    assert float(buyer.get_avg_price(symbol=BTC)["price"]) > 0
    assert buyer.get_ticker(symbol=BTC)["lastPrice"] == "50010.00000000"
    assert buyer.get_symbol_ticker(symbol=BTC) == {"symbol": BTC, "price": "50010.00000000"}
    assert buyer.get_all_tickers()[0] == {"symbol": BTC, "price": "50010.00000000"}
    assert buyer.get_orderbook_ticker(symbol=BTC)["bidPrice"] == "49990.00000000"
    assert len(buyer.get_orderbook_tickers()) == 4


async def test_orders(seller: Any, buyer: Any) -> None:
    assert buyer.create_test_order(symbol=BTC, side="BUY", type="MARKET", quantity=1) == {}
    assert buyer.order_market_buy(symbol=BTC, quantity="0.1")["status"] == "FILLED"
    by_cost = buyer.order_market_buy(symbol=BTC, quoteOrderQty="5001")
    assert by_cost["executedQty"] == "0.10000000"
    order = buyer.create_order(
        symbol=BTC, side="SELL", type="LIMIT", timeInForce="GTC", quantity="0.1", price="51000", newClientOrderId="one"
    )
    found = buyer.get_order(symbol=BTC, orderId=order["orderId"])
    assert found == buyer.get_order(symbol=BTC, origClientOrderId="one")
    assert [row["orderId"] for row in buyer.get_open_orders(symbol=BTC)] == [order["orderId"]]
    assert buyer.get_open_orders() == [found]
    assert buyer.get_all_orders(symbol=BTC)[-1] == found

    replaced = buyer.cancel_replace_order(
        symbol=BTC,
        side="SELL",
        type="LIMIT",
        timeInForce="GTC",
        quantity="0.2",
        price="52000",
        cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrderId=order["orderId"],
    )
    assert (replaced["cancelResult"], replaced["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    second = replaced["newOrderResponse"]["orderId"]
    assert buyer.cancel_order(symbol=BTC, orderId=second)["status"] == "CANCELED"
    stop = buyer.create_order(
        symbol=BTC,
        side="SELL",
        type="STOP_LOSS_LIMIT",
        timeInForce="GTC",
        quantity="0.1",
        price="48000",
        stopPrice="49000",
    )
    assert [row["orderId"] for row in buyer.cancel_all_open_orders(symbol=BTC)] == [stop["orderId"]]
    assert buyer.get_my_trades(symbol=BTC)[-1]["orderId"] == by_cost["orderId"]


async def test_the_account(seller: Any) -> None:
    balances = {row["asset"]: row["locked"] for row in seller.get_account()["balances"]}
    assert (balances["BTC"], balances["USDT"]) == ("1.00000000", "49990.00000000")
    assert seller.get_asset_balance(asset="BTC")["locked"] == "1.00000000"
    assert seller.get_trade_fee(symbol=BTC)[0]["takerCommission"] == "0.00100000"
    assert {coin["coin"] for coin in seller.get_all_coins_info()} == {"BTC", "ETH", "SOL", "DOT", "USDT"}
    assert seller.get_current_order_count() == []


@pytest.mark.parametrize(
    ("code", "text", "action"),
    [
        (-1121, "Invalid symbol.", lambda client: client.get_order_book(symbol="DOGEUSDT")),
        (-2011, "Unknown order sent.", lambda client: client.cancel_order(symbol=BTC, orderId=999_999_999)),
        (-2013, "Order does not exist.", lambda client: client.get_order(symbol=BTC, orderId=999_999_999)),
        (-1013, "Filter failure: LOT_SIZE", lambda client: client.order_market_sell(symbol=BTC, quantity="0.000001")),
        (
            -2010,
            "Account has insufficient balance for requested action.",
            lambda client: client.order_limit_sell(symbol=BTC, quantity=9000, price="50000"),
        ),
    ],
)
async def test_refusals(buyer: Any, seller: Any, code: int, text: str, action: Callable[[Any], object]) -> None:
    with pytest.raises(BinanceAPIException) as caught:
        action(buyer)
    assert (caught.value.code, caught.value.message, caught.value.status_code) == (code, text, 400)


async def test_the_depth_cache(addresses: None, taker_account: Account, taker: Any) -> None:
    client = await AsyncClient.create(taker_account.api_key, taker_account.secret)
    sell = {"symbol": "ETHUSDT", "quantity": 1}
    async with DepthCacheManager(client, "ETHUSDT") as manager:
        async with asyncio.timeout(MESSAGE_TIMEOUT_S):
            await client.order_limit_sell(**sell, price="3000")
            await client.order_limit_sell(**sell, price="3001")
            while len((cache := await manager.recv()).get_asks()) < 2:
                pass
            assert cache.get_asks() == [[3000.0, 1.0], [3001.0, 1.0]]
            assert cache.get_bids() == []
        # It notices that it is to end when the next message comes.
        await client.order_limit_sell(**sell, price="3002")
    await client.close_connection()


async def test_sockets(addresses: None, taker_account: Account, taker: Any) -> None:
    client = await AsyncClient.create(taker_account.api_key, taker_account.secret)
    manager = BinanceSocketManager(client)
    heard: dict[str, Any] = {}
    streams = ["ethusdt@trade", "ethusdt@bookTicker", "ethusdt@depth@100ms"]
    async with manager.multiplex_socket(streams) as socket, asyncio.timeout(MESSAGE_TIMEOUT_S):
        await client.order_limit_sell(symbol="ETHUSDT", quantity=1, price="3000")
        await client.order_market_buy(symbol="ETHUSDT", quantity=1)
        await client.order_limit_sell(symbol="ETHUSDT", quantity=1, price="3000")
        while len(heard) < len(streams):
            message = await socket.recv()
            heard[message["stream"]] = message["data"]
        await client.cancel_all_open_orders(symbol="ETHUSDT")
    assert heard["ethusdt@trade"]["p"] == "3000.00000000"
    assert heard["ethusdt@bookTicker"]["s"] == "ETHUSDT"
    assert heard["ethusdt@depth@100ms"]["e"] == "depthUpdate"
    await client.close_connection()


@pytest.fixture
def threads_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of this thread, which the threaded manager takes to another one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def test_the_threaded_manager(addresses: None, threads_loop: asyncio.AbstractEventLoop, taker: Any) -> None:
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    manager = ThreadedWebsocketManager()
    manager.start()
    manager.start_depth_socket(callback=messages.put, symbol="ETHUSDT", interval=100)
    manager.start_multiplex_socket(callback=messages.put, streams=["ethusdt@bookTicker"])
    ticker = messages.get(timeout=MESSAGE_TIMEOUT_S)
    assert (ticker["stream"], ticker["data"]["s"]) == ("ethusdt@bookTicker", "ETHUSDT")
    heard: list[dict[str, Any]] = []
    while not any(message.get("e") == "depthUpdate" for message in heard):
        # The first orders may come before it listens.
        _place_and_cancel(taker)
        heard.append(messages.get(timeout=MESSAGE_TIMEOUT_S))
    manager.stop()
    while manager.is_alive():
        # Its sockets notice that they are to end when they hear something.
        _place_and_cancel(taker)
        manager.join(0.2)


def _place_and_cancel(exchange: Any) -> None:
    order = exchange.create_order("ETH/USDT", "limit", "sell", 1, 3000)
    exchange.cancel_order(order["id"], "ETH/USDT")
