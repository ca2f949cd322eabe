"""A client over a real WebSocket that keeps a book by Binance's recipe."""

from __future__ import annotations

import asyncio

from tests.faults.exchange_client import Address
from tests.faults.venue import read_book
from tests.unit.streams.recipe_client import RecipeClient
from websockets.asyncio.client import connect


class BookFollower(RecipeClient):
    """Follows one market until cancelled."""

    def __init__(self, address: Address, symbol: str) -> None:
        super().__init__()
        self._address = address
        self._symbol = symbol
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Listen, and take a snapshot whenever one is wanted."""
        async with asyncio.TaskGroup() as group:
            host, port = self._address
            async with connect(f"ws://{host}:{port}/ws/{self._symbol.lower()}@depth@100ms") as socket:
                async for message in socket:
                    assert isinstance(message, str)
                    self.offer(message)
                    self._moved.set()
                    if self.wants_snapshot:
                        self.wants_snapshot = False
                        group.create_task(self._ask_for_snapshot())

    async def shows(self, bids: dict[str, str], asks: dict[str, str]) -> None:
        """Wait until this is the book. Its position says nothing: rows that leave it as it is are not told."""
        while (self.bids, self.asks) != (bids, asks):
            self._moved.clear()
            await self._moved.wait()

    async def _ask_for_snapshot(self) -> None:
        book = await read_book([self._address], self._symbol)
        self.take_snapshot(book["lastUpdateId"], dict(book["bids"]), dict(book["asks"]))
        self._moved.set()
