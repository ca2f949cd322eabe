"""Reads books from the engine for everybody who asks, with at most one question per market under way.

Whoever asks gets a book that was read after the asking, so a book always shows what an earlier answer said. Those who
ask while a question is under way share the next one: a thousand readers cost the engine no more than two. While nobody
leads the question waits, and each reader for as long as its own time lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rtx.link.client import EngineTimeoutError
from rtx.link.messages import BookAnswer

Book = tuple[int, BookAnswer]
"""The journal position and the levels."""


class BookReader:
    """Shares book queries among concurrent readers."""

    def __init__(self, read: Callable[[int, int], Awaitable[Book]], *, timeout_s: float = 10.0) -> None:
        """``read(market_id, limit)`` asks the engine; limit 0 is the whole book. No reader waits longer."""
        self._read = read
        self._timeout_s = timeout_s
        self._queues: dict[int, _MarketQueue] = {}

    async def book(self, market_id: int, limit: int) -> Book:
        """Give the best ``limit`` levels a side (at least; more when others asked for more).

        Raises what ``read`` raises, and :class:`~rtx.link.client.EngineTimeoutError` when the time is over.
        """
        queue = self._queues.get(market_id)
        if queue is None:
            queue = self._queues[market_id] = _MarketQueue(self._read, market_id)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await queue.join(limit)
        except TimeoutError:
            raise EngineTimeoutError from None


class _MarketQueue:
    """The question under way for one market and the readers who wait for the next."""

    def __init__(self, read: Callable[[int, int], Awaitable[Book]], market_id: int) -> None:
        self._read = read
        self._market_id = market_id
        self._waiting: list[asyncio.Future[Book]] = []
        self._limit = 0
        self._asking: asyncio.Task[None] | None = None

    async def join(self, limit: int) -> Book:
        future: asyncio.Future[Book] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._limit = limit
        elif limit == 0 or self._limit == 0:
            self._limit = 0
        else:
            self._limit = max(self._limit, limit)
        self._waiting.append(future)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await future

    async def _ask(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                book = await self._read(self._market_id, self._limit)
            except Exception as error:  # noqa: BLE001 - whatever went wrong is each reader's to handle
                for future in waiting:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future in waiting:
                    if not future.done():
                        future.set_result(book)
        self._asking = None
