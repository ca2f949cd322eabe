"""The state as bytes: which form it has, that the form does not change, and what a checkpoint says of it."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.core.world import ALICE, BOB, World

from rtx.core.commands import (
    ActivateRules,
    AnyCommand,
    CancelAllAfter,
    Checkpoint,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    SetAccountFeeTier,
    SetFeeTier,
)
from rtx.core.events import CheckpointTaken
from rtx.core.exchange import Exchange
from rtx.core.snapshot import dump, load, state_hash
from rtx.core.vocabulary import BUY, GTC, LIMIT, SELL, STOP_LOSS_LIMIT, TAKE_PROFIT

ONE_OF_EVERYTHING: list[AnyCommand] = [
    CreateAsset("BTC", 8),
    CreateAsset("USD", 2),
    CreateMarket("BTCUSD", 1, 2, 10_000, 10_000, MarketFilters(minimum_notional=5, maximum_open_orders=9)),
    SetFeeTier(3, 500, 1_000),
    Deposit(1001, 2, 10_000_000, "a"),
    Deposit(1002, 1, 500_000_000, "b"),
    SetAccountFeeTier(1002, 3),
    NewOrder(1001, 1, BUY, LIMIT, GTC, 300, 20, "bid"),
    NewOrder(1001, 1, BUY, LIMIT, GTC, 299, 7, "lower bid", self_trade_prevention=2),
    NewOrder(1002, 1, SELL, LIMIT, GTC, 300, 5, "taker"),
    NewOrder(1002, 1, SELL, LIMIT, GTC, 310, 9, "ask"),
    NewOrder(1002, 1, SELL, STOP_LOSS_LIMIT, GTC, 290, 4, "falling", stop_price=295),
    NewOrder(1002, 1, SELL, TAKE_PROFIT, GTC, 0, 4, "rising", stop_price=305),
]


def test_a_state_by_the_first_rules_has_the_bytes_that_it_always_had() -> None:
    """Programs of two versions compare these hashes while one hands over to the other."""
    exchange = Exchange()
    for number, command in enumerate(ONE_OF_EVERYTHING):
        exchange.apply(command, 1_700_000_000_000_000 + number)
    assert state_hash(Exchange()).hex() == "16b382334bb522cf8ef46aaecce132d53af0d4a4560be62b11f7a4e6ccf20ed1"
    assert state_hash(exchange).hex() == "59e79c081d1fe3af8131d8de4e56610d413f36dd8b31d04eab1dc4b4a91480ca"


def test_only_newer_rules_or_deadlines_make_another_form_of_it() -> None:
    world = World()
    before = dump(world.exchange)
    assert msgspec.msgpack.decode(before)[0] == 1
    world.apply(CancelAllAfter(ALICE, 7, "s"))
    deadline_us = world.time_us + 7
    version, *_, rules, deadlines = msgspec.msgpack.decode(dump(world.exchange))
    assert (version, rules, deadlines) == (2, 1, [[ALICE, "s", deadline_us]])
    world.apply(CancelAllAfter(ALICE, 0, "s"))
    assert len(dump(world.exchange)) == len(before)
    world.apply(ActivateRules(2))
    version, *_, rules, deadlines = msgspec.msgpack.decode(dump(world.exchange))
    assert (version, rules, deadlines) == (2, 2, [])


def test_the_way_to_a_state_does_not_show() -> None:
    worlds = [World(), World()]
    for world, accounts in zip(worlds, ([ALICE, BOB], [BOB, ALICE]), strict=True):
        for account_id in accounts:
            world.apply(CancelAllAfter(account_id, 1_000 - world.time_us % 2, "s"))
        for account_id in (ALICE, BOB):
            world.exchange.set_deadline(account_id, "s", 5_000)
    assert dump(worlds[0].exchange) == dump(worlds[1].exchange)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_another_form_is_refused(version: int) -> None:
    fields = msgspec.msgpack.decode(dump(Exchange()))
    with pytest.raises(ValueError, match=f"snapshot has version {version}, this program reads up to 2"):
        load(msgspec.msgpack.encode([version, *fields[1:]]))


def test_a_checkpoint_says_the_hash_of_the_state_at_its_own_time() -> None:
    world = World()
    before = state_hash(world.exchange)
    (event,) = world.apply(Checkpoint())
    assert event == CheckpointTaken(state_hash(world.exchange))
    assert world.exchange.time_us == world.time_us
    assert state_hash(world.exchange) != before


def test_checkpoints_tell_states_apart() -> None:
    one, other = World(), World()
    one.place(ALICE, BUY, 1, 5)
    other.place(ALICE, BUY, 1, 6)
    assert one.apply(Checkpoint()) != other.apply(Checkpoint())


def test_an_exchange_from_a_snapshot_takes_the_same_checkpoint() -> None:
    world = World()
    world.place(ALICE, BUY, 1, 5)
    world.apply(CancelAllAfter(ALICE, 7))
    loaded = load(dump(world.exchange))
    assert loaded.apply(Checkpoint(), 10**6) == world.exchange.apply(Checkpoint(), 10**6)
