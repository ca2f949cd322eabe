"""What each version of the rules does, and how an exchange comes from one to the next."""

from __future__ import annotations

import pytest
from tests.unit.core.world import ALICE, BOB, CAROL, World

from rtx.core.commands import ActivateRules
from rtx.core.events import RulesActivated
from rtx.core.exchange import Exchange
from rtx.core.rejections import Reason, RejectedError
from rtx.core.rules import LATEST_RULES
from rtx.core.snapshot import dump, load, state_hash
from rtx.core.vocabulary import BUY, SELL, STOP_LOSS, TAKE_PROFIT


def test_an_exchange_begins_with_the_first_rules() -> None:
    assert Exchange().rules == 1


def test_newer_rules_are_activated_by_a_command() -> None:
    world = World()
    assert world.apply(ActivateRules(2)) == [RulesActivated(2)]
    assert world.exchange.rules == 2


def test_rules_never_go_back_and_are_not_activated_twice() -> None:
    world = World()
    assert world.refuse(ActivateRules(1)) == Reason.RULES_NOT_NEWER
    world.apply(ActivateRules(2))
    assert world.refuse(ActivateRules(1)) == Reason.RULES_NOT_NEWER
    assert world.refuse(ActivateRules(2)) == Reason.RULES_NOT_NEWER


def test_rules_that_the_program_does_not_know_are_refused() -> None:
    assert World().refuse(ActivateRules(LATEST_RULES + 1)) == Reason.UNKNOWN_RULES


def test_a_program_that_knows_fewer_rules_refuses_what_a_newer_one_takes() -> None:
    older = Exchange(latest_rules=1)
    with pytest.raises(RejectedError) as caught:
        older.apply(ActivateRules(2), 1)
    assert (caught.value.reason, caught.value.field) == (Reason.UNKNOWN_RULES, "version")


def test_a_snapshot_of_newer_rules_is_refused_by_an_older_program() -> None:
    exchange = Exchange()
    exchange.apply(ActivateRules(2), 1)
    assert load(dump(exchange)).rules == 2
    with pytest.raises(ValueError, match="snapshot is of rules 2, this program knows rules up to 1"):
        load(dump(exchange), latest_rules=1)


def triggered_together(world: World) -> tuple[list[str], list[str]]:
    """Names of stop orders in the order in which they were placed, and in which one trade has them worked on.

    The trades go up to 12 and, by the same order's matching, down to 8.
    """
    world.trade_at(10)
    terms = {
        "falling, far": (SELL, STOP_LOSS, 8),
        "rising, far": (SELL, TAKE_PROFIT, 12),
        "falling, near": (SELL, STOP_LOSS, 9),
        "rising, near": (SELL, TAKE_PROFIT, 11),
    }
    names = {
        world.place(ALICE, side, 1, type=order_type, stop_price=stop_price).order_id: name
        for name, (side, order_type, stop_price) in terms.items()
    }
    world.place(BOB, BUY, 1, 12)
    world.place(BOB, BUY, 5, 8)
    taker = world.place(CAROL, SELL, 2, 8)
    return list(names.values()), [names[order_id] for order_id in taker.states if order_id in names]


def test_by_the_first_rules_what_triggers_together_goes_by_price() -> None:
    _, worked_on = triggered_together(World())
    assert worked_on == ["rising, near", "rising, far", "falling, near", "falling, far"]


def test_by_the_second_rules_what_triggers_together_goes_by_age() -> None:
    world = World()
    world.apply(ActivateRules(2))
    placed, worked_on = triggered_together(world)
    assert worked_on == placed


@pytest.mark.parametrize("rules", [1, 2])
def test_what_triggers_later_waits_behind_what_triggered_before_by_any_rules(rules: int) -> None:
    world = World()
    if rules > 1:
        world.apply(ActivateRules(rules))
    world.trade_at(10)
    oldest_by_first = world.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=7)
    first = world.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=9)
    second = world.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=8)
    for price in (8, 7, 6, 5):
        world.place(BOB, BUY, 1, price)
    taker = world.place(CAROL, SELL, 1, 8)
    takers = [trade.taker_order_id for trade in taker.trades[1:]]
    assert takers == [first.order_id, second.order_id, oldest_by_first.order_id]


def test_waiting_orders_keep_waiting_when_the_rules_change() -> None:
    world, changed = World(), World()
    for each in (world, changed):
        each.trade_at(10)
        each.place(ALICE, SELL, 1, type=STOP_LOSS, stop_price=9)
        each.place(BOB, BUY, 2, 9)
    changed.apply(ActivateRules(2))
    before = state_hash(world.exchange)
    assert state_hash(changed.exchange) != before
    assert changed.place(CAROL, SELL, 1, 9).fills == world.place(CAROL, SELL, 1, 9).fills == [(9, 1), (9, 1)]
