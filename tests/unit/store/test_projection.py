"""Which rows a batch writes."""

from __future__ import annotations

import json
from typing import Any

from rtx.core.events import AnyEvent, Deposited, MarketStatusChanged, OrderState, Trade
from rtx.core.vocabulary import BUY, FILLED, LIMIT, NEW, PARTIALLY_FILLED, SELL
from rtx.store.commit_statement import PARTS, commit_statement
from rtx.store.entries import Batch, JournalEntry
from rtx.store.projection import Projection, project

MINUTE_US = 60_000_000
NOON_US = 1_760_011_200_000_000  # 2025-10-09 12:00


def rows_of(matrix: Any) -> list[list[int]]:
    """Read PostgreSQL's text form of a two-dimensional array."""
    rows: list[list[int]] = json.loads(matrix.translate(str.maketrans("{}", "[]")))
    return rows


def order(order_id: int, status: int, executed: int, *, is_new: bool = False) -> OrderState:
    return OrderState(
        order_id,
        account_id=1001,
        market_id=1,
        side=BUY,
        type=LIMIT,
        time_in_force=0,
        status=status,
        price=100,
        quantity=10,
        executed_quantity=executed,
        executed_quote_quantity=executed * 100,
        client_order_id=f"name-{order_id}",
        created_at_us=5,
        working_at_us=6,
        quote_quantity=0,
        stop_price=0,
        self_trade_prevention=0,
        prevented_quantity=0,
        is_new=is_new,
    )


def fill(trade_id: int, price: int, quantity: int, taker_side: int = BUY, market_id: int = 1) -> Trade:
    return Trade(market_id, trade_id, price, quantity, price * quantity, taker_side, 1, 2, 1001, 1002, 0, 0)


def projection_of(*commands: tuple[int, list[AnyEvent]]) -> Projection:
    """Project commands given as (time, events), with sequences from 11 on."""
    entries = [
        JournalEntry(sequence, 1, time_us, sequence.to_bytes(16, "big"), "r", b"", b"c", b"e", b"p", b"h")
        for sequence, (time_us, _) in enumerate(commands, start=11)
    ]
    return project(Batch(1, entries, [events for _, events in commands], [], []))


def test_an_order_is_inserted_once_with_its_last_state() -> None:
    projection = projection_of(
        (1, [order(7, NEW, 0, is_new=True)]), (2, [order(7, PARTIALLY_FILLED, 4)]), (3, [order(7, FILLED, 10)])
    )
    matrix, names = projection.placed
    (row,) = rows_of(matrix)
    assert row == [7, 1001, 1, BUY, LIMIT, 0, FILLED, 100, 10, 10, 1000, 5, 6, 0, 0, 0, 0, 11, 13, 3]
    assert names == ["name-7"]
    assert projection.changed == ()


def test_an_order_of_before_is_updated_once_with_its_last_state() -> None:
    projection = projection_of((1, [order(7, PARTIALLY_FILLED, 4)]), (2, [order(7, FILLED, 10), order(8, FILLED, 10)]))
    matrix, names = projection.changed
    assert rows_of(matrix) == [
        [1001, 1, 7, FILLED, 10, 10, 1000, 6, 0, 12, 2],
        [1001, 1, 8, FILLED, 10, 10, 1000, 6, 0, 12, 2],
    ]
    assert names == ["name-7", "name-8"]
    assert projection.placed == ()


def test_candles_sum_up_the_trades_of_each_minute_hour_and_day() -> None:
    second_minute_us = NOON_US + MINUTE_US
    projection = projection_of(
        (NOON_US, [fill(1, 100, 5), fill(2, 103, 1)]),
        (NOON_US + 1, [fill(3, 99, 2, SELL)]),
        (second_minute_us, [fill(4, 101, 4)]),
        (second_minute_us, [fill(1, 7, 1, SELL, market_id=2)]),
    )
    noon_s = NOON_US // 1_000_000
    midnight_s = noon_s - 12 * 3600
    first = [100, 103, 99, 99, 3, 1, 3, 8, 801, 6, 603]
    second = [101, 101, 101, 101, 1, 4, 4, 4, 404, 4, 404]
    both = [100, 103, 99, 101, 4, 1, 4, 12, 1205, 10, 1007]
    other = [7, 7, 7, 7, 1, 1, 1, 1, 7, 0, 0]
    (matrix,) = projection.candles
    assert sorted(rows_of(matrix)) == [
        [1, 60, noon_s, *first],
        [1, 60, noon_s + 60, *second],
        [1, 3600, noon_s, *both],
        [1, 86400, midnight_s, *both],
        [2, 60, noon_s + 60, *other],
        [2, 3600, noon_s, *other],
        [2, 86400, midnight_s, *other],
    ]


def test_tables_that_a_batch_does_not_touch_have_no_part_in_its_statement() -> None:
    projection = projection_of((1, [Deposited(1001, 1, 5, "reference")]))
    touched = [part.name for part in PARTS if getattr(projection, part.name)]
    assert touched == ["journal"]
    statement = commit_statement(("journal",))
    assert all(f"INTO {table}" not in statement for table in ("orders", "trades", "candles", "balances", "postings"))


def test_every_part_has_its_parameters_whatever_else_is_there() -> None:
    for names in (("journal", "changed"), ("journal", "placed", "trades", "candles"), tuple(p.name for p in PARTS)):
        statement = commit_statement(names)
        count = 1 + sum(part.parameter_count for part in PARTS if part.name in names)
        assert all(f"${number}" in statement for number in range(1, count + 1))
        assert f"${count + 1}" not in statement


def test_changes_of_the_directory_keep_their_order_and_time() -> None:
    events = [MarketStatusChanged(1, 2), MarketStatusChanged(1, 0)]
    projection = projection_of((5, [events[0]]), (6, [events[1]]))
    assert list(projection.directory) == [(5, events[0]), (6, events[1])]
