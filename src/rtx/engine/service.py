"""The engine process: wins the lease, recovers what is committed, leads until it may not, and begins again.

Whatever goes wrong on the way (the database is away, a commit failed, the lease was lost) ends one term of leadership;
the next term starts from what is committed. Requests that arrive between terms are answered "unavailable" and come
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable
from typing import Final

from rtx.engine.answers import REMEMBERED_COMMANDS
from rtx.engine.metrics import EngineMetrics
from rtx.engine.publisher import MarketDataPublisher, redis_connector
from rtx.engine.recovery import ReplayDivergedError, dismantle, recover
from rtx.engine.sequencer import Sequencer, SequencerFailedError, unavailable
from rtx.engine.snapshot_process import SnapshotProcess
from rtx.engine.snapshotter import save_snapshot
from rtx.engine.term import Term, TermEndedError
from rtx.link.handshake import derive_key
from rtx.link.messages import Request
from rtx.link.server import Connection, LinkServer
from rtx.observability import metrics
from rtx.observability.logging import get_logger
from rtx.settings import Settings
from rtx.store.connection import DATABASE_ERRORS, connect_engine, create_pool
from rtx.store.errors import JournalCorruptError, ProjectionError, StoreError
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore

_log = get_logger(__name__)

RETRY_INTERVAL_S: Final = 0.1
LEASE_POLL_INTERVAL_S: Final = 0.1
CLOSE_TIMEOUT_S: Final = 6.0
"""More than a commit may take."""

SNAPSHOT_TIMEOUT_S: Final = 5.0
RELEASE_TIMEOUT_S: Final = 2.0
PROGRESS_INTERVAL_S: Final = 1.0
WATCH_INTERVAL_S: Final = 1.0

HALTING_ERRORS: Final = (JournalCorruptError, ReplayDivergedError, ProjectionError)
"""Journal, tables and this program disagree: trading must not go on, and trying again cannot help."""

_PASSING_ERRORS: Final = (*DATABASE_ERRORS, StoreError)


class EngineService:
    """One engine process. :meth:`run` returns after :meth:`stop` was called."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings = settings
        self._version = version
        self._server = LinkServer(derive_key(settings.jwt_secret), self._handle)
        self._publisher = MarketDataPublisher(redis_connector(settings.redis_url))
        self._metrics = EngineMetrics()
        self._sequencer: Sequencer | None = None
        self._stopping = asyncio.Event()
        self._address = ""
        self._term: Term | None = None
        self._snapshots = SnapshotProcess(settings.snapshot_commands)

    def stop(self) -> None:
        """Ask :meth:`run` to commit what was taken, let go of the lease and return."""
        self._stopping.set()
        if self._term is not None:
            self._term.end(None)

    async def run(self, on_listening: Callable[[int], None] | None = None) -> None:
        """Serve until stopped. Raises one of :data:`HALTING_ERRORS` when trading must not go on."""
        settings = self._settings
        port = await self._server.start(settings.engine_host, settings.engine_port)
        self._address = settings.engine_address or f"{settings.engine_host}:{port}"
        if on_listening is not None:
            on_listening(port)
        self._publisher.start()
        try:
            while not self._stopping.is_set():
                try:
                    await self._lead()
                except HALTING_ERRORS:
                    raise
                except (TermEndedError, SequencerFailedError) as error:
                    _log.warning("term ended", reason=str(error))
                    metrics.ENGINE_RELOADS.inc()
                except _PASSING_ERRORS as error:
                    _log.warning("no leadership now, trying again", error=f"{type(error).__name__}: {error}")
                if not self._stopping.is_set():
                    await asyncio.sleep(RETRY_INTERVAL_S)
        finally:
            metrics.ENGINE_LEADER.set(0)
            await self._snapshots.stop()
            await self._publisher.stop()
            await self._server.stop()

    def _handle(self, connection: Connection, requests: list[Request]) -> None:
        if self._sequencer is None:
            connection.send(unavailable(requests))
        else:
            self._sequencer.handle(connection, requests)

    async def _lead(self) -> None:
        """One term, from the lease to its end."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            pool = await create_pool(
                settings.database_url, application_name="rtx-engine-reads", minimum_size=2, maximum_size=3
            )
            stack.callback(pool.terminate)
            connection = await connect_engine(settings.database_url)
            stack.callback(connection.terminate)
            leases = LeaseStore(pool)
            term = await self._acquire(leases)
            if term is None:
                return
            self._term = term
            renewal = asyncio.create_task(term.keep())
            stack.callback(renewal.cancel)
            reads = JournalStore(pool)
            recovered = await recover(reads, _progress())
            stack.callback(dismantle, recovered.exchange)
            self._snapshots.start_from(recovered.snapshot_sequence)
            for market in recovered.exchange.markets.values():
                self._metrics.name_market(market.market_id, market.symbol)
                self._publisher.announce(market.market_id, recovered.sequence, recovered.exchange.time_us)
            # What a term before left behind goes; what lives now lives as long as this term.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            sequencer = Sequencer(
                recovered,
                term.epoch,
                store=JournalStore(connection),
                lookups=reads,
                publisher=self._publisher,
                metrics=self._metrics,
                clock_us=_now_us,
                monotonic_s=time.monotonic,
                may_lead=term.may_lead,
                on_failure=term.end,
                queue_commands_max=settings.engine_queue_commands_max,
                batch_commands_max=settings.engine_batch_commands_max,
                remembered_commands_max=REMEMBERED_COMMANDS + settings.engine_queue_commands_max,
            )
            self._sequencer = sequencer
            metrics.ENGINE_LEADER.set(1)
            metrics.ENGINE_EPOCH.set(term.epoch)
            metrics.JOURNAL_SEQUENCE.set(recovered.sequence)
            _log.info("engine leads", epoch=term.epoch, sequence=recovered.sequence, address=self._address)
            try:
                await self._watch(sequencer, term)
            finally:
                self._sequencer = None
                metrics.ENGINE_LEADER.set(0)
            await self._resign(sequencer, reads, leases, term)

    async def _acquire(self, leases: LeaseStore) -> Term | None:
        """Wait for the lease; None when asked to stop meanwhile."""
        settings = self._settings
        while not self._stopping.is_set():
            asked_s = time.monotonic()
            epoch = await leases.acquire(
                settings.engine_holder, self._address, settings.colour, self._version, settings.lease_ttl_s
            )
            if epoch is not None:
                return Term(
                    leases,
                    epoch,
                    asked_s,
                    ttl_s=settings.lease_ttl_s,
                    renewal_s=settings.lease_renewal_s,
                    monotonic_s=time.monotonic,
                )
            await asyncio.sleep(LEASE_POLL_INTERVAL_S)
        return None

    async def _watch(self, sequencer: Sequencer, term: Term) -> None:
        """Return when asked to stop; raise what ended the term otherwise."""
        while not self._stopping.is_set():
            if not await term.wait_for_end(WATCH_INTERVAL_S):
                self._snapshots.start_when_due(sequencer.sequence, term.end)
                continue
            reason = term.reason
            if reason is None:
                return
            sequencer.fail(reason)
            if isinstance(reason, (TermEndedError, *HALTING_ERRORS)):
                raise reason
            raise TermEndedError(f"{type(reason).__name__}: {reason}") from reason

    async def _resign(self, sequencer: Sequencer, reads: JournalStore, leases: LeaseStore, term: Term) -> None:
        """Finish what was taken, keep a snapshot for the next start, and let go of the lease."""
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await sequencer.close()
        if sequencer.sequence > self._snapshots.sequence:
            try:
                async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                    await save_snapshot(reads, sequencer.exchange, sequencer.sequence, sequencer.journal_hash)
            except _PASSING_ERRORS as error:
                _log.warning("no snapshot at the end", error=f"{type(error).__name__}: {error}")
        async with asyncio.timeout(RELEASE_TIMEOUT_S):
            await leases.release(term.epoch)
        _log.info("engine stopped", sequence=sequencer.sequence)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _progress() -> Callable[[int], None]:
    """Say once a second how far the replay is."""
    last_s = time.monotonic()

    def progress(sequence: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= PROGRESS_INTERVAL_S:
            last_s = time.monotonic()
            _log.info("replaying the journal", sequence=sequence)

    return progress
