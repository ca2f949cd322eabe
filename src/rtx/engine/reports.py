"""What an engine says of itself: to leaders that look for a successor, to operators and to probes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rtx.core.rules import LATEST_RULES
from rtx.engine.standby import DivergedError, Standby
from rtx.engine.surroundings import Stores
from rtx.observability import metrics
from rtx.observability.logging import get_logger
from rtx.store.connection import DATABASE_ERRORS
from rtx.store.lease import Candidate
from rtx.store.replicas import DIVERGED, FOLLOWING, LEADING, RECOVERING, STOPPED, ReplicaReport

TIMEOUT_S: Final = 2.0

_log = get_logger(__name__)


class Reporter:
    """Writes the reports of one engine; ``engine`` says which."""

    def __init__(self, engine: Candidate, monotonic_s: Callable[[], float]) -> None:
        self._engine = engine
        self._monotonic_s = monotonic_s
        self._started_s = monotonic_s()

    async def recovering(self, stores: Stores, suspect_sequence: int) -> None:
        """It reads the journal.

        From where on its version is suspect stays written down until it read on to the end, however often it starts.
        """
        await self._report(
            stores,
            RECOVERING,
            checkpoint_sequence=max(0, suspect_sequence - 1),
            diverged_sequence=suspect_sequence,
        )

    async def following(self, stores: Stores, standby: Standby) -> None:
        """It is a standby; asking the connection that commits keeps that one alive too."""
        last = await stores.journal.last_entry()
        lag_rows = 0 if last is None else max(0, last.sequence - standby.sequence)
        metrics.STANDBY_LAG_ROWS.set(lag_rows)
        metrics.ENGINE_DIVERGED.set(0)
        await self._report(
            stores,
            FOLLOWING,
            sequence=standby.sequence,
            checkpoint_sequence=standby.checkpoint_sequence,
            lag_rows=lag_rows,
            lag_ms=standby.take_lag_ms(),
            rules=standby.exchange.rules,
        )

    async def leading(self, stores: Stores, *, epoch: int, sequence: int, checkpoint_sequence: int, rules: int) -> None:
        """It leads."""
        await self._report(
            stores, LEADING, epoch=epoch, sequence=sequence, checkpoint_sequence=checkpoint_sequence, rules=rules
        )

    async def stopped(self, stores: Stores, sequence: int) -> None:
        """It ends in order."""
        await self._report(stores, STOPPED, sequence=sequence)

    async def diverged(self, stores: Stores, error: DivergedError) -> None:
        """It must never lead. That this could not be written down is no reason to go on."""
        metrics.ENGINE_DIVERGED.set(1)
        _log.critical("engine diverged and will not lead", sequence=error.sequence, reason=error.reason)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._report(
                    stores,
                    DIVERGED,
                    checkpoint_sequence=error.agreed_sequence,
                    diverged_sequence=error.sequence,
                    reason=error.reason,
                )
        except DATABASE_ERRORS as failure:
            _log.warning("the divergence could not be reported", error=f"{type(failure).__name__}: {failure}")

    async def _report(
        self,
        stores: Stores,
        state: str,
        *,
        epoch: int = 0,
        sequence: int = 0,
        checkpoint_sequence: int = 0,
        lag_rows: int = 0,
        lag_ms: float = 0.0,
        diverged_sequence: int = 0,
        reason: str = "",
        rules: int = 0,
    ) -> None:
        engine = self._engine
        await stores.replicas.report(
            ReplicaReport(
                engine.holder,
                engine.address,
                engine.colour,
                engine.version,
                LATEST_RULES,
                state,
                epoch,
                sequence,
                checkpoint_sequence,
                lag_rows,
                lag_ms,
                diverged_sequence,
                reason,
                rules,
                self._monotonic_s() - self._started_s,
            )
        )
