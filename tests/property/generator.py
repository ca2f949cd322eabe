"""Seeded random commands in a world small enough that everything meets everything.

Few accounts, a handful of prices and quantities: orders cross, meet their own account, trigger stops, run out of money
and hit every limit all the time. A share of the commands is spoilt with values that nobody should send.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec
from tests.reference.exchange import Order, ReferenceExchange

from rtx.core.commands import (
    ActivateRules,
    AmendOrder,
    AnyCommand,
    CancelAllAfter,
    CancelAllOrders,
    CancelOrder,
    CancelReplaceOrder,
    Checkpoint,
    CreateAsset,
    CreateMarket,
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
from rtx.core.vocabulary import (
    BUY,
    FIRST_USER_ACCOUNT_ID,
    FOK,
    GTC,
    IOC,
    LIMIT,
    LIMIT_MAKER,
    LONGEST_CANCEL_ALL_AFTER_US,
    LONGEST_SESSION,
    MARKET,
    MAXIMUM_AMOUNT,
    SELL,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
    TRADING,
    MarketStatus,
)

ACCOUNTS: Final = tuple(range(FIRST_USER_ACCOUNT_ID, FIRST_USER_ACCOUNT_ID + 4))
MARKETS: Final = (1, 2)
ASSETS: Final = (1, 2, 3)
LOWEST_PRICE: Final = 4
HIGHEST_PRICE: Final = 16
LARGEST_QUANTITY: Final = 6
GARBAGE: Final = (-(2**63), -1, 0, 3, 99, 10**9, MAXIMUM_AMOUNT, MAXIMUM_AMOUNT + 1, 2**63 - 1)
SPOILT_ACCOUNTS: Final = (-1, 0, 1, 2, 999_999, MAXIMUM_AMOUNT, MAXIMUM_AMOUNT + 1, 2**63)
RATES_PPM: Final = (0, 0, 100, 1_000, 75_000, 333_333, 1_000_000)

LOOSE_FILTERS: Final = MarketFilters(maximum_open_orders=8)


def opening_commands() -> list[AnyCommand]:
    """Three assets, two markets of different granularity that share one of them, and funded accounts."""
    commands: list[AnyCommand] = [
        CreateAsset("BASE", 3),
        CreateAsset("QUOTE", 2),
        CreateAsset("OTHER", 0),
        CreateMarket("BASEQUOTE", 1, 2, tick_size=50, lot_size=60, filters=LOOSE_FILTERS),
        CreateMarket("OTHERBASE", 3, 1, tick_size=7, lot_size=1, filters=LOOSE_FILTERS),
        SetFeeTier(0, 1_000, 2_000),
        SetFeeTier(1, 0, 333_333),
    ]
    for account_id in ACCOUNTS:
        commands += [
            Deposit(account_id, 1, 4_000, "opening"),
            Deposit(account_id, 2, 3_000, "opening"),
            Deposit(account_id, 3, 40, "opening"),
        ]
    return commands


class CommandGenerator:
    """Draws the next command; looks at the reference exchange only to aim at orders and prices that exist."""

    def __init__(self, seed: str, reference: ReferenceExchange) -> None:
        self.random = random.Random(seed)
        self.reference = reference
        self.overlap = self.random.randint(1, 5)
        self.busiest_account = self.random.choice(ACCOUNTS)
        self.kinds = (
            (self.new_order, 660),
            (self.cancel, 90),
            (self.cancel_all, 12),
            (self.cancel_replace, 60),
            (self.amend, 70),
            (self.deposit, 40),
            (self.withdraw, 15),
            (self.set_market_status, 5),
            (self.set_market_filters, 18),
            (self.set_fee_tier, 8),
            (self.set_account_fee_tier, 8),
            (self.create_asset, 2),
            (self.create_market, 5),
            (self.checkpoint, 3),
            (self.activate_rules, 2),
            (self.cancel_all_after, 45),
            (self.expire_cancel_all_after, 14),
            (self.extend_deadlines, 3),
        )
        self.makers = [kind for kind, _ in self.kinds]
        self.weights = [weight for _, weight in self.kinds]

    def next(self) -> AnyCommand:
        """Draw one command of any kind; about one in forty carries garbage."""
        if self.random.random() < 0.05:
            closed = [market_id for market_id in MARKETS if self.reference.markets[market_id].status != TRADING]
            if closed:
                return SetMarketStatus(self.random.choice(closed), TRADING)
        command = self.random.choices(self.makers, self.weights)[0]()
        if self.random.random() < 0.025:
            return self._spoil(command)
        return command

    def _spoil(self, command: AnyCommand) -> AnyCommand:
        if isinstance(command, CancelReplaceOrder):
            if self.random.random() < 0.5:
                return msgspec.structs.replace(command, order=self._spoil(command.order))
            return msgspec.structs.replace(command, cancel=self._spoil(command.cancel))
        if not command.__struct_fields__:
            return command
        name = self.random.choice(command.__struct_fields__)
        value = getattr(command, name)
        if name == "account_id":
            return msgspec.structs.replace(command, account_id=self.random.choice(SPOILT_ACCOUNTS))
        if isinstance(value, bool):
            return msgspec.structs.replace(command, **{name: not value})
        if isinstance(value, str):
            return msgspec.structs.replace(command, **{name: ""})
        if isinstance(value, MarketFilters):
            return msgspec.structs.replace(command, **{name: self._spoil_filters(value)})
        return msgspec.structs.replace(command, **{name: self.random.choice(GARBAGE)})

    def _spoil_filters(self, filters: MarketFilters) -> MarketFilters:
        name = self.random.choice([n for n in filters.__struct_fields__ if not n.startswith("apply")])
        return msgspec.structs.replace(filters, **{name: self.random.choice(GARBAGE)})

    # -- orders ---------------------------------------------------------------------------------------------------

    def new_order(self) -> NewOrder:
        """An order that mostly makes sense, near the price of its market."""
        draw = self.random
        account_id, market_id = draw.choice(ACCOUNTS), draw.choice(MARKETS)
        side = draw.choice((BUY, SELL))
        order_type = draw.choices(
            (LIMIT, MARKET, LIMIT_MAKER, STOP_LOSS, STOP_LOSS_LIMIT, TAKE_PROFIT, TAKE_PROFIT_LIMIT),
            (50, 14, 9, 6, 8, 6, 8),
        )[0]
        time_in_force, price, stop_price, quote_quantity = GTC, 0, 0, 0
        quantity = draw.randint(1, LARGEST_QUANTITY)
        if order_type in (LIMIT, STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT):
            time_in_force = draw.choices((GTC, IOC, FOK), (70, 15, 15))[0]
        if order_type in (LIMIT, STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT, LIMIT_MAKER):
            price = self._price(side)
        if order_type > LIMIT_MAKER:
            stop_price = self._stop_price(market_id, order_type, side)
        if order_type == MARKET and draw.random() < 0.6:
            quantity = 0
            quote_quantity = draw.choice((draw.randint(1, 60), draw.randint(20, 400)))
        if draw.random() < 0.02:
            time_in_force = draw.choice((GTC, IOC, FOK))
        return NewOrder(
            account_id,
            market_id,
            side,
            order_type,
            time_in_force,
            price,
            quantity,
            str(draw.randrange(60)),
            quote_quantity,
            stop_price,
            draw.randrange(5),
        )

    def _price(self, side: int) -> int:
        """Bids lie a little lower than asks, so that a book builds up between the trades."""
        middle = (LOWEST_PRICE + HIGHEST_PRICE) // 2
        if side == BUY:
            return self.random.randint(LOWEST_PRICE, middle + self.overlap)
        return self.random.randint(middle - self.overlap, HIGHEST_PRICE)

    def _stop_price(self, market_id: int, order_type: int, side: int) -> int:
        """Mostly on the side of the last price on which the order waits, and close to it."""
        last_price = self.reference.markets[market_id].last_price
        if last_price is None or self.random.random() < 0.15:
            return self.random.randint(LOWEST_PRICE, HIGHEST_PRICE)
        rising = (order_type in (STOP_LOSS, STOP_LOSS_LIMIT)) == (side == BUY)
        distance = self.random.randint(1, 3)
        return max(1, last_price + distance if rising else last_price - distance)

    def _some_order(self) -> Order | None:
        if not self.reference.open_orders or self.random.random() < 0.05:
            return None
        return self.random.choice(self.reference.open_orders)

    def cancel(self) -> CancelOrder:
        """Mostly of an order that is open, by either name or both, at times in a name that is not its own."""
        draw = self.random
        order = self._some_order()
        restriction = draw.choices((0, 1, 2), (70, 15, 15))[0]
        if order is None:
            return CancelOrder(draw.choice(ACCOUNTS), draw.choice(MARKETS), draw.randint(1, 200), "", restriction)
        account_id = order.account_id if draw.random() < 0.95 else draw.choice(ACCOUNTS)
        market_id = order.market_id if draw.random() < 0.95 else draw.choice(MARKETS)
        order_id, client_order_id = draw.choice(
            (
                (order.order_id, ""),
                (0, order.client_order_id),
                (order.order_id, order.client_order_id),
                (order.order_id, str(draw.randrange(60))),
                (0, ""),
            )
            if draw.random() < 0.2
            else ((order.order_id, ""), (0, order.client_order_id), (order.order_id, order.client_order_id))
        )
        return CancelOrder(account_id, market_id, order_id, client_order_id, restriction)

    def cancel_all(self) -> CancelAllOrders:
        """One market or all of them."""
        return CancelAllOrders(self.random.choice(ACCOUNTS), self.random.choice((0, *MARKETS)))

    def cancel_replace(self) -> CancelReplaceOrder:
        """Both halves in one account and one market, as the API sends them."""
        cancel, order = self.cancel(), self.new_order()
        order = msgspec.structs.replace(order, account_id=cancel.account_id, market_id=cancel.market_id)
        return CancelReplaceOrder(cancel, order, self.random.random() < 0.5)

    def amend(self) -> AmendOrder:
        """Mostly a smaller quantity of an order that is open."""
        draw = self.random
        order = self._some_order()
        new_client_order_id = str(draw.randrange(60)) if draw.random() < 0.4 else ""
        if order is None:
            return AmendOrder(draw.choice(ACCOUNTS), draw.choice(MARKETS), draw.randint(1, 6), draw.randint(1, 200))
        quantity = max(0, order.quantity - draw.choices((0, 1, 2, 3, -1), (1, 6, 3, 2, 1))[0])
        if draw.random() < 0.5:
            return AmendOrder(order.account_id, order.market_id, quantity, order.order_id, "", new_client_order_id)
        return AmendOrder(order.account_id, order.market_id, quantity, 0, order.client_order_id, new_client_order_id)

    # -- money and operators --------------------------------------------------------------------------------------

    def deposit(self) -> Deposit:
        """Enough to go on with, and now and then as much as can exist."""
        draw = self.random
        amount = MAXIMUM_AMOUNT if draw.random() < 0.02 else draw.randint(1, 900)
        return Deposit(draw.choice(ACCOUNTS), draw.choice(ASSETS), amount, "more")

    def withdraw(self) -> Withdraw:
        """Around what is there; often all of it, so that the next orders fail."""
        draw = self.random
        account_id, asset_id = draw.choice(ACCOUNTS), draw.choice(ASSETS)
        available = self.reference.available(account_id, asset_id)
        return Withdraw(account_id, asset_id, available + draw.choice((0, 0, 1, -1, -available // 2)), "out")

    def set_market_status(self) -> SetMarketStatus:
        """Any status; :meth:`next` soon opens a closed market again."""
        return SetMarketStatus(self.random.choice(MARKETS), self.random.randrange(len(MarketStatus)))

    def set_market_filters(self) -> SetMarketFilters:
        """Half of the time loose ones; else one or two limits that the drawn orders really hit."""
        draw = self.random
        filters = LOOSE_FILTERS
        tight: dict[str, int | bool] = {
            "minimum_price": 7,
            "maximum_price": 13,
            "minimum_quantity": 2,
            "maximum_quantity": 4,
            "market_minimum_quantity": 2,
            "market_maximum_quantity": 3,
            "minimum_notional": draw.randint(10, 80),
            "maximum_notional": draw.randint(100, 200),
            "apply_minimum_to_market": draw.random() < 0.5,
            "apply_maximum_to_market": draw.random() < 0.5,
            "bid_multiplier_up": 1_200_000,
            "bid_multiplier_down": 800_000,
            "ask_multiplier_up": 1_150_000,
            "ask_multiplier_down": 850_000,
            "maximum_open_orders": draw.randint(0, 4),
        }
        if draw.random() < 0.5:
            for name in draw.sample(sorted(tight), draw.randint(1, 5)):
                filters = msgspec.structs.replace(filters, **{name: tight[name]})
        return SetMarketFilters(draw.choice(MARKETS), filters)

    def set_fee_tier(self) -> SetFeeTier:
        """Rates from nothing to everything."""
        return SetFeeTier(self.random.randrange(3), self.random.choice(RATES_PPM), self.random.choice(RATES_PPM))

    def set_account_fee_tier(self) -> SetAccountFeeTier:
        """Into a tier that may not exist."""
        return SetAccountFeeTier(self.random.choice(ACCOUNTS), self.random.randrange(4))

    def checkpoint(self) -> Checkpoint:
        """There is but one."""
        return Checkpoint()

    def activate_rules(self) -> ActivateRules:
        """At a time of its own in each run the next rules, and again and again those that are known or not known."""
        return ActivateRules(self.random.choice((2, 2, 2, 1, 3, 0)))

    def cancel_all_after(self) -> CancelAllAfter:
        """From so many sessions, mostly of one account, that some are too many."""
        draw = self.random
        account_id = self.busiest_account if draw.random() < 0.8 else draw.choice(ACCOUNTS)
        session = draw.choice(("", *map(str, range(60)), "s" * LONGEST_SESSION, "s" * (LONGEST_SESSION + 1)))
        timeout_us = draw.choice((1, 10, 1_000, LONGEST_CANCEL_ALL_AFTER_US, draw.randint(1, 10**7)))
        if draw.random() < 0.1:
            timeout_us = draw.choice((0, 0, 0, LONGEST_CANCEL_ALL_AFTER_US + 1))
        return CancelAllAfter(account_id, timeout_us, session, renews=timeout_us == 10)

    def expire_cancel_all_after(self) -> ExpireCancelAllAfter:
        """Mostly of a deadline that stands; else of one that was, or of a session that never was."""
        draw = self.random
        deadlines = list(self.reference.deadlines.items())
        if not deadlines or draw.random() < 0.1:
            return ExpireCancelAllAfter(draw.choice(ACCOUNTS), "none", 0)
        # Every account alike: most deadlines are those of one.
        account_id = draw.choice(sorted({account_id for (account_id, _), _ in deadlines}))
        (_, session), deadline_us = draw.choice([entry for entry in deadlines if entry[0][0] == account_id])
        return ExpireCancelAllAfter(account_id, session, deadline_us - (draw.random() < 0.2))

    def extend_deadlines(self) -> ExtendDeadlines:
        """By some seconds, mostly."""
        return ExtendDeadlines(self.random.choice((1, 3_000_000, 10**9, 0, -1)))

    def create_asset(self) -> CreateAsset:
        """A few more than there are, and again those that are there."""
        return CreateAsset(self.random.choice(("BASE", "MORE", "YETMORE")), self.random.randint(-1, 19))

    def create_market(self) -> CreateMarket:
        """Mostly refused: known symbol, unknown assets, amounts that would round."""
        draw = self.random
        symbol = draw.choice(("BASEQUOTE", "EXTRA1", "EXTRA2"))
        return CreateMarket(
            symbol,
            draw.randint(1, 4),
            draw.randint(1, 4),
            draw.choice((1, 7, 1_000)),
            draw.choice((1, 10)),
            LOOSE_FILTERS,
        )
