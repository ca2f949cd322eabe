"""A simulated PostgreSQL: the fakes of the store behind sessions that are slow, break, and lose answers.

Believed because the fakes pass the suite that PostgreSQL passes, and because what they leave out is done here as
PostgreSQL does it: a commit holds a key-share lock on the lease's row from when it looked at the epoch until it is
durable, and whoever would raise the epoch waits for that; a statement that the server has goes on when its client is
gone; sessions end when the server restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from tests.fakes.journal import FakeJournal
from tests.fakes.leadership import FakeHandovers, FakeLease, FakeReplicas
from tests.simulation.loop import Node, SimulatedLoop, finish
from tests.simulation.network import Network

from rtx.engine.surroundings import Stores
from rtx.store.entries import Batch, JournalEntry, Snapshot
from rtx.store.errors import StaleEpochError
from rtx.store.handovers import HandoverOrder
from rtx.store.lease import Acquired, Candidate, Lease, Release
from rtx.store.replicas import ReplicaReport

T = TypeVar("T")

HOST: Final = "postgresql"

COMMIT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 10.0

NO_LOCK: Final = ""
SHARE: Final = "share"
EXCLUSIVE: Final = "exclusive"


@dataclass
class Troubles:
    """What may go wrong with a statement: probabilities, and times in seconds."""

    latency_max_s: float = 0.001
    commit_min_s: float = 0.001
    commit_max_s: float = 0.004
    slow_probability: float = 0.0
    slow_max_s: float = 0.3
    hang_probability: float = 0.0
    hang_max_s: float = 6.5
    refuse_probability: float = 0.0
    lose_statement_probability: float = 0.0
    lose_answer_probability: float = 0.0
    lose_notification_probability: float = 0.0


@dataclass(frozen=True)
class Committed:
    """A batch that the journal took while ``epoch`` was the newest."""

    at_s: float
    epoch: int
    batch: Batch


@dataclass(frozen=True)
class Term:
    """A lease that somebody took, after so long a time without a leader (by the database's clock)."""

    at_s: float
    epoch: int
    candidate: Candidate
    away_s: float


class DatabaseError(ConnectionError):
    """What a lost session raises."""


class Statement:
    """A statement that the server has got."""

    def __init__(
        self,
        session: Session,
        operation: Callable[[], Coroutine[Any, Any, Any]],
        lock: str,
        epoch: int | None,
        answer: asyncio.Future[Any],
    ) -> None:
        self.session = session
        self.operation = operation
        self.lock = lock
        self.epoch = epoch
        self.answer = answer
        self.is_given_up = False
        self.loses_answer = False
        self.duration_s = 0.0


class Database:
    """The server. ``terms`` and ``commits`` say who led when, and who wrote what."""

    def __init__(self, loop: SimulatedLoop, network: Network, seed: int | str, troubles: Troubles) -> None:
        self.loop = loop
        self.network = network
        self.random = random.Random(f"database {seed}")
        self.troubles = troubles
        self.node = loop.add_node("postgresql", HOST)
        self.clock_offset_s = 0.0
        self.clock_jumped = False
        self.lease = FakeLease(self._clock_s)
        self.journal = FakeJournal(self.lease)
        self.handovers = FakeHandovers(self.lease)
        self.replicas = FakeReplicas(self._clock_s)
        self.generation = 1
        self.is_up = True
        self.terms: list[Term] = []
        self.commits: list[Committed] = []
        self.on_statement: Callable[[Node, str], None] | None = None
        self.fences = True
        """Whether a commit has to carry the newest epoch."""

        self.locks = True
        """Whether a commit keeps the epoch from rising until it is durable."""

        self._sharing: list[Statement] = []
        self._waiting: deque[Statement] = deque()

    def _clock_s(self) -> float:
        return self.loop.now_s + 1_000_000.0 + self.clock_offset_s

    @property
    def last_sequence(self) -> int:
        return len(self.journal.rows)

    # -- statements ----------------------------------------------------------------------------------------------

    def receive(self, statement: Statement) -> None:
        """A statement has arrived."""
        if statement.session.generation != self.generation or statement.is_given_up or not self.is_up:
            return
        if statement.lock == SHARE:
            self._share(statement)
        elif statement.lock == EXCLUSIVE and self._sharing and self.locks and self._has_run_out():
            self._waiting.append(statement)
        else:
            self._finish(statement)

    def _has_run_out(self) -> bool:
        """Whether an acquisition finds a row to change, and so waits for those who share its lock."""
        lease = finish(self.lease.read())
        return lease is None or lease.expires_in_s <= 0

    def _share(self, statement: Statement) -> None:
        """Look at the epoch, keep everybody from changing it, and be durable a while later."""
        if self.fences and statement.epoch != self.lease.epoch:
            assert statement.epoch is not None
            self._reply(statement, None, StaleEpochError(statement.epoch))
            return
        self._sharing.append(statement)
        self.loop.after(self.node, statement.duration_s, self._end_share, statement)

    def _end_share(self, statement: Statement) -> None:
        if statement not in self._sharing:
            return
        self._finish(statement)
        self._sharing.remove(statement)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._waiting and not self._sharing:
            statement = self._waiting.popleft()
            if not statement.is_given_up:
                self._finish(statement)

    def _finish(self, statement: Statement) -> None:
        try:
            result = finish(statement.operation())
        except Exception as error:  # noqa: BLE001 - the client's to judge
            self._reply(statement, None, error)
        else:
            self._reply(statement, result, None)

    def _reply(self, statement: Statement, result: object, error: Exception | None) -> None:
        session = statement.session
        if statement.loses_answer or not self.network.can_reach(HOST, session.node.host):
            self.loop.after(session.node, self.random.uniform(0, 0.5), session.lose, statement)
        else:
            self.loop.after(session.node, self.latency_s(), _deliver, statement.answer, result, error)

    def latency_s(self) -> float:
        """How long a message takes from or to the server."""
        troubles = self.troubles
        if self.random.random() < troubles.slow_probability:
            return self.random.uniform(0, troubles.slow_max_s)
        return self.random.uniform(0.000_05, troubles.latency_max_s)

    # -- what is written -----------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> None:
        """Write a batch, and note it."""
        looks_at_epoch = self.fences and self.locks
        await self.journal.commit(batch if looks_at_epoch else _under(batch, self.lease.epoch))
        self.commits.append(Committed(self.loop.now_s, self.lease.epoch, batch))
        entries = batch.entries
        self.loop.trace("committed", entries[0].epoch, entries[0].sequence, entries[-1].hash.hex()[:12])

    async def acquire(self, candidate: Candidate, ttl_s: float) -> Acquired | None:
        """Give the lease, and note who got it."""
        acquired = await self.lease.acquire(candidate, ttl_s)
        if acquired is not None:
            self.terms.append(Term(self.loop.now_s, acquired.epoch, candidate, acquired.away_us / 1_000_000))
            self.loop.trace("acquired", acquired.epoch, candidate.holder)
        return acquired

    def set_clock(self, by_s: float) -> None:
        """Have the server's clock jump."""
        self.clock_offset_s += by_s
        self.clock_jumped = True

    # -- faults --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop at once, as when the server's power fails: what is on its way is written or not."""
        if not self.is_up:
            return
        self.loop.trace("database stops")
        self.is_up = False
        self.generation += 1
        for statement in self._sharing:
            if self.random.random() < 0.5:
                with contextlib.suppress(Exception):
                    finish(statement.operation())
        for statement in (*self._sharing, *self._waiting):
            self.loop.after(statement.session.node, self.latency_s(), statement.session.lose, statement)
        self._sharing.clear()
        self._waiting.clear()

    def start(self) -> None:
        """Take connections again."""
        if not self.is_up:
            self.loop.trace("database starts")
            self.is_up = True


class Session:
    """A node's connection to the server. One that ``heals`` is a pool: it connects anew by itself."""

    def __init__(self, database: Database, node: Node, *, timeout_s: float, heals: bool) -> None:
        self.database = database
        self.node = node
        self.generation = database.generation
        self._timeout_s = timeout_s
        self._heals = heals
        self._is_lost = False

    async def connect(self) -> None:
        """Raise what a connection that cannot be made raises."""
        database = self.database
        reaches = database.network.can_reach
        if not self.node.is_connected:
            raise DatabaseError("this host is cut off for good")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while not (reaches(self.node.host, HOST) and reaches(HOST, self.node.host)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await asyncio.sleep(2 * database.latency_s())
        if not database.is_up or not self.node.is_connected:
            raise ConnectionRefusedError("the database takes no connections")
        self.generation = database.generation
        self._is_lost = False

    def close(self) -> None:
        """Close; what the server has goes on there."""
        self._is_lost, self._heals = True, False

    def lose(self, statement: Statement) -> None:
        """The connection broke while a statement was under way."""
        self._is_lost = True
        _deliver(statement.answer, None, DatabaseError("the connection to the database was lost"))

    async def ask(
        self, operation: Callable[[], Coroutine[Any, Any, T]], lock: str = NO_LOCK, epoch: int | None = None
    ) -> T:
        """Have the server do something; raises ``OSError`` or ``TimeoutError`` when it is not known whether it did."""
        database = self.database
        if self._is_lost or self.generation != database.generation or not self.node.is_connected:
            if not self._heals:
                raise DatabaseError("the connection to the database is closed")
            await self.connect()
        if database.on_statement is not None:
            database.on_statement(self.node, lock)
        answer = database.loop.create_future()
        statement = Statement(self, operation, lock, epoch, answer)
        self._send(statement)
        try:
            async with asyncio.timeout(self._timeout_s):
                result: T = await answer
                return result
        finally:
            if not answer.done() or answer.cancelled():
                # Cancelling is a message too: it may come in time, late, or never.
                delay_s = database.random.choice((0.0, database.latency_s(), 10.0))
                database.loop.after(database.node, delay_s, _give_up, statement)

    def _send(self, statement: Statement) -> None:
        database, draw, troubles = self.database, self.database.random, self.database.troubles
        delay_s = database.latency_s()
        if statement.lock == SHARE:
            statement.duration_s = draw.uniform(troubles.commit_min_s, troubles.commit_max_s)
        if troubles.hang_probability and draw.random() < troubles.hang_probability:
            if statement.lock == SHARE and draw.random() < 0.5:
                statement.duration_s += draw.uniform(0, troubles.hang_max_s)
            else:
                delay_s += draw.uniform(0, troubles.hang_max_s)
        if troubles.refuse_probability and draw.random() < troubles.refuse_probability:
            database.loop.after(self.node, 2 * delay_s, self.lose, statement)
            return
        statement.loses_answer = draw.random() < troubles.lose_answer_probability
        is_lost = draw.random() < troubles.lose_statement_probability
        if is_lost or not database.network.can_reach(self.node.host, HOST):
            # Silence: retransmissions may still bring it, long after its sender gave up or died.
            if draw.random() < 0.5:
                delay_s += draw.uniform(0, 4.0)
            else:
                database.loop.after(self.node, draw.uniform(0, 2 * self._timeout_s), self.lose, statement)
                return
        database.loop.after(database.node, delay_s, database.receive, statement)


class SimulatedJournal:
    """The journal through a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def commit(self, batch: Batch) -> None:
        await self._session.ask(lambda: self._database.commit(batch), SHARE, batch.epoch)

    async def read_after(self, sequence: int, limit: int) -> list[JournalEntry]:
        return await self._session.ask(lambda: self._database.journal.read_after(sequence, limit))

    async def find_commands(self, command_ids: Sequence[bytes]) -> list[JournalEntry]:
        return await self._session.ask(lambda: self._database.journal.find_commands(command_ids))

    async def last_entry(self) -> JournalEntry | None:
        return await self._session.ask(self._database.journal.last_entry)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._session.ask(lambda: self._database.journal.save_snapshot(snapshot))

    async def load_snapshot(self, before_sequence: int | None = None) -> Snapshot | None:
        return await self._session.ask(lambda: self._database.journal.load_snapshot(before_sequence))


class SimulatedLease:
    """The lease through a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def acquire(self, candidate: Candidate, ttl_s: float) -> Acquired | None:
        return await self._session.ask(lambda: self._database.acquire(candidate, ttl_s), EXCLUSIVE)

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        return await self._session.ask(lambda: self._database.lease.renew(epoch, ttl_s))

    async def release(self, epoch: int, release: Release | None = None) -> bool:
        return await self._session.ask(lambda: self._database.lease.release(epoch, release))

    async def surrender(self, holder: str) -> bool:
        return await self._session.ask(lambda: self._database.lease.surrender(holder))

    async def read(self) -> Lease | None:
        return await self._session.ask(self._database.lease.read)


class SimulatedHandovers:
    """The orders to hand over, through a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._handovers = session.database.handovers

    async def request(self, target: str, valid_s: float) -> int:
        return await self._session.ask(lambda: self._handovers.request(target, valid_s))

    async def pending(self) -> HandoverOrder | None:
        return await self._session.ask(self._handovers.pending)

    async def refuse(self, handover_id: int, reason: str) -> bool:
        return await self._session.ask(lambda: self._handovers.refuse(handover_id, reason))

    async def note_serving(self, epoch: int, after_ms: float) -> None:
        await self._session.ask(lambda: self._handovers.note_serving(epoch, after_ms))


class SimulatedReplicas:
    """The engines' reports, through a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._replicas = session.database.replicas

    async def report(self, report: ReplicaReport) -> None:
        await self._session.ask(lambda: self._replicas.report(report))

    async def all(self) -> list[ReplicaReport]:
        return await self._session.ask(self._replicas.all)

    async def forget_old(self) -> None:
        await self._session.ask(self._replicas.forget_old)

    async def suspect_sequence(self, version: str, holder: str | None = None) -> int:
        return await self._session.ask(lambda: self._replicas.suspect_sequence(version, holder))


class SimulatedWatch:
    """Notifications, which come late and may get lost."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.happened = asyncio.Event()
        self._bridge = _Bridge(self._notify)
        self._watches = cast("list[Any]", session.database.lease.watches)
        self._watches.append(self._bridge)

    def close(self) -> None:
        """Listen no longer."""
        if self._bridge in self._watches:
            self._watches.remove(self._bridge)

    async def wait(self, timeout_s: float) -> bool:
        if not self.happened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.happened.wait()
        happened = self.happened.is_set()
        self.happened.clear()
        return happened

    def _notify(self) -> None:
        session, database = self._session, self._session.database
        is_lost = session.generation != database.generation or not database.network.can_reach(HOST, session.node.host)
        if not is_lost and database.random.random() >= database.troubles.lose_notification_probability:
            database.loop.after(session.node, database.latency_s(), self.happened.set)


class _Bridge:
    """Stands in the fake's list of watches, whose events belong to no node."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self.happened = self
        self.set = notify


@contextlib.asynccontextmanager
async def open_stores(database: Database, node: Node) -> AsyncIterator[Stores]:
    """What :data:`rtx.engine.surroundings.OpenStores` promises, for one node."""
    pool = Session(database, node, timeout_s=READ_TIMEOUT_S, heals=True)
    committing = Session(database, node, timeout_s=COMMIT_TIMEOUT_S, heals=False)
    listening = Session(database, node, timeout_s=COMMIT_TIMEOUT_S, heals=False)
    for session in (pool, committing, listening):
        await session.connect()
    watch = SimulatedWatch(listening)
    node.on_end.append(watch.close)
    try:
        yield Stores(
            SimulatedJournal(committing),
            SimulatedJournal(pool),
            SimulatedLease(pool),
            SimulatedHandovers(pool),
            SimulatedReplicas(pool),
            watch,
        )
    finally:
        for session in (pool, committing, listening):
            session.close()
        watch.close()


def _deliver(answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _give_up(statement: Statement) -> None:
    statement.is_given_up = True


def _under(batch: Batch, epoch: int) -> Batch:
    """The batch as a store takes it that does not look at epochs."""
    return Batch(epoch, batch.entries, batch.events, batch.balances, batch.postings)
