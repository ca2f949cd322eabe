"""MARKET orders, by quantity and by the money to spend or to receive."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BASE, BOB, CAROL, QUOTE, World

from rtx.core.rejections import Reason
from rtx.core.vocabulary import BUY, EXPIRE_MAKER, MARKET, SELL, OrderStatus


@pytest.fixture
def world() -> World:
    world = World()
    world.place(ALICE, SELL, 3, 10)
    world.place(ALICE, SELL, 3, 20)
    return world


@pytest.fixture
def bid_world() -> World:
    world = World()
    world.place(ALICE, BUY, 3, 20)
    world.place(ALICE, BUY, 3, 10)
    return world


def test_by_quantity_walks_the_book(world: World) -> None:
    taker = world.place(BOB, BUY, 4, type=MARKET)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(10, 3), (20, 1)])


def test_by_quantity_expires_when_the_book_runs_out(world: World) -> None:
    taker = world.place(BOB, BUY, 9, type=MARKET)
    assert (taker.status, taker.state.executed_quantity, taker.state.quantity) == (OrderStatus.EXPIRED, 6, 9)


def test_by_quantity_on_an_empty_side_expires(world: World) -> None:
    assert world.place(BOB, SELL, 9, type=MARKET).status == OrderStatus.EXPIRED


def test_a_buy_must_be_able_to_pay_what_the_book_asks(world: World) -> None:
    world.empty(BOB, QUOTE, leave=49)
    assert world.refuse(world.order(BOB, BUY, 4, type=MARKET)) == Reason.INSUFFICIENT_BALANCE
    assert world.place(BOB, BUY, 3, type=MARKET).status == OrderStatus.FILLED


def test_a_buy_needs_money_only_for_what_is_there(world: World) -> None:
    world.empty(BOB, QUOTE, leave=90)
    assert world.place(BOB, BUY, 1_000_000, type=MARKET).state.executed_quantity == 6


def test_a_sell_must_own_all_that_it_sells(bid_world: World) -> None:
    assert bid_world.refuse(bid_world.order(BOB, SELL, 10_001, type=MARKET)) == Reason.INSUFFICIENT_BALANCE


def test_a_buy_that_gets_past_its_own_orders_trades_what_its_money_allows() -> None:
    world = World()
    world.place(ALICE, SELL, 3, 10)
    world.place(BOB, SELL, 3, 20)
    world.empty(ALICE, QUOTE, leave=50)
    taker = world.place(ALICE, BUY, 3, type=MARKET, self_trade_prevention=EXPIRE_MAKER)
    assert (taker.status, taker.fills) == (OrderStatus.EXPIRED, [(20, 2)])
    assert world.available(ALICE, QUOTE) == 10


def test_quote_quantity_buys_whole_lots_for_at_most_that_money(world: World) -> None:
    taker = world.place(BOB, BUY, 0, type=MARKET, quote_quantity=65)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(10, 3), (20, 1)])
    assert (taker.state.quantity, taker.state.executed_quantity, taker.state.executed_quote_quantity) == (4, 4, 50)
    assert world.available(BOB, QUOTE) == 9_950


def test_quote_quantity_sells_for_at_most_that_money(bid_world: World) -> None:
    taker = bid_world.place(BOB, SELL, 0, type=MARKET, quote_quantity=75)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(20, 3), (10, 1)])


def test_quote_quantity_stops_at_the_first_level_where_no_lot_fits(bid_world: World) -> None:
    taker = bid_world.place(BOB, SELL, 0, type=MARKET, quote_quantity=50)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(20, 2)])


def test_quote_quantity_expires_when_the_book_runs_out(world: World) -> None:
    taker = world.place(BOB, BUY, 0, type=MARKET, quote_quantity=91)
    assert (taker.status, taker.state.quantity) == (OrderStatus.EXPIRED, 6)


def test_quote_quantity_used_up_with_the_book_is_filled(world: World) -> None:
    assert world.place(BOB, BUY, 0, type=MARKET, quote_quantity=90).status == OrderStatus.FILLED


def test_quote_quantity_needs_someone_on_the_other_side(world: World) -> None:
    order = world.order(BOB, SELL, 0, type=MARKET, quote_quantity=50)
    assert world.refuse(order) == Reason.NO_LIQUIDITY_FOR_QUOTE_QUANTITY


def test_quote_quantity_too_small_for_one_lot_is_refused(world: World) -> None:
    order = world.order(BOB, BUY, 0, type=MARKET, quote_quantity=9)
    assert world.refuse(order) == Reason.FILTER_LOT_SIZE


def test_quote_quantity_must_buy_the_minimum_quantity(world: World) -> None:
    world.set_filters(minimum_quantity=4)
    assert world.refuse(world.order(BOB, BUY, 0, type=MARKET, quote_quantity=49)) == Reason.FILTER_LOT_SIZE
    assert world.place(BOB, BUY, 0, type=MARKET, quote_quantity=50).status == OrderStatus.FILLED


def test_quote_quantity_must_be_there_to_spend(world: World) -> None:
    world.empty(BOB, QUOTE, leave=49)
    order = world.order(BOB, BUY, 0, type=MARKET, quote_quantity=50)
    assert world.refuse(order) == Reason.INSUFFICIENT_BALANCE


def test_quote_quantity_sale_must_own_what_the_book_would_take(bid_world: World) -> None:
    bid_world.empty(BOB, BASE, leave=2)
    order = bid_world.order(BOB, SELL, 0, type=MARKET, quote_quantity=60)
    assert bid_world.refuse(order) == Reason.INSUFFICIENT_BALANCE


def test_quote_quantity_sale_of_everything_owned_is_filled(bid_world: World) -> None:
    bid_world.empty(BOB, BASE, leave=3)
    taker = bid_world.place(BOB, SELL, 0, type=MARKET, quote_quantity=60)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(20, 3)])


@pytest.mark.parametrize("lot_size", [1, 7])
def test_quote_quantity_sale_that_gets_past_its_own_orders_never_sells_more_than_it_owns(lot_size: int) -> None:
    world = World(lot_size=lot_size)
    own = world.place(ALICE, BUY, 3, 20)
    world.place(BOB, BUY, 20, 5)
    world.empty(ALICE, BASE, leave=3 * lot_size)
    fields = {"type": MARKET, "quote_quantity": 60 * lot_size, "self_trade_prevention": EXPIRE_MAKER}
    taker = world.place(ALICE, SELL, 0, **fields)
    assert taker.status_of(own) == OrderStatus.EXPIRED_IN_MATCH
    assert (taker.status, taker.fills) == (OrderStatus.EXPIRED, [(5, 3)])
    assert world.available(ALICE, BASE) == 0


def test_quote_quantity_that_bought_nothing_is_not_called_filled() -> None:
    world = World()
    world.place(CAROL, SELL, 1, 10)
    world.place(BOB, SELL, 1, 20)
    taker = world.place(CAROL, BUY, 0, type=MARKET, quote_quantity=15, self_trade_prevention=EXPIRE_MAKER)
    assert (taker.status, taker.fills, taker.state.quantity) == (OrderStatus.EXPIRED, [], 0)
