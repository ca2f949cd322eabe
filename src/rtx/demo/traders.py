"""The traders of the crowd: a market maker and a taker a market, small loops that survive whatever the API does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from rtx.demo.client import AnsweredError, HttpConnection, TradingClient, UnreachableError
from rtx.demo.market_profile import MarketProfile
from rtx.demo.quoting import BUY, SELL, Ladder, PriceWalk, Quote, taker_quantity
from rtx.observability.logging import get_logger

STEP_S: Final = 0.4
SYNCHRONISATION_INTERVAL_S: Final = 2.0
TAKER_ORDERS_PER_S: Final = 2.0
TROUBLE_DELAY_S: Final = 1.0

INSUFFICIENT_BALANCE: Final = "Account has insufficient balance for requested action."
_IOC_SHARE: Final = 0.35
_QUOTE_QUANTITY_SHARE: Final = 0.1

_log = get_logger("rtx.demo")

OnShortOfFunds = Callable[[], None]


class Maker:
    """Keeps a book of some levels on both sides of a price that walks."""

    def __init__(
        self,
        profile: MarketProfile,
        connection: HttpConnection,
        client: TradingClient,
        chance: random.Random,
        on_short_of_funds: OnShortOfFunds,
    ) -> None:
        self._profile = profile
        self._connection = connection
        self._client = client
        self._chance = chance
        self._on_short_of_funds = on_short_of_funds
        self._ladder = Ladder(profile, chance)
        self._walk: PriceWalk | None = None
        self._synchronised_s = 0.0

    async def run(self) -> None:
        """Trade until cancelled."""
        await _repeat(self._step, lambda: STEP_S * self._chance.uniform(0.8, 1.2), self._profile.symbol)

    async def _step(self) -> None:
        if self._walk is None:
            self._walk = PriceWalk(self._profile, await self._price(), self._chance)
        if time.monotonic() - self._synchronised_s > SYNCHRONISATION_INTERVAL_S:
            await self._synchronise()
        fair = self._walk.step(STEP_S)
        for order_id in self._ladder.cancellations(fair):
            await self._cancel(order_id)
        for quote in self._ladder.placements(fair):
            await self._place(quote)

    async def _price(self) -> float:
        """Where the market stands, so that a new run goes on from there."""
        symbol = self._profile.symbol
        top = await self._connection.request("GET", f"/api/v3/ticker/bookTicker?symbol={symbol}")
        bid, ask = self._profile.price_ticks(top["bidPrice"]), self._profile.price_ticks(top["askPrice"])
        if bid and ask:
            return (bid + ask) / 2
        trades = await self._connection.request("GET", f"/api/v3/trades?symbol={symbol}&limit=1")
        return self._profile.price_ticks(trades[-1]["price"]) if trades else self._profile.first_price_ticks

    async def _synchronise(self) -> None:
        """Learn which orders are still open; fills and lost answers show here."""
        rows = await self._client.signed("GET", "/api/v3/openOrders", symbol=self._profile.symbol)
        self._ladder.orders = {
            row["orderId"]: Quote(row["side"], self._profile.price_ticks(row["price"]), 0) for row in rows
        }
        self._synchronised_s = time.monotonic()

    async def _cancel(self, order_id: int) -> None:
        self._ladder.orders.pop(order_id, None)
        try:
            await self._client.signed("DELETE", "/api/v3/order", symbol=self._profile.symbol, orderId=order_id)
        except AnsweredError as error:
            # It traded meanwhile: nothing is lost.
            if error.code != -2011:
                raise

    async def _place(self, quote: Quote) -> None:
        try:
            placed = await self._client.signed(
                "POST",
                "/api/v3/order",
                symbol=self._profile.symbol,
                side=quote.side,
                type="LIMIT_MAKER",
                price=self._profile.price_text(quote.price),
                quantity=self._profile.quantity_text(quote.quantity),
                newOrderRespType="ACK",
            )
        except AnsweredError as error:
            if error.code != -2010:
                raise
            # Somebody's order stands in the way, or the money is used up: the next step looks again.
            if error.message == INSUFFICIENT_BALANCE:
                self._on_short_of_funds()
            return
        self._ladder.orders[placed["orderId"]] = quote


class Taker:
    """Buys and sells at once, by market orders and by limit orders that do not wait."""

    def __init__(
        self,
        profile: MarketProfile,
        connection: HttpConnection,
        client: TradingClient,
        chance: random.Random,
        on_short_of_funds: OnShortOfFunds,
    ) -> None:
        self._profile = profile
        self._connection = connection
        self._client = client
        self._chance = chance
        self._on_short_of_funds = on_short_of_funds

    async def run(self) -> None:
        """Trade until cancelled."""
        await _repeat(self._step, lambda: self._chance.expovariate(TAKER_ORDERS_PER_S), self._profile.symbol)

    async def _step(self) -> None:
        profile = self._profile
        side = self._chance.choice((BUY, SELL))
        lots = taker_quantity(profile, self._chance)
        kind = self._chance.random()
        parameters: dict[str, str | int] = {"symbol": profile.symbol, "side": side, "newOrderRespType": "ACK"}
        if kind < _IOC_SHARE:
            price = await self._best_price(side)
            if not price:
                return
            parameters |= {"type": "LIMIT", "timeInForce": "IOC", "price": profile.price_text(price)}
            parameters["quantity"] = profile.quantity_text(lots)
        elif kind < _IOC_SHARE + _QUOTE_QUANTITY_SHARE:
            amount = lots * profile.lot * profile.first_price
            parameters |= {"type": "MARKET", "quoteOrderQty": f"{amount:.2f}"}
        else:
            parameters |= {"type": "MARKET", "quantity": profile.quantity_text(lots)}
        try:
            await self._client.signed("POST", "/api/v3/order", **parameters)
        except AnsweredError as error:
            # Also an empty book and an order below the market's least value are no reason to stop.
            if error.code not in (-2010, -1013):
                raise
            if error.message == INSUFFICIENT_BALANCE:
                self._on_short_of_funds()

    async def _best_price(self, side: str) -> int:
        top = await self._connection.request("GET", f"/api/v3/ticker/bookTicker?symbol={self._profile.symbol}")
        return self._profile.price_ticks(top["askPrice" if side == BUY else "bidPrice"])


async def _repeat(step: Callable[[], Awaitable[None]], pause_s: Callable[[], float], symbol: str) -> None:
    """Take steps for ever; after a failed one wait a little longer, and say so once, not every time."""
    is_troubled = False
    while True:
        try:
            await step()
            is_troubled = False
        except (AnsweredError, UnreachableError) as error:
            if not is_troubled:
                _log.warning("demo trader waits", market=symbol, reason=str(error))
            is_troubled = True
            await asyncio.sleep(TROUBLE_DELAY_S)
        await asyncio.sleep(pause_s())
