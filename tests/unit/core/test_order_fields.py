"""What an order must and must not carry, and which markets take it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.world import ALICE, MARKET_ID, World

from rtx.core.commands import AmendOrder, CancelAllOrders, CancelOrder
from rtx.core.rejections import Reason, RejectedError
from rtx.core.vocabulary import (
    BREAK,
    BUY,
    CANCEL_ONLY,
    EXTERNAL_ACCOUNT_ID,
    FEE_ACCOUNT_ID,
    FOK,
    GTC,
    HALT,
    IOC,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    MAXIMUM_AMOUNT,
    SELL,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
    TRADING,
)

SENSIBLE: list[dict[str, Any]] = [
    {"type": LIMIT, "price": 10, "quantity": 1},
    {"type": LIMIT, "price": 10, "quantity": 1, "time_in_force": IOC},
    {"type": LIMIT, "price": 10, "quantity": 1, "time_in_force": FOK},
    {"type": LIMIT_MAKER, "price": 10, "quantity": 1},
    {"type": MARKET, "quantity": 1},
    {"type": STOP_LOSS, "quantity": 1, "stop_price": 10},
    {"type": STOP_LOSS_LIMIT, "quantity": 1, "price": 10, "stop_price": 10},
    {"type": STOP_LOSS_LIMIT, "quantity": 1, "price": 10, "stop_price": 10, "time_in_force": FOK},
    {"type": TAKE_PROFIT, "quantity": 1, "stop_price": 10},
    {"type": TAKE_PROFIT_LIMIT, "quantity": 1, "price": 10, "stop_price": 10, "time_in_force": IOC},
]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("fields", SENSIBLE)
@pytest.mark.parametrize("side", [BUY, SELL])
def test_sensible_orders_are_accepted(world: World, fields: dict[str, Any], side: int) -> None:
    assert world.place(ALICE, side, **fields).order_id == 1


@pytest.mark.parametrize(("fields", "field"), [
    ({"type": LIMIT, "price": 0}, "price"),
    ({"type": LIMIT_MAKER, "price": 0}, "price"),
    ({"type": STOP_LOSS_LIMIT, "price": 0, "stop_price": 10}, "price"),
    ({"type": MARKET, "price": 10}, "price"),
    ({"type": STOP_LOSS, "price": 10, "stop_price": 10}, "price"),
    ({"type": LIMIT, "stop_price": 10}, "stop_price"),
    ({"type": LIMIT_MAKER, "stop_price": 10}, "stop_price"),
    ({"type": MARKET, "price": 0, "stop_price": 10}, "stop_price"),
    ({"type": STOP_LOSS, "price": 0}, "stop_price"),
    ({"type": TAKE_PROFIT_LIMIT}, "stop_price"),
    ({"type": LIMIT, "quantity": 0}, "quantity"),
    ({"type": MARKET, "price": 0, "quantity": 0}, "quantity"),
    ({"type": MARKET, "price": 0, "quantity": 1, "quote_quantity": 10}, "quantity"),
    ({"type": LIMIT, "quote_quantity": 10}, "quote_quantity"),
    ({"type": TAKE_PROFIT, "price": 0, "quantity": 0, "quote_quantity": 10, "stop_price": 10}, "quote_quantity"),
    ({"type": MARKET, "price": 0, "time_in_force": IOC}, "time_in_force"),
    ({"type": LIMIT_MAKER, "time_in_force": FOK}, "time_in_force"),
    ({"type": STOP_LOSS, "price": 0, "stop_price": 10, "time_in_force": IOC}, "time_in_force"),
])  # fmt: skip
def test_fields_that_do_not_go_together_are_refused(world: World, fields: dict[str, Any], field: str) -> None:
    order = world.order(ALICE, BUY, **({"quantity": 1, "price": 10} | fields))
    with pytest.raises(RejectedError) as caught:
        world.apply(order)
    assert (caught.value.reason, caught.value.field) == (Reason.UNSUPPORTED_ORDER_COMBINATION, field)


@pytest.mark.parametrize("order_type", [LIMIT, STOP_LOSS_LIMIT])
@pytest.mark.parametrize(("field", "value"), [
    ("side", -1), ("side", 2),
    ("time_in_force", -1), ("time_in_force", 3),
    ("self_trade_prevention", -1), ("self_trade_prevention", 5),
    ("price", -1), ("price", MAXIMUM_AMOUNT + 1),
    ("quantity", -1), ("quantity", MAXIMUM_AMOUNT + 1),
    ("quote_quantity", -1), ("stop_price", -1), ("stop_price", MAXIMUM_AMOUNT + 1),
    ("client_order_id", ""),
    ("account_id", EXTERNAL_ACCOUNT_ID), ("account_id", FEE_ACCOUNT_ID), ("account_id", -1),
    ("account_id", MAXIMUM_AMOUNT + 1),
])  # fmt: skip
def test_values_out_of_range_are_refused_by_name(world: World, order_type: int, field: str, value: Any) -> None:
    fields = {"account_id": ALICE, "side": BUY, "quantity": 1, "price": 10, "type": order_type}
    if order_type == STOP_LOSS_LIMIT:
        fields["stop_price"] = 10
    order = world.order(**(fields | {field: value}))
    with pytest.raises(RejectedError) as caught:
        world.apply(order)
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, field)


@pytest.mark.parametrize("order_type", [-1, 7])
def test_unknown_order_types_are_refused(world: World, order_type: int) -> None:
    assert world.refuse(world.order(ALICE, BUY, 1, 10, type=order_type)) == Reason.INVALID_FIELD


def test_the_market_is_judged_before_the_fields(world: World) -> None:
    nonsense = world.order(ALICE, 9, -1, -1, market_id=2)
    assert world.refuse(nonsense) == Reason.UNKNOWN_MARKET
    world.set_status(HALT)
    assert world.refuse(world.order(ALICE, 9, -1, -1)) == Reason.MARKET_CLOSED


@pytest.mark.parametrize("status", [HALT, CANCEL_ONLY, BREAK])
def test_only_a_trading_market_takes_orders(world: World, status: int) -> None:
    world.set_status(status)
    assert world.refuse(world.order(ALICE, BUY, 1, 10)) == Reason.MARKET_CLOSED
    world.set_status(TRADING)
    world.place(ALICE, BUY, 1, 10)


@pytest.mark.parametrize("status", [HALT, BREAK])
def test_a_closed_market_takes_no_cancellations_either(world: World, status: int) -> None:
    order = world.place(ALICE, BUY, 5, 10)
    world.set_status(status)
    assert world.refuse(CancelOrder(ALICE, MARKET_ID, order.order_id)) == Reason.MARKET_CLOSED
    assert world.refuse(CancelAllOrders(ALICE, MARKET_ID)) == Reason.MARKET_CLOSED
    assert world.refuse(AmendOrder(ALICE, MARKET_ID, 1, order.order_id)) == Reason.MARKET_CLOSED
    assert world.bids == [(10, 5)]


def test_a_cancel_only_market_lets_orders_go_and_shrink(world: World) -> None:
    order, other = world.place(ALICE, BUY, 5, 10), world.place(ALICE, BUY, 5, 11)
    world.set_status(CANCEL_ONLY)
    world.amend(ALICE, order.order_id, 1)
    world.cancel(ALICE, other.order_id)
    world.cancel_all(ALICE)
    assert world.bids == []


@pytest.mark.parametrize("command", [
    CancelOrder(ALICE, 2, 1),
    CancelAllOrders(ALICE, 2),
    AmendOrder(ALICE, 2, 1, 1),
])  # fmt: skip
def test_unknown_markets_are_refused(world: World, command: CancelOrder | CancelAllOrders | AmendOrder) -> None:
    assert world.refuse(command) == Reason.UNKNOWN_MARKET


def test_an_unknown_cancel_restriction_is_refused(world: World) -> None:
    order = world.place(ALICE, BUY, 1, 10, time_in_force=GTC)
    command = CancelOrder(ALICE, MARKET_ID, order.order_id, restriction=3)
    assert world.refuse(command) == Reason.INVALID_FIELD
