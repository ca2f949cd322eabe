"""The order book of one market: price-time priority, matching, and nothing of money.

Prices of a side are kept in one ascending list of keys whose last element is the best price: a bid's key is its price,
an ask's is its price negated. Orders of a level form a linked list, so that cancelling one is independent of the
queue's length. Everything is measured in ticks and lots.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

import msgspec

from rtx.core.vocabulary import BUY, DECREMENT, EXPIRE_BOTH, EXPIRE_MAKER, EXPIRE_TAKER, EXPIRED_IN_MATCH

UNLIMITED_BUDGET = -1


class Order(msgspec.Struct, gc=False, eq=False):
    """An order that is open or being worked on.

    Not tracked by the garbage collector: the links to its neighbours are cleared when it leaves its level.
    """

    order_id: int
    account_id: int
    market_id: int
    side: int
    type: int
    time_in_force: int
    status: int
    price: int
    quantity: int
    remaining: int
    executed_quantity: int
    executed_quote_quantity: int
    client_order_id: str
    created_at_us: int
    working_at_us: int
    quote_quantity: int
    stop_price: int
    self_trade_prevention: int
    prevented_quantity: int
    level: Level | None = None
    previous: Order | None = None
    next: Order | None = None


class Level:
    """The orders of one price on one side, oldest first."""

    __slots__ = ("head", "key", "price", "quantity", "side", "tail")

    def __init__(self, side: BookSide, key: int, price: int) -> None:
        self.side = side
        self.key = key
        self.price = price
        self.quantity = 0
        self.head: Order | None = None
        self.tail: Order | None = None

    def orders(self) -> Iterator[Order]:
        """The orders in the sequence in which they would trade."""
        order = self.head
        while order is not None:
            yield order
            order = order.next


class BookSide:
    """The levels of one side; ``changed`` collects the prices whose quantity changed (in order, each once)."""

    __slots__ = ("changed", "keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.levels: dict[int, Level] = {}
        self.changed: dict[int, None] = {}

    def best_price(self) -> int:
        """Best price in ticks, 0 when the side is empty."""
        return self.keys[-1] * self.sign if self.keys else 0

    def best_levels(self, limit: int) -> list[tuple[int, int]]:
        """(price, quantity) best first, at most ``limit`` levels; all with ``limit`` 0."""
        keys = self.keys[-limit:] if limit else self.keys
        levels = self.levels
        return [(levels[key].price, levels[key].quantity) for key in reversed(keys)]

    def take_changed(self) -> list[tuple[int, int]]:
        """(price, quantity now) of the levels that changed since the last call."""
        if not self.changed:
            return []
        sign, levels = self.sign, self.levels
        changes = []
        for price in self.changed:
            level = levels.get(price * sign)
            changes.append((price, level.quantity if level is not None else 0))
        self.changed.clear()
        return changes

    def remove_level(self, level: Level) -> None:
        key = level.key
        keys = self.keys
        if keys[-1] == key:
            keys.pop()
        else:
            del keys[bisect_left(keys, key)]
        del self.levels[key]


class Book:
    """Both sides of one market."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)

    def add(self, order: Order) -> None:
        """Put an order with something remaining at the end of its level."""
        side = self.bids if order.side == BUY else self.asks
        price = order.price
        key = price * side.sign
        level = side.levels.get(key)
        if level is None:
            side.levels[key] = level = Level(side, key, price)
            keys = side.keys
            if not keys or key > keys[-1]:
                keys.append(key)
            else:
                insort(keys, key)
            level.head = order
        else:
            tail = level.tail
            order.previous = tail
            tail.next = order  # type: ignore[union-attr]  # a level that exists has a tail
        level.tail = order
        level.quantity += order.remaining
        order.level = level
        side.changed[price] = None

    def remove(self, order: Order) -> None:
        """Take an order out of its level."""
        level = order.level
        if level is None:
            return
        previous, following = order.previous, order.next
        if previous is None:
            level.head = following
        else:
            previous.next = following
            order.previous = None
        if following is None:
            level.tail = previous
        else:
            following.previous = previous
            order.next = None
        order.level = None
        level.quantity -= order.remaining
        side = level.side
        side.changed[level.price] = None
        if level.head is None:
            side.remove_level(level)

    def reduce(self, order: Order, quantity: int) -> None:
        """Take ``quantity`` lots from the remainder of an order; it keeps its place."""
        order.remaining -= quantity
        level = order.level
        if level is not None:
            level.quantity -= quantity
            level.side.changed[level.price] = None

    def crosses(self, side: int, price: int) -> bool:
        """Whether an order of ``side`` at ``price`` would meet one on the other side."""
        if side == BUY:
            keys = self.asks.keys
            return bool(keys) and -keys[-1] <= price
        keys = self.bids.keys
        return bool(keys) and keys[-1] >= price

    def match(  # noqa: PLR0912, PLR0915 - the innermost loop, calls would cost more than they explain
        self, taker: Order, price_limit: int, budget: int, quote_per_tick_lot: int
    ) -> list[tuple[Order, int, int]]:
        """Let ``taker`` meet the other side up to ``price_limit`` (0: any price).

        ``budget`` bounds the quote amount that changes hands (:data:`UNLIMITED_BUDGET`: no bound); an order by quote
        quantity has ``remaining`` set so high that only the budget ends it. Returns what happened, in order:
        (maker, price, traded lots), or minus the lots that a maker lost to self-trade prevention. Quantities of
        taker and makers are updated, and makers with nothing left are out of the book.
        """
        opposite = self.asks if taker.side == BUY else self.bids
        keys, levels, changed = opposite.keys, opposite.levels, opposite.changed
        limit_key = price_limit * opposite.sign
        remaining = taker.remaining
        own_account = taker.account_id if taker.self_trade_prevention else -1
        matches: list[tuple[Order, int, int]] = []
        while remaining and keys:
            key = keys[-1]
            if price_limit and key < limit_key:
                break
            level = levels[key]
            price = level.price
            maker = level.head
            taken = 0
            while maker is not None and remaining:
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
            if taken:
                changed[price] = None
            if maker is None:
                keys.pop()
                del levels[key]
                continue
            level.quantity -= taken
            level.head = maker
            maker.previous = None
            break
        taker.remaining = remaining
        return matches

    def fillable_quantity(self, taker: Order, price_limit: int) -> int:
        """Lots that ``taker`` would trade now, counted no further than it needs.

        Own orders are passed over under EXPIRE_MAKER, and end the count under the modes that stop or shrink the taker.
        """
        opposite = self.asks if taker.side == BUY else self.bids
        limit_key = price_limit * opposite.sign
        mode = taker.self_trade_prevention
        wanted = taker.remaining
        found = 0
        for key in reversed(opposite.keys):
            if key < limit_key or found >= wanted:
                break
            level = opposite.levels[key]
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
            level = opposite.levels[key]
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
            level = opposite.levels[key]
            unit = level.price * quote_per_tick_lot
            taken = min(budget // unit, level.quantity)
            quantity += taken
            budget -= taken * unit
            if taken < level.quantity:
                break
        return quantity


def prevent_self_trade(taker: Order, maker: Order) -> int:
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
