"""Fees, transfers, the ledger, and the definitions that everything is measured by."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from tests.unit.core.world import ALICE, BASE, BOB, MARKET_ID, QUOTE, World

from rtx.core.commands import (
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    SetAccountFeeTier,
    SetFeeTier,
    SetMarketFilters,
    SetMarketStatus,
    Withdraw,
)
from rtx.core.events import Deposited, MarketCreated, Withdrawn
from rtx.core.fees import fee_amount
from rtx.core.ledger import postings
from rtx.core.rejections import Reason
from rtx.core.vocabulary import BUY, EXTERNAL_ACCOUNT_ID, FEE_ACCOUNT_ID, HALT, MAXIMUM_AMOUNT, SELL, TRADING


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(("received", "rate_ppm", "fee"), [
    (1_000_000, 1_000, 1_000),
    (999, 1_000, 0),
    (1_999, 1_000, 1),
    (10, 1_000_000, 10),
    (10, 0, 0),
    (2**62, 999_999, 2**62 * 999_999 // 10**6),
])  # fmt: skip
def test_fees_are_rounded_down(received: int, rate_ppm: int, fee: int) -> None:
    assert fee_amount(received, rate_ppm) == fee


def test_each_side_pays_its_own_rate_out_of_what_it_receives(world: World) -> None:
    world.apply(SetFeeTier(0, 10_000, 20_000))
    world.place(ALICE, SELL, 150, 10)
    (trade,) = world.place(BOB, BUY, 150, 10).trades
    assert (trade.taker_fee, trade.maker_fee) == (3, 15)
    assert world.available(BOB, BASE) == 10_000 + 150 - 3
    assert world.available(ALICE, QUOTE) == 10_000 + 1_500 - 15
    assert (world.available(FEE_ACCOUNT_ID, BASE), world.available(FEE_ACCOUNT_ID, QUOTE)) == (3, 15)


def test_a_selling_taker_pays_in_quote_and_a_buying_maker_in_base(world: World) -> None:
    world.apply(SetFeeTier(0, 10_000, 20_000))
    world.place(ALICE, BUY, 150, 10)
    (trade,) = world.place(BOB, SELL, 150, 10).trades
    assert (trade.taker_fee, trade.maker_fee) == (30, 1)
    assert (world.available(FEE_ACCOUNT_ID, BASE), world.available(FEE_ACCOUNT_ID, QUOTE)) == (1, 30)


def test_fees_floor_fill_by_fill(world: World) -> None:
    world.apply(SetFeeTier(0, 0, 10_000))
    world.place(ALICE, SELL, 99, 10)
    world.place(ALICE, SELL, 99, 10)
    trades = world.place(BOB, BUY, 198, 10).trades
    assert [trade.taker_fee for trade in trades] == [0, 0]


def test_nobody_pays_before_rates_are_set(world: World) -> None:
    world.place(ALICE, SELL, 100, 10)
    (trade,) = world.place(BOB, BUY, 100, 10).trades
    assert (trade.maker_fee, trade.taker_fee) == (0, 0)


def test_an_account_pays_by_its_tier_and_a_new_rate_binds_from_the_next_trade(world: World) -> None:
    world.apply(SetFeeTier(3, 0, 500_000))
    world.apply(SetAccountFeeTier(BOB, 3))
    world.place(ALICE, SELL, 10, 10)
    assert world.place(BOB, BUY, 4, 10).trades[0].taker_fee == 2
    world.apply(SetFeeTier(3, 0, 250_000))
    assert world.place(BOB, BUY, 4, 10).trades[0].taker_fee == 1
    world.apply(SetAccountFeeTier(BOB, 0))
    assert world.place(BOB, BUY, 2, 10).trades[0].taker_fee == 0


def test_a_tier_can_be_given_before_the_first_deposit() -> None:
    world = World(funds=0)
    world.apply(SetFeeTier(1, 0, 1_000_000))
    world.apply(SetAccountFeeTier(ALICE, 1))
    world.apply(Deposit(ALICE, QUOTE, 100, "a"))
    world.apply(Deposit(BOB, BASE, 10, "b"))
    world.place(BOB, SELL, 10, 10)
    assert world.place(ALICE, BUY, 10, 10).trades[0].taker_fee == 10


def test_unknown_tiers_and_impossible_rates_are_refused(world: World) -> None:
    assert world.refuse(SetAccountFeeTier(ALICE, 1)) == Reason.UNKNOWN_FEE_TIER
    assert world.refuse(SetAccountFeeTier(0, 0)) == Reason.INVALID_FIELD
    assert world.refuse(SetAccountFeeTier(MAXIMUM_AMOUNT + 1, 0)) == Reason.INVALID_FIELD
    for command in (SetFeeTier(-1, 0, 0), SetFeeTier(0, -1, 0), SetFeeTier(0, 0, 1_000_001)):
        assert world.refuse(command) == Reason.INVALID_FIELD


def test_the_postings_of_a_trade_add_up_to_zero_in_each_asset(world: World) -> None:
    world.apply(SetFeeTier(0, 10_000, 20_000))
    world.place(ALICE, SELL, 150, 10)
    (trade,) = world.place(BOB, BUY, 150, 10).trades
    owners: dict[int, Counter[int]] = {BASE: Counter(), QUOTE: Counter()}
    for account_id, asset_id, amount in postings(trade, world.exchange.markets):
        owners[asset_id][account_id] += amount
    assert owners == {
        BASE: {ALICE: -150, BOB: 147, FEE_ACCOUNT_ID: 3},
        QUOTE: {BOB: -1_500, ALICE: 1_485, FEE_ACCOUNT_ID: 15},
    }


def test_deposits_and_withdrawals_come_from_and_go_outside() -> None:
    world = World(funds=0)
    (deposited,) = world.apply(Deposit(ALICE, BASE, 100, "in-1"))
    (withdrawn,) = world.apply(Withdraw(ALICE, BASE, 30, "out-1"))
    assert deposited == Deposited(ALICE, BASE, 100, "in-1")
    assert withdrawn == Withdrawn(ALICE, BASE, 30, "out-1")
    assert (world.available(ALICE, BASE), world.available(EXTERNAL_ACCOUNT_ID, BASE)) == (70, -70)
    assert postings(deposited, {}) == [(EXTERNAL_ACCOUNT_ID, BASE, -100), (ALICE, BASE, 100)]
    assert postings(withdrawn, {}) == [(ALICE, BASE, -30), (EXTERNAL_ACCOUNT_ID, BASE, 30)]


def test_what_is_held_cannot_be_withdrawn(world: World) -> None:
    world.place(ALICE, SELL, 4_000, 10)
    assert world.refuse(Withdraw(ALICE, BASE, 6_001, "out")) == Reason.INSUFFICIENT_BALANCE
    world.apply(Withdraw(ALICE, BASE, 6_000, "out"))
    assert (world.available(ALICE, BASE), world.held(ALICE, BASE)) == (0, 4_000)


@pytest.mark.parametrize(("command", "reason"), [
    (Deposit(ALICE, 3, 1, "x"), Reason.UNKNOWN_ASSET),
    (Deposit(ALICE, BASE, 0, "x"), Reason.AMOUNT_NOT_POSITIVE),
    (Deposit(ALICE, BASE, -1, "x"), Reason.AMOUNT_NOT_POSITIVE),
    (Deposit(ALICE, BASE, MAXIMUM_AMOUNT - 29_999, "x"), Reason.AMOUNT_TOO_LARGE),
    (Deposit(ALICE, BASE, 1, ""), Reason.INVALID_FIELD),
    (Deposit(EXTERNAL_ACCOUNT_ID, BASE, 1, "x"), Reason.INVALID_FIELD),
    (Deposit(0, BASE, 1, "x"), Reason.INVALID_FIELD),
    (Deposit(MAXIMUM_AMOUNT + 1, BASE, 1, "x"), Reason.INVALID_FIELD),
    (Withdraw(ALICE, 3, 1, "x"), Reason.UNKNOWN_ASSET),
    (Withdraw(ALICE, BASE, 0, "x"), Reason.AMOUNT_NOT_POSITIVE),
    (Withdraw(ALICE, BASE, 10_001, "x"), Reason.INSUFFICIENT_BALANCE),
    (Withdraw(5_000, BASE, 1, "x"), Reason.INSUFFICIENT_BALANCE),
])  # fmt: skip
def test_transfers_that_cannot_be_are_refused(world: World, command: Deposit | Withdraw, reason: Reason) -> None:
    assert world.refuse(command) == reason


def test_the_largest_amount_of_an_asset_may_exist_but_not_one_more(world: World) -> None:
    world.apply(Deposit(ALICE, BASE, MAXIMUM_AMOUNT - 30_000, "all"))
    assert world.refuse(Deposit(BOB, BASE, 1, "more")) == Reason.AMOUNT_TOO_LARGE
    world.apply(Withdraw(ALICE, BASE, 1, "out"))
    world.apply(Deposit(BOB, BASE, 1, "more"))


@pytest.mark.parametrize(("command", "reason"), [
    (CreateAsset("BASE", 8), Reason.ASSET_EXISTS),
    (CreateAsset("", 8), Reason.INVALID_FIELD),
    (CreateAsset("X", -1), Reason.INVALID_FIELD),
    (CreateAsset("X", 19), Reason.INVALID_FIELD),
])  # fmt: skip
def test_assets_that_cannot_be_are_refused(world: World, command: CreateAsset, reason: Reason) -> None:
    assert world.refuse(command) == reason


MARKET = CreateMarket("NEW", 3, 4, tick_size=1_000, lot_size=100_000, filters=MarketFilters())
"""Base has 8 decimals, so that 1,000 x 100,000 is exactly one smallest quote unit."""


@pytest.fixture
def scaled_world() -> World:
    world = World()
    world.apply(CreateAsset("SCALED", 8))
    world.apply(CreateAsset("MONEY", 2))
    return world


def test_a_market_is_created_when_one_lot_at_one_tick_is_a_whole_number_of_quote_units(scaled_world: World) -> None:
    (created,) = scaled_world.apply(MARKET)
    assert isinstance(created, MarketCreated)
    assert (created.market_id, created.status) == (2, TRADING)
    scaled_world.apply(Deposit(ALICE, 4, 300, "x"))
    order = scaled_world.order(ALICE, BUY, 3, 100, market_id=2)
    scaled_world.apply(order)
    assert scaled_world.held(ALICE, 4) == 300


@pytest.mark.parametrize(("changes", "reason"), [
    ({"tick_size": 999}, Reason.TICK_LOT_NOT_WHOLE),
    ({"lot_size": 150_000}, Reason.TICK_LOT_NOT_WHOLE),
    ({"tick_size": 1, "lot_size": 1}, Reason.TICK_LOT_NOT_WHOLE),
    ({"tick_size": MAXIMUM_AMOUNT, "lot_size": 200_000_000}, Reason.INVALID_FIELD),
    ({"symbol": "BASEQUOTE"}, Reason.MARKET_EXISTS),
    ({"symbol": ""}, Reason.INVALID_FIELD),
    ({"base_asset_id": 9}, Reason.UNKNOWN_ASSET),
    ({"quote_asset_id": 9}, Reason.UNKNOWN_ASSET),
    ({"quote_asset_id": 3}, Reason.INVALID_FIELD),
    ({"tick_size": 0}, Reason.INVALID_FIELD),
    ({"lot_size": -100_000}, Reason.INVALID_FIELD),
    ({"status": 4}, Reason.INVALID_FIELD),
    ({"filters": MarketFilters(minimum_price=-1)}, Reason.INVALID_FIELD),
    ({"filters": MarketFilters(minimum_price=2, maximum_price=1)}, Reason.INVALID_FIELD),
])  # fmt: skip
def test_markets_that_cannot_be_are_refused(scaled_world: World, changes: dict[str, object], reason: Reason) -> None:
    assert scaled_world.refuse(msgspec.structs.replace(MARKET, **changes)) == reason


def test_market_changes_that_cannot_be_are_refused(world: World) -> None:
    assert world.refuse(SetMarketStatus(9, HALT)) == Reason.UNKNOWN_MARKET
    assert world.refuse(SetMarketStatus(MARKET_ID, 4)) == Reason.INVALID_FIELD
    assert world.refuse(SetMarketStatus(MARKET_ID, TRADING)) == Reason.MARKET_STATUS_UNCHANGED
    assert world.refuse(SetMarketFilters(9, MarketFilters())) == Reason.UNKNOWN_MARKET
    assert world.refuse(SetMarketFilters(MARKET_ID, MarketFilters(maximum_open_orders=-1))) == Reason.INVALID_FIELD
