"""Where history is read: from a replica of the database that is far enough, or from the primary.

Far enough means that it has every journal row of which this worker has told a client: who placed an order and then asks
for the history finds it there. A replica that is behind, away or slow costs nothing but the primary's time. What a
decision rests on (balances, open orders, one order, keys) is never read here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from rtx.observability.metrics import HISTORY_READS
from rtx.store.connection import DATABASE_ERRORS, Pool
from rtx.store.journal import newest_sequence

Result = TypeVar("Result")

_TIMEOUT_S: Final = 2.0
"""A replica that takes longer is as good as away."""

_PAUSE_S: Final = 1.0
"""How long a replica that failed is not asked again."""

_log = structlog.get_logger("rtx.api.history_reads")


class HistoryReads:
    """Chooses for each read; one for each API worker."""

    def __init__(
        self,
        primary: Pool,
        replica: Pool | None = None,
        known_sequence: Callable[[], int] = lambda: 0,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``known_sequence``: the newest journal row of which this worker knows."""
        self._primary = primary
        self._replica = replica
        self._known_sequence = known_sequence
        self._monotonic_s = monotonic_s
        self._position = 0
        self._asked_again_s = float("-inf")
        self._is_used = True

    async def read(self, query: Callable[[Pool], Awaitable[Result]]) -> Result:
        """Give what ``query`` reads; it may be called twice, and must only read."""
        if self._replica is not None and self._monotonic_s() >= self._asked_again_s:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    if await self._is_far_enough(self._replica):
                        found = await query(self._replica)
                        self._note(is_used=True)
                        HISTORY_READS.labels("replica").inc()
                        return found
                self._note(is_used=False, reason="it is behind")
            except DATABASE_ERRORS as error:
                self._asked_again_s = self._monotonic_s() + _PAUSE_S
                self._note(is_used=False, reason=f"{type(error).__name__}: {error}")
        HISTORY_READS.labels("primary").inc()
        return await query(self._primary)

    async def _is_far_enough(self, replica: Pool) -> bool:
        wanted = self._known_sequence()
        if self._position < wanted:
            self._position = await newest_sequence(replica)
        return self._position >= wanted

    def _note(self, *, is_used: bool, reason: str = "") -> None:
        if is_used == self._is_used:
            return
        self._is_used = is_used
        if is_used:
            _log.info("history is read from the replica again")
        else:
            _log.warning("history is read from the primary", reason=reason)
