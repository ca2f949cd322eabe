"""When the leader writes its state hash into the journal, for every standby to compare with its own.

Hashing the whole state takes time that no order is matched in, so a checkpoint waits until enough was journaled, and
until the last one's cost has become a small part of the time since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rtx.cancellation import end_tasks
from rtx.core.commands import Checkpoint
from rtx.engine.own_commands import OwnCommandFailedError, OwnCommands
from rtx.observability.logging import get_logger

COST_SHARE_MAX: Final = 0.01
"""Largest part of the time that checkpoints may take."""

_log = get_logger(__name__)


class CheckpointSchedule:
    """Decides and writes; ``sequence`` is the row of the newest checkpoint."""

    def __init__(
        self, own_commands: OwnCommands, interval_commands: int, monotonic_s: Callable[[], float], sequence: int
    ) -> None:
        self._own_commands = own_commands
        self._interval_commands = interval_commands
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s()
        self._task: asyncio.Task[None] | None = None
        self.sequence = sequence

    def start_when_due(self, sequence: int) -> None:
        """Begin a checkpoint when enough was journaled up to ``sequence`` since the last."""
        is_running = self._task is not None and not self._task.done()
        if is_running or sequence - self.sequence < self._interval_commands or self._monotonic_s() < self._next_s:
            return
        self._task = asyncio.create_task(self._run(), name="checkpoint")

    async def take(self) -> int:
        """Write a checkpoint now; returns its journal row. Raises OwnCommandFailedError."""
        started_s = self._monotonic_s()
        self.sequence = await self._own_commands.submit(Checkpoint())
        ended_s = self._monotonic_s()
        self._next_s = ended_s + (ended_s - started_s) / COST_SHARE_MAX
        return self.sequence

    async def stop(self) -> None:
        """End what runs."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _run(self) -> None:
        try:
            await self.take()
        except OwnCommandFailedError as error:
            _log.warning("no checkpoint was written", reason=str(error))
