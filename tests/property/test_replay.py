"""The same commands always give the same events, byte for byte, and the same hash; also from any snapshot on."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from tests.property.episodes import FIRST_TIME_US
from tests.property.generator import CommandGenerator, opening_commands
from tests.reference.exchange import ReferenceExchange

from rtx.core.commands import (
    ActivateRules,
    AmendOrder,
    AnyCommand,
    CancelAllAfter,
    CancelOrder,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    SetAccountFeeTier,
    SetFeeTier,
    SetMarketFilters,
    SetMarketStatus,
    Withdraw,
    decode_command,
    encode_command,
)
from rtx.core.events import decode_events, encode_events
from rtx.core.exchange import Exchange
from rtx.core.rejections import RejectedError
from rtx.core.snapshot import dump, load, state_hash
from rtx.core.vocabulary import BUY, GTC, HALT, LIMIT, SELL, STOP_LOSS

COMMANDS = 3_000

JournalRow = tuple[int, bytes, bytes]


@cache
def journal(seed: str) -> tuple[list[JournalRow], bytes]:
    """(time, command, events) of every command that was accepted, and the hash of the state they led to."""
    exchange, reference = Exchange(), ReferenceExchange()
    generator = CommandGenerator(seed, reference)
    rows = []
    opening = opening_commands()
    for index in range(COMMANDS):
        command = opening[index] if index < len(opening) else generator.next()
        time_us = FIRST_TIME_US + 7 * index
        reference.apply(command, time_us)
        try:
            events = exchange.apply(command, time_us)
        except RejectedError:
            continue
        rows.append((time_us, encode_command(command), encode_events(events)))
    return rows, state_hash(exchange)


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_replaying_the_journal_gives_the_same_events_and_state(seed: str) -> None:
    rows, final_hash = journal(seed)
    exchange = Exchange()
    for time_us, command, events in rows:
        assert encode_events(exchange.apply(decode_command(command), time_us)) == events
    assert state_hash(exchange) == final_hash


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_a_snapshot_anywhere_in_the_journal_continues_the_same(seed: str) -> None:
    rows, final_hash = journal(seed)
    exchange = Exchange()
    for index, (time_us, command, events) in enumerate(rows):
        if index % 97 == 0:
            snapshot = dump(exchange)
            exchange = load(snapshot)
            assert dump(exchange) == snapshot
        assert encode_events(exchange.apply(decode_command(command), time_us)) == events
    assert state_hash(exchange) == final_hash


def test_every_state_on_the_way_has_its_own_hash() -> None:
    rows, _ = journal("a")
    exchange = Exchange()
    hashes = {state_hash(exchange)}
    for time_us, command, _ in rows[:1_000]:
        exchange.apply(decode_command(command), time_us)
        hashes.add(state_hash(exchange))
    assert len(hashes) == 1_001


def test_commands_and_events_survive_encoding() -> None:
    rows, _ = journal("b")
    for _, command, events in rows:
        assert encode_command(decode_command(command)) == command
        assert encode_events(decode_events(events)) == events


def test_a_snapshot_of_another_version_is_refused() -> None:
    fields = msgspec.msgpack.decode(dump(Exchange()))
    fields[0] = 99
    with pytest.raises(ValueError, match="version"):
        load(msgspec.msgpack.encode(fields))


def limit_order(account_id: int, side: int, price: int, quantity: int, name: str) -> NewOrder:
    return NewOrder(account_id, 1, side, LIMIT, GTC, price, quantity, name)


def prepared_exchange(*more: AnyCommand) -> Exchange:
    """Two markets, two resting orders, a waiting one, a trade behind them; then ``more``, all at one time."""
    exchange = Exchange()
    commands = [
        *opening_commands(),
        limit_order(1001, BUY, 5, 3, "bid"),
        limit_order(1002, BUY, 5, 2, "other bid"),
        limit_order(1003, SELL, 9, 3, "ask"),
        limit_order(1002, BUY, 9, 1, "trade"),
        NewOrder(1004, 1, BUY, STOP_LOSS, GTC, 0, 2, "stop", stop_price=12),
        *more,
    ]
    for command in commands:
        exchange.apply(command, FIRST_TIME_US)
    return exchange


CHANGES: list[tuple[AnyCommand, ...]] = [
    (),
    (Deposit(1001, 1, 1, "one"),),
    (Deposit(1001, 2, 1, "one"),),
    (Deposit(1002, 1, 1, "one"),),
    (Deposit(5_000, 1, 1, "one"),),
    (Withdraw(1001, 1, 1, "one"),),
    (CreateAsset("NEW", 8),),
    (CreateAsset("NEW", 7),),
    (CreateAsset("OLD", 8),),
    (CreateMarket("M", 1, 3, 1_000, 1, MarketFilters()),),
    (CreateMarket("N", 1, 3, 1_000, 1, MarketFilters()),),
    (CreateMarket("M", 1, 2, 1_000, 1, MarketFilters()),),
    (CreateMarket("M", 3, 1, 1_000, 1, MarketFilters()),),
    (CreateMarket("M", 1, 3, 2_000, 1, MarketFilters()),),
    (CreateMarket("M", 1, 3, 1_000, 2, MarketFilters()),),
    (CreateMarket("M", 1, 3, 1_000, 1, MarketFilters(), HALT),),
    (SetMarketStatus(1, HALT),),
    (SetMarketStatus(2, HALT),),
    *[
        (SetMarketFilters(1, msgspec.structs.replace(MarketFilters(maximum_open_orders=8), **{name: value})),)
        for name, value in (
            ("minimum_price", 1),
            ("maximum_price", 2**40),
            ("minimum_quantity", 1),
            ("maximum_quantity", 2**40),
            ("market_minimum_quantity", 1),
            ("market_maximum_quantity", 2**40),
            ("minimum_notional", 1),
            ("maximum_notional", 2**40),
            ("apply_minimum_to_market", False),
            ("apply_maximum_to_market", True),
            ("bid_multiplier_up", 10**7),
            ("bid_multiplier_down", 1),
            ("ask_multiplier_up", 10**7),
            ("ask_multiplier_down", 1),
            ("maximum_open_orders", 9),
        )
    ],
    (SetFeeTier(0, 1_001, 2_000),),
    (SetFeeTier(0, 1_000, 2_001),),
    (SetFeeTier(2, 1_000, 2_000),),
    (SetAccountFeeTier(1001, 1),),
    (SetAccountFeeTier(1002, 1),),
    (limit_order(1001, BUY, 4, 1, "x"),),
    (limit_order(1001, BUY, 4, 1, "y"),),
    (limit_order(1001, BUY, 4, 2, "x"),),
    (limit_order(1001, BUY, 3, 1, "x"),),
    (limit_order(1001, SELL, 10, 1, "x"),),
    (limit_order(1002, BUY, 4, 1, "x"),),
    (msgspec.structs.replace(limit_order(1001, BUY, 4, 1, "x"), self_trade_prevention=1),),
    (limit_order(1001, BUY, 4, 1, "x"), CancelOrder(1001, 1, 0, "x")),
    (CancelOrder(1001, 1, 0, "bid"),),
    (CancelOrder(1004, 1, 0, "stop"),),
    (AmendOrder(1001, 1, 2, 0, "bid"),),
    (AmendOrder(1001, 1, 2, 0, "bid", "new"),),
    (AmendOrder(1001, 1, 1, 0, "bid"),),
    (AmendOrder(1004, 1, 1, 0, "stop"),),
    (limit_order(1001, BUY, 9, 1, "x"),),
    (limit_order(1001, SELL, 5, 1, "x"),),
    (ActivateRules(2),),
    (CancelAllAfter(1001, 1),),
    (CancelAllAfter(1001, 2),),
    (CancelAllAfter(1002, 1),),
    (CancelAllAfter(1001, 1, "session"),),
    (CancelAllAfter(1001, 1), ActivateRules(2)),
]


def test_the_hash_tells_apart_whatever_differs() -> None:
    hashes = {state_hash(prepared_exchange(*change)): change for change in CHANGES}
    assert len(hashes) == len(CHANGES)


def test_the_hash_depends_on_the_time_of_the_last_command() -> None:
    exchange, later = prepared_exchange(), prepared_exchange()
    exchange.apply(Deposit(1001, 1, 1, "one"), FIRST_TIME_US + 1)
    later.apply(Deposit(1001, 1, 1, "one"), FIRST_TIME_US + 2)
    assert state_hash(exchange) != state_hash(later)


def test_time_never_runs_backwards() -> None:
    exchange = prepared_exchange()
    before = state_hash(exchange)
    with pytest.raises(ValueError, match="comes after"):
        exchange.apply(Deposit(1001, 1, 1, "one"), FIRST_TIME_US - 1)
    assert state_hash(exchange) == before
