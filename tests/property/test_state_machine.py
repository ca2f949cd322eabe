"""Commands drawn by hypothesis, which looks for short sequences that break a promise and makes them shorter still."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.property.episodes import FIRST_TIME_US
from tests.property.generator import ACCOUNTS, ASSETS, MARKETS, opening_commands
from tests.reference.twin import Twin

from rtx.core.commands import (
    ActivateRules,
    AmendOrder,
    AnyCommand,
    CancelAllAfter,
    CancelAllOrders,
    CancelOrder,
    CancelReplaceOrder,
    Checkpoint,
    Deposit,
    ExpireCancelAllAfter,
    ExtendDeadlines,
    MarketFilters,
    NewOrder,
    SetAccountFeeTier,
    SetFeeTier,
    SetMarketFilters,
    SetMarketStatus,
    Withdraw,
)
from rtx.core.rejections import Reason
from rtx.core.snapshot import dump, load, state_hash
from rtx.core.vocabulary import (
    GTC,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    MAXIMUM_AMOUNT,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
)

accounts = st.sampled_from(ACCOUNTS[:2])
market_ids = st.sampled_from(MARKETS)
sides = st.integers(0, 1)
times_in_force = st.integers(0, 2)
modes = st.integers(0, 4)
prices = st.integers(7, 11)
quantities = st.integers(1, 5)
client_order_ids = st.sampled_from(["a", "b", "c", "d", "e", "f"])
order_ids = st.integers(0, 30)
sessions = st.sampled_from(["", "one", "s" * 64, "s" * 65])
anything = st.one_of(
    st.integers(-2, 12), st.sampled_from([-(2**63), 2**31, MAXIMUM_AMOUNT, MAXIMUM_AMOUNT + 1, 2**63 - 1])
)

limit_orders = st.builds(
    NewOrder, accounts, market_ids, sides, st.just(LIMIT), times_in_force, prices, quantities, client_order_ids,
    self_trade_prevention=modes,
)  # fmt: skip
maker_orders = st.builds(
    NewOrder, accounts, market_ids, sides, st.just(LIMIT_MAKER), st.just(GTC), prices, quantities, client_order_ids
)
market_orders = st.builds(
    NewOrder, accounts, market_ids, sides, st.just(MARKET), st.just(GTC), st.just(0), quantities, client_order_ids,
    self_trade_prevention=modes,
)  # fmt: skip
quote_orders = st.builds(
    NewOrder, accounts, market_ids, sides, st.just(MARKET), st.just(GTC), st.just(0), st.just(0), client_order_ids,
    quote_quantity=st.integers(1, 300), self_trade_prevention=modes,
)  # fmt: skip
stop_orders = st.builds(
    NewOrder, accounts, market_ids, sides, st.sampled_from([STOP_LOSS, TAKE_PROFIT]), st.just(GTC), st.just(0),
    quantities, client_order_ids, stop_price=prices, self_trade_prevention=modes,
)  # fmt: skip
stop_limit_orders = st.builds(
    NewOrder, accounts, market_ids, sides, st.sampled_from([STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT]), times_in_force,
    prices, quantities, client_order_ids, stop_price=prices, self_trade_prevention=modes,
)  # fmt: skip
sensible_orders = st.one_of(limit_orders, maker_orders, market_orders, quote_orders, stop_orders, stop_limit_orders)
absurd_orders = st.builds(
    NewOrder, st.one_of(accounts, anything), st.one_of(market_ids, anything), anything, anything, anything, anything,
    anything, st.one_of(client_order_ids, st.just("")), anything, anything, anything,
)  # fmt: skip
cancellations = st.builds(
    CancelOrder, accounts, market_ids, order_ids, st.one_of(st.just(""), client_order_ids), st.integers(0, 3)
)
limits = st.builds(
    MarketFilters,
    minimum_price=st.sampled_from([0, 8]),
    maximum_price=st.sampled_from([0, 10]),
    minimum_quantity=st.sampled_from([0, 2]),
    maximum_quantity=st.sampled_from([0, 4]),
    market_minimum_quantity=st.sampled_from([0, 2]),
    market_maximum_quantity=st.sampled_from([0, 3]),
    minimum_notional=st.sampled_from([0, 30]),
    maximum_notional=st.sampled_from([0, 100]),
    apply_minimum_to_market=st.booleans(),
    apply_maximum_to_market=st.booleans(),
    bid_multiplier_up=st.sampled_from([0, 1_100_000]),
    bid_multiplier_down=st.sampled_from([0, 900_000]),
    ask_multiplier_up=st.sampled_from([0, 1_200_000]),
    ask_multiplier_down=st.sampled_from([0, 950_000]),
    maximum_open_orders=st.sampled_from([0, 3]),
)


class ExchangeMachine(RuleBasedStateMachine):
    """Each rule gives one command to both exchanges; the comparison of the two is in :class:`Twin`."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin()
        self.time_us = FIRST_TIME_US
        for command in opening_commands():
            self.apply(command)

    def apply(self, command: AnyCommand) -> list[Reason]:
        """Give a command to both, compare everything, and return the reasons of refusals."""
        self.time_us += 1
        _, refusals = self.twin.apply(command, self.time_us)
        return [Reason(refusal.reason) for refusal in refusals]

    @initialize(orders=st.lists(limit_orders, max_size=12))
    def fill_the_books(self, orders: list[NewOrder]) -> None:
        """Begin with something in the books."""
        for order in orders:
            self.apply(order)

    @rule(order=sensible_orders)
    def place(self, order: NewOrder) -> None:
        """Place an order whose fields fit each other."""
        assert Reason.INVALID_FIELD not in self.apply(order)

    @rule(order=absurd_orders)
    def place_nonsense(self, order: NewOrder) -> None:
        """Place an order with any numbers."""
        self.apply(order)

    @rule(command=cancellations)
    def cancel(self, command: CancelOrder) -> None:
        """Cancel by any name."""
        self.apply(command)

    @rule(command=st.builds(CancelAllOrders, accounts, st.sampled_from([0, 1, 2, 3])))
    def cancel_all(self, command: CancelAllOrders) -> None:
        """Cancel everything, here or everywhere."""
        self.apply(command)

    @rule(cancellation=cancellations, order=sensible_orders, stop_on_failure=st.booleans())
    def cancel_and_replace(self, cancellation: CancelOrder, order: NewOrder, stop_on_failure: bool) -> None:
        """Both halves may fail."""
        self.apply(CancelReplaceOrder(cancellation, order, stop_on_failure))

    @rule(
        command=st.builds(
            AmendOrder, accounts, market_ids, st.integers(0, 5), order_ids, st.one_of(st.just(""), client_order_ids),
            st.one_of(st.just(""), client_order_ids),
        )
    )  # fmt: skip
    def amend(self, command: AmendOrder) -> None:
        """Reduce, or try to enlarge."""
        self.apply(command)

    @rule(command=st.builds(Deposit, accounts, st.sampled_from(ASSETS), anything, st.just("more")))
    def deposit(self, command: Deposit) -> None:
        """Any amount."""
        self.apply(command)

    @rule(command=st.builds(Withdraw, accounts, st.sampled_from(ASSETS), st.integers(1, 4_000), st.just("out")))
    def withdraw(self, command: Withdraw) -> None:
        """Often more than there is."""
        self.apply(command)

    @rule(market_id=market_ids, status=st.sampled_from([0, 0, 0, 1, 2, 3]))
    def set_status(self, market_id: int, status: int) -> None:
        """Close or open a market."""
        self.apply(SetMarketStatus(market_id, status))

    @rule(market_id=market_ids, filters=limits)
    def set_filters(self, market_id: int, filters: MarketFilters) -> None:
        """Any mixture of limits."""
        self.apply(SetMarketFilters(market_id, filters))

    @rule(
        tier=st.integers(0, 1), maker=st.sampled_from([0, 999, 333_333]), taker=st.sampled_from([0, 1_001, 1_000_000])
    )
    def set_fees(self, tier: int, maker: int, taker: int) -> None:
        """Up to everything."""
        self.apply(SetFeeTier(tier, maker, taker))

    @rule(account_id=accounts, tier=st.integers(0, 2))
    def set_account_fees(self, account_id: int, tier: int) -> None:
        """Tier 2 does not exist."""
        self.apply(SetAccountFeeTier(account_id, tier))

    @rule()
    def checkpoint(self) -> None:
        """The hash is that of the state, whatever the state is."""
        self.apply(Checkpoint())

    @rule(version=st.integers(0, 3))
    def activate_rules(self, version: int) -> None:
        """Known ones, old ones and some that come later."""
        self.apply(ActivateRules(version))

    @rule(account_id=accounts, timeout_us=anything, session=sessions, renews=st.booleans())
    def cancel_all_after(self, account_id: int, timeout_us: int, session: str, renews: bool) -> None:
        """Any time, also none."""
        self.apply(CancelAllAfter(account_id, timeout_us, session, renews))

    @rule(position=st.integers(0, 3), too_late_us=st.sampled_from([0, 0, 0, 1]))
    def expire(self, position: int, too_late_us: int) -> None:
        """A deadline that stands, or one that is gone."""
        deadlines = sorted(self.twin.reference.deadlines.items())
        if deadlines:
            (account_id, session), deadline_us = deadlines[position % len(deadlines)]
            self.apply(ExpireCancelAllAfter(account_id, session, deadline_us - too_late_us))

    @rule(away_us=anything)
    def extend_deadlines(self, away_us: int) -> None:
        """Also by more than a number can hold."""
        self.apply(ExtendDeadlines(away_us))

    @rule()
    def restart(self) -> None:
        """Go on with an exchange that was loaded from a snapshot."""
        self.twin.restart()

    @invariant()
    def a_snapshot_gives_the_same_state(self) -> None:
        """Dumping and loading loses nothing."""
        assert state_hash(load(dump(self.twin.exchange))) == state_hash(self.twin.exchange)


TestExchangeMachine = ExchangeMachine.TestCase
TestExchangeMachine.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
