"""Refusals as ccxt's own exception classes, which it finds by Binance's texts first and codes second.

ccxt looks at its table for spot markets only when the address is Binance's own, so what is here is what its common
table gives everybody. It says :class:`ccxt.BadRequest` and :class:`ccxt.InvalidOrder` where one might wish for more
(NOTIONAL, MAX_NUM_ORDERS, a duplicate id): it does so with Binance, too.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import ccxt
import pytest
from tests.clients.ccxt_exchange import exchange_of
from tests.clients.server import Account, Server

from rtx.api import errors
from rtx.api.errors import ApiError

pytestmark = pytest.mark.clients

BTC = "BTC/USDT"

RAW_ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100"}


@pytest.fixture(autouse=True)
def book(maker: Any, taker: Any) -> None:
    """An ask at 50010 and a bid at 49990, after a trade at 50000."""
    maker.create_order(BTC, "limit", "sell", 0.01, 50_000)
    taker.create_order(BTC, "limit", "buy", 0.01, 50_000)
    maker.create_order(BTC, "limit", "sell", 1, 50_010)
    maker.create_order(BTC, "limit", "buy", 1, 49_990)


def refused(kind: type[Exception], text: str, action: Callable[[], object]) -> None:
    with pytest.raises(ccxt.BaseError, match=re.escape(text)) as caught:
        action()
    assert type(caught.value) is kind


REFUSALS = [
    (ccxt.InsufficientFunds, "Account has insufficient balance for requested action.",
     lambda taker: taker.create_order(BTC, "limit", "buy", 8000, 49_000)),
    (ccxt.InsufficientFunds, "Account has insufficient balance for requested action.",
     lambda taker: taker.create_order(BTC, "limit", "sell", 8000, 51_000)),
    (ccxt.OrderImmediatelyFillable, "Order would immediately match and take.",
     lambda taker: taker.create_order(BTC, "limit", "buy", 1, 50_010, {"postOnly": True})),
    (ccxt.OrderImmediatelyFillable, "Order would trigger immediately.",
     lambda taker: taker.create_order(BTC, "market", "sell", 1, None, {"stopLossPrice": 50_100})),
    (ccxt.OrderNotFound, '"code":-2011,"msg":"Unknown order sent."',
     lambda taker: taker.cancel_order("999999999", BTC)),
    (ccxt.OrderNotFound, '"code":-2011,"msg":"Unknown order sent."',
     lambda taker: taker.cancel_order(None, BTC, {"clientOrderId": "never"})),
    (ccxt.OrderNotFound, '"code":-2011,"msg":"Unknown order sent."', lambda taker: taker.cancel_all_orders(BTC)),
    (ccxt.OrderNotFound, '"code":-2013,"msg":"Order does not exist."',
     lambda taker: taker.fetch_order("999999999", BTC)),
    (ccxt.InvalidOrder, '"code":-1013,"msg":"Filter failure: LOT_SIZE"',
     lambda taker: taker.create_order(BTC, "limit", "buy", 0.0005, 49_000)),
    (ccxt.InvalidOrder, '"code":-1013,"msg":"Filter failure: LOT_SIZE"',
     lambda taker: taker.private_post_order({**RAW_ORDER, "quantity": "1.000001", "price": "50000"})),
    (ccxt.InvalidOrder, '"code":-1013,"msg":"Filter failure: PRICE_FILTER"',
     lambda taker: taker.private_post_order({**RAW_ORDER, "price": "50000.001"})),
    (ccxt.InvalidOrder, '"code":-1013,"msg":"Filter failure: PRICE_FILTER"',
     lambda taker: taker.create_order(BTC, "limit", "sell", 1, 1_000_001)),
    (ccxt.InvalidOrder, "Filter failure: PERCENT_PRICE_BY_SIDE",
     lambda taker: taker.create_order(BTC, "limit", "buy", 1, 9_000)),
    (ccxt.BadRequest, '"code":-1013,"msg":"Filter failure: NOTIONAL"',
     lambda taker: taker.create_market_buy_order_with_cost(BTC, 4)),
    (ccxt.InvalidOrder, '"code":-2010,"msg":"Duplicate order sent."',
     lambda taker: [taker.create_order(BTC, "limit", "buy", 1, 49_000, {"clientOrderId": "twice"}) for _ in "12"]),
    (ccxt.BadRequest, '"code":-1013,"msg":"Filter failure: MAX_NUM_ORDERS"',
     lambda taker: [taker.create_order(BTC, "limit", "buy", 0.01, 49_000) for _ in range(21)]),
    (ccxt.BadRequest, '"code":-1013,"msg":"Iceberg orders are not supported for this symbol."',
     lambda taker: taker.create_order(BTC, "limit", "buy", 1, 49_000, {"icebergAmount": 0.1})),
    (ccxt.BadRequest, '"code":-1013,"msg":"Trailing stop orders are not supported for this symbol."',
     lambda taker: taker.create_order(
         BTC, "market", "sell", 1, None, {"trailingPercent": 1, "stopLossOrTakeProfit": "stopLoss"})),
    (ccxt.BadSymbol, '"code":-1121,"msg":"Invalid symbol."',
     lambda taker: taker.private_post_order({**RAW_ORDER, "symbol": "DOGEUSDT"})),
    (ccxt.BadRequest, '"code":-1117,"msg":"Invalid side."',
     lambda taker: taker.private_post_order({**RAW_ORDER, "side": "HOLD"})),
    (ccxt.BadRequest, '"code":-1104', lambda taker: taker.private_post_order({**RAW_ORDER, "colour": "red"})),
    (ccxt.BadRequest, '"code":-1100', lambda taker: taker.private_post_order({**RAW_ORDER, "price": "NaN"})),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "action"), REFUSALS)
def test_refusals(taker: Any, kind: type[Exception], text: str, action: Callable[[Any], object]) -> None:
    refused(kind, text, lambda: action(taker))


def test_a_halted_market(server: Server, maker: Any, taker: Any) -> None:
    mine = taker.create_order(BTC, "limit", "buy", 1, 49_000)
    with halted(server):
        refused(ccxt.MarketClosed, "Market is closed.", lambda: taker.create_order(BTC, "limit", "buy", 1, 49_000))
        refused(ccxt.MarketClosed, "Market is closed.", lambda: taker.cancel_order(mine["id"], BTC))
        assert taker.load_markets(True)[BTC]["active"] is False
    assert taker.load_markets(True)[BTC]["active"] is True
    assert taker.cancel_order(mine["id"], BTC)["status"] == "canceled"


@contextlib.contextmanager
def halted(server: Server) -> Iterator[None]:
    path = "/api/v1/admin/markets/BTCUSDT/status"
    server.operator("PUT", path, {"status": "HALT"})
    try:
        yield
    finally:
        server.operator("PUT", path, {"status": "TRADING"})


def test_somebody_elses_order(maker: Any, taker: Any) -> None:
    theirs = maker.create_order(BTC, "limit", "buy", 1, 49_000, {"clientOrderId": "theirs"})
    refused(ccxt.OrderNotFound, "-2013", lambda: taker.fetch_order(theirs["id"], BTC))
    refused(ccxt.OrderNotFound, "-2011", lambda: taker.cancel_order(theirs["id"], BTC))
    refused(ccxt.OrderNotFound, "-2011", lambda: taker.cancel_order(None, BTC, {"clientOrderId": "theirs"}))
    assert maker.fetch_order(theirs["id"], BTC)["status"] == "open"


def test_keys_and_signatures(server: Server, taker_account: Account) -> None:
    stranger = exchange_of(server, taker_account)
    stranger.secret = "x" * 64
    refused(
        ccxt.AuthenticationError,
        '"code":-1022,"msg":"Signature for this request is not valid."',
        stranger.fetch_balance,
    )
    stranger.apiKey = "x" * 64
    refused(ccxt.AuthenticationError, '"code":-2015', stranger.fetch_balance)
    stranger.apiKey = "short"
    refused(ccxt.AuthenticationError, '"code":-2014,"msg":"API-key format invalid."', stranger.fetch_balance)
    reader = exchange_of(server, server.account({"USDT": "1000"}, permissions=("read",)))
    refused(
        ccxt.AuthenticationError,
        '"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."',
        lambda: reader.create_order(BTC, "limit", "buy", 0.01, 49_000),
    )


@pytest.mark.parametrize("seconds", [20, -20])
def test_a_clock_that_is_wrong(server: Server, taker_account: Account, seconds: int) -> None:
    exchange = exchange_of(server, taker_account)
    exchange.load_markets()
    exchange.options["timeDifference"] = seconds * 1000
    refused(ccxt.InvalidNonce, '"code":-1021,"msg":"Timestamp for this request', exchange.fetch_balance)
    exchange.load_time_difference()
    assert exchange.fetch_balance()["BTC"]["total"] > 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.unavailable(), ccxt.OperationFailed),
        (errors.execution_unknown(), ccxt.RequestTimeout),
        # Behind Binance's own address ccxt makes OperationFailed of it, elsewhere it has no class for -1008.
        (errors.overloaded(), ccxt.ExchangeError),
        (errors.unknown_error(), ccxt.OperationFailed),
    ],
)
def test_a_backend_in_trouble(taker: Any, error: ApiError, kind: type[Exception]) -> None:
    text = error.body().decode()
    url = taker.urls["api"]["private"] + "/order"
    refused(
        kind,
        error.message,
        lambda: taker.handle_errors(error.http_status, "", url, "POST", {}, text, json.loads(text), {}, ""),
    )
