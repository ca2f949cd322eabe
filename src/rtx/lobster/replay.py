"""Carries a plan out through the public API and hands over the book that the API shows after each message."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from rtx.demo.client import AccountClient, AnsweredError, HttpConnection, UnreachableError
from rtx.lobster import venue
from rtx.lobster.errors import ReplayError
from rtx.lobster.plan import LEVELS_SHOWN, Plan, Step
from rtx.lobster.record import PRICE_UNITS_PER_DOLLAR, Level
from rtx.lobster.translation import Action, Cancel, Place, Reduce, Take
from rtx.lobster.venue import Market, Trader, Traders


class ShownBook(NamedTuple):
    """The best levels as the API shows them, in the record's units."""

    asks: tuple[Level, ...]
    bids: tuple[Level, ...]


async def replay(
    plan: Plan, connection: HttpConnection, operator: AccountClient, symbol: str, *, keep: bool = False
) -> AsyncGenerator[ShownBook, None]:
    """Play a plan on an empty market, which is opened if need be; yields the book after each step.

    Its orders are cancelled and its API keys deleted when it ends, whatever ends it (close the iterator), unless
    ``keep``. Raises :class:`ReplayError`.
    """
    with _refusals_explained(f"{symbol} cannot be made ready"):
        await venue.check_empty(connection, symbol)
        market = await venue.prepare_market(connection, operator, symbol)
        venue.check_steps(market, plan)
        async with venue.traders(connection, operator, market, plan.needs, keep=keep) as traders:
            player = _Player(connection, market, traders)
            for step in plan.steps:
                with _refusals_explained(f"message {step.message.number} cannot be played"):
                    shown = await player.play(step)
                yield shown


class _Player:
    """Does the actions; remembers whose order each is."""

    def __init__(self, connection: HttpConnection, market: Market, traders: Traders) -> None:
        self._connection = connection
        self._market = market
        self._traders = traders
        self._owners: dict[int, Trader] = {}
        self._depth_target = f"/api/v3/depth?symbol={market.symbol}&limit={LEVELS_SHOWN}"

    async def play(self, step: Step) -> ShownBook:
        """Do what a message needs; raises :class:`ReplayError` when the book did not become what it should."""
        for action in step.actions:
            await self._do(action)
        book = await self._connection.request("GET", self._depth_target)
        shown = ShownBook(_levels(book["asks"]), _levels(book["bids"]))
        if shown != (step.asks, step.bids):
            raise ReplayError(
                f"after message {step.message.number} the book of {self._market.symbol} is not what the orders of the "
                "replay make of it",
                "somebody else trades there: name a market of its own, such as --symbol AAPLREPLAYUSD",
            )
        return shown

    async def _do(self, action: Action) -> None:
        match action:
            case Place():
                await self._place(action)
            case Reduce():
                name = _client_order_id(action.key)
                await self._send(
                    self._owners[action.key],
                    "PUT",
                    "/api/v3/order/amend/keepPriority",
                    origClientOrderId=name,
                    newClientOrderId=name,
                    newQty=str(action.quantity),
                )
            case Cancel():
                owner = self._owners.pop(action.key)
                await self._send(owner, "DELETE", "/api/v3/order", origClientOrderId=_client_order_id(action.key))
                owner.open_orders -= 1
            case Take():
                await self._take(action)

    async def _place(self, action: Place) -> None:
        owner = self._traders.least_busy()
        # It would be refused rather than trade: an order of the record that rests did not.
        await self._send(
            owner,
            "POST",
            "/api/v3/order",
            side=action.side.value,
            type="LIMIT_MAKER",
            quantity=str(action.quantity),
            price=f"{venue.dollars(action.price):f}",
            newClientOrderId=_client_order_id(action.key),
        )
        owner.open_orders += 1
        self._owners[action.key] = owner

    async def _take(self, action: Take) -> None:
        order = await self._send(
            self._traders.taker,
            "POST",
            "/api/v3/order",
            side=action.side.opposite.value,
            type="LIMIT",
            timeInForce="IOC",
            quantity=str(action.quantity),
            price=f"{venue.dollars(action.price):f}",
        )
        for fill in order["fills"]:
            if Decimal(fill["price"]) != venue.dollars(action.price):
                raise ReplayError(f"an execution at {venue.dollars(action.price)} traded at {fill['price']}")
        if Decimal(order["executedQty"]) != action.quantity:
            raise ReplayError(f"an execution of {action.quantity} found only {order['executedQty']}")
        if action.is_whole:
            self._owners.pop(action.key).open_orders -= 1

    async def _send(self, trader: Trader, method: str, path: str, **parameters: str) -> Any:
        return await trader.client.signed(method, path, symbol=self._market.symbol, **parameters)


def _client_order_id(key: int) -> str:
    return f"lobster-{key}"


def _levels(rows: list[list[str]]) -> tuple[Level, ...]:
    return tuple(Level(int(Decimal(price) * PRICE_UNITS_PER_DOLLAR), int(Decimal(size))) for price, size in rows)


@contextlib.contextmanager
def _refusals_explained(what: str) -> Iterator[None]:
    try:
        yield
    except AnsweredError as error:
        raise ReplayError(
            f"{what}: the API answered {error}",
            "a filter failure is for an operator to mend: PUT /api/v1/admin/markets/SYMBOL/filters",
        ) from error
    except UnreachableError as error:
        raise ReplayError(f"{what}: the API does not answer ({error})", "is it still running?") from error
