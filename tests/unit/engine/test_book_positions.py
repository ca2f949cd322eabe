"""Where a new leader says that nothing happened, nothing may have happened."""

from __future__ import annotations

import pytest
from tests.property.episodes import FIRST_TIME_US
from tests.property.generator import CommandGenerator, opening_commands
from tests.reference.exchange import ReferenceExchange

from rtx.core.events import Deposited, OrderState
from rtx.core.exchange import Exchange
from rtx.core.rejections import RejectedError
from rtx.core.vocabulary import BUY
from rtx.engine.book_positions import BookPositions


def order_state(market_id: int) -> OrderState:
    return OrderState(1, 1, market_id, 0, 0, 0, 0, 100, 1, 0, 0, "", 0, 0, 0, 0, 0, 0, False)


def test_a_market_stands_since_the_last_row_that_changed_an_order_in_it() -> None:
    positions = BookPositions(10)
    positions.follow(11, [order_state(7)])
    positions.follow(12, [order_state(8), order_state(7)])
    positions.follow(13, [Deposited(1, 1, 5, "")])
    positions.follow(14, [order_state(8)])
    assert (positions.unchanged_since(7), positions.unchanged_since(8)) == (12, 14)


def test_of_a_market_that_was_not_touched_it_knows_as_much_as_it_followed() -> None:
    assert BookPositions(10).unchanged_since(7) == 10


def test_a_leaders_own_updates_count() -> None:
    positions = BookPositions(10)
    positions.change(7, 15)
    assert positions.unchanged_since(7) == 15


@pytest.mark.parametrize("seed", ["positions 1", "positions 2"])
def test_no_level_changes_without_some_orders_change_at_its_price(seed: str) -> None:
    exchange, reference = Exchange(), ReferenceExchange()
    generator = CommandGenerator(seed, reference)
    commands = opening_commands()
    changes = 0
    for index in range(2_000):
        command = commands[index] if index < len(commands) else generator.next()
        time_us = FIRST_TIME_US + index
        reference.apply(command, time_us)
        try:
            events = exchange.apply(command, time_us)
        except RejectedError:
            assert exchange.take_changed_levels() == []
            continue
        touched = {
            (state.market_id, state.side == BUY, state.price) for state in events if isinstance(state, OrderState)
        }
        for market_id, bids, asks in exchange.take_changed_levels():
            changed = {(market_id, True, price) for price, _ in bids} | {(market_id, False, price) for price, _ in asks}
            assert changed <= touched
            changes += len(changed)
    assert changes > 500
