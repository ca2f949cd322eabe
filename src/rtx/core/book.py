"""The order book of one market: price-time priority, matching, and nothing of money.

Prices of a side are kept in one ascending list of keys whose last element is the best price: a bid's key is its price,
an ask's is its price negated. Orders of a level form a linked list, so that cancelling one is independent of the
queue's length. Everything is measured in ticks and lots.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

from rtx.core.vocabulary import (
    BUY,
    DECREMENT,
    EXPIRE_BOTH,
    EXPIRE_MAKER,
    EXPIRE_TAKER,
    EXPIRED_IN_MATCH,
    MAXIMUM_AMOUNT,
    NEW,
    STP_NONE,
    PassedOn,
)

UNLIMITED_BUDGET: Final = -1
ABOVE_ALL_PRICES: Final = MAXIMUM_AMOUNT + 1
NOBODY: Final = -1

Match = tuple["BookOrder", int, int]
"""(maker, price in ticks, traded lots), or minus the lots that the maker lost to self-trade prevention."""


class BookOrder:
    """What matching needs to know of an order, and no more: the smaller it is, the more of a book the caches hold.

    ``level``, ``previous`` and ``next`` are its place in the book; they are None while it is not in one.
    """

    __slots__ = (
        "account_id",
        "level",
        "next",
        "order_id",
        "prevented_quantity",
        "previous",
        "price",
        "quote_quantity",
        "remaining",
        "self_trade_prevention",
        "side",
        "status",
    )

    def __init__(self, order_id: PassedOn, account_id: int, side: int, price: int, quantity: int) -> None:
        self.order_id: PassedOn = order_id
        self.account_id = account_id
        self.side = side
        self.status = NEW
        self.price = price
        self.remaining = quantity
        self.quote_quantity = 0
        self.self_trade_prevention = STP_NONE
        self.prevented_quantity = 0
        self.level: Level | None = None
        self.previous: BookOrder | None = None
        self.next: BookOrder | None = None


class Level:
    """The orders of one price on one side, oldest first; ``changed``: its side has taken note that it changed."""

    __slots__ = ("changed", "head", "price", "quantity", "side", "tail")

    def __init__(self, side: BookSide, price: int) -> None:
        self.side = side
        self.price = price
        self.quantity = 0
        self.changed = False
        self.head: BookOrder | None = None
        self.tail: BookOrder | None = None

    def orders(self) -> Iterator[BookOrder]:
        """The orders in the sequence in which they would trade."""
        order = self.head
        while order is not None:
            yield order
            order = order.next


class BookSide:
    """The levels of one side by price; ``changed`` collects the prices whose quantity changed, in order.

    ``best`` is the best price in ticks, or where the side is empty a price that no order of the other side reaches.
    """

    __slots__ = ("best", "changed", "keys", "levels", "nothing", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.nothing = 0 if sign > 0 else ABOVE_ALL_PRICES
        self.best = self.nothing
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}
        self.changed: list[int] = []

    def best_price(self) -> int:
        """Best price in ticks, 0 when the side is empty."""
        return self.best if self.keys else 0

    def best_levels(self, limit: int) -> list[tuple[int, int]]:
        """(price, quantity) best first, at most ``limit`` levels; all with ``limit`` 0."""
        keys = self.keys[-limit:] if limit else self.keys
        sign, levels = self.sign, self.levels
        return [(key * sign, levels[key * sign].quantity) for key in reversed(keys)]

    def take_changed(self) -> list[tuple[int, int]]:
        """(price, quantity now) of the levels that changed since the last call."""
        levels = self.levels
        changes = []
        for price in dict.fromkeys(self.changed):
            level = levels.get(price)
            if level is None:
                changes.append((price, 0))
            else:
                level.changed = False
                changes.append((price, level.quantity))
        self.changed.clear()
        return changes

    def add_level(self, price: int) -> Level:
        """A level for a price that has none yet."""
        self.levels[price] = level = Level(self, price)
        keys = self.keys
        key = price * self.sign
        if not keys or key > keys[-1]:
            keys.append(key)
            self.best = price
        else:
            insort(keys, key)
        return level

    def remove_level(self, price: int) -> None:
        """Forget a level that has no orders any more."""
        keys = self.keys
        del self.levels[price]
        if price == self.best:
            keys.pop()
            self.best = keys[-1] * self.sign if keys else self.nothing
        else:
            del keys[bisect_left(keys, price * self.sign)]


class Book:
    """Both sides of one market."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)

    def place(self, order: BookOrder, quote_per_tick_lot: int) -> list[Match] | None:
        """Let a limit order meet what it crosses (see :meth:`match`; None: nothing) and what remains of it rest."""
        matches = None
        price = order.price
        if order.side == BUY:
            side = self.bids
            if price >= self.asks.best:
                matches = self.match(order, price, UNLIMITED_BUDGET, quote_per_tick_lot)
                if not order.remaining:
                    return matches
        else:
            side = self.asks
            if price <= self.bids.best:
                matches = self.match(order, price, UNLIMITED_BUDGET, quote_per_tick_lot)
                if not order.remaining:
                    return matches
        level = side.levels.get(price)
        if level is None:
            level = side.add_level(price)
            level.head = order
        else:
            tail = level.tail
            order.previous = tail
            tail.next = order  # type: ignore[union-attr]  # a level that exists has a tail
        level.tail = order
        level.quantity += order.remaining
        order.level = level
        if not level.changed:
            level.changed = True
            side.changed.append(price)
        return matches

    def remove(self, order: BookOrder) -> None:
        """Take an order out of its level."""
        level = order.level
        if level is None:
            return
        previous, following = order.previous, order.next
        order.level = None
        if not level.changed:
            level.changed = True
            level.side.changed.append(level.price)
        if previous is None:
            if following is None:
                level.side.remove_level(level.price)
                return
            level.head = following
            following.previous = None
            order.next = None
        else:
            previous.next = following
            order.previous = None
            if following is None:
                level.tail = previous
            else:
                following.previous = previous
                order.next = None
        level.quantity -= order.remaining

    def reduce(self, order: BookOrder, quantity: int) -> None:
        """Take ``quantity`` lots from the remainder of an order; it keeps its place."""
        order.remaining -= quantity
        level = order.level
        if level is not None:
            level.quantity -= quantity
            if not level.changed:
                level.changed = True
                level.side.changed.append(level.price)

    def crosses(self, side: int, price: int) -> bool:
        """Whether an order of ``side`` at ``price`` would meet one on the other side."""
        return price >= self.asks.best if side == BUY else price <= self.bids.best

    def match(  # noqa: PLR0912, PLR0915 - the innermost loop, calls would cost more than they explain
        self, taker: BookOrder, price_limit: int, budget: int, quote_per_tick_lot: int
    ) -> list[Match]:
        """Let ``taker`` meet the other side up to ``price_limit`` (0: any price).

        ``budget`` bounds the quote amount that changes hands (:data:`UNLIMITED_BUDGET`: no bound); an order by quote
        quantity has ``remaining`` set so high that only the budget ends it. Returns what happened, in order. Quantities
        of taker and makers are updated, and makers with nothing left are out of the book.
        """
        opposite = self.asks if taker.side == BUY else self.bids
        keys = opposite.keys
        limit_key = price_limit * opposite.sign
        remaining = taker.remaining
        own_account = taker.account_id if taker.self_trade_prevention else NOBODY
        matches: list[Match] = []
        while keys and (keys[-1] >= limit_key or not price_limit):
            price = opposite.best
            level = opposite.levels[price]
            maker = level.head
            taken = 0
            while maker is not None:
                available = maker.remaining
                quantity = remaining if remaining < available else available  # noqa: FURB136 - twice as fast as min()
                if budget >= 0:
                    affordable = budget // (price * quote_per_tick_lot)
                    if not affordable:
                        break
                    quantity = min(quantity, affordable)
                if maker.account_id == own_account:
                    taker.remaining = remaining
                    prevented = prevent_self_trade(taker, maker)
                    remaining = taker.remaining
                    if prevented:
                        taken += prevented
                        matches.append((maker, price, -prevented))
                    if maker.remaining:
                        break
                else:
                    remaining -= quantity
                    taken += quantity
                    matches.append((maker, price, quantity))
                    if budget >= 0:
                        budget -= quantity * price * quote_per_tick_lot
                    if quantity < available:
                        maker.remaining = available - quantity
                        break
                    maker.remaining = 0
                following = maker.next
                maker.level = maker.previous = maker.next = None
                maker = following
                if not remaining:
                    break
            if taken and not level.changed:
                level.changed = True
                opposite.changed.append(price)
            if maker is not None:
                level.quantity -= taken
                level.head = maker
                maker.previous = None
                break
            opposite.remove_level(price)
            if not remaining:
                break
        taker.remaining = remaining
        return matches

    def fillable_quantity(self, taker: BookOrder, price_limit: int) -> int:
        """Lots that ``taker`` would trade now, counted no further than it needs.

        Own orders are passed over under EXPIRE_MAKER, and end the count under the modes that stop or shrink the taker.
        """
        opposite = self.asks if taker.side == BUY else self.bids
        sign = opposite.sign
        limit_key = price_limit * sign
        mode = taker.self_trade_prevention
        wanted = taker.remaining
        found = 0
        for key in reversed(opposite.keys):
            if key < limit_key or found >= wanted:
                break
            level = opposite.levels[key * opposite.sign]
            if not mode:
                found += level.quantity
                continue
            for maker in level.orders():
                if maker.account_id != taker.account_id:
                    found += maker.remaining
                elif mode != EXPIRE_MAKER:
                    return found
        return found

    def walk_cost(self, side: int, quantity: int, quote_per_tick_lot: int) -> int:
        """Quote amount of trading up to ``quantity`` lots against the other side as it stands."""
        opposite = self.asks if side == BUY else self.bids
        cost = 0
        for key in reversed(opposite.keys):
            level = opposite.levels[key * opposite.sign]
            taken = min(quantity, level.quantity)
            cost += taken * level.price * quote_per_tick_lot
            quantity -= taken
            if not quantity:
                break
        return cost

    def walk_quantity(self, side: int, budget: int, quote_per_tick_lot: int) -> int:
        """Lots that trade against the other side until the next lot no longer fits into ``budget``."""
        opposite = self.asks if side == BUY else self.bids
        quantity = 0
        for key in reversed(opposite.keys):
            level = opposite.levels[key * opposite.sign]
            unit = level.price * quote_per_tick_lot
            taken = min(budget // unit, level.quantity)
            quantity += taken
            budget -= taken * unit
            if taken < level.quantity:
                break
        return quantity


def prevent_self_trade(taker: BookOrder, maker: BookOrder) -> int:
    """Apply the taker's mode to a meeting with an order of its own account; returns what the maker lost, in lots.

    Afterwards ``remaining`` of an order that must end is 0, and what it lost is in ``prevented_quantity``.
    Source: Binance "Self Trade Prevention (STP) FAQ".
    """
    mode = taker.self_trade_prevention
    lost_by_maker = 0
    if mode == DECREMENT and not taker.quote_quantity:
        lost_by_maker = min(taker.remaining, maker.remaining)
        taker.remaining -= lost_by_maker
        taker.prevented_quantity += lost_by_maker
    else:
        if mode != EXPIRE_TAKER:
            lost_by_maker = maker.remaining
        if mode in (EXPIRE_TAKER, EXPIRE_BOTH):
            if not taker.quote_quantity:
                taker.prevented_quantity += taker.remaining
            taker.remaining = 0
            taker.status = EXPIRED_IN_MATCH
    maker.remaining -= lost_by_maker
    maker.prevented_quantity += lost_by_maker
    return lost_by_maker
