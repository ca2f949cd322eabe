"""An account that meets its own order: the taker's mode decides."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BASE, BOB, QUOTE, World

from rtx.core.vocabulary import (
    BUY,
    DECREMENT,
    EXPIRE_BOTH,
    EXPIRE_MAKER,
    EXPIRE_TAKER,
    FOK,
    IOC,
    MARKET,
    SELL,
    STP_NONE,
    OrderStatus,
)


@pytest.fixture
def world() -> World:
    return World()


def test_none_trades_with_itself(world: World) -> None:
    maker = world.place(ALICE, SELL, 3, 10)
    taker = world.place(ALICE, BUY, 3, 10, self_trade_prevention=STP_NONE)
    assert (taker.status, taker.status_of(maker)) == (OrderStatus.FILLED, OrderStatus.FILLED)
    assert taker.fills == [(10, 3)]
    assert (world.available(ALICE, BASE), world.available(ALICE, QUOTE)) == (10_000, 10_000)


def test_expire_taker_ends_the_taker_and_leaves_its_own_order(world: World) -> None:
    world.place(BOB, SELL, 1, 9)
    maker = world.place(ALICE, SELL, 3, 10)
    taker = world.place(ALICE, BUY, 5, 10, self_trade_prevention=EXPIRE_TAKER)
    assert (taker.status, taker.fills) == (OrderStatus.EXPIRED_IN_MATCH, [(9, 1)])
    assert taker.state.prevented_quantity == 4
    assert maker.order_id not in taker.states
    assert (world.bids, world.asks) == ([], [(10, 3)])


def test_expire_maker_ends_its_own_order_and_goes_on(world: World) -> None:
    maker = world.place(ALICE, SELL, 3, 10)
    world.place(BOB, SELL, 5, 10)
    taker = world.place(ALICE, BUY, 5, 10, self_trade_prevention=EXPIRE_MAKER)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(10, 5)])
    assert taker.status_of(maker) == OrderStatus.EXPIRED_IN_MATCH
    assert (taker.states[maker.order_id].prevented_quantity, taker.state.prevented_quantity) == (3, 0)
    assert world.held(ALICE, BASE) == 0


def test_expire_both_ends_both(world: World) -> None:
    maker = world.place(ALICE, SELL, 3, 10)
    taker = world.place(ALICE, BUY, 5, 10, self_trade_prevention=EXPIRE_BOTH)
    assert (taker.status, taker.status_of(maker)) == (OrderStatus.EXPIRED_IN_MATCH,) * 2
    assert (taker.state.prevented_quantity, taker.states[maker.order_id].prevented_quantity) == (5, 3)
    assert (world.bids, world.asks) == ([], [])


def test_decrement_with_a_smaller_maker_ends_the_maker_and_the_taker_goes_on(world: World) -> None:
    maker = world.place(ALICE, SELL, 2, 10)
    world.place(BOB, SELL, 1, 10)
    taker = world.place(ALICE, BUY, 5, 10, self_trade_prevention=DECREMENT)
    assert taker.status_of(maker) == OrderStatus.EXPIRED_IN_MATCH
    assert (taker.status, taker.fills) == (OrderStatus.PARTIALLY_FILLED, [(10, 1)])
    assert taker.state.prevented_quantity == 2
    assert world.bids == [(10, 2)]
    assert world.held(ALICE, QUOTE) == 20


def test_decrement_with_a_smaller_taker_ends_the_taker_and_shrinks_the_maker(world: World) -> None:
    maker = world.place(ALICE, SELL, 5, 10)
    taker = world.place(ALICE, BUY, 2, 10, self_trade_prevention=DECREMENT)
    assert (taker.status, taker.status_of(maker)) == (OrderStatus.EXPIRED_IN_MATCH, OrderStatus.NEW)
    assert taker.states[maker.order_id].prevented_quantity == 2
    assert (world.asks, world.held(ALICE, BASE)) == ([(10, 3)], 3)


def test_decrement_of_equal_orders_ends_both(world: World) -> None:
    maker = world.place(ALICE, SELL, 2, 10)
    taker = world.place(ALICE, BUY, 2, 10, self_trade_prevention=DECREMENT)
    assert (taker.status, taker.status_of(maker)) == (OrderStatus.EXPIRED_IN_MATCH,) * 2
    assert world.asks == []


def test_an_order_that_lost_lots_and_traded_the_rest_is_not_called_filled(world: World) -> None:
    maker = world.place(ALICE, SELL, 5, 10)
    world.place(ALICE, BUY, 2, 10, self_trade_prevention=DECREMENT)
    taker = world.place(BOB, BUY, 3, 10)
    assert taker.status_of(maker) == OrderStatus.EXPIRED_IN_MATCH
    assert taker.states[maker.order_id].executed_quantity == 3


def test_only_the_takers_mode_counts(world: World) -> None:
    world.place(ALICE, SELL, 2, 10, self_trade_prevention=EXPIRE_BOTH)
    assert world.place(ALICE, BUY, 2, 10, self_trade_prevention=STP_NONE).status == OrderStatus.FILLED


def test_other_accounts_are_not_concerned(world: World) -> None:
    world.place(BOB, SELL, 2, 10)
    assert world.place(ALICE, BUY, 2, 10, self_trade_prevention=EXPIRE_BOTH).status == OrderStatus.FILLED


@pytest.mark.parametrize("mode", [EXPIRE_TAKER, EXPIRE_BOTH, DECREMENT])
def test_fok_does_not_count_on_what_lies_behind_its_own_order(world: World, mode: int) -> None:
    world.place(BOB, SELL, 2, 10)
    world.place(ALICE, SELL, 1, 11)
    world.place(BOB, SELL, 9, 12)
    taker = world.place(ALICE, BUY, 3, 12, time_in_force=FOK, self_trade_prevention=mode)
    assert (taker.status, taker.fills) == (OrderStatus.EXPIRED, [])
    before = world.place(ALICE, BUY, 2, 12, time_in_force=FOK, self_trade_prevention=mode)
    assert (before.status, before.fills) == (OrderStatus.FILLED, [(10, 2)])


def test_fok_under_expire_maker_counts_past_its_own_orders(world: World) -> None:
    own = world.place(ALICE, SELL, 1, 10)
    world.place(BOB, SELL, 3, 11)
    taker = world.place(ALICE, BUY, 3, 11, time_in_force=FOK, self_trade_prevention=EXPIRE_MAKER)
    assert (taker.status, taker.status_of(own)) == (OrderStatus.FILLED, OrderStatus.EXPIRED_IN_MATCH)


def test_fok_that_does_not_fill_leaves_its_own_orders(world: World) -> None:
    world.place(ALICE, SELL, 1, 10)
    taker = world.place(ALICE, BUY, 3, 11, time_in_force=FOK, self_trade_prevention=EXPIRE_MAKER)
    assert (taker.status, world.asks) == (OrderStatus.EXPIRED, [(10, 1)])


def test_fok_without_prevention_counts_its_own_orders(world: World) -> None:
    world.place(ALICE, SELL, 3, 10)
    assert world.place(ALICE, BUY, 3, 10, time_in_force=FOK).status == OrderStatus.FILLED


def test_ioc_stopped_by_prevention_is_expired_in_match(world: World) -> None:
    world.place(ALICE, SELL, 3, 10)
    taker = world.place(ALICE, BUY, 3, 10, time_in_force=IOC, self_trade_prevention=EXPIRE_TAKER)
    assert taker.status == OrderStatus.EXPIRED_IN_MATCH


@pytest.mark.parametrize(
    ("mode", "prevented"), [(EXPIRE_TAKER, 0), (EXPIRE_BOTH, 3), (EXPIRE_MAKER, 3), (DECREMENT, 3)]
)
def test_a_market_order_by_quote_quantity_has_no_lots_to_lose(world: World, mode: int, prevented: int) -> None:
    own = world.place(ALICE, SELL, 3, 10)
    world.place(BOB, SELL, 3, 10)
    taker = world.place(ALICE, BUY, 0, type=MARKET, quote_quantity=20, self_trade_prevention=mode)
    stopped = mode in (EXPIRE_TAKER, EXPIRE_BOTH)
    assert taker.status == (OrderStatus.EXPIRED_IN_MATCH if stopped else OrderStatus.FILLED)
    assert taker.state.prevented_quantity == 0
    assert taker.state.quantity == taker.state.executed_quantity == (0 if stopped else 2)
    assert (taker.states[own.order_id].prevented_quantity if own.order_id in taker.states else 0) == prevented


def test_a_taker_without_money_for_one_more_lot_never_reaches_its_own_order(world: World) -> None:
    world.place(BOB, SELL, 2, 10)
    world.place(ALICE, SELL, 3, 10)
    taker = world.place(ALICE, BUY, 0, type=MARKET, quote_quantity=25, self_trade_prevention=EXPIRE_BOTH)
    assert (taker.status, taker.fills) == (OrderStatus.FILLED, [(10, 2)])
    assert world.asks == [(10, 3)]
