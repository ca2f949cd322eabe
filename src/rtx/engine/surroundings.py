"""What an engine needs of the world: its stores, its clocks, and who takes what it publishes.

All of it comes in as arguments, so that the same engine runs on PostgreSQL and in a simulation. Everything else that
depends on time or the network goes through the event loop.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from rtx.engine.publisher import MarketDataPublisher, redis_connector
from rtx.engine.snapshot_process import SnapshotProcess
from rtx.link.market_data import MarketUpdate
from rtx.settings import Settings
from rtx.store.connection import connect_engine, create_pool
from rtx.store.engine_watch import EngineWatch
from rtx.store.handovers import HandoverStore
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore
from rtx.store.protocols import HandoverBackend, JournalBackend, LeaseBackend, ReplicaBackend, Watch
from rtx.store.replicas import ReplicaStore
from rtx.store.warm_up import warm_up

READ_CONNECTIONS: Final = 2
READ_CONNECTIONS_MAX: Final = 3


@dataclass(frozen=True)
class Stores:
    """One set of connections: ``journal`` to commit through, ``reads`` for everything that goes on beside a commit."""

    journal: JournalBackend
    reads: JournalBackend
    lease: LeaseBackend
    handovers: HandoverBackend
    replicas: ReplicaBackend
    watch: Watch


class Publisher(Protocol):
    """Where committed market data goes; must neither block nor raise."""

    def start(self) -> None: ...

    def announce(self, market_id: int, sequence: int, time_us: int, unchanged_since: int | None = None) -> None: ...

    def offer(self, update: MarketUpdate) -> None: ...

    def retire(self) -> None: ...

    async def stop(self) -> None: ...


class SnapshotKeeper(Protocol):
    """Keeps snapshots while the engine leads; ``sequence`` is where the newest stands."""

    sequence: int

    def start_from(self, sequence: int) -> None: ...

    def start_when_due(self, sequence: int, halt: Callable[[Exception], None]) -> None: ...

    async def stop(self) -> None: ...


OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]


@dataclass(frozen=True)
class Surroundings:
    """``clock_us`` is the wall clock in microseconds (Unix), ``monotonic_s`` one that only goes forward.

    ``settle_memory`` is called when much was loaded that will live for long.
    """

    open_stores: OpenStores
    publisher: Publisher
    snapshots: SnapshotKeeper
    clock_us: Callable[[], int]
    monotonic_s: Callable[[], float]
    settle_memory: Callable[[], None]


def production_surroundings(settings: Settings) -> Surroundings:
    """PostgreSQL, Redis and this machine's clocks."""
    return Surroundings(
        open_stores=_postgresql(settings.database_url),
        publisher=MarketDataPublisher(redis_connector(settings.redis_url)),
        snapshots=SnapshotProcess(settings.snapshot_commands),
        clock_us=lambda: time.time_ns() // 1_000,
        monotonic_s=_monotonic_s,
        settle_memory=_settle_memory,
    )


def _monotonic_s() -> float:
    """Goes on while the machine is suspended, as a lease does; where the system has no such clock, it stands still."""
    return time.clock_gettime(time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC)


def _settle_memory() -> None:
    """What a term before left behind goes; what lives now lives long, and collections need not look at it."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _postgresql(database_url: str) -> OpenStores:
    @contextlib.asynccontextmanager
    async def open_stores() -> AsyncIterator[Stores]:
        async with contextlib.AsyncExitStack() as stack:
            pool = await create_pool(
                database_url,
                application_name="rtx-engine-reads",
                minimum_size=READ_CONNECTIONS,
                maximum_size=READ_CONNECTIONS_MAX,
                # What a standby warmed up stays so until it leads.
                max_inactive_connection_lifetime=0,
                max_cached_statement_lifetime=0,
            )
            stack.callback(pool.terminate)
            committing = await connect_engine(database_url)
            stack.callback(committing.terminate)
            watch = EngineWatch(lambda: connect_engine(database_url, application_name="rtx-engine-watch"))
            stack.callback(watch.stop)
            await watch.start()
            await warm_up(committing, pool, READ_CONNECTIONS)
            yield Stores(
                JournalStore(committing),
                JournalStore(pool),
                LeaseStore(pool),
                HandoverStore(pool),
                ReplicaStore(pool),
                watch,
            )

    return open_stores
