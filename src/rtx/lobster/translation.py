"""Turns each message of the record into what has to be done at an exchange for its book to change the same way.

An execution is done by an order that takes: the exchange is to match, not to be told. For that the executed order has
to be first. At NASDAQ it was, so whatever stands before it in our book is out of place: orders at its price that we
thought came earlier go behind it, and orders at better prices, or on the other side of the market where a new order
came to rest, are gone since an event that the record does not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from rtx.lobster.book import RecordedBook, RestingOrder
from rtx.lobster.errors import RecordError
from rtx.lobster.record import ORDER_EVENTS, EventType, Message, Opening, Side


@dataclass(frozen=True, slots=True)
class Place:
    """Let an order rest at the end of its queue; ``key`` names it in later actions."""

    key: int
    side: Side
    price: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Reduce:
    """Make an order smaller in its place; ``quantity`` is its new size, with what was executed of it."""

    key: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take an order out."""

    key: int


@dataclass(frozen=True, slots=True)
class Take:
    """Trade with the order ``key``, the first on ``side`` at ``price``; ``is_whole``: nothing of it is left."""

    key: int
    side: Side
    price: int
    quantity: int
    is_whole: bool


Action = Place | Reduce | Cancel | Take


class Note(StrEnum):
    """Where the record and the book as known from it did not fit; each is counted."""

    SKIPPED = "messages about orders of which nothing is known to rest were skipped"
    CUT = "messages named another size than is known to rest, and changed what there was"
    REQUEUED = "orders went behind one that was executed before them"
    WITHDRAWN = "orders were withdrawn because a message proves them gone"


class Translation:
    """The recorded book as it goes from message to message."""

    def __init__(self) -> None:
        self.book = RecordedBook()
        self.notes: Counter[Note] = Counter()

    def open(self, opening: Opening, first: Message) -> list[Action]:
        """Set the opening up; the order of the first message is the last in its queue. Raises :class:`RecordError`."""
        actions: list[Action] = []
        newest = first if first.event_type is EventType.SUBMISSION else None
        for side, levels in ((Side.SELL, opening.asks), (Side.BUY, opening.bids)):
            for price, size in levels:
                earlier = size
                if newest is not None and (newest.side, newest.price) == (side, price):
                    earlier -= newest.size
                if earlier:
                    actions.append(self.place(side, price, earlier))
        if newest is not None:
            _check_opening(opening, newest)
            actions.append(self.place(newest.side, newest.price, newest.size, newest.order_id))
        return actions

    def apply(self, message: Message) -> list[Action]:
        """Give what a message after the first needs; raises :class:`RecordError`."""
        if message.event_type not in ORDER_EVENTS:
            return []
        if message.event_type is EventType.SUBMISSION:
            return self._submit(message)
        order = self.resting(message)
        if order is None:
            self.notes[Note.SKIPPED] += 1
            return []
        size = min(message.size, order.remaining)
        if message.event_type is EventType.DELETION and order.order_id is not None:
            size = order.remaining
        if size != message.size:
            self.notes[Note.CUT] += 1
        if message.event_type is EventType.EXECUTION:
            return self._execute(order, size)
        return [self._cancel(order, size)]

    def resting(self, message: Message) -> RestingOrder | None:
        """The order that a message acts on: the one it names, or what rests at its price without a name.

        Raises :class:`RecordError` when the named order rests elsewhere.
        """
        order = self.book.named(message.order_id)
        if order is None:
            return self.book.anonymous(message.side, message.price)
        if (order.side, order.price) != (message.side, message.price):
            raise RecordError(
                f"message {message.number} is about order {message.order_id} at {message.side} {message.price}, but "
                f"that order rests at {order.side} {order.price}",
                "are the two files of the same stock and day?",
            )
        return order

    def place(self, side: Side, price: int, quantity: int, order_id: int | None = None) -> Place:
        """Let an order rest."""
        order = self.book.add(side, price, quantity, order_id)
        return Place(order.key, side, price, quantity)

    def _submit(self, message: Message) -> list[Action]:
        if self.book.named(message.order_id) is not None:
            raise RecordError(f"message {message.number} submits order {message.order_id}, which rests already")
        # It came to rest, so at its price and beyond nobody was left to trade with.
        actions = self._withdraw(self.book.crossing(message.side, message.price))
        return [*actions, self.place(message.side, message.price, message.size, message.order_id)]

    def _cancel(self, order: RestingOrder, size: int) -> Action:
        if size == order.remaining:
            self.book.remove(order)
            return Cancel(order.key)
        order.quantity -= size
        order.remaining -= size
        return Reduce(order.key, order.quantity)

    def _execute(self, order: RestingOrder, size: int) -> list[Action]:
        actions = self._withdraw(self.book.better_than(order.side, order.price))
        for earlier in self.book.ahead_of(order):
            self.notes[Note.REQUEUED] += 1
            self.book.remove(earlier)
            actions.append(Cancel(earlier.key))
            actions.append(self.place(earlier.side, earlier.price, earlier.remaining, earlier.order_id))
        order.remaining -= size
        if not order.remaining:
            self.book.remove(order)
        return [*actions, Take(order.key, order.side, order.price, size, is_whole=not order.remaining)]

    def _withdraw(self, orders: Iterable[RestingOrder]) -> list[Action]:
        actions: list[Action] = []
        for order in orders:
            self.notes[Note.WITHDRAWN] += 1
            self.book.remove(order)
            actions.append(Cancel(order.key))
        return actions


def _check_opening(opening: Opening, first: Message) -> None:
    levels = opening.bids if first.side is Side.BUY else opening.asks
    size = next((level.size for level in levels if level.price == first.price), 0)
    if size < first.size:
        raise RecordError(
            f"the opening has {size} at {first.price}, but the first message lets {first.size} rest there",
            "the opening has to be the book just after the first message of the messages file",
        )
