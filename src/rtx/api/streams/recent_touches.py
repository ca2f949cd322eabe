"""At which prices something happened lately: what a client that comes back has missed, without asking anybody.

A client that lost its connection reconnects within seconds, and thousands may do so at the same moment to the workers
that are left. What they missed is in memory then.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

PRICES_MAX: Final = 5_000
"""How many prices a side are remembered at least, before the oldest are forgotten."""


class TouchedPrices:
    """Prices at which something happened between two journal positions."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        """Start empty."""
        self.bids: set[int] = set()
        self.asks: set[int] = set()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.bids or self.asks)


class RecentTouches:
    """Of each price the newest journal position at which it was touched; complete behind the position ``since``."""

    __slots__ = ("_asks", "_bids", "_prices_max", "since")

    def __init__(self, *, prices_max: int = PRICES_MAX) -> None:
        """Know nothing; what happens behind position 0 is to be noted."""
        self.since = 0
        self._prices_max = prices_max
        # Ordered by position, the newest last.
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def restart(self, sequence: int) -> None:
        """Forget everything: what happened up to ``sequence`` is not known."""
        self.since = sequence
        self._bids.clear()
        self._asks.clear()

    def note(self, sequence: int, bids: Iterable[int], asks: Iterable[int]) -> None:
        """Something happened at these prices, up to ``sequence`` and not before the call before."""
        for known, prices in ((self._bids, bids), (self._asks, asks)):
            for price in prices:
                known.pop(price, None)
                known[price] = sequence
        if len(self._bids) > 2 * self._prices_max:
            self._bids = self._newest(self._bids)
        if len(self._asks) > 2 * self._prices_max:
            self._asks = self._newest(self._asks)

    def reach_back(self, position: int, touched: TouchedPrices) -> None:
        """Be complete behind ``position``; ``touched`` is what happened from there up to :attr:`since`."""
        self._bids = self._prepended(self._bids, touched.bids)
        self._asks = self._prepended(self._asks, touched.asks)
        self.since = position

    def covers(self, position: int) -> bool:
        """Whether all that happened behind ``position`` is known."""
        return position >= self.since

    def after(self, position: int) -> TouchedPrices:
        """Where something happened behind a position that is covered; perhaps a price that was touched earlier too."""
        assert self.covers(position)
        touched = TouchedPrices()
        for known, prices in ((self._bids, touched.bids), (self._asks, touched.asks)):
            for price, sequence in reversed(known.items()):
                if sequence <= position:
                    break
                prices.add(price)
        return touched

    def _prepended(self, known: dict[int, int], prices: Iterable[int]) -> dict[int, int]:
        since = self.since
        newer = {price: sequence for price, sequence in known.items() if sequence > since}
        return {price: since for price in prices if price not in newer} | newer

    def _newest(self, known: dict[int, int]) -> dict[int, int]:
        count = len(known) - self._prices_max
        last_forgotten = next(islice(known.values(), count - 1, None))
        self.since = max(self.since, last_forgotten)
        return dict(islice(known.items(), count, None))
