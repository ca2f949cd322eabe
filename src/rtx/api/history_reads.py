"""Where history is read: from a replica of the database that is far enough, or from the primary.

Far enough means that it has every journal row that was committed when the question came, whichever worker told a client
of it: so history never goes back, and who placed an order finds it there. The leader is asked for its position, once
for all who ask at about the same time. A replica that turns out to be behind, away or slow holds up only those who are
reading it at that moment; whether it is good again is found out while the primary answers.
What a decision rests on (balances, open orders, one order, keys) is never read here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from rtx.link.client import EngineError, EngineTimeoutError
from rtx.observability.metrics import HISTORY_READS
from rtx.store import replica_position
from rtx.store.connection import DATABASE_ERRORS, Connection, Database, Pool

Result = TypeVar("Result")

POSITION_TIMEOUT_S: Final = 0.25
"""How long the leader may take to say its position; without it the primary is read."""

_CONNECT_TIMEOUT_S: Final = 1.0

_CATCH_UP_S: Final = 0.05
"""How long a replica is waited for that has not replayed the last commits yet: less than a read is slower for."""

_CATCH_UP_INTERVAL_S: Final = 0.004

_READ_TIMEOUT_S: Final = 2.0
"""A replica that takes longer is as good as away."""

_PAUSE_S: Final = 1.0
"""How long a replica that is behind or failed is left alone; also how long nobody asks again who leads."""

_log = structlog.get_logger("rtx.api.history_reads")


class ReplicaBehindError(Exception):
    """The replica does not have what was committed."""


class ReplicaForeignError(Exception):
    """The replica's journal is not the primary's."""


_REPLICA_ERRORS: Final = (*DATABASE_ERRORS, ReplicaBehindError, ReplicaForeignError)


async def _nobody_leads() -> int:
    raise EngineTimeoutError


class HistoryReads:
    """Chooses for each read; one for each API worker."""

    def __init__(
        self,
        primary: Pool,
        replica: Pool | None = None,
        leader_position: Callable[[], Awaitable[int]] = _nobody_leads,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``leader_position`` gives the newest committed journal row; needed with a replica.

        ``replica`` may lead to several, of which each connection is one.
        """
        self._primary = primary
        self._replica = replica
        self._position = _SharedPosition(leader_position)
        self._monotonic_s = monotonic_s
        self._not_before_s = float("-inf")
        self._is_used: bool | None = None
        """Whether reads go to the replica; None before it was tried."""
        self._trial: asyncio.Task[None] | None = None

    async def read(self, query: Callable[[Database], Awaitable[Result]]) -> Result:
        """Give what ``query`` reads; it may be called twice, and must only read."""
        if self._replica is not None and self._monotonic_s() >= self._not_before_s:
            if not self._is_used:
                self._begin_trial(self._replica)
            else:
                try:
                    found = await self._read_replica(self._replica, query)
                except EngineError:
                    self._pause()
                except _REPLICA_ERRORS as error:
                    self._leave_replica(error)
                else:
                    HISTORY_READS.labels("replica").inc()
                    return found
        HISTORY_READS.labels("primary").inc()
        return await query(self._primary)

    def _begin_trial(self, replica: Pool) -> None:
        if self._trial is None or self._trial.done():
            self._trial = asyncio.create_task(self._try(replica))

    async def _try(self, replica: Pool) -> None:
        """Read the replica from now on if it is one, and far enough."""
        try:
            await self._read_replica(replica, self._check_origin)
        except EngineError:
            self._pause()
        except _REPLICA_ERRORS as error:
            self._leave_replica(error)
        else:
            self._is_used = True
            _log.info("history is read from the replica")

    async def _check_origin(self, database: Database) -> None:
        if not await replica_position.is_of(self._primary, await replica_position.read(database)):
            raise ReplicaForeignError("its journal is another one: is DATABASE_REPLICA_URL a replica of DATABASE_URL?")

    async def _read_replica(self, replica: Pool, query: Callable[[Database], Awaitable[Result]]) -> Result:
        """Raises one of :data:`_REPLICA_ERRORS`, and EngineError while nobody leads: not the replica's fault."""
        wanted = await self._position.now()
        connection = await replica.acquire(timeout=_CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await self._wait_for(connection, wanted)
                return await query(connection)
        except ReplicaBehindError:
            raise
        except BaseException:
            # Given back as it is it would be waited for, as long as the replica hangs.
            connection.terminate()
            raise
        finally:
            await replica.release(connection)

    async def _wait_for(self, connection: Connection, wanted: int) -> None:
        """Return when the replica at the other end has row ``wanted``."""
        until_s = self._monotonic_s() + _CATCH_UP_S
        while (position := await replica_position.read(connection)).sequence < wanted:
            if self._monotonic_s() >= until_s:
                raise ReplicaBehindError(f"it has journal row {position.sequence} of {wanted}")
            await asyncio.sleep(_CATCH_UP_INTERVAL_S)

    def _leave_replica(self, error: Exception) -> None:
        self._pause()
        if self._is_used is not False:
            _log.warning("history is read from the primary", reason=f"{type(error).__name__}: {error}")
        self._is_used = False

    def _pause(self) -> None:
        self._not_before_s = self._monotonic_s() + _PAUSE_S


class _SharedPosition:
    """Asks the leader with one question under way; those who come meanwhile share the next."""

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        self._ask = ask
        self._next: asyncio.Future[int] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def now(self) -> int:
        """Return the newest committed row as of some moment after the call.

        Raises EngineError, which is EngineTimeoutError after :data:`POSITION_TIMEOUT_S`.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        answer = self._next
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_on())
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                return await asyncio.shield(answer)
        except TimeoutError:
            raise EngineTimeoutError from None

    async def _ask_on(self) -> None:
        while self._next is not None:
            answer, self._next = self._next, None
            try:
                answer.set_result(await self._ask())
            except Exception as error:  # noqa: BLE001 - whatever went wrong is each reader's to handle
                answer.set_exception(error)
                answer.exception()  # perhaps nobody waits any more
        self._asking = None
