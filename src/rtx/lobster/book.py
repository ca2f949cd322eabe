"""The recorded book, order by order: who waits at which price, in which sequence, as far as the record says."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from rtx.lobster.record import Level, Side


@dataclass(slots=True, eq=False)
class RestingOrder:
    """An order in the book; without ``order_id`` it stands for all that rested at its price before the record began.

    ``quantity`` is its size as placed less what was cancelled of it, ``remaining`` that less what was executed.
    """

    key: int
    order_id: int | None
    side: Side
    price: int
    quantity: int
    remaining: int


class RecordedBook:
    """Both sides, as queues by price."""

    def __init__(self) -> None:
        self._keys = itertools.count(1)
        self._queues: dict[Side, dict[int, list[RestingOrder]]] = {Side.BUY: {}, Side.SELL: {}}
        self._named: dict[int, RestingOrder] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many orders rest."""
        return self._count

    def add(self, side: Side, price: int, quantity: int, order_id: int | None = None) -> RestingOrder:
        """Put an order at the end of its queue."""
        order = RestingOrder(next(self._keys), order_id, side, price, quantity, quantity)
        self._queues[side].setdefault(price, []).append(order)
        if order_id is not None:
            self._named[order_id] = order
        self._count += 1
        return order

    def remove(self, order: RestingOrder) -> None:
        """Take an order out."""
        queue = self._queues[order.side][order.price]
        queue.remove(order)
        if not queue:
            del self._queues[order.side][order.price]
        if order.order_id is not None:
            del self._named[order.order_id]
        self._count -= 1

    def named(self, order_id: int) -> RestingOrder | None:
        """The order with this id, if it rests."""
        return self._named.get(order_id)

    def anonymous(self, side: Side, price: int) -> RestingOrder | None:
        """What rests at a price without an id."""
        return next((order for order in self._queues[side].get(price, ()) if order.order_id is None), None)

    def ahead_of(self, order: RestingOrder) -> list[RestingOrder]:
        """The orders at its price that came before it."""
        return list(itertools.takewhile(lambda other: other is not order, self._queues[order.side][order.price]))

    def better_than(self, side: Side, price: int) -> list[RestingOrder]:
        """The orders of a side at better prices."""
        return self._where(side, lambda level_price: side.is_better(level_price, price))

    def crossing(self, side: Side, price: int) -> list[RestingOrder]:
        """The orders that one of ``side`` at ``price`` would trade with."""
        return self._where(side.opposite, lambda level_price: not side.is_better(level_price, price))

    def best(self, side: Side, count: int) -> tuple[Level, ...]:
        """The best levels of a side, best first."""
        queues = self._queues[side]
        select = heapq.nlargest if side is Side.BUY else heapq.nsmallest
        return tuple(Level(price, sum(order.remaining for order in queues[price])) for price in select(count, queues))

    def _where(self, side: Side, is_meant: Callable[[int], bool]) -> list[RestingOrder]:
        return [order for price, queue in self._queues[side].items() if is_meant(price) for order in queue]
