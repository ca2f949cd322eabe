"""Many clients that trade at once, each of which writes down what it was told and what it was not told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from tests.faults.exchange_client import Answer, Credentials, HttpConnection, NoAnswerError, NotSentError
from tests.faults.venue import MARKETS, Venue

CLIENTS: Final = 32
PROGRESS_TIMEOUT_S: Final = 60.0
RECONNECT_INTERVAL_S: Final = 0.02
OPEN_ORDERS_MAX: Final = 15
MIDDLE_TICKS: Final = 100_000


class Outcome(Enum):
    """What a client knows of something that it asked for."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class OrderRecord:
    """An order as its client knows it. ``answer``: to placing it, ``cancel_answer``: to cancelling it."""

    owner: Credentials
    symbol: str
    client_order_id: str
    outcome: Outcome = Outcome.UNKNOWN
    answer: dict[str, Any] = field(default_factory=dict)
    cancel_outcome: Outcome | None = None
    cancel_answer: dict[str, Any] = field(default_factory=dict)


class Load:
    """All clients together. ``errors`` counts what a client would have to deal with as a failure, by kind."""

    def __init__(self, venue: Venue) -> None:
        self.orders: list[OrderRecord] = []
        self.acknowledged = 0
        self.errors: Counter[str] = Counter()
        self.longest_gap_s = 0.0
        self._venue = venue
        self._acknowledged_s = time.monotonic()
        self._moved = asyncio.Event()
        self._is_stopping = False

    async def more(self, count: int) -> None:
        """Wait until ``count`` more requests are acknowledged: the backend serves."""
        target = self.acknowledged + count
        async with asyncio.timeout(PROGRESS_TIMEOUT_S):
            while self.acknowledged < target:
                self._moved.clear()
                await self._moved.wait()

    def stop(self) -> None:
        """Have every client end after what it is doing."""
        self._is_stopping = True

    async def trade(self, number: int) -> None:
        """One client, until stopped; the same number does the same, as far as the answers are the same."""
        chance = random.Random(number)
        owner = self._venue.traders[number % len(self._venue.traders)]
        with closing(HttpConnection(self._venue.port)) as connection:
            await self._trade_over(connection, owner, f"c{number:02}", chance)

    async def _trade_over(
        self, connection: HttpConnection, owner: Credentials, name: str, chance: random.Random
    ) -> None:
        open_orders: deque[OrderRecord] = deque()
        placed = 0
        while not self._is_stopping:
            if open_orders and (len(open_orders) > OPEN_ORDERS_MAX or chance.random() < 0.25):
                chosen = open_orders.popleft() if chance.random() < 0.5 else open_orders.pop()
                await self._cancel(connection, chosen, by_order_id=chance.random() < 0.5)
                continue
            placed += 1
            order = OrderRecord(owner, chance.choice(tuple(MARKETS)), f"{name}-{placed}")
            await self._place(connection, order, random_order(chance))
            if order.answer.get("status") in ("NEW", "PARTIALLY_FILLED"):
                open_orders.append(order)

    async def _place(self, connection: HttpConnection, order: OrderRecord, parameters: dict[str, str]) -> None:
        names = {"symbol": order.symbol, "newClientOrderId": order.client_order_id, "newOrderRespType": "FULL"}
        try:
            answer = await connection.signed("POST", "/api/v3/order", order.owner, **names, **parameters)
        except NotSentError as error:
            await self._note_unsent(error)
            return
        except NoAnswerError as error:
            self.errors[f"no answer: {error}"] += 1
            self.orders.append(order)
            return
        order.outcome, order.answer = self._judge(answer), answer.json
        self.orders.append(order)

    async def _cancel(self, connection: HttpConnection, order: OrderRecord, *, by_order_id: bool) -> None:
        name: dict[str, str | int] = (
            {"orderId": order.answer["orderId"]} if by_order_id else {"origClientOrderId": order.client_order_id}
        )
        try:
            answer = await connection.signed("DELETE", "/api/v3/order", order.owner, symbol=order.symbol, **name)
        except NotSentError as error:
            await self._note_unsent(error)
            return
        except NoAnswerError as error:
            self.errors[f"no answer: {error}"] += 1
            order.cancel_outcome = Outcome.UNKNOWN
            return
        order.cancel_outcome, order.cancel_answer = self._judge(answer), answer.json

    def _judge(self, answer: Answer) -> Outcome:
        if answer.status == 200:
            now_s = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._acknowledged_s)
            self._acknowledged_s = now_s
            self.acknowledged += 1
            self._moved.set()
            return Outcome.ACKNOWLEDGED
        if 400 <= answer.status < 500:
            return Outcome.REFUSED
        self.errors[f"{answer.status} {answer.json['code']}"] += 1
        return Outcome.UNKNOWN

    async def _note_unsent(self, error: NotSentError) -> None:
        self.errors[f"no connection: {error}"] += 1
        await asyncio.sleep(RECONNECT_INTERVAL_S)


def random_order(chance: random.Random) -> dict[str, str]:
    """Parameters of an order around one price: about a third trade at once."""
    side = chance.choice(("BUY", "SELL"))
    sign = 1 if side == "BUY" else -1
    quantity = f"0.{chance.randint(1, 999):03}"
    kind = chance.random()
    if kind < 0.12:
        return {"side": side, "type": "MARKET", "quantity": quantity}
    if kind < 0.16:
        return {"side": side, "type": "MARKET", "quoteOrderQty": str(chance.randint(100, 2_000))}
    price = MIDDLE_TICKS + sign * chance.randint(-60, 15)
    order = {"side": side, "type": "LIMIT", "timeInForce": "GTC", "quantity": quantity, "price": price_text(price)}
    if kind < 0.20:
        return order | {"timeInForce": "IOC"}
    if kind < 0.25:
        stop = MIDDLE_TICKS + sign * chance.randint(5, 40)
        return order | {"type": "STOP_LOSS_LIMIT", "stopPrice": price_text(stop), "price": price_text(stop + sign * 20)}
    return order


def price_text(ticks: int) -> str:
    """A price of hundredths."""
    return f"{ticks // 100}.{ticks % 100:02}"


@asynccontextmanager
async def trading(venue: Venue) -> AsyncIterator[Load]:
    """Have all clients trade until the block ends, and let them finish what they are doing."""
    load = Load(venue)
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(load.trade(number))
        try:
            yield load
        finally:
            load.stop()
