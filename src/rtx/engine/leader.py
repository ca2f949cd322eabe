"""One term of leadership: from the lease to its end, with everything that a leader does besides matching.

It keeps the lease, takes orders to hand over, writes checkpoints, and lets go in order: what was taken is committed,
the rest is sent back for the next leader, and the book goes on from the very row at which it stood.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from rtx.cancellation import end_tasks
from rtx.engine.checkpoints import CheckpointSchedule
from rtx.engine.deadlines import DeadlineWatch, served_until_us
from rtx.engine.halting import HALTING_ERRORS
from rtx.engine.metrics import EngineMetrics
from rtx.engine.own_commands import OwnCommandFailedError, OwnCommands
from rtx.engine.recovery import Recovered
from rtx.engine.reports import Reporter
from rtx.engine.sequencer import Sequencer
from rtx.engine.snapshotter import save_snapshot
from rtx.engine.standby import Standby
from rtx.engine.succession import NoSuccessorError, choose_successor
from rtx.engine.surroundings import Stores, Surroundings
from rtx.engine.term import Term, TermEndedError
from rtx.link.connection import EngineConnection, open_connection
from rtx.link.handshake import HandshakeError, derive_key, new_worker_name
from rtx.observability import metrics
from rtx.observability.logging import get_logger
from rtx.settings import Settings
from rtx.store.connection import DATABASE_ERRORS
from rtx.store.errors import StoreError
from rtx.store.handovers import HandoverOrder
from rtx.store.lease import Acquired, Release
from rtx.store.replicas import FOLLOWING, ReplicaReport

_log = get_logger(__name__)

CLOSE_TIMEOUT_S: Final = 6.0
"""More than a commit may take."""

SNAPSHOT_TIMEOUT_S: Final = 5.0
RELEASE_TIMEOUT_S: Final = 2.0
WATCH_INTERVAL_S: Final = 1.0
PROOF_TIMEOUT_S: Final = 10.0
"""How long a successor may take to verify a checkpoint before the order to hand over is refused."""

PROOF_POLL_INTERVAL_S: Final = 0.02

PASSING_ERRORS: Final = (*DATABASE_ERRORS, StoreError)
"""What goes wrong beside the commits: it is tried again, and says nothing about the book."""


class _Succession(msgspec.Struct, frozen=True):
    """An order that is being carried out."""

    order: HandoverOrder
    successor: ReplicaReport


class Leader:
    """Leads under ``term`` with the exchange of ``standby``, which has done every row of the journal again."""

    def __init__(
        self,
        settings: Settings,
        surroundings: Surroundings,
        stores: Stores,
        standby: Standby,
        term: Term,
        acquired: Acquired,
        engine_metrics: EngineMetrics,
        serving_ms: float,
    ) -> None:
        """``serving_ms``: how long after it had the lease this leader takes its first command."""
        self._settings = settings
        self._surroundings = surroundings
        self._stores = stores
        self._standby = standby
        self._term = term
        self._succession: _Succession | None = None
        self._serving_ms = serving_ms
        self._deadlines = DeadlineWatch(
            standby.exchange,
            surroundings.clock_us,
            surroundings.monotonic_s,
            served_until_us(
                standby.exchange.time_us,
                idle_s=standby.idle_s,
                away_s=acquired.away_us / 1_000_000 + serving_ms / 1_000,
            ),
        )
        self.sequencer = Sequencer(
            standby.recovered,
            term.epoch,
            store=stores.journal,
            lookups=stores.reads,
            publisher=surroundings.publisher,
            metrics=engine_metrics,
            clock_us=self._deadlines.exchange_clock_us,
            monotonic_s=surroundings.monotonic_s,
            may_lead=term.may_lead,
            on_failure=term.end,
            queue_commands_max=settings.engine_queue_commands_max,
            batch_commands_max=settings.engine_batch_commands_max,
            answers=standby.answers,
            on_switch=self._deadlines.note,
        )
        self._own_commands = OwnCommands(self.sequencer)
        self._checkpoints = CheckpointSchedule(
            self._own_commands, settings.checkpoint_commands, surroundings.monotonic_s, standby.checkpoint_sequence
        )

    @property
    def successor_address(self) -> str:
        """Where the successor listens; empty when none was chosen."""
        return "" if self._succession is None else self._succession.successor.address

    @property
    def checkpoint_sequence(self) -> int:
        """The journal row of the newest checkpoint."""
        return self._checkpoints.sequence

    async def lead(self, reporter: Reporter) -> None:
        """Return when the term ended without a fault: somebody asked to stop, or a successor was chosen.

        Raises what ended the term otherwise.
        """
        exchange = self._standby.exchange
        positions = self._standby.recovered.book_positions
        for market_id in exchange.markets:
            self._surroundings.publisher.announce(
                market_id, self._standby.sequence, exchange.time_us, positions.unchanged_since(market_id)
            )
        tasks = [
            asyncio.create_task(self._take_orders(), name="handover-orders"),
            asyncio.create_task(self._report(reporter), name="leader-reports"),
            asyncio.create_task(self._watch_deadlines(), name="deadlines"),
        ]
        try:
            while not await self._term.wait_for_end(WATCH_INTERVAL_S):
                sequence = self.sequencer.sequence
                self._surroundings.snapshots.start_when_due(sequence, self._term.end)
                self._checkpoints.start_when_due(sequence)
            reason = self._term.reason
            if reason is not None:
                # First of all: those who wait can ask the next leader from now on.
                self.sequencer.fail(reason)
        finally:
            await self._checkpoints.stop()
            await end_tasks(*tasks)
        if reason is None:
            return
        if isinstance(reason, (TermEndedError, *HALTING_ERRORS)):
            raise reason
        raise TermEndedError(f"{type(reason).__name__}: {reason}") from reason

    async def let_go(self, renewal: asyncio.Task[None]) -> Standby:
        """Finish what was taken and let go of the lease; gives the standby that goes on from there.

        ``renewal`` is the task that keeps the lease; it is ended first.
        """
        stopped_s = self._surroundings.monotonic_s()
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await self.sequencer.close()
        await end_tasks(renewal)
        release = Release(stopped_s=self._surroundings.monotonic_s() - stopped_s)
        if self._succession is not None:
            release = msgspec.structs.replace(
                release,
                successor=self._succession.successor.holder,
                successor_s=self._settings.lease_ttl_s,
                handover_id=self._succession.order.handover_id,
            )
        async with asyncio.timeout(RELEASE_TIMEOUT_S):
            is_released = await self._stores.lease.release(self._term.epoch, release)
        if not is_released:
            raise TermEndedError("another engine has the lease")
        metrics.HANDOVERS.labels("released").inc()
        sequencer = self.sequencer
        _log.info("lease released", sequence=sequencer.sequence, successor=release.successor)
        recovered = Recovered(
            sequencer.exchange,
            sequencer.sequence,
            sequencer.journal_hash,
            self._surroundings.snapshots.sequence,
            sequencer.book_positions,
            self.checkpoint_sequence,
        )
        return Standby(recovered, self._stores.reads, self._surroundings.clock_us, self._standby.answers)

    async def keep_snapshot(self) -> None:
        """Keep a snapshot for the next start."""
        sequencer = self.sequencer
        if sequencer.sequence <= self._surroundings.snapshots.sequence:
            return
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await save_snapshot(self._stores.reads, sequencer.exchange, sequencer.sequence, sequencer.journal_hash)
        except PASSING_ERRORS as error:
            _log.warning("no snapshot at the end", error=f"{type(error).__name__}: {error}")

    # -- beside the matching --------------------------------------------------------------------------------------

    async def _report(self, reporter: Reporter) -> None:
        serving_ms: float | None = self._serving_ms
        while True:
            try:
                if serving_ms is not None:
                    await self._stores.handovers.note_serving(self._term.epoch, serving_ms)
                    serving_ms = None
                await reporter.leading(
                    self._stores,
                    epoch=self._term.epoch,
                    sequence=self.sequencer.sequence,
                    checkpoint_sequence=self.checkpoint_sequence,
                    rules=self.sequencer.exchange.rules,
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, it says nothing about the book
                _log.warning("no report could be written", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _watch_deadlines(self) -> None:
        """Have dead-man's switches go off; a leader that cannot must not lead."""
        try:
            await self._deadlines.run(self.sequencer, self._own_commands)
        except Exception as error:  # noqa: BLE001 - whatever it is, another term begins with what is committed
            self._term.end(error)

    async def _take_orders(self) -> None:
        """Carry out orders to hand over."""
        while self._succession is None:
            try:
                order = await self._stores.handovers.pending()
                if order is not None:
                    await self._carry_out(order)
            except Exception as error:  # noqa: BLE001 - who cannot be told to go has to be killed
                _log.warning("an order to hand over was not looked at", error=f"{type(error).__name__}: {error}")
            await self._stores.watch.wait(WATCH_INTERVAL_S)

    async def _carry_out(self, order: HandoverOrder) -> None:
        try:
            successor = await self._prove_successor(order)
        except (NoSuccessorError, OwnCommandFailedError) as error:
            _log.warning("handover refused", target=order.target, reason=str(error))
            metrics.HANDOVERS.labels("refused").inc()
            await self._stores.handovers.refuse(order.handover_id, str(error))
            return
        if await self._stores.handovers.pending() != order:
            _log.info("handover withdrawn", target=order.target)
            await self._stores.handovers.refuse(order.handover_id, "nobody carried it out in time")
            return
        _log.info("handing over", target=order.target, successor=successor.holder)
        self._succession = _Succession(order, successor)
        self._term.end(None)

    async def _prove_successor(self, order: HandoverOrder) -> ReplicaReport:
        """The engine that the order means, which can be reached and has just shown that its whole state is ours."""
        settings = self._settings
        successor = choose_successor(
            order.target,
            await self._stores.replicas.all(),
            leader=settings.engine_holder,
            leader_colour=settings.colour,
            rules=self.sequencer.exchange.rules,
        )
        await self._reach(successor)
        checkpoint_sequence = await self._checkpoints.take()
        deadline_s = self._surroundings.monotonic_s() + PROOF_TIMEOUT_S
        while self._surroundings.monotonic_s() < deadline_s:
            for report in await self._stores.replicas.all():
                if report.holder != successor.holder:
                    continue
                if report.state != FOLLOWING:
                    # What it had compared before says nothing any more.
                    reason = f": {report.reason}" if report.reason else ""
                    raise NoSuccessorError(f"{report.holder} is {report.state}{reason}")
                if report.checkpoint_sequence >= checkpoint_sequence:
                    return successor
            await asyncio.sleep(PROOF_POLL_INTERVAL_S)
        raise NoSuccessorError(
            f"{successor.holder} did not verify the checkpoint at journal row {checkpoint_sequence} "
            f"within {PROOF_TIMEOUT_S:g} s"
        )

    async def _reach(self, successor: ReplicaReport) -> None:
        """See that API workers will be able to connect to the successor; raises NoSuccessorError."""
        host, _, port = successor.address.rpartition(":")
        try:
            connection = await open_connection(
                derive_key(self._settings.jwt_secret), (host.strip("[]"), int(port)), _Nobody(), new_worker_name()
            )
        except (OSError, TimeoutError, HandshakeError) as error:
            raise NoSuccessorError(
                f"{successor.holder} cannot be reached at {successor.address} ({type(error).__name__}: {error}); "
                "its RTX_ENGINE_ADDRESS should be where other hosts reach it, and JWT_SECRET the same everywhere"
            ) from error
        connection.close()


class _Nobody:
    """Who listens to a connection that is only opened to see that it can be."""

    def receive(self, connection: EngineConnection, payload: bytes) -> None:
        """Nothing was asked."""

    def connection_lost(self, connection: EngineConnection) -> None:
        """It served its purpose."""
