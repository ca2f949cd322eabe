"""Orders for streams to tell of, and the comparison of what was heard with what the server says."""

from __future__ import annotations

import asyncio
import random

from tests.integration.api.venue import Venue
from tests.integration.streams.server import BookFollower

from rtx.core.commands import CancelAllOrders, NewOrder
from rtx.core.vocabulary import BUY, GTC, LIMIT, SELL
from rtx.link.client import CommandRejectedError


class Traffic:
    """Two accounts that place, cross and cancel at random."""

    def __init__(self, venue: Venue, market_id: int, accounts: tuple[int, int], seed: int) -> None:
        self._venue = venue
        self._market_id = market_id
        self._accounts = accounts
        self._chance = random.Random(seed)
        self._numbers = 0

    @classmethod
    async def start(cls, venue: Venue, symbol: str, seed: int = 1) -> Traffic:
        base = symbol.removesuffix("USDT")
        one, two = await venue.trader(), await venue.trader()
        for trader in (one, two):
            await venue.deposit(trader.account_id, "USDT", 10_000_000)
            await venue.deposit(trader.account_id, base, 100_000)
        return cls(venue, await venue.market_id(symbol), (one.account_id, two.account_id), seed)

    async def burst(self, count: int) -> int:
        """Send so many orders at once; gives the journal position of the last."""
        outcomes = await asyncio.gather(*(self._one() for _ in range(count)))
        return max(outcomes)

    async def _one(self) -> int:
        chance = self._chance
        self._numbers += 1
        account_id = chance.choice(self._accounts)
        if chance.random() < 0.01:
            command: NewOrder | CancelAllOrders = CancelAllOrders(account_id, self._market_id)
        else:
            side = chance.choice((BUY, SELL))
            price = 1000 + chance.randint(-40, 5) * (1 if side == BUY else -1)
            quantity = chance.randint(1, 50)
            command = NewOrder(account_id, self._market_id, side, LIMIT, GTC, price, quantity, f"t{self._numbers}")
        try:
            return (await self._venue.backend.link.submit(command, request_id="traffic")).sequence
        except CommandRejectedError:
            return 0


async def settle(follower: BookFollower, venue: Venue, symbol: str, sequence: int) -> None:
    """Wait for the follower, then compare it with what REST says."""
    await follower.reached(sequence)
    book = (await venue.public.get(f"/api/v3/depth?symbol={symbol}&limit=5000")).json
    assert follower.bids == dict(book["bids"])
    assert follower.asks == dict(book["asks"])
    assert follower.gaps == 0
    assert follower.broken_chains == 0
