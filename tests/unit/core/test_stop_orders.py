"""Orders that wait for a price: what they hold, when they trigger, and in which sequence."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.world import ALICE, BASE, BOB, CAROL, QUOTE, Placed, World

from rtx.core.rejections import Reason
from rtx.core.vocabulary import (
    BUY,
    FOK,
    IOC,
    SELL,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
    OrderStatus,
)


@pytest.fixture
def world() -> World:
    """The last price is 10, the book is empty."""
    world = World()
    world.trade_at(10)
    return world


def trade(world: World, price: int) -> Placed:
    """One lot changes hands at ``price``: Bob sells it to Carol."""
    world.place(BOB, SELL, 1, price)
    return world.place(CAROL, BUY, 1, price)


RISING = [(STOP_LOSS, BUY), (STOP_LOSS_LIMIT, BUY), (TAKE_PROFIT, SELL), (TAKE_PROFIT_LIMIT, SELL)]
FALLING = [(STOP_LOSS, SELL), (STOP_LOSS_LIMIT, SELL), (TAKE_PROFIT, BUY), (TAKE_PROFIT_LIMIT, BUY)]


def stop(world: World, order_type: int, side: int, stop_price: int, **fields: Any) -> Placed:
    """Alice's stop order over two lots; limits are far enough to trade at any price of these tests."""
    price = 0 if order_type in (STOP_LOSS, TAKE_PROFIT) else (20 if side == BUY else 5)
    return world.place(ALICE, side, 2, price, type=order_type, stop_price=stop_price, **fields)


@pytest.mark.parametrize(("order_type", "side", "asset", "amount"), [
    (STOP_LOSS, BUY, QUOTE, 24),
    (STOP_LOSS_LIMIT, BUY, QUOTE, 40),
    (STOP_LOSS, SELL, BASE, 2),
    (TAKE_PROFIT_LIMIT, SELL, BASE, 2),
])  # fmt: skip
def test_a_waiting_order_is_new_outside_the_book_and_holds(
    world: World, order_type: int, side: int, asset: int, amount: int
) -> None:
    order = stop(world, order_type, side, 12 if (order_type, side) in RISING else 8)
    assert (order.status, order.state.working_at_us) == (OrderStatus.NEW, 0)
    assert (world.bids, world.asks) == ([], [])
    assert world.held(ALICE, asset) == amount


@pytest.mark.parametrize(("order_type", "side"), RISING)
def test_rising_ones_trigger_at_or_above_their_price(world: World, order_type: int, side: int) -> None:
    order = stop(world, order_type, side, 12)
    assert order.order_id not in trade(world, 11).states
    assert order.order_id in trade(world, 12).states


@pytest.mark.parametrize(("order_type", "side"), FALLING)
def test_falling_ones_trigger_at_or_below_their_price(world: World, order_type: int, side: int) -> None:
    order = stop(world, order_type, side, 8)
    assert order.order_id not in trade(world, 9).states
    assert order.order_id in trade(world, 8).states


@pytest.mark.parametrize(("order_type", "side"), RISING)
def test_rising_ones_must_wait_above_the_last_price(world: World, order_type: int, side: int) -> None:
    order = world.order(ALICE, side, 2, type=order_type, stop_price=10)
    if order_type in (STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT):
        order = world.order(ALICE, side, 2, 10, type=order_type, stop_price=10)
    assert world.refuse(order) == Reason.WOULD_TRIGGER_IMMEDIATELY
    stop(world, order_type, side, 11)


@pytest.mark.parametrize(("order_type", "side"), FALLING)
def test_falling_ones_must_wait_below_the_last_price(world: World, order_type: int, side: int) -> None:
    price = 10 if order_type in (STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT) else 0
    order = world.order(ALICE, side, 2, price, type=order_type, stop_price=10)
    assert world.refuse(order) == Reason.WOULD_TRIGGER_IMMEDIATELY
    stop(world, order_type, side, 9)


def test_before_the_first_trade_any_stop_price_waits() -> None:
    world = World()
    assert stop(world, STOP_LOSS, BUY, 1).status == OrderStatus.NEW
    assert stop(world, STOP_LOSS, SELL, 1_000).status == OrderStatus.NEW


def test_a_triggered_stop_loss_sells_at_any_price(world: World) -> None:
    order = stop(world, STOP_LOSS, SELL, 9)
    world.place(BOB, BUY, 1, 9)
    world.place(BOB, BUY, 5, 4)
    taker = world.place(CAROL, SELL, 1, 9)
    assert taker.fills == [(9, 1), (4, 2)]
    assert taker.status_of(order) == OrderStatus.FILLED
    assert taker.states[order.order_id].working_at_us == world.time_us
    assert (world.held(ALICE, BASE), world.available(ALICE, QUOTE)) == (0, 10_008)


def test_a_triggered_stop_loss_that_meets_nobody_expires(world: World) -> None:
    order = stop(world, STOP_LOSS, SELL, 9)
    assert trade(world, 9).status_of(order) == OrderStatus.EXPIRED
    assert (world.held(ALICE, BASE), world.available(ALICE, BASE)) == (0, 10_000)


def test_a_triggered_buy_trades_the_lots_that_its_money_allows(world: World) -> None:
    world.empty(ALICE, QUOTE, leave=25)
    order = stop(world, STOP_LOSS, BUY, 12)
    world.place(BOB, SELL, 1, 12)
    world.place(BOB, SELL, 9, 20)
    taker = world.place(CAROL, BUY, 1, 12)
    assert taker.fills == [(12, 1), (20, 1)]
    assert taker.status_of(order) == OrderStatus.EXPIRED
    assert (world.available(ALICE, QUOTE), world.held(ALICE, QUOTE)) == (5, 0)


def test_a_triggered_limit_order_rests_behind_the_orders_of_its_price(world: World) -> None:
    order = world.place(ALICE, SELL, 2, 12, type=STOP_LOSS_LIMIT, stop_price=9)
    earlier = world.place(BOB, SELL, 1, 12)
    assert trade(world, 9).status_of(order) == OrderStatus.NEW
    assert world.asks == [(12, 3)]
    taker = world.place(CAROL, BUY, 2, 12)
    assert taker.makers == [earlier.order_id, order.order_id]


@pytest.mark.parametrize(("time_in_force", "executed"), [(IOC, 1), (FOK, 0)])
def test_a_triggered_limit_order_keeps_its_time_in_force(world: World, time_in_force: int, executed: int) -> None:
    order = stop(world, STOP_LOSS_LIMIT, SELL, 9, time_in_force=time_in_force)
    world.place(BOB, BUY, 2, 9)
    taker = world.place(CAROL, SELL, 1, 9)
    assert taker.status_of(order) == OrderStatus.EXPIRED
    assert taker.states[order.order_id].executed_quantity == executed
    assert world.held(ALICE, BASE) == 0


def test_orders_of_one_trade_trigger_nearest_price_first_then_oldest(world: World) -> None:
    far = stop(world, STOP_LOSS, SELL, 6)
    near = stop(world, STOP_LOSS, SELL, 8)
    near_later = stop(world, STOP_LOSS, SELL, 8)
    world.place(BOB, BUY, 1, 5)
    taker = world.place(CAROL, SELL, 1, 5)
    triggered = [
        order_id for order_id in taker.states if order_id in {far.order_id, near.order_id, near_later.order_id}
    ]
    assert triggered == [near.order_id, near_later.order_id, far.order_id]


def test_rising_ones_trigger_before_falling_ones(world: World) -> None:
    falling = stop(world, STOP_LOSS, SELL, 9)
    rising = stop(world, STOP_LOSS, BUY, 11)
    world.place(BOB, BUY, 1, 12)
    world.place(BOB, BUY, 1, 8)
    taker = world.place(CAROL, SELL, 2, 8)
    assert [order_id for order_id in taker.states if order_id in {falling.order_id, rising.order_id}] == [
        rising.order_id,
        falling.order_id,
    ]


def test_a_cascade_works_through_all_that_triggers_in_one_command(world: World) -> None:
    first = stop(world, STOP_LOSS, SELL, 9)
    second = world.place(CAROL, SELL, 1, type=STOP_LOSS, stop_price=7)
    third = world.place(CAROL, SELL, 1, type=STOP_LOSS, stop_price=6)
    for price, quantity in ((9, 1), (7, 2), (6, 1), (5, 1)):
        world.place(BOB, BUY, quantity, price)
    taker = world.place(CAROL, SELL, 1, 9)
    assert taker.fills == [(9, 1), (7, 2), (6, 1), (5, 1)]
    assert [trade.taker_order_id for trade in taker.trades] == [
        taker.order_id,
        first.order_id,
        second.order_id,
        third.order_id,
    ]
    assert taker.status_of(third) == OrderStatus.FILLED


def test_what_triggers_later_waits_behind_what_triggered_before(world: World) -> None:
    """First in, first out: what one trade triggers goes before what the first of these triggers in turn."""
    first = world.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=9)
    second = world.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=8)
    by_first = world.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=7)
    for price in (8, 7, 6, 5):
        world.place(BOB, BUY, 1, price)
    taker = world.place(CAROL, SELL, 1, 8)
    assert [trade.taker_order_id for trade in taker.trades[1:]] == [
        first.order_id,
        second.order_id,
        by_first.order_id,
    ]


def test_a_waiting_order_cannot_be_filled(world: World) -> None:
    world.place(ALICE, SELL, 2, 9, type=STOP_LOSS_LIMIT, stop_price=8)
    assert world.place(BOB, BUY, 2, 9).fills == []


def test_a_waiting_order_can_be_cancelled_and_sets_its_money_free(world: World) -> None:
    order = stop(world, STOP_LOSS, BUY, 12)
    world.cancel(ALICE, order.order_id)
    assert (world.held(ALICE, QUOTE), world.available(ALICE, QUOTE)) == (0, 10_000)
    assert order.order_id not in trade(world, 12).states


def test_a_waiting_order_can_be_amended(world: World) -> None:
    order = stop(world, STOP_LOSS, BUY, 12)
    assert world.amend(ALICE, order.order_id, 1).quantity == 1
    assert world.held(ALICE, QUOTE) == 12


@pytest.mark.parametrize(("order_type", "price"), [(STOP_LOSS, 0), (TAKE_PROFIT_LIMIT, 5_001)])
def test_a_waiting_order_needs_its_balance(world: World, order_type: int, price: int) -> None:
    order = world.order(ALICE, BUY, 2, price, type=order_type, stop_price=5_001 if order_type == STOP_LOSS else 9)
    assert world.refuse(order) == Reason.INSUFFICIENT_BALANCE
