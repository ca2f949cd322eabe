"""A client as its users write one: ccxt as it is installed, told another address, asking when it knows nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import ccxt.async_support as ccxt
from tests.faults.balancer import Balancer
from tests.faults.load import MIDDLE_TICKS, Load, OrderRecord, Outcome
from tests.faults.venue import MARKETS, QUOTE

RETRY_INTERVAL_S: Final = 0.05
OPEN_ORDERS_MAX: Final = 5


class CcxtTrader:
    """Trades through one balancer until the load is stopped."""

    def __init__(self, load: Load, number: int, balancer: Balancer) -> None:
        self._load = load
        self._balancer = balancer
        self._chance = random.Random(-1 - number)
        self._owner = load.venue.traders[number % len(load.venue.traders)]
        self._name = f"x{number:02}"
        # Without its rate limiter ccxt does not wait 50 ms between two calls; what it sends is the same.
        credentials = {"apiKey": self._owner.api_key, "secret": self._owner.secret, "enableRateLimit": False}
        self._exchange: Any = ccxt.binance(credentials)
        host, port = balancer.address
        self._exchange.urls["api"] = _at(f"http://{host}:{port}", self._exchange.urls["api"])

    async def run(self) -> None:
        """Trade until the load is stopped."""
        try:
            await self._learn_markets()
            await self._trade()
        finally:
            await self._exchange.close()

    async def _learn_markets(self) -> None:
        while not self._load.is_stopping:
            with contextlib.suppress(ccxt.OperationFailed):
                await self._exchange.load_markets()
                return
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def _trade(self) -> None:
        open_orders: deque[OrderRecord] = deque()
        placed = 0
        while not self._load.is_stopping:
            await asyncio.sleep(self._load.pause_s)
            if len(open_orders) > OPEN_ORDERS_MAX:
                await self._cancel(open_orders.popleft())
                continue
            placed += 1
            order = OrderRecord(self._owner, self._chance.choice(tuple(MARKETS)), f"{self._name}-{placed}")
            await self._place(order)
            if order.answer.get("status") in ("NEW", "PARTIALLY_FILLED"):
                open_orders.append(order)

    async def _place(self, order: OrderRecord) -> None:
        side = self._chance.choice(("buy", "sell"))
        ticks = MIDDLE_TICKS + (1 if side == "buy" else -1) * self._chance.randint(-60, 15)
        self._load.orders.append(order)
        order.outcome, order.answer = await self._change(
            self._exchange.create_order(
                _unified(order.symbol),
                "limit",
                side,
                self._chance.randint(1, 999) / 1000,
                ticks / 100,
                {"newClientOrderId": order.client_order_id},
            )
        )
        if order.outcome is Outcome.UNKNOWN:
            found = await self._ask(order)
            if found is not None:
                order.outcome, order.answer = Outcome.ACKNOWLEDGED, found
                self._load.note_acknowledged()

    async def _cancel(self, order: OrderRecord) -> None:
        order.cancel_outcome, order.cancel_answer = await self._change(
            self._exchange.cancel_order(str(order.answer["orderId"]), _unified(order.symbol))
        )
        # When a connection breaks, ccxt's HTTP client sends a DELETE again by itself: the refusal may be the second's.
        if order.cancel_outcome is not Outcome.ACKNOWLEDGED:
            order.cancel_outcome = Outcome.UNKNOWN
            found = await self._ask(order)
            if found is not None and found["status"] == "CANCELED":
                order.cancel_outcome, order.cancel_answer = Outcome.ACKNOWLEDGED, found
                self._load.note_acknowledged()

    async def _change(self, asked: Any) -> tuple[Outcome, dict[str, Any]]:
        try:
            answer = await asked
        except ccxt.OperationFailed as error:
            self._load.note_failure(f"ccxt {type(error).__name__}", self._balancer.target)
            return Outcome.UNKNOWN, {}
        except ccxt.ExchangeError:
            return Outcome.REFUSED, {}
        self._load.note_acknowledged()
        return Outcome.ACKNOWLEDGED, answer["info"]

    async def _ask(self, order: OrderRecord) -> dict[str, Any] | None:
        """The order as it is now; None: it is not there, or nobody can say."""
        name = {"origClientOrderId": order.client_order_id}
        while not self._load.is_stopping:
            try:
                found: dict[str, Any] = (await self._exchange.fetch_order("", _unified(order.symbol), name))["info"]
            except ccxt.OperationFailed:
                await asyncio.sleep(RETRY_INTERVAL_S)
            except ccxt.ExchangeError:
                return None
            else:
                return found
        return None


def _unified(symbol: str) -> str:
    """The market's name in ccxt's own way of writing."""
    return f"{MARKETS[symbol]}/{QUOTE}"


def _at(url: str, address: Any) -> Any:
    """The address, or every address of a tree of them, at ``url`` with the path it had."""
    if isinstance(address, dict):
        return {name: _at(url, value) for name, value in address.items()}
    return url + urlsplit(address).path
