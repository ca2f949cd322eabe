"""The engine process: wins the lease, recovers what is committed, leads until it may not, and begins again.

Whatever goes wrong on the way (the database is away, a commit failed, the lease was lost) ends one term of leadership;
the next term starts from what is committed. Requests that arrive between terms are answered "unavailable" and come
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from rtx.engine.metrics import EngineMetrics
from rtx.engine.publisher import MarketDataPublisher, redis_connector
from rtx.engine.recovery import recover
from rtx.engine.sequencer import Sequencer
from rtx.engine.snapshotter import save_snapshot
from rtx.link.handshake import derive_key
from rtx.link.messages import UNAVAILABLE, Request, Response
from rtx.link.server import Connection, LinkServer
from rtx.observability import metrics
from rtx.observability.logging import get_logger
from rtx.settings import Settings
from rtx.store.connection import DATABASE_ERRORS, connect_engine, create_pool
from rtx.store.errors import JournalCorruptError, StoreError
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore

_log = get_logger(__name__)

RETRY_INTERVAL_S: Final = 0.1
LEASE_POLL_INTERVAL_S: Final = 0.1
CLOSE_TIMEOUT_S: Final = 10.0
PROGRESS_INTERVAL_S: Final = 1.0
WATCH_INTERVAL_S: Final = 1.0

_PASSING_ERRORS: Final = (*DATABASE_ERRORS, StoreError)
_NOTHING: Final = msgspec.Raw(b"\xc0")


class TermEndedError(Exception):
    """This term of leadership is over; the message says why."""


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
        self._snapshot_process: asyncio.subprocess.Process | None = None
        self._snapshot_sequence = 0

    def stop(self) -> None:
        """Ask :meth:`run` to commit what was taken, let go of the lease and return."""
        self._stopping.set()

    async def run(self, on_listening: Callable[[int], None] | None = None) -> None:
        """Serve until stopped. Raises JournalCorruptError or ReplayDivergedError: trading must not go on then."""
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
                except JournalCorruptError:
                    raise
                except _PASSING_ERRORS as error:
                    _log.warning("no leadership now, trying again", error=f"{type(error).__name__}: {error}")
                except TermEndedError as error:
                    _log.warning("term ended", reason=str(error))
                    metrics.ENGINE_RELOADS.inc()
                if not self._stopping.is_set():
                    await asyncio.sleep(RETRY_INTERVAL_S)
        finally:
            metrics.ENGINE_LEADER.set(0)
            await self._publisher.stop()
            await self._server.stop()

    def _handle(self, connection: Connection, requests: list[Request]) -> None:
        if self._sequencer is None:
            connection.send([Response(request.number, UNAVAILABLE, 0, 0, _NOTHING) for request in requests])
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
            epoch = await self._acquire(leases)
            if epoch is None:
                return
            ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            renewal = asyncio.create_task(self._renew(leases, epoch, ended))
            stack.callback(renewal.cancel)
            reads = JournalStore(pool)
            recovered = await recover(reads, _progress())
            self._snapshot_sequence = recovered.snapshot_sequence
            for market in recovered.exchange.markets.values():
                self._metrics.name_market(market.market_id, market.symbol)
                self._publisher.announce(market.market_id, recovered.sequence, recovered.exchange.time_us)
            gc.collect()
            gc.freeze()
            sequencer = Sequencer(
                recovered,
                epoch,
                store=JournalStore(connection),
                lookups=reads,
                publisher=self._publisher,
                metrics=self._metrics,
                clock_us=_now_us,
                monotonic_s=time.monotonic,
                on_failure=lambda error: _end(ended, f"a commit failed: {type(error).__name__}: {error}"),
                queue_commands_max=settings.engine_queue_commands_max,
                batch_commands_max=settings.engine_batch_commands_max,
            )
            self._sequencer = sequencer
            metrics.ENGINE_LEADER.set(1)
            metrics.ENGINE_EPOCH.set(epoch)
            metrics.JOURNAL_SEQUENCE.set(recovered.sequence)
            _log.info("engine leads", epoch=epoch, sequence=recovered.sequence, address=self._address)
            try:
                await self._watch(sequencer, ended)
            finally:
                self._sequencer = None
                metrics.ENGINE_LEADER.set(0)
            await self._resign(sequencer, reads, leases, epoch)

    async def _acquire(self, leases: LeaseStore) -> int | None:
        """Wait for the lease; None when asked to stop meanwhile."""
        settings = self._settings
        while not self._stopping.is_set():
            epoch = await leases.acquire(
                settings.engine_holder, self._address, settings.colour, self._version, settings.lease_ttl_s
            )
            if epoch is not None:
                return epoch
            await asyncio.sleep(LEASE_POLL_INTERVAL_S)
        return None

    async def _renew(self, leases: LeaseStore, epoch: int, ended: asyncio.Future[str]) -> None:
        """Keep the lease; end the term before it runs out by this process's own clock."""
        settings = self._settings
        valid_until_s = time.monotonic() + settings.lease_ttl_s
        while True:
            await asyncio.sleep(settings.lease_renewal_s)
            asked_s = time.monotonic()
            try:
                async with asyncio.timeout(max(0.01, valid_until_s - asked_s)):
                    is_held = await leases.renew(epoch, settings.lease_ttl_s)
            except _PASSING_ERRORS as error:
                if time.monotonic() >= valid_until_s:
                    _end(ended, f"the lease could not be renewed: {type(error).__name__}")
                    return
                continue
            if not is_held:
                _end(ended, "another engine has the lease")
                return
            valid_until_s = asked_s + settings.lease_ttl_s

    async def _watch(self, sequencer: Sequencer, ended: asyncio.Future[str]) -> None:
        """Return when asked to stop; raise :class:`TermEndedError` when the term is over."""
        stopping = asyncio.create_task(self._stopping.wait())
        stopping.add_done_callback(lambda _: _end(ended, ""))
        try:
            while not self._stopping.is_set():
                await asyncio.wait({ended}, timeout=WATCH_INTERVAL_S)
                if ended.done() and not self._stopping.is_set():
                    reason = ended.result()
                    sequencer.fail(TermEndedError(reason))
                    raise TermEndedError(reason)
                await self._start_snapshot_when_due(sequencer.sequence)
        finally:
            stopping.cancel()

    async def _resign(self, sequencer: Sequencer, reads: JournalStore, leases: LeaseStore, epoch: int) -> None:
        """Finish what was taken, keep a snapshot for the next start, and let go of the lease."""
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await sequencer.close()
            if sequencer.sequence > self._snapshot_sequence:
                await save_snapshot(reads, sequencer.exchange, sequencer.sequence)
            await leases.release(epoch)
        _log.info("engine stopped", sequence=sequencer.sequence)

    async def _start_snapshot_when_due(self, sequence: int) -> None:
        """Have another process replay the journal and keep a snapshot: this one has orders to match."""
        process = self._snapshot_process
        if process is not None and process.returncode is None:
            return
        if sequence - self._snapshot_sequence < self._settings.snapshot_commands:
            return
        self._snapshot_sequence = sequence
        self._snapshot_process = await asyncio.create_subprocess_exec(sys.executable, "-m", "rtx.engine.snapshotter")
        metrics.SNAPSHOT_SEQUENCE.set(sequence)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _end(ended: asyncio.Future[str], reason: str) -> None:
    if not ended.done():
        ended.set_result(reason)


def _progress() -> Callable[[int], None]:
    """Say once a second how far the replay is."""
    last_s = time.monotonic()

    def progress(sequence: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= PROGRESS_INTERVAL_S:
            last_s = time.monotonic()
            _log.info("replaying the journal", sequence=sequence)

    return progress
