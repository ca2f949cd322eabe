"""One order flow for every book, made before any clock runs.

Peers differ in what they do with the cancellation of an order that is gone, so the generator matches while it draws and
only cancels what rests. The same matching gives the fills that every book must then report.

The mix is a market maker's market: half of all messages are new limit orders near the touch, nearly as many are
cancellations, and a few take liquidity; as much leaves the book as comes, so its size stays what it was at the opening.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final, TypeAlias

ADD: Final = 0
CANCEL: Final = 1

BUY: Final = 0
SELL: Final = 1

PASSIVE_SHARE: Final = 0.50
CANCEL_SHARE: Final = 0.45
MEAN_DISTANCE_TICKS: Final = 6.0
LARGEST_QUANTITY_LOTS: Final = 100
OPENING_MID_TICKS: Final = 50_000
DEFAULT_SEED: Final = 20_240_607

Operation: TypeAlias = tuple[int, int, int, int, int]
"""(ADD or CANCEL, order id, BUY or SELL, price in ticks, quantity in lots); a cancellation repeats side and price."""

Fill: TypeAlias = tuple[int, int, int, int]
"""(taker order id, maker order id, price in ticks, quantity in lots), in the order in which the book made them."""


@dataclass(frozen=True, slots=True)
class RestingTotals:
    """What rests after the last operation: number of orders and lots of each side."""

    buy_orders: int
    sell_orders: int
    buy_lots: int
    sell_lots: int


@dataclass(frozen=True, slots=True)
class OrderFlow:
    """Operations, and what a right book makes of them.

    ``opening`` fills the book and is not timed; ``operations`` is. ``fills`` are those of ``operations``: the opening
    has none.
    """

    seed: int
    opening: tuple[Operation, ...]
    operations: tuple[Operation, ...]
    fills: tuple[Fill, ...]
    resting: RestingTotals


@dataclass(slots=True)
class _Resting:
    order_id: int
    side: int
    price: int
    quantity: int
    slot: int


@dataclass(slots=True)
class _Half:
    """One side of the book; ``sign`` makes the best price the smallest key."""

    sign: int
    levels: dict[int, deque[_Resting]] = field(default_factory=dict)
    keys: list[int] = field(default_factory=list)

    def add(self, order: _Resting) -> None:
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = deque()
            heapq.heappush(self.keys, self.sign * order.price)
        level.append(order)

    def best(self) -> _Resting | None:
        """The order next in line; cancelled ones (quantity 0) and empty levels are dropped on the way."""
        while self.keys:
            price = self.sign * self.keys[0]
            level = self.levels[price]
            while level and level[0].quantity == 0:
                level.popleft()
            if level:
                return level[0]
            heapq.heappop(self.keys)
            del self.levels[price]
        return None


class _Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.halves = (_Half(sign=-1), _Half(sign=1))
        self.resting: list[_Resting] = []
        self.fills: list[Fill] = []
        self.next_order_id = 1

    def passive(self) -> Operation:
        """A limit order that does not trade: somewhere behind the best price of the other side."""
        side = self.random.getrandbits(1)
        toward_mid = 1 if side == BUY else -1
        distance = 1 + int(self.random.expovariate(1.0 / MEAN_DISTANCE_TICKS))
        opposite = self.halves[1 - side].best()
        if opposite is not None:
            price = opposite.price - toward_mid * distance
        else:
            price = OPENING_MID_TICKS - toward_mid * distance
        return self._add(side, max(price, 1), self.random.randint(1, LARGEST_QUANTITY_LOTS))

    def aggressive(self) -> Operation:
        """A limit order that takes: through the best price by up to three ticks, what is left of it rests."""
        side = self.random.getrandbits(1)
        opposite = self.halves[1 - side].best()
        if opposite is None:
            return self.passive()
        through = self.random.randint(0, 3)
        price = opposite.price + through if side == BUY else max(opposite.price - through, 1)
        return self._add(side, price, self.random.randint(1, LARGEST_QUANTITY_LOTS))

    def cancel(self) -> Operation:
        """The cancellation of any resting order, all equally likely."""
        if not self.resting:
            return self.passive()
        order = self.resting[self.random.randrange(len(self.resting))]
        operation = (CANCEL, order.order_id, order.side, order.price, order.quantity)
        self._drop(order)
        return operation

    def totals(self) -> RestingTotals:
        buys = [order.quantity for order in self.resting if order.side == BUY]
        sells = [order.quantity for order in self.resting if order.side == SELL]
        return RestingTotals(len(buys), len(sells), sum(buys), sum(sells))

    def _add(self, side: int, price: int, quantity: int) -> Operation:
        order_id = self.next_order_id
        self.next_order_id += 1
        remaining = quantity
        while remaining and (maker := self.halves[1 - side].best()) is not None:
            if (maker.price > price) if side == BUY else (maker.price < price):
                break
            traded = min(remaining, maker.quantity)
            remaining -= traded
            self.fills.append((order_id, maker.order_id, maker.price, traded))
            if traded == maker.quantity:
                self._drop(maker)
            else:
                maker.quantity -= traded
        if remaining:
            order = _Resting(order_id, side, price, remaining, len(self.resting))
            self.resting.append(order)
            self.halves[side].add(order)
        return (ADD, order_id, side, price, quantity)

    def _drop(self, order: _Resting) -> None:
        order.quantity = 0
        last = self.resting.pop()
        if last is not order:
            self.resting[order.slot] = last
            last.slot = order.slot


def generate_flow(operations: int, *, opening_orders: int = 5_000, seed: int = DEFAULT_SEED) -> OrderFlow:
    """Draw a flow of ``operations`` operations on a book of ``opening_orders``; the same seed gives the same flow."""
    generator = _Generator(seed)
    opening = tuple(generator.passive() for _ in range(opening_orders))
    drawn: list[Operation] = []
    for _ in range(operations):
        choice = generator.random.random()
        if choice < PASSIVE_SHARE:
            drawn.append(generator.passive())
        elif choice < PASSIVE_SHARE + CANCEL_SHARE:
            drawn.append(generator.cancel())
        else:
            drawn.append(generator.aggressive())
    return OrderFlow(seed, opening, tuple(drawn), tuple(generator.fills), generator.totals())
