"""A small world for examples: one market where one lot at one tick costs one unit, and three accounts with plenty."""

from __future__ import annotations

from typing import Any, Final

import pytest

from rtx.core.commands import (
    AmendOrder,
    AnyCommand,
    CancelAllOrders,
    CancelOrder,
    CancelReplaceOrder,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    SetMarketFilters,
    SetMarketStatus,
    Withdraw,
)
from rtx.core.events import AnyEvent, OrderState, Trade
from rtx.core.exchange import Exchange
from rtx.core.rejections import Reason, RejectedError
from rtx.core.snapshot import state_hash
from rtx.core.vocabulary import GTC, LIMIT, SELL, OrderStatus, Side

BASE: Final = 1
QUOTE: Final = 2
MARKET_ID: Final = 1

ALICE: Final = 1001
BOB: Final = 1002
CAROL: Final = 1003


class World:
    """An exchange with shorthand for commands; every command comes one microsecond after the last."""

    def __init__(self, funds: int = 10_000, lot_size: int = 1) -> None:
        self.exchange = Exchange()
        self.time_us = 1_000
        self.names = 0
        self.balances: dict[tuple[int, int], tuple[int, int]] = {}
        self.apply(CreateAsset("BASE", 0))
        self.apply(CreateAsset("QUOTE", 0))
        self.apply(CreateMarket("BASEQUOTE", BASE, QUOTE, 1, lot_size, MarketFilters()))
        for account_id in (ALICE, BOB, CAROL) if funds else ():
            self.apply(Deposit(account_id, BASE, funds, "opening"))
            self.apply(Deposit(account_id, QUOTE, funds, "opening"))

    def apply(self, command: AnyCommand) -> list[AnyEvent]:
        """Do a command and keep the balances that it changed."""
        self.time_us += 1
        events = self.exchange.apply(command, self.time_us)
        for account_id, asset_id, available, held in self.exchange.take_changed_balances():
            self.balances[account_id, asset_id] = (available, held)
        return events

    def refuse(self, command: AnyCommand) -> Reason:
        """Do a command that must be refused and change nothing; returns why."""
        before = state_hash(self.exchange)
        with pytest.raises(RejectedError) as caught:
            self.apply(command)
        assert state_hash(self.exchange) == before
        return caught.value.reason

    def order(self, account_id: int, side: int, quantity: int, price: int = 0, **fields: Any) -> NewOrder:
        """An order, LIMIT GTC unless told otherwise, with a client order id of its own."""
        self.names += 1
        given: dict[str, Any] = {
            "type": LIMIT,
            "time_in_force": GTC,
            "client_order_id": f"order-{self.names}",
            "market_id": MARKET_ID,
        }
        return NewOrder(account_id=account_id, side=side, quantity=quantity, price=price, **(given | fields))

    def place(self, account_id: int, side: int, quantity: int, price: int = 0, **fields: Any) -> Placed:
        """Place such an order."""
        return Placed(self.apply(self.order(account_id, side, quantity, price, **fields)))

    def cancel(self, account_id: int, order_id: int = 0, **fields: Any) -> list[AnyEvent]:
        """Cancel one order."""
        return self.apply(CancelOrder(account_id, MARKET_ID, order_id, **fields))

    def cancel_all(self, account_id: int, market_id: int = MARKET_ID) -> list[AnyEvent]:
        """Cancel all orders of an account."""
        return self.apply(CancelAllOrders(account_id, market_id))

    def replace(self, cancel: CancelOrder, order: NewOrder, stop_on_failure: bool = True) -> list[AnyEvent]:
        """Cancel one order and place another."""
        return self.apply(CancelReplaceOrder(cancel, order, stop_on_failure))

    def amend(self, account_id: int, order_id: int, quantity: int, **fields: Any) -> OrderState:
        """Reduce an order."""
        (state,) = self.apply(AmendOrder(account_id, MARKET_ID, quantity, order_id, **fields))
        assert isinstance(state, OrderState)
        return state

    def set_filters(self, **limits: Any) -> None:
        """Set the limits of the market; those not named are off."""
        self.apply(SetMarketFilters(MARKET_ID, MarketFilters(**limits)))

    def set_status(self, status: int) -> None:
        """Move the market to another status."""
        self.apply(SetMarketStatus(MARKET_ID, status))

    def trade_at(self, price: int) -> None:
        """Make one lot change hands, so that the last price is ``price``; the book must be empty around it."""
        self.place(CAROL, SELL, 1, price)
        assert self.place(BOB, Side.BUY, 1, price).fills == [(price, 1)]

    def empty(self, account_id: int, asset_id: int, leave: int = 0) -> None:
        """Withdraw what is available, but for ``leave``."""
        available = self.available(account_id, asset_id)
        if available > leave:
            self.apply(Withdraw(account_id, asset_id, available - leave, "out"))

    def available(self, account_id: int, asset_id: int) -> int:
        """Units that the account may spend."""
        return self.balances.get((account_id, asset_id), (0, 0))[0]

    def held(self, account_id: int, asset_id: int) -> int:
        """Units that its open orders reserve."""
        return self.balances.get((account_id, asset_id), (0, 0))[1]

    @property
    def bids(self) -> list[tuple[int, int]]:
        """(price, lots), best first."""
        return self.exchange.book_levels(MARKET_ID, 0)[0]

    @property
    def asks(self) -> list[tuple[int, int]]:
        """(price, lots), best first."""
        return self.exchange.book_levels(MARKET_ID, 0)[1]


class Placed:
    """What the events of a placed order say."""

    def __init__(self, events: list[AnyEvent]) -> None:
        self.events = events
        self.trades = [event for event in events if isinstance(event, Trade)]
        self.states = {event.order_id: event for event in events if isinstance(event, OrderState)}
        (self.state,) = [state for state in self.states.values() if state.is_new]

    @property
    def order_id(self) -> int:
        """Id of the order that was placed."""
        return self.state.order_id

    @property
    def status(self) -> OrderStatus:
        """Its status after the command."""
        return OrderStatus(self.state.status)

    @property
    def fills(self) -> list[tuple[int, int]]:
        """(price, lots) of every trade of the command."""
        return [(trade.price, trade.quantity) for trade in self.trades]

    @property
    def makers(self) -> list[int]:
        """Ids of the orders that were in the book, in the order in which they traded."""
        return [trade.maker_order_id for trade in self.trades]

    def status_of(self, other: Placed) -> OrderStatus:
        """Status of another order that this command touched."""
        return OrderStatus(self.states[other.order_id].status)
