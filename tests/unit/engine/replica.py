"""A whole engine on fakes: the journal, the lease and everything else are in memory, and the test may break them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from tests.fakes.leadership import FakeHandovers, FakeLease, FakeReplicas, FakeWatch, take_lease
from tests.integration.store.trading import Trading
from tests.unit.engine.leader import TIMEOUT_S, GatedJournal

from rtx.engine.service import EngineService
from rtx.engine.surroundings import Stores, Surroundings
from rtx.link.market_data import MarketUpdate
from rtx.settings import Settings

SECRET: Final = "the secret of the tests, which is long enough for everything"


class Publisher:
    """Market data that nobody wants; ``retired`` is set when a term of leadership is over."""

    def __init__(self) -> None:
        self.announced = asyncio.Event()
        self.retired = asyncio.Event()

    def start(self) -> None:
        """Publish from now on."""

    def announce(self, market_id: int, sequence: int, time_us: int, unchanged_since: int | None = None) -> None:
        """Hear that the engine leads."""
        self.announced.set()

    def offer(self, update: MarketUpdate) -> None:
        """Take what a commit changed."""

    def retire(self) -> None:
        """Hear that it leads no more."""
        self.retired.set()

    async def stop(self) -> None:
        """End."""


class Snapshots:
    """Keeps none while the engine leads."""

    sequence = 0

    def start_from(self, sequence: int) -> None:
        """Say where the newest snapshot stands."""
        self.sequence = sequence

    def start_when_due(self, sequence: int, halt: object) -> None:
        """Make none."""

    async def stop(self) -> None:
        """End."""


class World:
    """What engines share: a journal with one open market and two rich accounts, whose leader has just let go."""

    def __init__(self) -> None:
        self.lease = FakeLease(time.monotonic)
        self.journal = GatedJournal(self.lease)
        self.journal.holds_commits = False
        self.handovers = FakeHandovers(self.lease)
        self.replicas = FakeReplicas(time.monotonic)
        self.trading: Trading

    @classmethod
    async def open(cls) -> World:
        """One where engines may begin."""
        world = cls()
        epoch = await take_lease(world.lease, "before")
        assert epoch is not None
        world.trading = Trading(epoch)
        world.trading.open_market()
        await world.journal.commit(world.trading.take_batch())
        return world

    @contextlib.asynccontextmanager
    async def stores(self) -> AsyncIterator[Stores]:
        yield Stores(self.journal, self.journal, self.lease, self.handovers, self.replicas, FakeWatch(self.lease))


class Replica:
    """One engine; ``run`` is its task."""

    def __init__(self, world: World, holder: str = "engine", **settings: int) -> None:
        self.publisher = Publisher()
        self.service = EngineService(
            Settings("postgresql://fake/rtx", "redis://fake", SECRET, engine_holder=holder, **settings),  # type: ignore[arg-type] # all of them are counts
            "1",
            Surroundings(
                open_stores=world.stores,
                publisher=self.publisher,
                snapshots=Snapshots(),
                clock_us=lambda: time.time_ns() // 1_000,
                monotonic_s=time.monotonic,
                settle_memory=lambda: None,
            ),
        )
        self.run = asyncio.create_task(self.service.run())

    async def until(self, event: asyncio.Event) -> None:
        """Wait for something; raises what ends the engine before."""
        waiting = asyncio.create_task(event.wait())
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.wait({waiting, self.run}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            self.run.result()
            raise AssertionError("the engine ended before")

    async def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self.service.stop()
        async with asyncio.timeout(TIMEOUT_S):
            await self.run
