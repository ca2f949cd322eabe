"""The dead-man's switch: when it is armed, what it cancels, and what moves its deadline."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BOB, CAROL, MARKET_ID, World

from rtx.core.commands import (
    AnyCommand,
    CancelAllAfter,
    CreateMarket,
    ExpireCancelAllAfter,
    ExtendDeadlines,
    MarketFilters,
    SetMarketStatus,
)
from rtx.core.events import CancelAllAfterSet, DeadlinesExtended, OrderState
from rtx.core.rejections import Reason
from rtx.core.snapshot import dump, load
from rtx.core.vocabulary import (
    BREAK,
    BUY,
    CANCEL_ONLY,
    FEE_ACCOUNT_ID,
    HALT,
    MAXIMUM_AMOUNT,
    MOST_SESSIONS,
    SELL,
    STOP_LOSS,
    OrderStatus,
)

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@pytest.fixture
def world() -> World:
    return World()


def arm(world: World, account_id: int = ALICE, timeout_us: int = SECOND_US, session: str = "") -> int:
    """Arm a switch; returns its deadline."""
    (event,) = world.apply(CancelAllAfter(account_id, timeout_us, session))
    assert isinstance(event, CancelAllAfterSet)
    assert (event.account_id, event.session) == (account_id, session)
    return event.deadline_us


def expire(world: World, deadline_us: int, account_id: int = ALICE, session: str = "") -> list[int]:
    """Say that a deadline is over; returns the ids of the orders that this cancelled."""
    disarmed, *orders = world.apply(ExpireCancelAllAfter(account_id, session, deadline_us))
    assert disarmed == CancelAllAfterSet(account_id, session, 0)
    cancelled = []
    for order in orders:
        assert isinstance(order, OrderState)
        assert (order.account_id, order.status, order.is_new) == (account_id, OrderStatus.CANCELED, False)
        cancelled.append(order.order_id)
    return cancelled


def test_the_deadline_is_the_time_of_the_command_and_the_timeout(world: World) -> None:
    deadline_us = arm(world, timeout_us=5 * SECOND_US)
    assert deadline_us == world.time_us + 5 * SECOND_US
    assert world.exchange.deadlines == {(ALICE, ""): deadline_us}


def test_setting_it_again_moves_the_deadline(world: World) -> None:
    first = arm(world)
    second = arm(world)
    assert second == first + 1
    assert world.exchange.deadlines == {(ALICE, ""): second}
    assert world.refuse(ExpireCancelAllAfter(ALICE, "", first)) == Reason.UNKNOWN_DEADLINE


def test_a_timeout_of_nothing_disarms_it(world: World) -> None:
    deadline_us = arm(world)
    assert world.apply(CancelAllAfter(ALICE, 0)) == [CancelAllAfterSet(ALICE, "", 0)]
    assert world.exchange.deadlines == {}
    assert world.refuse(ExpireCancelAllAfter(ALICE, "", deadline_us)) == Reason.UNKNOWN_DEADLINE


def test_disarming_what_is_not_armed_is_answered_the_same(world: World) -> None:
    assert world.apply(CancelAllAfter(ALICE, 0, "gone")) == [CancelAllAfterSet(ALICE, "gone", 0)]


def test_a_renewal_arms_nothing_anew(world: World) -> None:
    renewal = CancelAllAfter(ALICE, SECOND_US, renews=True)
    assert world.refuse(renewal) == Reason.UNKNOWN_DEADLINE
    first = arm(world)
    (event,) = world.apply(renewal)
    assert isinstance(event, CancelAllAfterSet)
    assert event.deadline_us > first
    expire(world, event.deadline_us)
    assert world.refuse(renewal) == Reason.UNKNOWN_DEADLINE
    assert world.refuse(CancelAllAfter(ALICE, 0, renews=True)) == Reason.UNKNOWN_DEADLINE
    assert world.exchange.deadlines == {}


def test_no_other_command_ends_a_deadline_that_is_over(world: World) -> None:
    """Who finds that time is over has to say so; the clock of the commands decides nothing."""
    order = world.place(ALICE, BUY, 1, 5)
    deadline_us = arm(world, timeout_us=1)
    world.time_us = deadline_us + DAY_US
    world.place(BOB, BUY, 1, 5)
    assert expire(world, deadline_us) == [order.order_id]


def test_when_it_is_over_the_orders_of_the_account_are_cancelled_by_id(world: World) -> None:
    world.apply(CreateMarket("QUOTEBASE", 2, 1, 1, 1, MarketFilters()))
    waiting = world.place(ALICE, BUY, 1, type=STOP_LOSS, stop_price=20)
    elsewhere = world.place(ALICE, SELL, 1, 5, market_id=2)
    bid = world.place(ALICE, BUY, 1, 5)
    world.place(BOB, BUY, 1, 5)
    deadline_us = arm(world)
    assert expire(world, deadline_us) == [waiting.order_id, elsewhere.order_id, bid.order_id]
    assert world.bids == [(5, 1)]
    assert world.held(ALICE, 1) == world.held(ALICE, 2) == 0


def test_it_works_once(world: World) -> None:
    deadline_us = arm(world)
    world.place(ALICE, BUY, 1, 5)
    expire(world, deadline_us)
    assert world.refuse(ExpireCancelAllAfter(ALICE, "", deadline_us)) == Reason.UNKNOWN_DEADLINE


def test_an_account_without_orders_is_disarmed_all_the_same(world: World) -> None:
    assert expire(world, arm(world)) == []
    nobody = 77_777
    assert expire(world, arm(world, nobody), nobody) == []
    assert world.exchange.deadlines == {}


def test_markets_that_take_cancellations_are_cleared_and_the_others_left(world: World) -> None:
    placed = {}
    for status in (CANCEL_ONLY, HALT, BREAK):
        world.apply(CreateMarket(f"M{status}", 1, 2, 1, 1, MarketFilters()))
        market_id = len(world.exchange.markets)
        placed[status] = world.place(ALICE, BUY, 1, 5, market_id=market_id).order_id
        world.apply(SetMarketStatus(market_id, status))
    trading = world.place(ALICE, BUY, 1, 5).order_id
    assert expire(world, arm(world)) == [placed[CANCEL_ONLY], trading]
    assert sorted(world.exchange.orders) == [placed[HALT], placed[BREAK]]


def test_each_session_has_a_switch_of_its_own(world: World) -> None:
    order = world.place(ALICE, BUY, 1, 5)
    by_session = arm(world, session="a")
    other = arm(world, session="b", timeout_us=DAY_US)
    assert world.refuse(ExpireCancelAllAfter(ALICE, "b", by_session)) == Reason.UNKNOWN_DEADLINE
    assert expire(world, by_session, session="a") == [order.order_id]
    assert world.exchange.deadlines == {(ALICE, "b"): other}


def test_the_switch_of_another_account_leaves_the_orders(world: World) -> None:
    world.place(ALICE, BUY, 1, 5)
    deadline_us = arm(world, CAROL)
    assert world.refuse(ExpireCancelAllAfter(ALICE, "", deadline_us)) == Reason.UNKNOWN_DEADLINE
    assert expire(world, deadline_us, CAROL) == []
    assert world.bids == [(5, 1)]


def test_time_that_the_exchange_was_away_moves_all_deadlines(world: World) -> None:
    first, second = arm(world), arm(world, BOB, 5 * SECOND_US, "ws")
    assert world.apply(ExtendDeadlines(3 * SECOND_US)) == [DeadlinesExtended(3 * SECOND_US)]
    assert world.exchange.deadlines == {(ALICE, ""): first + 3 * SECOND_US, (BOB, "ws"): second + 3 * SECOND_US}
    assert world.refuse(ExpireCancelAllAfter(ALICE, "", first)) == Reason.UNKNOWN_DEADLINE
    expire(world, first + 3 * SECOND_US)


def test_a_deadline_that_passed_while_the_exchange_was_away_moves_like_any_other(world: World) -> None:
    deadline_us = arm(world)
    world.time_us += 10 * SECOND_US
    world.apply(ExtendDeadlines(9 * SECOND_US))
    assert world.exchange.deadlines == {(ALICE, ""): deadline_us + 9 * SECOND_US}


def test_time_away_may_be_told_when_nothing_is_armed(world: World) -> None:
    assert world.apply(ExtendDeadlines(1)) == [DeadlinesExtended(1)]


@pytest.mark.parametrize("away_us", [0, -1, MAXIMUM_AMOUNT])
def test_time_away_is_more_than_nothing_and_leads_to_times_that_can_be_written(world: World, away_us: int) -> None:
    arm(world)
    assert world.refuse(ExtendDeadlines(away_us)) == Reason.INVALID_FIELD


@pytest.mark.parametrize("command", [
    CancelAllAfter(FEE_ACCOUNT_ID, SECOND_US),
    CancelAllAfter(-1, SECOND_US),
    CancelAllAfter(MAXIMUM_AMOUNT + 1, SECOND_US),
    CancelAllAfter(ALICE, -1),
    CancelAllAfter(ALICE, DAY_US + 1),
    CancelAllAfter(ALICE, SECOND_US, "s" * 65),
    CancelAllAfter(ALICE, 0, "s" * 65),
])  # fmt: skip
def test_what_is_out_of_range_is_refused(world: World, command: AnyCommand) -> None:
    assert world.refuse(command) == Reason.INVALID_FIELD


def test_the_limits_themselves_are_in_range(world: World) -> None:
    arm(world, timeout_us=DAY_US, session="s" * 64)
    arm(world, timeout_us=1)


def test_an_account_has_so_many_sessions_at_once_and_no_more(world: World) -> None:
    deadlines = [arm(world, session=str(number)) for number in range(MOST_SESSIONS)]
    one_too_many = CancelAllAfter(ALICE, SECOND_US, "one too many")
    assert world.refuse(one_too_many) == Reason.INVALID_FIELD
    arm(world, BOB, session="one too many")
    arm(world, session="1")
    expire(world, deadlines[0], session="0")
    world.apply(one_too_many)
    world.apply(CancelAllAfter(ALICE, 0, "2"))
    world.exchange = load(dump(world.exchange))
    arm(world, session="2")
    assert world.refuse(CancelAllAfter(ALICE, SECOND_US, "0")) == Reason.INVALID_FIELD


def test_a_snapshot_keeps_the_deadlines(world: World) -> None:
    world.place(ALICE, BUY, 1, 5)
    deadline_us = arm(world, session="ws")
    world.exchange = load(dump(world.exchange))
    assert world.exchange.deadlines == {(ALICE, "ws"): deadline_us}
    assert len(expire(world, deadline_us, session="ws")) == 1
    assert world.exchange.book_levels(MARKET_ID, 0) == ([], [])
