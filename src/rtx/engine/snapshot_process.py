"""Decides when the journal's tail is long enough for a snapshot, and looks after the process that makes it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Final

from rtx.engine.recovery import ReplayDivergedError
from rtx.engine.snapshotter import EXIT_JOURNAL
from rtx.observability import metrics
from rtx.observability.logging import get_logger

STOP_TIMEOUT_S: Final = 2.0

_COMMAND: Final = (sys.executable, "-m", "rtx.engine.snapshotter")

_log = get_logger(__name__)


class SnapshotProcess:
    """Has another process replay the journal and keep a snapshot: this one has orders to match."""

    def __init__(
        self, interval_commands: int, command: Sequence[str] = _COMMAND, *, stop_timeout_s: float = STOP_TIMEOUT_S
    ) -> None:
        """``stop_timeout_s``: how long the process may take to end before it is killed."""
        self._interval_commands = interval_commands
        self._command = command
        self._stop_timeout_s = stop_timeout_s
        self._task: asyncio.Task[None] | None = None
        self.sequence = 0
        """Position up to which a snapshot was kept or tried last."""

    def start_from(self, sequence: int) -> None:
        """Say where the newest snapshot stands."""
        self.sequence = sequence
        metrics.SNAPSHOT_SEQUENCE.set(sequence)

    def start_when_due(self, sequence: int, halt: Callable[[Exception], None]) -> None:
        """Begin a snapshot when enough was journaled since the last; one runs at a time.

        ``halt`` is called when the journal turns out not to replay: what is traded now could not be recovered.
        """
        if self._task is not None and not self._task.done():
            return
        if sequence - self.sequence < self._interval_commands:
            return
        self.sequence = sequence
        self._task = asyncio.create_task(self._run(sequence, halt), name="snapshot")

    async def wait(self) -> None:
        """Wait until no process runs."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def stop(self) -> None:
        """End the process if it runs, and wait for it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self, sequence: int, halt: Callable[[Exception], None]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL)
        except OSError as error:
            _log.warning("no process for a snapshot", error=str(error))
            return
        try:
            exit_code = await process.wait()
        finally:
            await self._end(process)
        if exit_code == 0:
            metrics.SNAPSHOT_SEQUENCE.set(sequence)
            return
        _log.error("no snapshot was made", exit_code=exit_code)
        if exit_code == EXIT_JOURNAL:
            problem = "the journal does not replay up to here; the snapshotter's log names the row"
            halt(ReplayDivergedError(sequence, problem))

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._stop_timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()
