"""The engine process: follows the journal as a standby, leads when the lease is its, and follows again afterwards.

Whatever goes wrong on the way (the database is away, a commit failed, the lease was lost) ends one term of leadership;
what is in memory then is thrown away, and it begins again from what is committed. Only after a handover in order it
goes on with the exchange that it has. Requests that reach an engine that does not lead are answered "unavailable" and
come again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from rtx.cancellation import end_tasks
from rtx.engine.answers import REMEMBERED_COMMANDS, RememberedAnswers
from rtx.engine.halting import HALTING_ERRORS
from rtx.engine.leader import PASSING_ERRORS, RELEASE_TIMEOUT_S, Leader
from rtx.engine.metrics import EngineMetrics
from rtx.engine.reports import Reporter
from rtx.engine.sequencer import SequencerFailedError, unavailable
from rtx.engine.standby import DivergedError, Standby
from rtx.engine.surroundings import Stores, Surroundings, production_surroundings
from rtx.engine.term import Term, TermEndedError
from rtx.link.handshake import derive_key
from rtx.link.messages import Request
from rtx.link.server import Connection, LinkServer
from rtx.observability import metrics
from rtx.observability.logging import get_logger
from rtx.settings import Settings
from rtx.store.lease import Acquired, Candidate

_log = get_logger(__name__)

RETRY_INTERVAL_S: Final = 0.1
LEASE_POLL_INTERVAL_S: Final = 0.1
FIRST_POLL_INTERVAL_S: Final = 0.005
POLL_INTERVAL_S_MAX: Final = 0.05
"""A standby looks for new journal rows this often at least; while there are some, as often as at first."""

REPORT_INTERVAL_S: Final = 1.0
PROGRESS_INTERVAL_S: Final = 1.0


class StoppedError(Exception):
    """The engine was asked to stop while it was busy with something long."""


class EngineService:
    """One engine process. :meth:`run` returns after :meth:`stop` was called."""

    def __init__(self, settings: Settings, version: str, surroundings: Surroundings | None = None) -> None:
        """``surroundings`` are PostgreSQL, Redis and this machine's clocks, unless a simulation brings its own."""
        self._settings = settings
        self._version = version
        self._surroundings = surroundings or production_surroundings(settings)
        self._server = LinkServer(derive_key(settings.jwt_secret), self._handle)
        self._metrics = EngineMetrics()
        self._standby: Standby | None = None
        """What is committed, done again; kept while the database is away. None while it leads."""

        self._leader: Leader | None = None
        self._term: Term | None = None
        self._stopping = asyncio.Event()
        self._engine = Candidate(settings.engine_holder, "", settings.colour, version)
        self._reporter = Reporter(self._engine, self._surroundings.monotonic_s)

    def stop(self) -> None:
        """Ask :meth:`run` to commit what was taken, let go of the lease and return."""
        self._stopping.set()
        if self._term is not None:
            self._term.end(None)

    async def run(self, on_listening: Callable[[int], None] | None = None) -> None:
        """Serve until stopped. Raises one of :data:`HALTING_ERRORS` when this engine must not go on."""
        settings = self._settings
        port = await self._server.start(settings.engine_host, settings.engine_port)
        address = settings.engine_address or f"{settings.engine_host}:{port}"
        self._engine = msgspec.structs.replace(self._engine, address=address)
        self._reporter = Reporter(self._engine, self._surroundings.monotonic_s)
        if on_listening is not None:
            on_listening(port)
        self._surroundings.publisher.start()
        try:
            while not self._stopping.is_set():
                try:
                    async with self._surroundings.open_stores() as stores:
                        await self._serve(stores)
                except StoppedError:
                    break
                except HALTING_ERRORS:
                    raise
                except (TermEndedError, SequencerFailedError) as error:
                    _log.warning("term ended", reason=str(error))
                    metrics.ENGINE_RELOADS.inc()
                except PASSING_ERRORS as error:
                    _log.warning("no leadership now, trying again", error=f"{type(error).__name__}: {error}")
                if not self._stopping.is_set():
                    await asyncio.sleep(RETRY_INTERVAL_S)
        finally:
            metrics.ENGINE_LEADER.set(0)
            if self._standby is not None:
                self._standby.dismantle()
            await self._surroundings.snapshots.stop()
            await self._surroundings.publisher.stop()
            await self._server.stop()

    def _handle(self, connection: Connection, requests: list[Request]) -> None:
        if self._leader is None:
            connection.send(unavailable(requests))
        else:
            self._leader.sequencer.handle(connection, requests)

    async def _serve(self, stores: Stores) -> None:
        """Follow, lead, follow, until stopped or until something goes wrong."""
        # Whoever led from here is gone, or this is its next attempt: a hot standby need not wait for the lease's end.
        await stores.lease.surrender(self._settings.engine_holder)
        await stores.replicas.forget_old()
        try:
            if self._standby is not None and not await self._standby.read_from(stores.reads):
                _log.warning("the journal lost rows, reading it anew", sequence=self._standby.sequence)
                self._take_standby().dismantle()
            if self._standby is None:
                self._standby = await self._recover(stores)
            while not self._stopping.is_set():
                taken = await self._stand_by(stores, self._standby)
                if taken is not None:
                    self._standby = await self._lead_with(self._take_standby(), stores, *taken)
            await self._reporter.stopped(stores, self._standby.sequence)
            _log.info("engine stopped", sequence=self._standby.sequence)
        except DivergedError as error:
            await self._reporter.diverged(stores, error)
            raise

    def _take_standby(self) -> Standby:
        """The standby, which is not one any more from here on."""
        standby, self._standby = self._standby, None
        assert standby is not None
        return standby

    # -- standing by ----------------------------------------------------------------------------------------------

    async def _recover(self, stores: Stores) -> Standby:
        """Load what is committed. Where this version once computed something else, it has to pass those rows again.

        An engine that differs from a leader of its own version has a fault of its own, which is no other's.
        """
        lease = await stores.lease.read()
        is_leaders_version = lease is not None and lease.version == self._version
        suspect_sequence = await stores.replicas.suspect_sequence(
            self._version, self._settings.engine_holder if is_leaders_version else None
        )
        await self._reporter.recovering(stores, suspect_sequence)
        if suspect_sequence:
            _log.warning(
                "this version diverged before: the rows from there on are done again", sequence=suspect_sequence
            )
        answers = RememberedAnswers(REMEMBERED_COMMANDS + self._settings.engine_queue_commands_max)
        standby = await Standby.recover(
            stores.reads,
            self._surroundings.clock_us,
            answers,
            before_sequence=suspect_sequence or None,
            progress=self._progress(),
        )
        self._surroundings.snapshots.start_from(standby.recovered.snapshot_sequence)
        self._surroundings.settle_memory()
        _log.info("engine stands by", sequence=standby.sequence, address=self._engine.address)
        return standby

    async def _stand_by(self, stores: Stores, standby: Standby) -> tuple[Term, Acquired] | None:
        """Follow the journal until the lease is ours; None when asked to stop meanwhile."""
        monotonic_s = self._surroundings.monotonic_s
        next_report_s = next_attempt_s = monotonic_s()
        reported_checkpoint = -1
        interval_s = FIRST_POLL_INTERVAL_S
        while not self._stopping.is_set():
            sequence = standby.sequence
            is_behind = await standby.follow()
            if monotonic_s() >= next_report_s or standby.checkpoint_sequence != reported_checkpoint:
                next_report_s = monotonic_s() + REPORT_INTERVAL_S
                reported_checkpoint = standby.checkpoint_sequence
                await self._reporter.following(stores, standby)
            if is_behind:
                continue
            if monotonic_s() >= next_attempt_s:
                next_attempt_s = monotonic_s() + LEASE_POLL_INTERVAL_S
                taken = await self._acquire(stores)
                if taken is not None:
                    return taken
            has_moved = standby.sequence != sequence
            interval_s = FIRST_POLL_INTERVAL_S if has_moved else min(interval_s * 2, POLL_INTERVAL_S_MAX)
            if await stores.watch.wait(interval_s):
                next_attempt_s = monotonic_s()
        return None

    async def _acquire(self, stores: Stores) -> tuple[Term, Acquired] | None:
        settings = self._settings
        asked_s = self._surroundings.monotonic_s()
        acquired = await stores.lease.acquire(self._engine, settings.lease_ttl_s)
        if acquired is None:
            return None
        term = Term(
            stores.lease,
            acquired.epoch,
            asked_s,
            ttl_s=settings.lease_ttl_s,
            renewal_s=settings.lease_renewal_s,
            monotonic_s=self._surroundings.monotonic_s,
        )
        return term, acquired

    # -- leading --------------------------------------------------------------------------------------------------

    async def _lead_with(self, standby: Standby, stores: Stores, term: Term, acquired: Acquired) -> Standby:
        """One term; gives the standby that goes on. After anything but an end in order the memory is thrown away."""
        try:
            return await self._lead(standby, stores, term, acquired)
        except BaseException as error:
            standby.dismantle()
            if self._stopping.is_set() or isinstance(error, DivergedError):
                # This process does not begin anew, which would do the same.
                await self._surrender(stores)
            raise

    async def _surrender(self, stores: Stores) -> None:
        """Spare the others waiting for the lease's end, where the database can be told."""
        surrendering = asyncio.create_task(stores.lease.surrender(self._settings.engine_holder), name="surrender")
        done, _ = await asyncio.wait({surrendering}, timeout=RELEASE_TIMEOUT_S)
        surrendering.cancel()
        with contextlib.suppress(*PASSING_ERRORS):
            for task in done:
                task.result()

    async def _lead(self, standby: Standby, stores: Stores, term: Term, acquired: Acquired) -> Standby:
        """One term, from the lease to its end in order; raises what ended it else."""
        taken_s = self._surroundings.monotonic_s()
        self._term = term
        renewal = asyncio.create_task(term.keep(), name="lease-renewal")
        try:
            # Nobody can commit under an older epoch any more: what is read now is everything.
            await standby.catch_up()
            serving_ms = (self._surroundings.monotonic_s() - taken_s) * 1_000
            leader = Leader(
                self._settings, self._surroundings, stores, standby, term, acquired, self._metrics, serving_ms
            )
            for market in standby.exchange.markets.values():
                self._metrics.name_market(market.market_id, market.symbol)
            self._leader = leader
            self._server.leader_address = ""
            self._server.begin_term(term.epoch, standby.sequence)
            if self._stopping.is_set():
                term.end(None)
            metrics.ENGINE_LEADER.set(1)
            metrics.STANDBY_LAG_ROWS.set(0)
            metrics.ENGINE_EPOCH.set(term.epoch)
            _log.info("engine leads", epoch=term.epoch, sequence=standby.sequence, address=self._engine.address)
            await leader.lead(self._reporter)
            self._server.leader_address = leader.successor_address
            followed = await leader.let_go(renewal)
        finally:
            self._leader = None
            self._term = None
            self._surroundings.publisher.retire()
            metrics.ENGINE_LEADER.set(0)
            await end_tasks(renewal)
        if self._stopping.is_set():
            await leader.keep_snapshot()
        return followed

    def _progress(self) -> Callable[[int], None]:
        """Say once a second how far the replay is, and break it off when asked to stop."""
        last_s = self._surroundings.monotonic_s()

        def progress(sequence: int) -> None:
            nonlocal last_s
            if self._stopping.is_set():
                raise StoppedError
            if self._surroundings.monotonic_s() - last_s >= PROGRESS_INTERVAL_S:
                last_s = self._surroundings.monotonic_s()
                _log.info("replaying the journal", sequence=sequence)

        return progress
