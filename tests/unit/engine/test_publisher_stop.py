"""The engine's end never waits for Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from rtx.engine.publisher import MarketDataPublisher, Message, Transport
from rtx.link.market_data import MarketUpdate


class ForgetfulRedis:
    """Loses one cancellation, as ``asyncio.wait_for`` before Python 3.12 does when its work ends at that moment."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Transport]:
        yield self

    async def publish(self, messages: Sequence[Message]) -> None:
        self.is_asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def test_it_ends_although_its_client_loses_a_cancellation() -> None:
    redis = ForgetfulRedis()
    publisher = MarketDataPublisher(redis.connect)
    publisher.start()
    publisher.offer(MarketUpdate(7, 0, 1, 1, [], [(1, 1)], []))
    async with asyncio.timeout(5):
        await redis.is_asked.wait()
        await publisher.stop()
        await publisher.stop()
