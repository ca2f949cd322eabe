"""Orders from placing to their end, as a client of Binance's REST API sees them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.venue import Trader, Venue, now_ms

from rtx.core.vocabulary import MarketStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def pair(venue: Venue) -> tuple[str, str, Trader, Trader]:
    """A fresh market, its base asset, somebody with the base and somebody with the quote."""
    symbol = await venue.market()
    base = symbol.removesuffix("USDT")
    seller = await venue.trader({base: 10, "USDT": 1})
    buyer = await venue.trader({"USDT": 100_000})
    return symbol, base, seller, buyer


async def test_a_limit_order_rests_and_is_answered_in_full(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    before_ms = now_ms()
    answer = await buyer.post(
        "/api/v3/order",
        symbol=symbol,
        side="BUY",
        type="LIMIT",
        timeInForce="GTC",
        quantity="0.50000",
        price="20000.50",
        newClientOrderId="my-order.1",
    )

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    content = answer.json
    assert content.pop("orderId") > 0
    time_ms = content.pop("transactTime")
    assert before_ms <= time_ms <= now_ms()
    assert content == {
        "symbol": symbol,
        "orderListId": -1,
        "clientOrderId": "my-order.1",
        "price": "20000.50000000",
        "origQty": "0.50000000",
        "executedQty": "0.00000000",
        "origQuoteOrderQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "workingTime": time_ms,
        "selfTradePreventionMode": "NONE",
        "fills": [],
    }
    assert await buyer.free("USDT") == ("89999.75000000", "10000.25000000")


async def test_a_taker_is_told_its_fills_and_both_sides_are_paid(venue: Venue) -> None:
    symbol, base, seller, buyer = await pair(venue)
    await seller.order(symbol, "SELL", "1", "100")
    await seller.order(symbol, "SELL", "1", "101")
    taken = await buyer.order(symbol, "BUY", "1.5", "101")

    assert taken["status"] == "FILLED"
    assert taken["cummulativeQuoteQty"] == "150.50000000"
    assert taken["fills"] == [
        {
            "price": "100.00000000",
            "qty": "1.00000000",
            "commission": "0.00000000",
            "commissionAsset": base,
            "tradeId": 1,
        },
        {
            "price": "101.00000000",
            "qty": "0.50000000",
            "commission": "0.00000000",
            "commissionAsset": base,
            "tradeId": 2,
        },
    ]
    assert await buyer.free(base) == ("1.50000000", "0.00000000")
    assert await seller.free("USDT") == ("151.50000000", "0.00000000")
    assert await seller.free(base) == ("8.00000000", "0.50000000")


@pytest.mark.parametrize(
    ("parameters", "members"),
    [
        ({"newOrderRespType": "ACK"}, {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}),
        ({"type": "LIMIT_MAKER"}, {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}),
        ({"newOrderRespType": "RESULT"}, None),
    ],
)
async def test_the_answer_holds_what_was_asked_for(
    venue: Venue, parameters: dict[str, Any], members: set[str] | None
) -> None:
    symbol, _, _, buyer = await pair(venue)
    asked = {"symbol": symbol, "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "10"} | parameters
    if asked["type"] == "LIMIT":
        asked["timeInForce"] = "GTC"
    content = (await buyer.post("/api/v3/order", **asked)).json
    if members is None:
        assert "fills" not in content
        assert content["status"] == "NEW"
    else:
        assert content.keys() == members


async def test_market_orders_by_quantity_and_by_money(venue: Venue) -> None:
    symbol, _, seller, buyer = await pair(venue)
    await seller.order(symbol, "SELL", "2", "100")
    by_quantity = (await buyer.post("/api/v3/order", symbol=symbol, side="BUY", type="MARKET", quantity="0.5")).json
    by_money = (
        await buyer.post("/api/v3/order", symbol=symbol, side="BUY", type="MARKET", quoteOrderQty="33.333")
    ).json

    assert (by_quantity["status"], by_quantity["executedQty"], by_quantity["price"]) == (
        "FILLED",
        "0.50000000",
        "0.00000000",
    )
    assert by_money["origQuoteOrderQty"] == "33.33300000"
    assert by_money["executedQty"] == "0.33333000"
    assert by_money["cummulativeQuoteQty"] == "33.33300000"


@pytest.mark.parametrize(
    ("time_in_force", "executed", "reason"),
    [("IOC", "1.00000000", "UNFILLED_IOC_QUANTITY_EXPIRED"), ("FOK", "0.00000000", "UNFILLED_FOK_ORDER_EXPIRED")],
)
async def test_what_may_not_rest_expires_and_says_why(
    venue: Venue, time_in_force: str, executed: str, reason: str
) -> None:
    symbol, _, seller, buyer = await pair(venue)
    await seller.order(symbol, "SELL", "1", "100")
    expired = await buyer.order(symbol, "BUY", "2", "100", timeInForce=time_in_force)

    assert (expired["status"], expired["executedQty"], expired["expiryReason"]) == ("EXPIRED", executed, reason)
    found = (await buyer.get("/api/v3/order", symbol=symbol, orderId=expired["orderId"])).json
    assert (found["status"], found["expiryReason"]) == ("EXPIRED", reason)


async def test_a_stop_order_waits_and_then_works(venue: Venue) -> None:
    symbol, _, seller, buyer = await pair(venue)
    await seller.order(symbol, "SELL", "1", "100")
    await buyer.order(symbol, "BUY", "1", "100")
    placed = await buyer.post(
        "/api/v3/order",
        symbol=symbol,
        side="SELL",
        type="STOP_LOSS",
        quantity="1",
        stopPrice="90",
        newOrderRespType="FULL",
    )
    assert placed.status == 200, placed.body
    waiting = placed.json
    assert (waiting["status"], waiting["stopPrice"], waiting["workingTime"]) == ("NEW", "90.00000000", -1)
    found = (await buyer.get("/api/v3/order", symbol=symbol, orderId=waiting["orderId"])).json
    assert (found["isWorking"], found["workingTime"]) == (False, -1)

    await buyer.order(symbol, "BUY", "2", "90")
    await seller.order(symbol, "SELL", "0.5", "90")
    found = (await buyer.get("/api/v3/order", symbol=symbol, orderId=waiting["orderId"])).json
    assert (found["status"], found["isWorking"]) == ("FILLED", True)
    assert found["workingTime"] > 0


async def test_self_trade_prevention_shows_what_it_prevented(venue: Venue) -> None:
    symbol, base, seller, _ = await pair(venue)
    await venue.deposit(seller.account_id, "USDT", 1000)
    await seller.order(symbol, "SELL", "1", "100")
    prevented = await seller.order(symbol, "BUY", "3", "100", selfTradePreventionMode="EXPIRE_TAKER")
    assert (prevented["status"], prevented["selfTradePreventionMode"]) == ("EXPIRED_IN_MATCH", "EXPIRE_TAKER")
    assert prevented["preventedQuantity"] == "3.00000000"
    assert await seller.free(base) == ("9.00000000", "1.00000000")


async def test_an_order_is_found_by_either_name_and_cancelled_once(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "1", "100", newClientOrderId="mine")
    by_id = await buyer.get("/api/v3/order", symbol=symbol, orderId=placed["orderId"])
    by_name = await buyer.get("/api/v3/order", symbol=symbol, origClientOrderId="mine")
    assert by_id.json == by_name.json
    assert by_id.json == {
        "symbol": symbol,
        "orderId": placed["orderId"],
        "orderListId": -1,
        "clientOrderId": "mine",
        "price": "100.00000000",
        "origQty": "1.00000000",
        "executedQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "stopPrice": "0.00000000",
        "icebergQty": "0.00000000",
        "time": placed["transactTime"],
        "updateTime": placed["transactTime"],
        "isWorking": True,
        "workingTime": placed["transactTime"],
        "origQuoteOrderQty": "0.00000000",
        "selfTradePreventionMode": "NONE",
    }
    both_wrong = await buyer.get("/api/v3/order", symbol=symbol, orderId=placed["orderId"], origClientOrderId="other")
    assert both_wrong.code == -2013

    cancelled = await buyer.delete(
        "/api/v3/order", symbol=symbol, orderId=placed["orderId"], newClientOrderId="the-cancel"
    )
    assert cancelled.status == 200
    assert cancelled.json == {
        "symbol": symbol,
        "origClientOrderId": "mine",
        "orderId": placed["orderId"],
        "orderListId": -1,
        "clientOrderId": "the-cancel",
        "transactTime": cancelled.json["transactTime"],
        "price": "100.00000000",
        "origQty": "1.00000000",
        "executedQty": "0.00000000",
        "origQuoteOrderQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000",
        "status": "CANCELED",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "selfTradePreventionMode": "NONE",
    }
    again = await buyer.delete("/api/v3/order", symbol=symbol, orderId=placed["orderId"])
    assert (again.status, again.json) == (400, {"code": -2011, "msg": "Unknown order sent."})
    assert await buyer.free("USDT") == ("100000.00000000", "0.00000000")


async def test_cancel_restrictions(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "1", "100")
    refused = await buyer.delete(
        "/api/v3/order", symbol=symbol, orderId=placed["orderId"], cancelRestrictions="ONLY_PARTIALLY_FILLED"
    )
    assert refused.json == {"code": -2011, "msg": "Order was not canceled due to cancel restrictions."}
    unknown = await buyer.delete("/api/v3/order", symbol=symbol, orderId=placed["orderId"], cancelRestrictions="NEVER")
    assert unknown.json == {"code": -1145, "msg": "Invalid cancelRestrictions"}
    allowed = await buyer.delete(
        "/api/v3/order", symbol=symbol, orderId=placed["orderId"], cancelRestrictions="ONLY_NEW"
    )
    assert allowed.status == 200


async def test_somebody_elses_order_is_neither_seen_nor_cancelled(venue: Venue) -> None:
    symbol, _, seller, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "1", "100", newClientOrderId="private")
    assert (await seller.get("/api/v3/order", symbol=symbol, orderId=placed["orderId"])).code == -2013
    assert (await seller.get("/api/v3/order", symbol=symbol, origClientOrderId="private")).code == -2013
    for reference in ({"orderId": placed["orderId"]}, {"origClientOrderId": "private"}):
        answer = await seller.delete("/api/v3/order", symbol=symbol, **reference)
        assert (answer.status, answer.json) == (400, {"code": -2011, "msg": "Unknown order sent."})
    amended = await seller.put(
        "/api/v3/order/amend/keepPriority", symbol=symbol, orderId=placed["orderId"], newQty="0.5"
    )
    assert (amended.code, amended.json["msg"]) == (-2038, "Unknown order sent.")
    assert (await buyer.get("/api/v3/order", symbol=symbol, orderId=placed["orderId"])).json["status"] == "NEW"


async def test_open_orders_of_one_market_of_all_and_their_end(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    other = await venue.market()
    first = await buyer.order(symbol, "BUY", "1", "100")
    second = await buyer.order(symbol, "BUY", "1", "101")
    third = await buyer.order(other, "BUY", "1", "5")

    of_one = (await buyer.get("/api/v3/openOrders", symbol=symbol)).json
    of_all = (await buyer.get("/api/v3/openOrders")).json
    assert [order["orderId"] for order in of_one] == [first["orderId"], second["orderId"]]
    assert [order["orderId"] for order in of_all] == [first["orderId"], second["orderId"], third["orderId"]]
    assert {order["symbol"] for order in of_all} == {symbol, other}

    cancelled = (await buyer.delete("/api/v3/openOrders", symbol=symbol)).json
    assert [(order["orderId"], order["status"]) for order in cancelled] == [
        (first["orderId"], "CANCELED"),
        (second["orderId"], "CANCELED"),
    ]
    assert (await buyer.get("/api/v3/openOrders", symbol=symbol)).json == []
    assert (await buyer.delete("/api/v3/openOrders", symbol=symbol)).code == -2011
    assert len((await buyer.get("/api/v3/openOrders")).json) == 1


async def test_all_orders_by_id_time_and_limit(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    placed = [await buyer.order(symbol, "BUY", "1", str(100 + number)) for number in range(4)]
    ids = [order["orderId"] for order in placed]

    async def found(**parameters: Any) -> list[int]:
        answer = await buyer.get("/api/v3/allOrders", symbol=symbol, **parameters)
        assert answer.status == 200, answer.body
        return [order["orderId"] for order in answer.json]

    assert await found() == ids
    assert await found(limit=2) == ids[-2:]
    assert await found(orderId=ids[1], limit=2) == ids[1:3]
    assert await found(startTime=placed[0]["transactTime"], endTime=placed[-1]["transactTime"]) == ids
    assert await found(endTime=placed[0]["transactTime"] - 1) == []
    too_long = await buyer.get("/api/v3/allOrders", symbol=symbol, startTime=1, endTime=90_000_000)
    assert too_long.json == {"code": -1127, "msg": "More than 24 hours between startTime and endTime."}


async def test_an_amended_order_keeps_its_place(venue: Venue) -> None:
    symbol, _, seller, buyer = await pair(venue)
    first = await buyer.order(symbol, "BUY", "2", "100", newClientOrderId="first")
    await buyer.order(symbol, "BUY", "2", "100")
    amended = await buyer.put(
        "/api/v3/order/amend/keepPriority",
        symbol=symbol,
        orderId=first["orderId"],
        newQty="1.5",
        newClientOrderId="first-smaller",
    )
    assert amended.status == 200, amended.body
    content = amended.json
    assert content["executionId"] > 0
    assert content["amendedOrder"] == {
        "symbol": symbol,
        "orderId": first["orderId"],
        "orderListId": -1,
        "origClientOrderId": "first",
        "clientOrderId": "first-smaller",
        "price": "100.00000000",
        "qty": "1.50000000",
        "executedQty": "0.00000000",
        "preventedQty": "0.00000000",
        "quoteOrderQty": "0.00000000",
        "cumulativeQuoteQty": "0.00000000",
        "status": "NEW",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "side": "BUY",
        "workingTime": first["workingTime"],
        "selfTradePreventionMode": "NONE",
    }
    await seller.order(symbol, "SELL", "1.5", "100")
    found = (await buyer.get("/api/v3/order", symbol=symbol, origClientOrderId="first-smaller")).json
    assert (found["status"], found["executedQty"]) == ("FILLED", "1.50000000")


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        ("3", "Order amend (quantity increase) is not supported."),
        ("2", "The requested action would change no state; rejecting"),
    ],
)
async def test_an_order_is_only_amended_to_less(venue: Venue, quantity: str, text: str) -> None:
    symbol, _, _, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "2", "100")
    answer = await buyer.put(
        "/api/v3/order/amend/keepPriority", symbol=symbol, orderId=placed["orderId"], newQty=quantity
    )
    assert (answer.status, answer.json) == (400, {"code": -2038, "msg": text})


async def replace(trader: Trader, symbol: str, order_id: int, **parameters: Any) -> Any:
    asked = {
        "symbol": symbol,
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "1",
        "price": "90",
        "cancelOrderId": order_id,
        "cancelReplaceMode": "STOP_ON_FAILURE",
    }
    return await trader.post("/api/v3/order/cancelReplace", **(asked | parameters))


async def test_cancel_replace_reports_each_half(venue: Venue) -> None:
    symbol, _, seller, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "1", "100", newClientOrderId="old")
    both = await replace(buyer, symbol, placed["orderId"], newClientOrderId="new", cancelNewClientOrderId="gone")
    assert both.status == 200
    content = both.json
    assert (content["cancelResult"], content["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert content["cancelResponse"]["status"] == "CANCELED"
    assert content["cancelResponse"]["origClientOrderId"] == "old"
    assert content["cancelResponse"]["clientOrderId"] == "gone"
    assert content["newOrderResponse"]["clientOrderId"] == "new"
    assert content["newOrderResponse"]["fills"] == []
    new_id = content["newOrderResponse"]["orderId"]

    stopped = await replace(buyer, symbol, placed["orderId"])
    assert (stopped.status, stopped.json) == (
        400,
        {
            "code": -2022,
            "msg": "Order cancel-replace failed.",
            "data": {
                "cancelResult": "FAILURE",
                "newOrderResult": "NOT_ATTEMPTED",
                "cancelResponse": {"code": -2011, "msg": "Unknown order sent."},
                "newOrderResponse": None,
            },
        },
    )

    only_new = await replace(
        buyer, symbol, placed["orderId"], cancelReplaceMode="ALLOW_FAILURE", newOrderRespType="ACK"
    )
    assert only_new.status == 409
    assert only_new.json["code"] == -2021
    data = only_new.json["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == ("FAILURE", "SUCCESS")
    assert data["cancelResponse"] == {"code": -2011, "msg": "Unknown order sent."}
    assert data["newOrderResponse"]["orderId"] > new_id

    await seller.order(symbol, "SELL", "1", "110")
    only_cancel = await replace(buyer, symbol, new_id, quantity="10000")
    assert only_cancel.status == 409
    data = only_cancel.json["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == ("SUCCESS", "FAILURE")
    assert data["cancelResponse"]["status"] == "CANCELED"
    assert data["newOrderResponse"] == {
        "code": -2010,
        "msg": "Account has insufficient balance for requested action.",
    }

    neither = await replace(buyer, symbol, new_id, cancelReplaceMode="ALLOW_FAILURE", quantity="10000")
    assert neither.status == 400
    assert neither.json["code"] == -2022
    assert neither.json["data"]["cancelResponse"]["code"] == -2011
    assert neither.json["data"]["newOrderResponse"]["code"] == -2010


async def test_cancel_replace_with_a_wrong_order_cancels_nothing(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "1", "100")
    answer = await replace(buyer, symbol, placed["orderId"], price="90.001")
    assert (answer.status, answer.json) == (400, {"code": -1013, "msg": "Filter failure: PRICE_FILTER"})
    assert (await buyer.get("/api/v3/order", symbol=symbol, orderId=placed["orderId"])).json["status"] == "NEW"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"quantity": "2000000"}, "Account has insufficient balance for requested action."),
        ({"type": "LIMIT_MAKER", "price": "100"}, "Order would immediately match and take."),
        ({"newClientOrderId": "taken"}, "Duplicate order sent."),
        ({"type": "STOP_LOSS", "stopPrice": "50"}, "Order would trigger immediately."),
    ],
)
async def test_what_the_exchange_refuses_has_binances_text(venue: Venue, parameters: dict[str, str], text: str) -> None:
    symbol, _, seller, buyer = await pair(venue)
    await seller.order(symbol, "SELL", "2", "100")
    await buyer.order(symbol, "BUY", "1", "100")
    await buyer.order(symbol, "BUY", "1", "50", newClientOrderId="taken")
    asked = {"symbol": symbol, "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "60"} | parameters
    if asked["type"] == "LIMIT":
        asked["timeInForce"] = "GTC"
    if asked["type"] == "STOP_LOSS":
        del asked["price"]
    held = await buyer.free("USDT")
    answer = await buyer.post("/api/v3/order", **asked)
    assert (answer.status, answer.json) == (400, {"code": -2010, "msg": text})
    assert await buyer.free("USDT") == held


async def test_a_market_that_does_not_trade(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    placed = await buyer.order(symbol, "BUY", "1", "100")
    asked = {"symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "1"}

    await venue.set_status(symbol, MarketStatus.HALT)
    refused = await buyer.post("/api/v3/order", **asked)
    assert (refused.status, refused.json) == (400, {"code": -1013, "msg": "Market is closed."})
    refused = await buyer.delete("/api/v3/order", symbol=symbol, orderId=placed["orderId"])
    assert (refused.status, refused.json) == (400, {"code": -2011, "msg": "Market is closed."})

    await venue.set_status(symbol, MarketStatus.CANCEL_ONLY)
    assert (await buyer.post("/api/v3/order", **asked)).json["msg"] == "Market is closed."
    assert (await buyer.delete("/api/v3/order", symbol=symbol, orderId=placed["orderId"])).status == 200


async def test_a_tested_order_is_judged_and_not_placed(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    asked = {"symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "1"}
    assert (await buyer.post("/api/v3/order/test", **asked)).json == {}
    rates = (await buyer.post("/api/v3/order/test", **asked, computeCommissionRates="true")).json
    assert rates["standardCommissionForOrder"] == {"maker": "0.00000000", "taker": "0.00000000"}
    assert (await buyer.post("/api/v3/order/test", **(asked | {"price": "1.001"}))).code == -1013
    assert (await buyer.get("/api/v3/openOrders", symbol=symbol)).json == []


async def test_times_are_in_microseconds_for_who_asks_for_them(venue: Venue) -> None:
    symbol, _, _, buyer = await pair(venue)
    buyer.headers["X-MBX-TIME-UNIT"] = "microsecond"
    placed = await buyer.order(symbol, "BUY", "1", "100")
    assert placed["transactTime"] > 10**15
    buyer.headers["X-MBX-TIME-UNIT"] = "FORTNIGHT"
    refused = await buyer.get("/api/v3/openOrders")
    assert refused.code == -1194
