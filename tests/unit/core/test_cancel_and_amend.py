"""Cancelling, replacing and reducing open orders."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BASE, BOB, CAROL, MARKET_ID, QUOTE, World

from rtx.core.commands import AmendOrder, CancelAllOrders, CancelOrder, CancelReplaceOrder
from rtx.core.events import OrderState, Rejected, Trade
from rtx.core.rejections import CancelReplaceRejectedError, Reason
from rtx.core.snapshot import state_hash
from rtx.core.vocabulary import BUY, HALT, SELL, CancelRestriction, OrderStatus


@pytest.fixture
def world() -> World:
    return World()


def test_cancelling_takes_an_order_out_of_the_book_and_sets_its_money_free(world: World) -> None:
    order = world.place(ALICE, BUY, 5, 10)
    (state,) = world.cancel(ALICE, order.order_id)
    assert isinstance(state, OrderState)
    assert (state.status, state.is_new) == (OrderStatus.CANCELED, False)
    assert (world.bids, world.available(ALICE, QUOTE), world.held(ALICE, QUOTE)) == ([], 10_000, 0)


def test_an_order_can_be_named_by_its_client_order_id(world: World) -> None:
    world.place(ALICE, BUY, 5, 10, client_order_id="mine")
    world.cancel(ALICE, client_order_id="mine")
    assert world.bids == []


def test_with_both_names_both_must_match(world: World) -> None:
    order = world.place(ALICE, BUY, 5, 10, client_order_id="mine")
    other = CancelOrder(ALICE, MARKET_ID, order.order_id, "other")
    assert world.refuse(other) == Reason.UNKNOWN_ORDER
    world.cancel(ALICE, order.order_id, client_order_id="mine")


@pytest.mark.parametrize("command", [
    CancelOrder(BOB, MARKET_ID, 1),
    CancelOrder(BOB, MARKET_ID, 0, "mine"),
    CancelOrder(ALICE, MARKET_ID, 2),
    CancelOrder(ALICE, MARKET_ID, 0, "other"),
    CancelOrder(ALICE, MARKET_ID),
    AmendOrder(BOB, MARKET_ID, 1, 1),
    AmendOrder(ALICE, MARKET_ID, 1),
])  # fmt: skip
def test_nobody_reaches_an_order_that_is_not_theirs_or_not_there(
    world: World, command: CancelOrder | AmendOrder
) -> None:
    world.place(ALICE, BUY, 5, 10, client_order_id="mine")
    assert world.refuse(command) == Reason.UNKNOWN_ORDER


def test_an_order_that_is_done_cannot_be_cancelled(world: World) -> None:
    order = world.place(ALICE, BUY, 5, 10)
    world.place(BOB, SELL, 5, 10)
    assert world.refuse(CancelOrder(ALICE, MARKET_ID, order.order_id)) == Reason.UNKNOWN_ORDER


def test_a_restriction_is_a_condition_on_the_status(world: World) -> None:
    order = world.place(ALICE, BUY, 5, 10)
    only_new, only_partial = CancelRestriction.ONLY_NEW.value, CancelRestriction.ONLY_PARTIALLY_FILLED.value
    partial = CancelOrder(ALICE, MARKET_ID, order.order_id, restriction=only_partial)
    assert world.refuse(partial) == Reason.CANCEL_RESTRICTED
    world.place(BOB, SELL, 1, 10)
    new = CancelOrder(ALICE, MARKET_ID, order.order_id, restriction=only_new)
    assert world.refuse(new) == Reason.CANCEL_RESTRICTED
    world.apply(partial)
    assert world.bids == []


def test_a_client_order_id_may_be_used_again_once_its_order_is_done(world: World) -> None:
    order = world.place(ALICE, BUY, 5, 10, client_order_id="mine")
    again = world.order(ALICE, BUY, 5, 10, client_order_id="mine")
    assert world.refuse(again) == Reason.DUPLICATE_CLIENT_ORDER_ID
    world.place(BOB, BUY, 5, 10, client_order_id="mine")
    world.cancel(ALICE, order.order_id)
    world.apply(again)


def test_cancel_all_ends_every_order_of_one_account_by_id(world: World) -> None:
    orders = [world.place(ALICE, BUY, 1, 10), world.place(ALICE, SELL, 1, 20), world.place(ALICE, BUY, 1, 12)]
    world.place(BOB, BUY, 1, 10)
    events = world.cancel_all(ALICE)
    assert [e.order_id for e in events if isinstance(e, OrderState)] == [order.order_id for order in orders]
    assert (world.bids, world.asks) == ([(10, 1)], [])
    assert (world.held(ALICE, BASE), world.held(ALICE, QUOTE)) == (0, 0)


@pytest.mark.parametrize("market_id", [0, MARKET_ID])
def test_cancel_all_of_nothing_is_refused(world: World, market_id: int) -> None:
    assert world.refuse(CancelAllOrders(ALICE, market_id)) == Reason.UNKNOWN_ORDER


def test_cancel_all_everywhere_passes_over_halted_markets(world: World) -> None:
    world.place(ALICE, BUY, 1, 10)
    world.set_status(HALT)
    assert world.refuse(CancelAllOrders(ALICE, 0)) == Reason.UNKNOWN_ORDER
    assert world.refuse(CancelAllOrders(ALICE, MARKET_ID)) == Reason.MARKET_CLOSED


def test_cancel_replace_judges_the_new_order_with_the_money_set_free(world: World) -> None:
    old = world.place(ALICE, BUY, 1_000, 10)
    order = world.order(ALICE, BUY, 2_000, 5)
    cancelled, placed = world.replace(CancelOrder(ALICE, MARKET_ID, old.order_id), order)
    assert isinstance(cancelled, OrderState)
    assert isinstance(placed, OrderState)
    assert (cancelled.status, placed.status) == (OrderStatus.CANCELED, OrderStatus.NEW)
    assert (cancelled.is_new, placed.is_new) == (False, True)
    assert world.bids == [(5, 2_000)]


def test_cancel_replace_may_keep_the_client_order_id(world: World) -> None:
    world.place(ALICE, BUY, 1, 10, client_order_id="mine")
    order = world.order(ALICE, BUY, 1, 11, client_order_id="mine")
    world.replace(CancelOrder(ALICE, MARKET_ID, 0, "mine"), order)
    assert world.bids == [(11, 1)]


def test_cancel_replace_trades_like_any_order(world: World) -> None:
    old = world.place(ALICE, BUY, 1, 10)
    world.place(BOB, SELL, 1, 11)
    events = world.replace(CancelOrder(ALICE, MARKET_ID, old.order_id), world.order(ALICE, BUY, 1, 11))
    assert [type(event) for event in events] == [OrderState, Trade, OrderState, OrderState]


def test_cancel_replace_stops_when_nothing_was_cancelled(world: World) -> None:
    command = CancelReplaceOrder(CancelOrder(ALICE, MARKET_ID, 9), world.order(ALICE, BUY, 1, 10), True)
    assert world.refuse(command) == Reason.UNKNOWN_ORDER


def test_cancel_replace_may_go_on_when_nothing_was_cancelled(world: World) -> None:
    events = world.replace(CancelOrder(ALICE, MARKET_ID, 9), world.order(ALICE, BUY, 1, 10), stop_on_failure=False)
    rejected = [event for event in events if isinstance(event, Rejected)]
    assert [(event.reason, event.step) for event in rejected] == [(Reason.UNKNOWN_ORDER, "cancel")]
    assert world.bids == [(10, 1)]


@pytest.mark.parametrize("stop_on_failure", [True, False])
def test_a_cancellation_stands_when_the_new_order_is_refused(world: World, stop_on_failure: bool) -> None:
    old = world.place(ALICE, BUY, 1, 10)
    order = world.order(ALICE, BUY, 1, 10_001)
    state, rejected = world.replace(CancelOrder(ALICE, MARKET_ID, old.order_id), order, stop_on_failure)
    assert isinstance(state, OrderState)
    assert isinstance(rejected, Rejected)
    assert state.status == OrderStatus.CANCELED
    assert (rejected.reason, rejected.step) == (Reason.INSUFFICIENT_BALANCE, "order")


def test_when_both_halves_fail_both_reasons_are_told_and_nothing_changed(world: World) -> None:
    before = state_hash(world.exchange)
    with pytest.raises(CancelReplaceRejectedError) as caught:
        world.replace(CancelOrder(ALICE, MARKET_ID, 9), world.order(ALICE, BUY, 1, 10_001), stop_on_failure=False)
    assert caught.value.cancel.reason == Reason.UNKNOWN_ORDER
    assert caught.value.order.reason == Reason.INSUFFICIENT_BALANCE
    assert state_hash(world.exchange) == before


@pytest.mark.parametrize(("account_id", "market_id"), [(BOB, MARKET_ID), (ALICE, 2)])
def test_both_halves_of_cancel_replace_concern_one_account_and_market(
    world: World, account_id: int, market_id: int
) -> None:
    old = world.place(ALICE, BUY, 1, 10)
    order = world.order(account_id, BUY, 1, 10, market_id=market_id)
    command = CancelReplaceOrder(CancelOrder(ALICE, MARKET_ID, old.order_id), order, True)
    assert world.refuse(command) == Reason.INVALID_FIELD


def test_a_reduced_order_keeps_its_place_and_holds_less(world: World) -> None:
    first, second = world.place(ALICE, SELL, 5, 10), world.place(BOB, SELL, 5, 10)
    assert world.amend(ALICE, first.order_id, 2).quantity == 2
    assert (world.asks, world.held(ALICE, BASE)) == ([(10, 7)], 2)
    assert world.place(CAROL, BUY, 3, 10).makers == [first.order_id, second.order_id]


def test_a_partly_filled_order_can_be_reduced_down_to_just_above_what_was_filled(world: World) -> None:
    order = world.place(ALICE, SELL, 5, 10)
    world.place(BOB, BUY, 2, 10)
    too_much = AmendOrder(ALICE, MARKET_ID, 2, order.order_id)
    assert world.refuse(too_much) == Reason.AMEND_NOT_A_REDUCTION
    state = world.amend(ALICE, order.order_id, 3)
    assert (state.status, state.quantity, state.executed_quantity) == (OrderStatus.PARTIALLY_FILLED, 3, 2)
    assert world.asks == [(10, 1)]


@pytest.mark.parametrize(("quantity", "reason"), [
    (6, Reason.AMEND_NOT_A_REDUCTION),
    (5, Reason.AMEND_CHANGES_NOTHING),
    (1, Reason.FILTER_LOT_SIZE),
    (0, Reason.AMEND_NOT_A_REDUCTION),
    (-1, Reason.AMEND_NOT_A_REDUCTION),
])  # fmt: skip
def test_an_amendment_can_only_reduce(world: World, quantity: int, reason: Reason) -> None:
    world.set_filters(minimum_quantity=2)
    order = world.place(ALICE, SELL, 5, 10)
    assert world.refuse(AmendOrder(ALICE, MARKET_ID, quantity, order.order_id)) == reason


def test_an_amendment_may_rename_the_order(world: World) -> None:
    order = world.place(ALICE, SELL, 5, 10, client_order_id="old")
    world.place(ALICE, SELL, 5, 10, client_order_id="taken")
    taken = AmendOrder(ALICE, MARKET_ID, 4, order.order_id, "", "taken")
    assert world.refuse(taken) == Reason.DUPLICATE_CLIENT_ORDER_ID
    assert world.amend(ALICE, order.order_id, 4, new_client_order_id="new").client_order_id == "new"
    assert world.amend(ALICE, order.order_id, 3, new_client_order_id="new").client_order_id == "new"
    assert world.amend(ALICE, order.order_id, 2).client_order_id == "new"
    assert world.refuse(CancelOrder(ALICE, MARKET_ID, 0, "old")) == Reason.UNKNOWN_ORDER
    world.cancel(ALICE, client_order_id="new")
