"""Limit orders: who trades with whom, at which price, and what remains."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BASE, BOB, CAROL, QUOTE, World

from rtx.core.rejections import Reason
from rtx.core.vocabulary import BUY, FOK, IOC, LIMIT_MAKER, SELL, OrderStatus


@pytest.fixture
def world() -> World:
    return World()


def test_an_order_that_meets_nobody_rests_in_the_book_and_holds_what_it_may_cost(world: World) -> None:
    order = world.place(ALICE, BUY, 5, 20)
    assert (order.status, order.fills) == (OrderStatus.NEW, [])
    assert world.bids == [(20, 5)]
    assert (world.available(ALICE, QUOTE), world.held(ALICE, QUOTE)) == (9_900, 100)


def test_a_resting_sell_order_holds_base(world: World) -> None:
    world.place(ALICE, SELL, 5, 20)
    assert world.asks == [(20, 5)]
    assert (world.available(ALICE, BASE), world.held(ALICE, BASE)) == (9_995, 5)


def test_the_best_price_trades_first(world: World) -> None:
    dear, cheap = world.place(ALICE, SELL, 1, 12), world.place(BOB, SELL, 1, 11)
    taker = world.place(CAROL, BUY, 2, 12)
    assert taker.makers == [cheap.order_id, dear.order_id]
    assert taker.fills == [(11, 1), (12, 1)]


def test_at_one_price_the_oldest_order_trades_first(world: World) -> None:
    first, second = world.place(ALICE, SELL, 2, 10), world.place(BOB, SELL, 2, 10)
    taker = world.place(CAROL, BUY, 3, 10)
    assert taker.makers == [first.order_id, second.order_id]
    assert taker.status_of(first) == OrderStatus.FILLED
    assert taker.status_of(second) == OrderStatus.PARTIALLY_FILLED
    assert world.asks == [(10, 1)]


def test_a_trade_happens_at_the_makers_price_and_the_taker_keeps_the_difference(world: World) -> None:
    world.place(ALICE, SELL, 4, 10)
    taker = world.place(BOB, BUY, 4, 15)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(10, 4)])
    assert (world.available(BOB, QUOTE), world.held(BOB, QUOTE)) == (9_960, 0)
    assert (world.available(BOB, BASE), world.available(ALICE, QUOTE)) == (10_004, 10_040)
    assert (world.available(ALICE, BASE), world.held(ALICE, BASE)) == (9_996, 0)


def test_the_remainder_of_a_limit_order_rests_at_its_own_price(world: World) -> None:
    world.place(ALICE, SELL, 4, 10)
    taker = world.place(BOB, BUY, 6, 12)
    assert taker.status == OrderStatus.PARTIALLY_FILLED
    assert (taker.state.executed_quantity, taker.state.executed_quote_quantity) == (4, 40)
    assert (world.bids, world.asks) == ([(12, 2)], [])
    assert world.held(BOB, QUOTE) == 24


def test_prices_that_do_not_reach_each_other_do_not_trade(world: World) -> None:
    world.place(ALICE, SELL, 1, 11)
    assert world.place(BOB, BUY, 1, 10).fills == []
    assert (world.bids, world.asks) == ([(10, 1)], [(11, 1)])


def test_a_selling_taker_meets_the_highest_bid_first(world: World) -> None:
    low, high = world.place(ALICE, BUY, 1, 9), world.place(BOB, BUY, 1, 10)
    assert world.place(CAROL, SELL, 2, 9).makers == [high.order_id, low.order_id]


def test_order_ids_count_all_markets_and_trade_ids_count_their_own(world: World) -> None:
    orders = [world.place(ALICE, SELL, 1, 10), world.place(BOB, SELL, 1, 10), world.place(CAROL, BUY, 2, 10)]
    assert [order.order_id for order in orders] == [1, 2, 3]
    assert [trade.trade_id for trade in orders[2].trades] == [1, 2]


def test_a_refused_order_consumes_no_id(world: World) -> None:
    world.refuse(world.order(ALICE, BUY, 10_001, 1))
    assert world.place(ALICE, BUY, 1, 1).order_id == 1


def test_ioc_takes_what_is_there_and_expires(world: World) -> None:
    world.place(ALICE, SELL, 2, 10)
    taker = world.place(BOB, BUY, 5, 10, time_in_force=IOC)
    assert (taker.status, taker.fills) == (OrderStatus.EXPIRED, [(10, 2)])
    assert (world.bids, world.held(BOB, QUOTE)) == ([], 0)


def test_ioc_that_meets_nobody_expires(world: World) -> None:
    assert world.place(BOB, BUY, 5, 10, time_in_force=IOC).status == OrderStatus.EXPIRED


def test_ioc_that_is_filled_is_filled(world: World) -> None:
    world.place(ALICE, SELL, 5, 10)
    assert world.place(BOB, BUY, 5, 10, time_in_force=IOC).status == OrderStatus.FILLED


def test_fok_fills_wholly_over_several_levels(world: World) -> None:
    world.place(ALICE, SELL, 2, 10)
    world.place(ALICE, SELL, 3, 11)
    taker = world.place(BOB, BUY, 5, 11, time_in_force=FOK)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(10, 2), (11, 3)])


def test_fok_that_cannot_be_filled_wholly_trades_nothing(world: World) -> None:
    world.place(ALICE, SELL, 4, 10)
    world.place(ALICE, SELL, 4, 12)
    taker = world.place(BOB, BUY, 5, 11, time_in_force=FOK)
    assert (taker.status, taker.fills) == (OrderStatus.EXPIRED, [])
    assert world.asks == [(10, 4), (12, 4)]
    assert world.available(BOB, QUOTE) == 10_000


def test_limit_maker_rests_when_it_crosses_nothing(world: World) -> None:
    world.place(ALICE, SELL, 1, 11)
    assert world.place(BOB, BUY, 1, 10, type=LIMIT_MAKER).status == OrderStatus.NEW
    assert world.bids == [(10, 1)]


@pytest.mark.parametrize("maker", [ALICE, BOB])
def test_limit_maker_that_would_take_is_refused_also_before_its_own_order(world: World, maker: int) -> None:
    world.place(maker, SELL, 1, 10)
    order = world.order(BOB, BUY, 1, 10, type=LIMIT_MAKER, self_trade_prevention=2)
    assert world.refuse(order) == Reason.WOULD_MATCH_IMMEDIATELY


def test_funds_are_judged_before_a_limit_maker_crossing(world: World) -> None:
    world.place(ALICE, SELL, 1, 10)
    order = world.order(BOB, BUY, 1_001, 10, type=LIMIT_MAKER)
    assert world.refuse(order) == Reason.INSUFFICIENT_BALANCE


@pytest.mark.parametrize(("side", "quantity"), [(BUY, 1_001), (SELL, 10_001)])
def test_an_order_needs_the_balance_for_all_of_it(world: World, side: int, quantity: int) -> None:
    assert world.refuse(world.order(ALICE, side, quantity, 10)) == Reason.INSUFFICIENT_BALANCE
    world.place(ALICE, side, quantity - 1, 10)


def test_what_is_held_cannot_be_spent_again(world: World) -> None:
    world.place(ALICE, BUY, 900, 10)
    assert world.refuse(world.order(ALICE, BUY, 101, 10)) == Reason.INSUFFICIENT_BALANCE


def test_an_account_that_never_owned_anything_has_no_balance(world: World) -> None:
    assert world.refuse(world.order(5_000, BUY, 1, 1)) == Reason.INSUFFICIENT_BALANCE


def test_events_are_trades_first_then_the_taker_then_each_maker_once(world: World) -> None:
    first, second = world.place(ALICE, SELL, 1, 10), world.place(BOB, SELL, 1, 11)
    taker = world.place(CAROL, BUY, 3, 11)
    assert [type(event).__name__ for event in taker.events] == ["Trade", "Trade"] + ["OrderState"] * 3
    assert list(taker.states) == [taker.order_id, first.order_id, second.order_id]


def test_changed_levels_are_reported_once_with_their_quantity_now(world: World) -> None:
    world.exchange.take_changed_levels()
    world.place(ALICE, SELL, 2, 10)
    world.place(ALICE, SELL, 2, 11)
    world.place(BOB, BUY, 3, 11)
    ((market_id, bids, asks),) = world.exchange.take_changed_levels()
    assert (market_id, bids, sorted(asks)) == (1, [], [(10, 0), (11, 1)])
    assert world.exchange.take_changed_levels() == []


def test_the_book_can_be_asked_for_a_few_levels(world: World) -> None:
    for price in (10, 11, 12):
        world.place(ALICE, SELL, 1, price)
    assert world.exchange.book_levels(1, 2) == ([], [(10, 1), (11, 1)])
