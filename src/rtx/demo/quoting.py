"""How a market maker of the crowd thinks: where the price goes, and which orders to place and to cancel. No I/O."""

from __future__ import annotations

import math
import random
from collections.abc import Set
from dataclasses import dataclass

from rtx.demo.market_profile import MarketProfile

BUY = "BUY"
SELL = "SELL"
SIDES = (BUY, SELL)

CANCELLATIONS_MAX = 4
PLACEMENTS_MAX = 3
OPENING_PLACEMENTS_MAX = 40
ATTEMPTS_MAX = 8
REFRESH_PROBABILITY = 0.8
REVERSION_PER_S = 0.0004
"""How strongly the price is drawn back to where it began, so that a week later it is still a price."""


@dataclass(frozen=True)
class Quote:
    """An order of the maker: price in ticks, quantity in lots."""

    side: str
    price: int
    quantity: int


class PriceWalk:
    """A random walk of the fair price, in ticks, drawn back to the market's first price."""

    def __init__(self, profile: MarketProfile, ticks: float, chance: random.Random) -> None:
        self.ticks = ticks
        self._profile = profile
        self._chance = chance
        self._home_log = math.log(profile.first_price_ticks)

    def step(self, seconds: float) -> float:
        """Let ``seconds`` pass and return the new price."""
        pull = (self._home_log - math.log(self.ticks)) * REVERSION_PER_S * seconds
        noise = self._chance.gauss(0.0, self._profile.volatility * math.sqrt(seconds))
        self.ticks = max(self.ticks * math.exp(pull + noise), 10.0 * self._profile.spread)
        return self.ticks


class Ladder:
    """The maker's open orders in one market by order id, and what should become of them."""

    def __init__(self, profile: MarketProfile, chance: random.Random) -> None:
        self.orders: dict[int, Quote] = {}
        self._profile = profile
        self._chance = chance

    def cancellations(self, fair: float) -> list[int]:
        """Order ids to cancel: those too near to or beyond the fair price, those far off, and now and then any."""
        nearest = self._profile.spread / 4
        farthest = self._reach() * 1.5
        stale = [
            order_id
            for order_id, quote in self.orders.items()
            if not nearest <= self._distance(quote, fair) <= farthest
        ]
        stale.sort(key=lambda order_id: self._distance(self.orders[order_id], fair))
        if not stale and self.orders and self._chance.random() < REFRESH_PROBABILITY:
            stale = [self._chance.choice(list(self.orders))]
        return stale[:CANCELLATIONS_MAX]

    def placements(self, fair: float) -> list[Quote]:
        """Orders that are missing: at most a few a step, all at once when a side is as good as empty."""
        wanted: list[Quote] = []
        taken = {quote.price for quote in self.orders.values()}
        for side in SIDES:
            count = sum(quote.side == side for quote in self.orders.values())
            missing = self._profile.levels - count
            limit = OPENING_PLACEMENTS_MAX if count < self._profile.levels // 3 else PLACEMENTS_MAX
            for _ in range(min(missing, limit)):
                quote = self._new_quote(side, fair, taken)
                taken.add(quote.price)
                wanted.append(quote)
        return wanted

    def _new_quote(self, side: str, fair: float, taken: Set[int]) -> Quote:
        """An order at a price that has none yet, if a few attempts find one."""
        quote = self._random_quote(side, fair)
        for _ in range(ATTEMPTS_MAX):
            if quote.price not in taken:
                break
            quote = self._random_quote(side, fair)
        return quote

    def _random_quote(self, side: str, fair: float) -> Quote:
        profile = self._profile
        # Near the price there is much going on, further out less.
        level = min(int(self._chance.expovariate(1.0) * profile.levels / 2), profile.levels - 1)
        distance = profile.spread / 2 + level * profile.spacing
        price = math.floor(fair - distance) if side == BUY else math.ceil(fair + distance)
        if level:
            price -= price % profile.spacing
            price += profile.spacing if side == SELL else 0
        quantity = max(1, round(profile.order_lots * (0.4 + level / 4) * self._chance.lognormvariate(0.0, 0.5)))
        return Quote(side, max(1, price), quantity)

    def _distance(self, quote: Quote, fair: float) -> float:
        return fair - quote.price if quote.side == BUY else quote.price - fair

    def _reach(self) -> float:
        return self._profile.spread / 2 + self._profile.levels * self._profile.spacing


def taker_quantity(profile: MarketProfile, chance: random.Random) -> int:
    """Lots that somebody in a hurry wants at once."""
    return max(1, round(profile.order_lots * 0.35 * chance.lognormvariate(0.0, 0.9)))
