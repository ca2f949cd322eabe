"""Seeded random commands: the exchange does what the reference exchange does, and keeps its promises at every step."""

from __future__ import annotations

import pytest
from tests.property.episodes import Coverage, EpisodeError, all_order_combinations, run_episode
from tests.reference.exchange import ReferenceExchange

from rtx.core.commands import CreateAsset, Deposit
from rtx.core.rejections import Reason
from rtx.core.vocabulary import FIRST_USER_ACCOUNT_ID, OrderType, Side, TimeInForce

EPISODES = 30
COMMANDS_PER_EPISODE = 2_000


@pytest.fixture(scope="module")
def coverage() -> Coverage:
    """What many commands made happen; making it fails when the exchanges disagree."""
    coverage = Coverage()
    for number in range(EPISODES):
        run_episode(f"test:{number}", COMMANDS_PER_EPISODE, coverage, thorough_every=25)
    return coverage


@pytest.mark.parametrize("seed", ["one", "two", "three", "four"])
def test_both_exchanges_agree_on_everything_after_every_command(seed: str) -> None:
    run_episode(seed, 700, Coverage())


def test_the_commands_meet_every_reason_of_refusal(coverage: Coverage) -> None:
    assert {reason.name for reason in Reason} - {reason.name for reason in coverage.reasons} == set()


def test_the_commands_place_every_kind_of_order(coverage: Coverage) -> None:
    assert all_order_combinations() - set(coverage.accepted) == set()


def test_the_commands_reach_every_outcome_that_is_hard_to_reach(coverage: Coverage) -> None:
    expected = {"trade", "trade with oneself", "one triggered"}
    expected |= {"several triggered by rules 1", "several triggered by rules 2"}
    expected |= {"deadline with orders", "deadline without orders"}
    expected |= {f"prevented {mode}" for mode in ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT")}
    expected |= {"cancel half refused", "order half refused"}
    for side in Side:
        for status in ("FILLED", "EXPIRED", "EXPIRED_IN_MATCH"):
            expected.add(f"quote quantity {side.name} {status}")
        for order_type in (OrderType.STOP_LOSS, OrderType.TAKE_PROFIT):
            expected.add(f"traded after triggering {order_type.name} GTC {side.name}")
        for order_type in (OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT):
            for time_in_force in TimeInForce:
                expected.add(f"traded after triggering {order_type.name} {time_in_force.name} {side.name}")
    assert expected - set(coverage.outcomes) == set()


def test_a_difference_is_reported_with_the_fewest_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself is worth nothing if it cannot fail."""
    deposit = ReferenceExchange._deposit

    def lose_one(self: ReferenceExchange, command: Deposit) -> None:
        deposit(self, command)
        self.totals[command.account_id, command.asset_id] -= command.account_id == FIRST_USER_ACCOUNT_ID + 1

    monkeypatch.setattr(ReferenceExchange, "_deposit", lose_one)
    with pytest.raises(EpisodeError) as caught:
        run_episode("seed", 100, Coverage())
    assert [type(command) for command in caught.value.commands] == [CreateAsset, Deposit]
    assert "Deposit(account_id=1002" in str(caught.value)
