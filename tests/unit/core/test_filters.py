"""The limits of a market, one by one, and the sequence in which an order is judged."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BOB, CAROL, World

from rtx.core.rejections import Reason
from rtx.core.vocabulary import BUY, LIMIT_MAKER, MARKET, SELL, STOP_LOSS, STOP_LOSS_LIMIT, OrderStatus


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(("price", "accepted"), [(4, False), (5, True), (15, True), (16, False)])
def test_price_filter(world: World, price: int, accepted: bool) -> None:
    world.set_filters(minimum_price=5, maximum_price=15)
    order = world.order(ALICE, BUY, 1, price)
    if accepted:
        world.apply(order)
    else:
        assert world.refuse(order) == Reason.FILTER_PRICE


def test_price_filter_also_binds_stop_prices(world: World) -> None:
    world.set_filters(minimum_price=5, maximum_price=15)
    order = world.order(ALICE, BUY, 1, 10, type=STOP_LOSS_LIMIT, stop_price=16)
    assert world.refuse(order) == Reason.FILTER_PRICE


@pytest.mark.parametrize("fields", [{"price": 10}, {"type": MARKET}, {"type": STOP_LOSS, "stop_price": 10}])
@pytest.mark.parametrize(("quantity", "accepted"), [(1, False), (2, True), (5, True), (6, False)])
def test_lot_size(world: World, fields: dict[str, int], quantity: int, accepted: bool) -> None:
    world.set_filters(minimum_quantity=2, maximum_quantity=5)
    order = world.order(ALICE, BUY, quantity, **fields)
    if accepted:
        world.apply(order)
    else:
        assert world.refuse(order) == Reason.FILTER_LOT_SIZE


@pytest.mark.parametrize("fields", [{"type": MARKET}, {"type": STOP_LOSS, "stop_price": 10}])
@pytest.mark.parametrize(("quantity", "accepted"), [(1, False), (2, True), (5, True), (6, False)])
def test_market_lot_size_binds_what_trades_at_any_price(
    world: World, fields: dict[str, int], quantity: int, accepted: bool
) -> None:
    world.set_filters(market_minimum_quantity=2, market_maximum_quantity=5)
    order = world.order(ALICE, BUY, quantity, **fields)
    if accepted:
        world.apply(order)
    else:
        assert world.refuse(order) == Reason.FILTER_MARKET_LOT_SIZE


def test_market_lot_size_leaves_limit_orders_alone(world: World) -> None:
    world.set_filters(market_minimum_quantity=2, market_maximum_quantity=5)
    world.place(ALICE, BUY, 1, 10)
    world.place(ALICE, BUY, 6, 10)


@pytest.mark.parametrize(("side", "price", "accepted"), [
    (BUY, 79, False), (BUY, 80, True), (BUY, 120, True), (BUY, 121, False),
    (SELL, 89, False), (SELL, 90, True), (SELL, 130, True), (SELL, 131, False),
])  # fmt: skip
def test_percent_price_by_side(world: World, side: int, price: int, accepted: bool) -> None:
    world.trade_at(100)
    world.set_filters(
        bid_multiplier_up=1_200_000,
        bid_multiplier_down=800_000,
        ask_multiplier_up=1_300_000,
        ask_multiplier_down=900_000,
    )
    order = world.order(ALICE, side, 1, price)
    if accepted:
        world.apply(order)
    else:
        assert world.refuse(order) == Reason.FILTER_PERCENT_PRICE_BY_SIDE


def test_percent_price_needs_a_last_price(world: World) -> None:
    world.set_filters(bid_multiplier_up=1, bid_multiplier_down=1)
    world.place(ALICE, BUY, 1, 100)


def test_percent_price_bounds_are_each_off_at_zero(world: World) -> None:
    world.trade_at(100)
    world.set_filters(bid_multiplier_down=800_000, ask_multiplier_up=1_200_000)
    world.place(ALICE, BUY, 1, 5_000)
    world.place(ALICE, SELL, 1, 1)


@pytest.mark.parametrize(
    "fields", [{"price": 10}, {"price": 10, "type": LIMIT_MAKER}, {"type": STOP_LOSS, "stop_price": 10}]
)
@pytest.mark.parametrize(("quantity", "accepted"), [(4, False), (5, True), (10, True), (11, False)])
def test_notional(world: World, fields: dict[str, int], quantity: int, accepted: bool) -> None:
    world.set_filters(minimum_notional=50, maximum_notional=100)
    order = world.order(ALICE, BUY, quantity, **fields)
    if accepted:
        world.apply(order)
    else:
        assert world.refuse(order) == Reason.FILTER_NOTIONAL


@pytest.mark.parametrize(("applies", "quantity"), [("minimum", 4), ("maximum", 11)])
def test_notional_of_a_market_order_is_at_the_last_price_where_it_applies(
    world: World, applies: str, quantity: int
) -> None:
    order = world.order(ALICE, SELL, quantity, type=MARKET)
    limits = {"minimum_notional": 50, "maximum_notional": 100}
    switches = {"apply_minimum_to_market": False, "apply_maximum_to_market": False}
    world.set_filters(**limits, **(switches | {f"apply_{applies}_to_market": True}))
    world.apply(order)
    world.set_filters()
    world.trade_at(10)
    world.set_filters(**limits, **(switches | {f"apply_{applies}_to_market": True}))
    again = world.order(ALICE, SELL, quantity, type=MARKET)
    assert world.refuse(again) == Reason.FILTER_NOTIONAL
    world.set_filters(**limits, **switches)
    world.apply(again)


def test_notional_of_a_quote_quantity_is_itself(world: World) -> None:
    world.place(BOB, SELL, 50, 1)
    world.set_filters(minimum_notional=50)
    small = world.order(ALICE, BUY, 0, type=MARKET, quote_quantity=49)
    assert world.refuse(small) == Reason.FILTER_NOTIONAL
    assert world.place(ALICE, BUY, 0, type=MARKET, quote_quantity=50).status == OrderStatus.FILLED


def test_max_num_orders_counts_open_orders_of_the_account_with_waiting_ones(world: World) -> None:
    world.set_filters(maximum_open_orders=2)
    first = world.place(ALICE, BUY, 1, 10)
    world.place(ALICE, BUY, 1, type=STOP_LOSS, stop_price=20)
    assert world.refuse(world.order(ALICE, BUY, 1, 10)) == Reason.FILTER_MAX_NUM_ORDERS
    assert world.refuse(world.order(ALICE, BUY, 1, type=MARKET)) == Reason.FILTER_MAX_NUM_ORDERS
    world.place(BOB, BUY, 1, 10)
    world.cancel(ALICE, first.order_id)
    world.place(ALICE, BUY, 1, 10)


def test_new_limits_do_not_touch_orders_that_are_there(world: World) -> None:
    order = world.place(ALICE, BUY, 1, 10)
    world.set_filters(minimum_price=50, minimum_quantity=5, minimum_notional=1_000, maximum_open_orders=1)
    assert world.bids == [(10, 1)]
    world.cancel(ALICE, order.order_id)


def test_the_first_rule_that_is_broken_is_the_one_that_is_told(world: World) -> None:
    world.place(ALICE, BUY, 1, 10, client_order_id="taken")
    world.trade_at(100)
    limits = {
        "minimum_price": 20,
        "minimum_quantity": 3,
        "bid_multiplier_down": 900_000,
        "minimum_notional": 500,
        "maximum_open_orders": 1,
    }
    world.set_filters(**limits)
    order = world.order(ALICE, BUY, 1, 10, client_order_id="taken")
    for name, reason in (
        ("minimum_price", Reason.FILTER_PRICE),
        ("minimum_quantity", Reason.FILTER_LOT_SIZE),
        ("bid_multiplier_down", Reason.FILTER_PERCENT_PRICE_BY_SIDE),
        ("minimum_notional", Reason.FILTER_NOTIONAL),
        ("maximum_open_orders", Reason.FILTER_MAX_NUM_ORDERS),
    ):
        assert world.refuse(order) == reason
        limits[name] = 0
        world.set_filters(**limits)
    world.empty(ALICE, 2)
    assert world.refuse(order) == Reason.DUPLICATE_CLIENT_ORDER_ID
    named = world.order(ALICE, BUY, 1, 10)
    assert world.refuse(named) == Reason.INSUFFICIENT_BALANCE
    assert world.place(CAROL, BUY, 1, 10).status == OrderStatus.NEW
