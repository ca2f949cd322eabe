"""A worker's copy of a market's book: quantities by price, and the best levels without sorting."""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final

from rtx.api.markets import Market

Level = tuple[int, int]
"""Price in ticks, quantity in lots."""

CHECKSUM_LEVELS: Final = 10


class BookSide:
    """One side. Prices are kept in order, the best last: there most changes happen, and there a list is cheapest."""

    __slots__ = ("_keys", "_sign", "quantities")

    def __init__(self, *, highest_is_best: bool) -> None:
        """Start empty."""
        self._sign = 1 if highest_is_best else -1
        self._keys: list[int] = []
        self.quantities: dict[int, int] = {}

    def apply(self, levels: Iterable[Level]) -> None:
        """Set the quantity at each price; 0 takes the level away."""
        keys, sign, quantities = self._keys, self._sign, self.quantities
        for price, quantity in levels:
            if quantity:
                if price not in quantities:
                    insort(keys, price * sign)
                quantities[price] = quantity
            elif quantities.pop(price, None) is not None:
                del keys[bisect_left(keys, price * sign)]

    def replace(self, levels: Iterable[Level]) -> dict[int, None]:
        """Take over a whole side; gives the prices at which the quantity changed."""
        before, self.quantities = self.quantities, dict(levels)
        self._keys = sorted(price * self._sign for price in self.quantities)
        changed = {price: None for price, quantity in self.quantities.items() if before.get(price) != quantity}
        changed.update((price, None) for price in before if price not in self.quantities)
        return changed

    def best(self) -> Level:
        """The best level; (0, 0) when the side is empty."""
        if not self._keys:
            return 0, 0
        price = self._keys[-1] * self._sign
        return price, self.quantities[price]

    def top(self, count: int) -> list[Level]:
        """The ``count`` best levels, best first."""
        sign, quantities = self._sign, self.quantities
        return [(key * sign, quantities[key * sign]) for key in self._keys[: -count - 1 : -1]]

    def current(self, prices: Iterable[int]) -> list[Level]:
        """What stands at these prices now (0: nothing), best first."""
        sign, quantities = self._sign, self.quantities
        return [(price, quantities.get(price, 0)) for price in sorted(prices, key=lambda price: -price * sign)]


class Book:
    """Both sides of a market."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        """Start empty."""
        self.bids = BookSide(highest_is_best=True)
        self.asks = BookSide(highest_is_best=False)


def checksum(book: Book, market: Market) -> int:
    """CRC-32 of the ten best levels, for a client to compare its own book with (Kraken's way).

    Take the ten best asks, lowest price first, then the ten best bids, highest price first. Of each level append the
    price and the quantity as the stream writes them, without the decimal point and without leading zeros
    ("26106.45" gives ``2610645``, "0.00120000" gives ``120000``). The result is the CRC-32 (as in zlib) of that ASCII
    text, unsigned. With fewer levels there is less text; an empty book has 0.
    """
    tick_size, lot_size = market.tick_size, market.lot_size
    levels = book.asks.top(CHECKSUM_LEVELS) + book.bids.top(CHECKSUM_LEVELS)
    # a decimal of fixed scale without its point and leading zeros is the whole number it was written from
    return zlib.crc32("".join(f"{price * tick_size}{quantity * lot_size}" for price, quantity in levels).encode())
