"""Every order that ccxt can send, and what becomes of it: placed, filled, triggered, replaced, cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ccxt
import pytest
from tests.clients.ccxt_exchange import exchange_of
from tests.clients.server import Account, Server

pytestmark = pytest.mark.clients

BTC = "BTC/USDT"
LAST = 50_000.0

Parameters = Mapping[str, object]


@pytest.fixture(autouse=True)
def last_price(maker: Any, taker: Any) -> None:
    """Somebody traded at 50000, and the book is empty again."""
    maker.create_order(BTC, "limit", "sell", 0.01, LAST)
    taker.create_order(BTC, "limit", "buy", 0.01, LAST)


def trade_at(maker: Any, taker: Any, price: float) -> None:
    """Trade a little at a price of which nothing else is in the way."""
    maker.create_order(BTC, "limit", "sell", 0.01, price)
    taker.create_order(BTC, "limit", "buy", 0.01, price)


@pytest.mark.parametrize(
    ("kind", "side", "amount", "price", "parameters", "wire_type", "status", "filled"),
    [
        ("limit", "buy", 0.5, 50_010, {}, "LIMIT", "closed", 0.5),
        ("limit", "buy", 1.5, 50_010, {}, "LIMIT", "open", 1.0),
        ("limit", "buy", 1.5, 50_000, {}, "LIMIT", "open", 0.0),
        ("limit", "buy", 1.5, 50_010, {"timeInForce": "GTC"}, "LIMIT", "open", 1.0),
        ("limit", "buy", 1.5, 50_010, {"timeInForce": "IOC"}, "LIMIT", "expired", 1.0),
        ("limit", "buy", 1.5, 50_000, {"timeInForce": "IOC"}, "LIMIT", "expired", 0.0),
        ("limit", "buy", 1.5, 50_010, {"timeInForce": "FOK"}, "LIMIT", "expired", 0.0),
        ("limit", "buy", 1.5, 50_020, {"timeInForce": "FOK"}, "LIMIT", "closed", 1.5),
        ("limit", "buy", 1.5, 50_000, {"postOnly": True}, "LIMIT_MAKER", "open", 0.0),
        ("limit", "buy", 1.5, 50_000, {"timeInForce": "PO"}, "LIMIT_MAKER", "open", 0.0),
        ("limit_maker", "buy", 1.5, 50_000, {}, "LIMIT_MAKER", "open", 0.0),
        ("market", "buy", 0.5, None, {}, "MARKET", "closed", 0.5),
        ("market", "buy", 2.5, None, {}, "MARKET", "expired", 2.0),
        ("market", "sell", 0.5, None, {}, "MARKET", "closed", 0.5),
        ("market", "buy", 0, None, {"cost": 5001}, "MARKET", "closed", 0.1),
        ("market", "buy", 0, None, {"quoteOrderQty": 5001}, "MARKET", "closed", 0.1),
        ("market", "buy", 0.1, 50_010, {}, "MARKET", "closed", 0.1),
        ("market", "sell", 0, None, {"cost": 4998}, "MARKET", "closed", 0.1),
    ],
)
def test_orders_against_a_book(
    maker: Any,
    taker: Any,
    kind: str,
    side: str,
    amount: float,
    price: float | None,
    parameters: Parameters,
    wire_type: str,
    status: str,
    filled: float,
) -> None:
    maker.create_order(BTC, "limit", "sell", 1, 50_010)
    maker.create_order(BTC, "limit", "sell", 1, 50_020)
    maker.create_order(BTC, "limit", "buy", 1, 49_980)

    placed = taker.create_order(BTC, kind, side, amount, price, parameters)

    assert (placed["info"]["type"], placed["status"], placed["filled"]) == (wire_type, status, filled)
    fetched = taker.fetch_order(placed["id"], BTC)
    assert (fetched["info"]["type"], fetched["status"], fetched["filled"]) == (wire_type, status, filled)
    assert fetched["cost"] == placed["cost"]
    if filled:
        assert sum(trade["amount"] for trade in placed["trades"]) == filled
        fee_asset = "BTC" if side == "buy" else "USDT"
        assert {trade["fee"]["currency"] for trade in placed["trades"]} == {fee_asset}
    assert [order["id"] for order in taker.fetch_open_orders(BTC)] == ([placed["id"]] if status == "open" else [])


def test_a_market_order_by_cost_has_methods_of_its_own(maker: Any, taker: Any) -> None:
    maker.create_order(BTC, "limit", "sell", 1, 50_000)
    maker.create_order(BTC, "limit", "buy", 1, 49_000)
    assert taker.create_market_buy_order_with_cost(BTC, 500)["filled"] == 0.01
    assert taker.create_market_sell_order_with_cost(BTC, 490)["filled"] == 0.01
    assert taker.create_market_order_with_cost(BTC, "buy", 600)["cost"] == 600.0


@pytest.mark.parametrize(
    ("side", "kind", "price", "parameters", "wire_type", "trigger_at"),
    [
        ("sell", "market", None, {"stopLossPrice": 49_500}, "STOP_LOSS", 49_500),
        ("buy", "market", None, {"stopLossPrice": 50_500}, "STOP_LOSS", 50_500),
        ("sell", "limit", 49_400, {"stopLossPrice": 49_500}, "STOP_LOSS_LIMIT", 49_400),
        ("buy", "limit", 50_600, {"triggerPrice": 50_500}, "STOP_LOSS_LIMIT", 50_600),
        ("sell", "market", None, {"takeProfitPrice": 50_500}, "TAKE_PROFIT", 50_500),
        ("buy", "market", None, {"takeProfitPrice": 49_500}, "TAKE_PROFIT", 49_500),
        ("sell", "limit", 50_400, {"takeProfitPrice": 50_500}, "TAKE_PROFIT_LIMIT", 50_700),
        ("buy", "limit", 49_600, {"takeProfitPrice": 49_500}, "TAKE_PROFIT_LIMIT", 49_300),
    ],
)
def test_orders_that_wait_for_a_price(
    maker: Any,
    taker: Any,
    side: str,
    kind: str,
    price: float | None,
    parameters: Parameters,
    wire_type: str,
    trigger_at: float,
) -> None:
    waiting = taker.create_order(BTC, kind, side, 0.5, price, parameters)
    assert (waiting["info"]["type"], waiting["status"]) == (wire_type, "open")
    fetched = taker.fetch_order(waiting["id"], BTC)
    (stop_price,) = parameters.values()
    assert (fetched["triggerPrice"], fetched["info"]["isWorking"]) == (stop_price, False)
    assert taker.fetch_balance()["BTC" if side == "sell" else "USDT"]["used"] > 0

    trade_at(maker, taker, trigger_at)

    triggered = taker.fetch_order(waiting["id"], BTC)
    assert triggered["info"]["isWorking"] is True
    if kind == "market":
        assert (triggered["status"], triggered["filled"]) == ("expired", 0.0)
    else:
        assert (triggered["status"], triggered["price"]) == ("open", price)
        assert taker.fetch_order_book(BTC)["asks" if side == "sell" else "bids"] == [[price, 0.5]]


def test_a_stop_sells_into_the_book(maker: Any, taker: Any) -> None:
    maker.create_order(BTC, "limit", "buy", 2, 49_500)
    stop = taker.create_stop_loss_order(BTC, "market", "sell", 0.5, None, 49_600)
    taker.create_order(BTC, "market", "sell", 0.1)
    done = taker.fetch_order(stop["id"], BTC)
    assert (done["status"], done["filled"], done["average"]) == ("closed", 0.5, 49_500.0)


@pytest.mark.parametrize(
    ("mode", "taker_status", "resting_status", "resting_filled"),
    [
        ("none", "closed", "closed", 1.0),
        ("expire_taker", "expired", "open", 0.0),
        ("expire_maker", "open", "expired", 0.0),
        ("expire_both", "expired", "expired", 0.0),
        ("decrement", "expired", "expired", 0.0),
    ],
)
def test_self_trade_prevention(
    taker: Any, mode: str, taker_status: str, resting_status: str, resting_filled: float
) -> None:
    resting = taker.create_order(BTC, "limit", "sell", 1, 50_010)
    crossing = taker.create_order(BTC, "limit", "buy", 1, 50_010, {"selfTradePrevention": mode})
    assert (crossing["info"]["selfTradePreventionMode"], crossing["status"]) == (mode.upper(), taker_status)
    resting = taker.fetch_order(resting["id"], BTC)
    assert (resting["status"], resting["filled"]) == (resting_status, resting_filled)


def test_an_order_only_tried(taker: Any) -> None:
    taker.create_order(BTC, "limit", "buy", 1, 50_000, {"test": True})
    assert taker.fetch_open_orders(BTC) == []
    with pytest.raises(ccxt.InvalidOrder):
        taker.create_order(BTC, "limit", "buy", 1, 900_000, {"test": True})


def test_orders_by_the_clients_own_ids(taker: Any) -> None:
    placed = taker.create_order(BTC, "limit", "buy", 1, 49_000, {"clientOrderId": "mine-1"})
    assert placed["clientOrderId"] == "mine-1"
    assert taker.fetch_order(None, BTC, {"clientOrderId": "mine-1"})["id"] == placed["id"]
    cancelled = taker.cancel_order(None, BTC, {"clientOrderId": "mine-1"})
    assert (cancelled["id"], cancelled["status"]) == (placed["id"], "canceled")
    again = taker.create_order(BTC, "limit", "buy", 1, 49_000, {"clientOrderId": "mine-1"})
    assert taker.fetch_order(None, BTC, {"clientOrderId": "mine-1"})["id"] == again["id"]


def test_editing_replaces_an_order(taker: Any) -> None:
    first = taker.create_order(BTC, "limit", "buy", 1, 49_000)
    second = taker.edit_order(first["id"], BTC, "limit", "buy", 0.7, 49_100, {"clientOrderId": "second"})
    assert (second["clientOrderId"], second["amount"], second["price"]) == ("second", 0.7, 49_100.0)
    third = taker.edit_order(
        None, BTC, "limit", "buy", 0.6, 49_050, {"cancelOrigClientOrderId": "second", "postOnly": True}
    )
    stop = taker.edit_order(third["id"], BTC, "limit", "buy", 0.6, 50_600, {"stopPrice": 50_500})
    assert [taker.fetch_order(order["id"], BTC)["status"] for order in (first, second, third, stop)] == [
        "canceled",
        "canceled",
        "canceled",
        "open",
    ]
    assert taker.fetch_order_book(BTC)["bids"] == []
    assert taker.fetch_balance()["USDT"]["used"] == 0.6 * 50_600


def test_replacements_of_which_a_half_is_refused(taker: Any) -> None:
    kept = taker.create_order(BTC, "limit", "buy", 1, 49_000)
    with pytest.raises(ccxt.ExchangeError, match=r"-2022.*NOT_ATTEMPTED"):
        taker.edit_order("999999999", BTC, "limit", "buy", 1, 49_100)
    with pytest.raises(ccxt.ExchangeError, match=r"-2021.*insufficient balance"):
        taker.edit_order(kept["id"], BTC, "limit", "buy", 9000, 49_100)
    assert taker.fetch_order(kept["id"], BTC)["status"] == "canceled"


def test_cancelling(maker: Any, taker: Any) -> None:
    mine = [taker.create_order(BTC, "limit", "buy", 1, price) for price in (48_000, 48_001, 48_002)]
    stop = taker.create_order(BTC, "market", "sell", 0.5, None, {"stopLossPrice": 49_000})
    theirs = maker.create_order(BTC, "limit", "buy", 1, 48_003)
    assert taker.cancel_order(mine[0]["id"], BTC)["status"] == "canceled"
    cancelled = taker.cancel_all_orders(BTC)
    assert [order["id"] for order in cancelled] == [mine[1]["id"], mine[2]["id"], stop["id"]]
    assert taker.fetch_open_orders(BTC) == []
    assert [order["id"] for order in maker.fetch_open_orders(BTC)] == [theirs["id"]]
    balance = taker.fetch_balance()
    assert (balance["USDT"]["used"], balance["BTC"]["used"]) == (0.0, 0.0)


@pytest.fixture
def persistent(server: Server, taker_account: Account, taker: Any) -> Any:
    """The taker's ccxt with an idempotency key on everything it sends."""
    exchange = exchange_of(server, taker_account)
    exchange.load_markets()
    exchange.headers = {"Idempotency-Key": "order-4711"}
    return exchange


def test_an_order_sent_twice_with_one_idempotency_key(persistent: Any) -> None:
    order = (BTC, "limit", "buy", 1, 48_000, {"clientOrderId": "once"})
    first, second = persistent.create_order(*order), persistent.create_order(*order)
    assert first == second
    assert [order["id"] for order in persistent.fetch_open_orders(BTC)] == [first["id"]]
    with pytest.raises(ccxt.ExchangeError, match=r"-9001.*already used for a different request"):
        persistent.create_order(BTC, "limit", "buy", 2, 48_000, {"clientOrderId": "once"})
    assert len(persistent.fetch_open_orders(BTC)) == 1
