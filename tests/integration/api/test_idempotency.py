"""Sent twice is done once, under an ``Idempotency-Key``."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.venue import Trader, Venue

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = {"Idempotency-Key": "0190f2a4-77aa-7cc3-98c4-dc0c0c07398f"}


async def buyer_in(venue: Venue) -> tuple[str, Trader, dict[str, Any]]:
    symbol = await venue.market()
    order = {"symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100"}
    return symbol, await venue.trader({"USDT": 1000}), order


async def test_a_repeated_order_gets_the_same_answer_and_is_placed_once(venue: Venue) -> None:
    symbol, buyer, order = await buyer_in(venue)
    first = await buyer.request("POST", "/api/v3/order", order, headers=KEY)
    # The same parameters elsewhere and in another order, signed at another time.
    again = await buyer.request("POST", "/api/v3/order", dict(reversed(order.items())), in_body=True, headers=KEY)
    assert first.status == 200
    assert (again.status, again.body) == (first.status, first.body)
    assert len((await buyer.get("/api/v3/openOrders", symbol=symbol)).json) == 1
    assert await buyer.free("USDT") == ("900.00000000", "100.00000000")


async def test_another_request_under_the_same_key_is_an_error(venue: Venue) -> None:
    symbol, buyer, order = await buyer_in(venue)
    await buyer.request("POST", "/api/v3/order", order, headers=KEY)
    other = await buyer.request("POST", "/api/v3/order", order | {"quantity": "2"}, headers=KEY)
    assert other.status == 409
    assert other.json == {
        "code": -9001,
        "msg": "This Idempotency-Key was already used for a different request.",
    }
    assert len((await buyer.get("/api/v3/openOrders", symbol=symbol)).json) == 1


async def test_the_key_of_one_account_is_nothing_to_another(venue: Venue) -> None:
    _, buyer, order = await buyer_in(venue)
    other = await venue.trader({"USDT": 1000})
    first = await buyer.request("POST", "/api/v3/order", order, headers=KEY)
    second = await other.request("POST", "/api/v3/order", order | {"quantity": "2"}, headers=KEY)
    assert (first.status, second.status) == (200, 200)
    assert first.json["orderId"] != second.json["orderId"]


async def test_cancellations_and_amendments_are_repeated_likewise(venue: Venue) -> None:
    symbol, buyer, order = await buyer_in(venue)
    placed = (await buyer.post("/api/v3/order", **order)).json
    reference = {"symbol": symbol, "orderId": placed["orderId"]}

    amend = reference | {"newQty": "0.5"}
    path = "/api/v3/order/amend/keepPriority"
    amended = await buyer.request("PUT", path, amend, headers={"Idempotency-Key": "amend"})
    amended_again = await buyer.request("PUT", path, amend, headers={"Idempotency-Key": "amend"})
    assert amended.status == 200, amended.body
    assert amended.json["amendedOrder"]["origClientOrderId"] == placed["clientOrderId"]
    assert amended_again.body == amended.body

    cancelled = await buyer.request("DELETE", "/api/v3/order", reference, headers={"Idempotency-Key": "cancel"})
    cancelled_again = await buyer.request("DELETE", "/api/v3/order", reference, headers={"Idempotency-Key": "cancel"})
    assert cancelled.status == 200, cancelled.body
    assert cancelled_again.body == cancelled.body


async def test_a_partly_refused_replacement_is_repeated_with_its_status(venue: Venue) -> None:
    _, buyer, order = await buyer_in(venue)
    placed = (await buyer.post("/api/v3/order", **order)).json
    replacement = order | {
        "quantity": "1000",
        "cancelOrderId": placed["orderId"],
        "cancelReplaceMode": "STOP_ON_FAILURE",
    }
    path = "/api/v3/order/cancelReplace"
    first = await buyer.request("POST", path, replacement, headers=KEY)
    again = await buyer.request("POST", path, replacement, headers=KEY)
    assert first.status == 409
    assert (again.status, again.body) == (first.status, first.body)


@pytest.mark.parametrize("key", ["", "a key with spaces", "k" * 256])
async def test_a_key_that_cannot_be_one(venue: Venue, key: str) -> None:
    symbol, buyer, order = await buyer_in(venue)
    answer = await buyer.request("POST", "/api/v3/order", order, headers={"Idempotency-Key": key})
    assert (answer.status, answer.code) == (400, -1130)
    assert (await buyer.get("/api/v3/openOrders", symbol=symbol)).json == []
