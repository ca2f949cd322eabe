"""Many clients that trade at once, each of which writes down what it was told and what it was not told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from tests.faults.exchange_client import Address, Answer, Credentials, HttpConnection, NoAnswerError, NotSentError
from tests.faults.venue import MARKETS, Venue

CLIENTS: Final = 32
PROGRESS_TIMEOUT_S: Final = 60.0
RETRY_INTERVAL_S: Final = 0.02
OPEN_ORDERS_MAX: Final = 15
MIDDLE_TICKS: Final = 100_000


class Outcome(Enum):
    """What a client knows of something that it asked for."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Persistence(Enum):
    """What a client does when it was not told what became of something that it asked for."""

    NONE = "it goes on with something else"
    ASK = "it asks for the order by the name that it gave it"
    REPEAT = "it asks for the same again under the same idempotency key"


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


@dataclass(frozen=True)
class Failure:
    """Something that a client has to deal with; ``address``: where it was sent, None when it was not."""

    kind: str
    address: Address | None


class Load:
    """All clients together; each pauses for ``pause_s`` before it asks for the next thing."""

    def __init__(self, venue: Venue, pause_s: float = 0.0) -> None:
        self.venue = venue
        self.pause_s = pause_s
        self.orders: list[OrderRecord] = []
        self.acknowledged = 0
        self.failures: list[Failure] = []
        self.longest_gap_s = 0.0
        self.is_stopping = False
        self._acknowledged_s = time.monotonic()
        self._moved = asyncio.Event()

    @property
    def errors(self) -> Counter[str]:
        """How often each kind of failure was met."""
        return Counter(failure.kind for failure in self.failures)

    def errors_elsewhere(self, addresses: Collection[Address]) -> Counter[str]:
        """How often each kind was met by clients that were not connected to one of these addresses."""
        return Counter(failure.kind for failure in self.failures if failure.address not in addresses)

    async def more(self, count: int) -> None:
        """Wait until ``count`` more requests are acknowledged: the backend serves."""
        target = self.acknowledged + count
        async with asyncio.timeout(PROGRESS_TIMEOUT_S):
            while self.acknowledged < target:
                self._moved.clear()
                await self._moved.wait()

    def stop(self) -> None:
        """Have every client end after what it is doing."""
        self.is_stopping = True

    def forget_gap(self) -> None:
        """Measure the longest gap between answers from now on."""
        self.longest_gap_s = 0.0

    def note_acknowledged(self) -> None:
        """A client was told that something is done."""
        now_s = time.monotonic()
        self.longest_gap_s = max(self.longest_gap_s, now_s - self._acknowledged_s)
        self._acknowledged_s = now_s
        self.acknowledged += 1
        self._moved.set()

    def note_failure(self, kind: str, address: Address | None) -> None:
        """A client met something that it has to deal with."""
        self.failures.append(Failure(kind, address))


class Client:
    """One client over one connection. The same number does the same, as far as the answers are the same."""

    def __init__(self, load: Load, number: int, addresses: Sequence[Address], persistence: Persistence) -> None:
        self._load = load
        self._addresses = addresses
        self._persistence = persistence
        self._chance = random.Random(number)
        self._owner = load.venue.traders[number % len(load.venue.traders)]
        self._name = f"c{number:02}"

    async def run(self) -> None:
        """Trade until the load is stopped."""
        chance = self._chance
        open_orders: deque[OrderRecord] = deque()
        placed = 0
        with closing(HttpConnection(*self._addresses)) as connection:
            while not self._load.is_stopping:
                await asyncio.sleep(self._load.pause_s)
                if open_orders and (len(open_orders) > OPEN_ORDERS_MAX or chance.random() < 0.25):
                    chosen = open_orders.popleft() if chance.random() < 0.5 else open_orders.pop()
                    await self._cancel(connection, chosen, by_order_id=chance.random() < 0.5)
                    continue
                placed += 1
                order = OrderRecord(self._owner, chance.choice(tuple(MARKETS)), f"{self._name}-{placed}")
                await self._place(connection, order, random_order(chance))
                if order.answer.get("status") in ("NEW", "PARTIALLY_FILLED"):
                    open_orders.append(order)

    async def _place(self, connection: HttpConnection, order: OrderRecord, parameters: dict[str, str]) -> None:
        names = {"symbol": order.symbol, "newClientOrderId": order.client_order_id, "newOrderRespType": "FULL"}
        try:
            order.outcome, order.answer = await self._change(
                connection, "POST", order, order.client_order_id, **names, **parameters
            )
        except NotSentError:
            return
        self._load.orders.append(order)
        if order.outcome is Outcome.UNKNOWN and self._persistence is Persistence.ASK:
            found = await self._ask(connection, order)
            if found is not None:
                order.outcome, order.answer = Outcome.ACKNOWLEDGED, found
                self._load.note_acknowledged()

    async def _cancel(self, connection: HttpConnection, order: OrderRecord, *, by_order_id: bool) -> None:
        name: dict[str, str | int] = (
            {"orderId": order.answer["orderId"]} if by_order_id else {"origClientOrderId": order.client_order_id}
        )
        key = f"{order.client_order_id}-cancel"
        try:
            order.cancel_outcome, order.cancel_answer = await self._change(
                connection, "DELETE", order, key, symbol=order.symbol, **name
            )
        except NotSentError:
            return
        if order.cancel_outcome is Outcome.UNKNOWN and self._persistence is Persistence.ASK:
            found = await self._ask(connection, order)
            if found is not None and found["status"] == "CANCELED":
                order.cancel_outcome, order.cancel_answer = Outcome.ACKNOWLEDGED, found
                self._load.note_acknowledged()

    async def _change(
        self, connection: HttpConnection, method: str, order: OrderRecord, key: str, **parameters: str | int
    ) -> tuple[Outcome, dict[str, Any]]:
        """Ask for something to be done, again when that is this client's way; raises :class:`NotSentError`."""
        repeats = self._persistence is Persistence.REPEAT
        is_sent = False
        while True:
            try:
                answer = await connection.signed(
                    method, "/api/v3/order", order.owner, idempotency_key=key if repeats else "", **parameters
                )
            except NotSentError as error:
                self._load.note_failure(f"no connection: {error}", None)
                await asyncio.sleep(RETRY_INTERVAL_S)
                if not is_sent:
                    raise
            except NoAnswerError as error:
                is_sent = True
                self._load.note_failure(f"no answer: {error}", error.address)
            else:
                is_sent = True
                outcome = self._judge(answer, connection.address)
                if outcome is not Outcome.UNKNOWN:
                    return outcome, answer.json
            if not repeats or self._load.is_stopping:
                return Outcome.UNKNOWN, {}

    def _judge(self, answer: Answer, address: Address) -> Outcome:
        if answer.status == 200:
            self._load.note_acknowledged()
            return Outcome.ACKNOWLEDGED
        if 400 <= answer.status < 500:
            return Outcome.REFUSED
        self._load.note_failure(f"{answer.status} {answer.json['code']}", address)
        return Outcome.UNKNOWN

    async def _ask(self, connection: HttpConnection, order: OrderRecord) -> dict[str, Any] | None:
        """The order as it is now; None: it is not there, or nobody can say."""
        while not self._load.is_stopping:
            try:
                answer = await connection.signed(
                    "GET", "/api/v3/order", order.owner, symbol=order.symbol, origClientOrderId=order.client_order_id
                )
            except (NotSentError, NoAnswerError):
                pass
            else:
                if answer.status == 200:
                    found: dict[str, Any] = answer.json
                    return found
                if answer.status < 500:
                    return None
            await asyncio.sleep(RETRY_INTERVAL_S)
        return None


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
async def trading(
    venue: Venue,
    *,
    clients: int = CLIENTS,
    persistences: Sequence[Persistence] = (Persistence.NONE,),
    pause_s: float = 0.0,
) -> AsyncIterator[Load]:
    """Have all clients trade until the block ends, and let them finish what they are doing.

    They are spread over the venue's addresses.
    """
    load = Load(venue, pause_s)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            persistence = persistences[number // len(venue.addresses) % len(persistences)]
            group.create_task(Client(load, number, venue.from_home(number), persistence).run())
        try:
            yield load
        finally:
            load.stop()
