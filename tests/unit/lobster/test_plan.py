"""Every message changes the book as it changed the exchange's, and executions hit the order that they name."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from tests.unit.lobster.recorded_files import (
    MESSAGES_FILE,
    OPENING_FILE,
    UNANNOUNCED_BIDS,
    book,
    needs_record,
    reconstruct,
)

from rtx.lobster.errors import RecordError
from rtx.lobster.output import book_row
from rtx.lobster.plan import Plan, make_plan
from rtx.lobster.record import EventType, Message, Opening, Side, read_messages, read_opening
from rtx.lobster.translation import Cancel, Note, Place, Reduce, Take

ASKS = [(110, 10), (120, 20)]
BIDS = [(100, 30), (90, 40)]

Row = tuple[int, int, int, int, int]


def planned(*rows: Row, opening: Opening | None = None) -> Plan:
    """The plan for (type, order id, size, price, direction) rows; by default the first order is at the best bid."""
    messages = [
        Message(number, EventType(kind), order_id, size, price, Side.BUY if direction == 1 else Side.SELL)
        for number, (kind, order_id, size, price, direction) in enumerate(rows, start=1)
    ]
    return make_plan(opening or book(ASKS, BIDS), messages)


FIRST: Row = (1, 1000, 12, 100, 1)


def levels(plan: Plan, side: Side, step: int = -1) -> list[tuple[int, int]]:
    chosen = plan.steps[step].bids if side is Side.BUY else plan.steps[step].asks
    return [(level.price, level.size) for level in chosen]


def keys_of(plan: Plan, step: int = 0) -> dict[tuple[int, int], int]:
    """Keys of placed orders by price and quantity."""
    return {(a.price, a.quantity): a.key for a in plan.steps[step].actions if isinstance(a, Place)}


def test_the_first_order_is_the_last_of_its_level_in_the_opening() -> None:
    plan = planned(FIRST)
    placed = [(a.side, a.price, a.quantity) for a in plan.steps[0].actions if isinstance(a, Place)]
    assert placed == [
        (Side.SELL, 110, 10),
        (Side.SELL, 120, 20),
        (Side.BUY, 100, 18),
        (Side.BUY, 90, 40),
        (Side.BUY, 100, 12),
    ]
    assert levels(plan, Side.BUY) == BIDS
    assert levels(plan, Side.SELL) == ASKS


def test_the_first_order_may_be_its_whole_level() -> None:
    plan = planned((1, 1000, 30, 100, 1), (3, 1000, 30, 100, 1))
    assert levels(plan, Side.BUY) == [(90, 40)]


def test_a_record_may_begin_with_something_else() -> None:
    plan = planned((3, 5, 7, 100, 1), (3, 1000, 30, 100, 1))
    assert levels(plan, Side.BUY, 0) == BIDS
    assert levels(plan, Side.BUY) == [(90, 40)]


def test_a_new_order_rests_last_in_its_queue() -> None:
    plan = planned(FIRST, (1, 1001, 5, 100, 1), (1, 1002, 7, 105, -1))
    assert levels(plan, Side.BUY) == [(100, 35), (90, 40)]
    assert levels(plan, Side.SELL) == [(105, 7), (110, 10), (120, 20)]


def test_a_reduction_keeps_the_place_of_the_order() -> None:
    plan = planned(FIRST, (2, 1000, 4, 100, 1))
    assert plan.steps[1].actions == (Reduce(keys_of(plan)[100, 12], 8),)
    assert levels(plan, Side.BUY) == [(100, 26), (90, 40)]


def test_a_reduction_after_an_execution_counts_what_was_executed() -> None:
    plan = planned((1, 1000, 30, 100, 1), (4, 1000, 10, 100, 1), (2, 1000, 5, 100, 1))
    assert plan.steps[2].actions == (Reduce(keys_of(plan)[100, 30], 25),)
    assert levels(plan, Side.BUY) == [(100, 15), (90, 40)]


def test_a_deletion_takes_the_order_out() -> None:
    plan = planned(FIRST, (3, 1000, 12, 100, 1))
    assert plan.steps[1].actions == (Cancel(keys_of(plan)[100, 12]),)
    assert levels(plan, Side.BUY) == [(100, 18), (90, 40)]


def test_an_unknown_id_acts_on_what_rested_before() -> None:
    plan = planned(FIRST, (3, 500, 15, 90, 1), (2, 501, 5, 90, 1), (3, 502, 20, 90, 1))
    key = keys_of(plan)[90, 40]
    assert [step.actions for step in plan.steps[1:]] == [(Reduce(key, 25),), (Reduce(key, 20),), (Cancel(key),)]
    assert levels(plan, Side.BUY) == [(100, 30)]


def test_an_execution_is_a_trade_with_the_first_in_the_queue() -> None:
    plan = planned(FIRST, (4, 500, 18, 100, 1), (4, 1000, 5, 100, 1), (4, 1000, 7, 100, 1))
    earlier, named = keys_of(plan)[100, 18], keys_of(plan)[100, 12]
    assert [step.actions for step in plan.steps[1:]] == [
        (Take(earlier, Side.BUY, 100, 18, is_whole=True),),
        (Take(named, Side.BUY, 100, 5, is_whole=False),),
        (Take(named, Side.BUY, 100, 7, is_whole=True),),
    ]
    assert levels(plan, Side.BUY) == [(90, 40)]


def test_orders_before_an_executed_one_go_behind_it() -> None:
    plan = planned(FIRST, (4, 1000, 12, 100, 1), (3, 500, 18, 100, 1))
    cancelled, placed, taken = plan.steps[1].actions
    assert cancelled == Cancel(keys_of(plan)[100, 18])
    assert isinstance(placed, Place)
    assert (placed.side, placed.price, placed.quantity) == (Side.BUY, 100, 18)
    assert taken == Take(keys_of(plan)[100, 12], Side.BUY, 100, 12, is_whole=True)
    assert plan.steps[2].actions == (Cancel(placed.key),)
    assert plan.notes[Note.REQUEUED] == 1


def test_better_prices_are_gone_when_a_worse_one_is_executed() -> None:
    plan = planned(FIRST, (4, 500, 10, 90, 1))
    assert levels(plan, Side.BUY) == [(90, 30)]
    assert plan.notes[Note.WITHDRAWN] == 2


@pytest.mark.parametrize("price", [110, 115])
def test_an_order_that_comes_to_rest_proves_what_it_would_have_met_gone(price: int) -> None:
    plan = planned(FIRST, (1, 1001, 5, price, 1))
    assert levels(plan, Side.SELL) == [(120, 20)]
    assert levels(plan, Side.BUY)[0] == (price, 5)
    assert plan.notes[Note.WITHDRAWN] == 1


def test_hidden_executions_crosses_and_halts_change_nothing() -> None:
    plan = planned(FIRST, (5, 0, 5, 105, 1), (6, -1, 5, 105, 1), (7, 0, 0, -1, -1))
    assert [step.actions for step in plan.steps[1:]] == [(), (), ()]
    assert len(plan.steps) == 4


def test_messages_about_nothing_that_is_known_are_skipped_and_counted() -> None:
    plan = planned(FIRST, (3, 500, 15, 105, 1), (4, 501, 15, 95, 1))
    assert plan.notes[Note.SKIPPED] == 2
    assert levels(plan, Side.BUY) == BIDS
    assert "2 messages about orders of which nothing is known to rest were skipped" in list(plan.summary())


def test_more_than_rests_takes_what_there_is() -> None:
    plan = planned(FIRST, (2, 1000, 20, 100, 1))
    assert levels(plan, Side.BUY) == [(100, 18), (90, 40)]
    assert plan.notes[Note.CUT] == 1


def test_the_opening_has_to_hold_the_first_order() -> None:
    with pytest.raises(RecordError, match="lets 31 rest there"):
        planned((1, 1000, 31, 100, 1))


def test_an_order_in_two_places_is_refused() -> None:
    with pytest.raises(RecordError, match="rests at BUY 100"):
        planned(FIRST, (3, 1000, 12, 90, 1))
    with pytest.raises(RecordError, match="rests already"):
        planned(FIRST, FIRST)


def test_needs_cover_all_that_is_placed_and_taken() -> None:
    needs = planned(FIRST, (1, 1001, 5, 105, -1), (4, 1001, 5, 105, -1), (4, 500, 18, 100, 1)).needs
    assert needs.orders_max == 6
    assert needs.resting_money == 30 * 100 + 40 * 90
    assert needs.resting_shares == 35
    assert needs.taking_money == 5 * 105
    assert needs.taking_shares == 18


class TestUnannounced:
    """Views of two levels: bids at 100 and 90, and whatever is below 90 goes unannounced."""

    opening = book(ASKS, BIDS, depth=2)

    def test_an_order_that_came_into_view_is_there_from_then_on(self) -> None:
        plan = planned(
            FIRST,
            (3, 500, 40, 90, 1),
            (3, 1000, 12, 100, 1),
            (4, 501, 18, 100, 1),
            (4, 900, 25, 80, 1),
            opening=self.opening,
        )
        assert [levels(plan, Side.BUY, step) for step in range(5)] == [
            [(100, 30), (90, 40), (80, 25)],
            [(100, 30), (80, 25)],
            [(100, 18), (80, 25)],
            [(80, 25)],
            [],
        ]
        assert plan.unannounced == 1
        assert not plan.notes

    def test_all_its_messages_together_tell_its_size(self) -> None:
        plan = planned(FIRST, (3, 500, 40, 90, 1), (2, 900, 5, 80, 1), (3, 900, 20, 80, 1), opening=self.opening)
        assert levels(plan, Side.BUY, 0)[2] == (80, 25)
        assert levels(plan, Side.BUY) == [(100, 30)]

    @pytest.mark.parametrize(("order_id", "entered"), [(1012, 3), (1019, 5)])
    def test_an_order_of_the_day_entered_next_to_its_neighbours(self, order_id: int, entered: int) -> None:
        """Its price is out of view after the messages 1, 3 and 5."""
        plan = planned(
            FIRST,
            (3, 500, 40, 90, 1),
            (1, 1010, 1, 95, 1),
            (3, 1010, 1, 95, 1),
            (1, 1020, 1, 95, 1),
            (3, 1020, 1, 95, 1),
            (3, order_id, 3, 80, 1),
            opening=self.opening,
        )
        shown = [(80, 3) in levels(plan, Side.BUY, step) for step in range(7)]
        assert shown == [entered <= number < 7 for number in range(1, 8)]

    @pytest.mark.parametrize(("peer", "entered"), [(300, 4), (1006, 2)])
    def test_a_held_order_entered_with_others_that_were_held(self, peer: int, entered: int) -> None:
        """Its price is out of view after the messages 2 and 4; ids below that of the first message were held."""
        plan = planned(
            FIRST,
            (1, 1005, 1, 98, 1),
            (3, 1005, 1, 98, 1),
            (1, peer, 1, 99, 1),
            (3, peer, 1, 99, 1),
            (3, 350, 4, 80, 1),
            opening=book(ASKS, [(100, 30)], depth=2),
        )
        shown = [(80, 4) in levels(plan, Side.BUY, step) for step in range(6)]
        assert shown == [entered <= number < 6 for number in range(1, 7)]

    def test_orders_that_hide_each_other_are_both_found(self) -> None:
        """With the order at 85 in view, the one at 80 is out of view for longer, and could enter as late as after 4."""
        plan = planned(
            FIRST,
            (3, 500, 40, 90, 1),
            (1, 1010, 1, 95, 1),
            (3, 1010, 1, 95, 1),
            (4, 500, 18, 100, 1),
            (4, 1000, 12, 100, 1),
            (4, 900, 3, 85, 1),
            (4, 1011, 4, 80, 1),
            opening=self.opening,
        )
        assert levels(plan, Side.BUY, 5) == [(85, 3), (80, 4)]
        assert levels(plan, Side.BUY) == []
        assert plan.unannounced == 2

    def test_what_never_was_out_of_view_cannot_have_entered(self) -> None:
        plan = planned(FIRST, (4, 900, 25, 95, 1), opening=self.opening)
        assert plan.unannounced == 0
        assert plan.notes[Note.SKIPPED] == 1


@needs_record
def test_the_real_record_gives_the_exchanges_book() -> None:
    plan = make_plan(read_opening(OPENING_FILE), read_messages(MESSAGES_FILE))
    rows = [book_row(step.asks, step.bids, 10) for step in plan.steps]
    assert rows == reconstruct(MESSAGES_FILE, OPENING_FILE, UNANNOUNCED_BIDS)
    assert rows[0] == OPENING_FILE.read_text().strip()
    assert plan.unannounced == 4
    assert not plan.notes


@needs_record
def test_every_message_of_the_real_record_is_in_view() -> None:
    """The record holds what happened at its ten best levels; a message further down would mean a level too many."""
    plan = make_plan(read_opening(OPENING_FILE), read_messages(MESSAGES_FILE))
    for before, step in zip(plan.steps, plan.steps[1:], strict=False):
        message = step.message
        if step.actions:
            shown = [*before.bids, *step.bids] if message.side is Side.BUY else [*before.asks, *step.asks]
            assert message.price in [level.price for level in shown], message


@pytest.mark.parametrize("seed", range(20))
def test_a_recorded_exchange_is_found_again(seed: int) -> None:
    """What a first-in-first-out exchange would record in full depth leads to its book, order by order."""
    chance = random.Random(seed)
    asks = [(100 + n, chance.randint(1, 9)) for n in range(1, 4)]
    bids = [(100 - n, chance.randint(1, 9)) for n in range(1, 4)]
    rows, books = record_of(chance, asks, bids, count=150)
    plan = planned(*rows, opening=book(*books[0], depth=50))
    assert [([*map(tuple, s.asks)], [*map(tuple, s.bids)]) for s in plan.steps] == [
        (asks[:10], bids[:10]) for asks, bids in books
    ]
    assert not plan.notes


Levels = Sequence[tuple[int, int]]


def record_of(
    chance: random.Random, asks: Levels, bids: Levels, count: int
) -> tuple[list[Row], list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]]:
    """Random messages of an exchange that has these orders at first, and its books after each of them."""
    queues: dict[int, list[list[int]]] = {}
    for n, (price, size) in enumerate([*asks, *bids]):
        queues[price] = [[n, size]]
    directions = dict.fromkeys((p for p, _ in asks), -1) | dict.fromkeys((p for p, _ in bids), 1)
    rows: list[Row] = []
    books = []
    order_id = 1000
    while len(rows) < count:
        best_ask = min((p for p in queues if directions[p] == -1), default=200)
        best_bid = max((p for p in queues if directions[p] == 1), default=1)
        kind = chance.choice((1, 1, 1, 2, 3, 4)) if rows else 1
        if kind == 1:
            order_id += 1
            direction = chance.choice((1, -1))
            price = (
                chance.randint(max(1, best_ask - 8), best_ask - 1)
                if direction == 1
                else chance.randint(best_bid + 1, best_bid + 8)
            )
            size = chance.randint(1, 9)
            queues.setdefault(price, []).append([order_id, size])
            directions[price] = direction
            rows.append((1, order_id, size, price, direction))
        else:
            side = [p for p in (best_bid, best_ask) if p in queues] if kind == 4 else list(queues)
            if not side:
                continue
            price = chance.choice(side)
            order = queues[price][0] if kind == 4 else chance.choice(queues[price])
            size = order[1] if kind == 3 else chance.randint(1, order[1])
            if kind == 2 and size == order[1]:
                continue
            order[1] -= size
            rows.append((kind, order[0], size, price, directions[price]))
            queues[price] = [entry for entry in queues[price] if entry[1]]
            if not queues[price]:
                del queues[price]
        totals = sorted((p, sum(size for _, size in queue)) for p, queue in queues.items())
        books.append(
            (
                [level for level in totals if directions[level[0]] == -1],
                [level for level in reversed(totals) if directions[level[0]] == 1],
            )
        )
    return rows, books
