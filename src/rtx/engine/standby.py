"""An exchange that follows the journal: every committed row is done again and must give what the journal says.

It is ready to lead within moments, and that it computes the same as the leader is proven row by row: the events of each
command are compared, and at every checkpoint, whose event holds the leader's state hash, the whole state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from rtx.core.exchange import Exchange
from rtx.engine.answers import RememberedAnswers, answer_of
from rtx.engine.recovery import Recovered, ReplayDivergedError, dismantle, is_checkpoint, recover, replay_entry
from rtx.observability import metrics
from rtx.store.entries import JournalEntry
from rtx.store.errors import JournalCorruptError
from rtx.store.protocols import JournalBackend

ROWS_PER_READ: Final = 500
"""So few that replaying them holds the event loop up for some milliseconds only."""


class DivergedError(Exception):
    """The journal cannot be followed beyond ``sequence``: this engine must never lead.

    What differs may have come about in any row after ``agreed_sequence``, the newest at which the state was right.
    """

    def __init__(self, sequence: int, reason: str, agreed_sequence: int) -> None:
        super().__init__(reason)
        self.sequence = sequence
        self.reason = reason
        self.agreed_sequence = agreed_sequence


class Standby:
    """Follows the journal through ``reads``. Belongs to one event loop."""

    def __init__(
        self, recovered: Recovered, reads: JournalBackend, clock_us: Callable[[], int], answers: RememberedAnswers
    ) -> None:
        """Go on from ``recovered``; ``answers`` is filled, for requests that come again after a takeover."""
        self._exchange = recovered.exchange
        self._sequence = recovered.sequence
        self._hash = recovered.journal_hash
        self._snapshot_sequence = recovered.snapshot_sequence
        self._book_positions = recovered.book_positions
        self._reads = reads
        self._clock_us = clock_us
        self._answers = answers
        self._moved_s = asyncio.get_running_loop().time()
        self.checkpoint_sequence = recovered.checkpoint_sequence
        """The newest row at which the whole state was compared; 0: none yet."""

        self._lag_ms = 0.0
        self.lag_rows = 0
        """How many rows there were to do at the last look."""

    @classmethod
    async def recover(
        cls,
        reads: JournalBackend,
        clock_us: Callable[[], int],
        answers: RememberedAnswers,
        *,
        before_sequence: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Standby:
        """Begin with what is committed; with ``before_sequence`` that row and all after it are done again.

        Raises :class:`DivergedError`.
        """
        try:
            recovered = await recover(reads, progress, before_sequence=before_sequence)
        except ReplayDivergedError as error:
            raise DivergedError(error.sequence, str(error), error.agreed_sequence) from error
        except JournalCorruptError as error:
            raise DivergedError(error.sequence, str(error), error.sequence - 1) from error
        return cls(recovered, reads, clock_us, answers)

    @property
    def exchange(self) -> Exchange:
        return self._exchange

    @property
    def sequence(self) -> int:
        """Position of the newest row that was done again."""
        return self._sequence

    @property
    def idle_s(self) -> float:
        """How long ago the newest row was done again here, or this exchange was loaded."""
        return asyncio.get_running_loop().time() - self._moved_s

    @property
    def answers(self) -> RememberedAnswers:
        return self._answers

    @property
    def recovered(self) -> Recovered:
        """What a leader starts from."""
        return Recovered(self._exchange, self._sequence, self._hash, self._snapshot_sequence, self._book_positions)

    def take_lag_ms(self) -> float:
        """How long after it was journaled a row was done again here, of the newest ones since this was last asked.

        0 when there were none: then there is nothing to lag behind.
        """
        lag_ms, self._lag_ms = self._lag_ms, 0.0
        return lag_ms

    async def read_from(self, reads: JournalBackend) -> bool:
        """Go on over another connection; False when the journal there is not the one that was followed."""
        self._reads = reads
        try:
            await self._read(0)
        except JournalCorruptError:
            return False
        return True

    async def follow(self) -> bool:
        """Do what was journaled since, at most :data:`ROWS_PER_READ` rows; True when there may be more at once.

        Raises :class:`DivergedError`; this object is then spent.
        """
        try:
            entries = await self._read(ROWS_PER_READ)
            self._replay(entries)
        except (ReplayDivergedError, JournalCorruptError) as error:
            agreed_sequence = max(self._snapshot_sequence, self.checkpoint_sequence)
            raise DivergedError(error.sequence, str(error), agreed_sequence) from error
        return len(entries) == ROWS_PER_READ

    async def catch_up(self) -> None:
        """Do all that is journaled; raises :class:`DivergedError`."""
        while await self.follow():
            pass

    def dismantle(self) -> None:
        """Free the memory of an exchange that nobody needs any more."""
        dismantle(self._exchange)

    async def _read(self, limit: int) -> list[JournalEntry]:
        """At most ``limit`` rows that come next, of a journal that has the row on which this exchange stands.

        A server that took another's place may have lost rows. Raises JournalCorruptError.
        """
        if not self._sequence:
            return await self._reads.read_after(0, limit)
        entries = await self._reads.read_after(self._sequence - 1, limit + 1)
        if not entries:
            raise JournalCorruptError(self._sequence, "is missing")
        if entries[0].hash != self._hash:
            raise JournalCorruptError(self._sequence, "is not the row that was done again here")
        return entries[1:]

    def _replay(self, entries: Sequence[JournalEntry]) -> None:
        self.lag_rows = len(entries)
        if not entries:
            return
        first = entries[0]
        for entry in entries:
            events = replay_entry(self._exchange, entry)
            self._answers.add(entry.command_id, answer_of(entry, events))
            self._book_positions.follow(entry.sequence, events)
            if is_checkpoint(events):
                self.checkpoint_sequence = entry.sequence
        last = entries[-1]
        self._sequence, self._hash = last.sequence, last.hash
        self._moved_s = asyncio.get_running_loop().time()
        self._exchange.take_changed_balances()
        self._exchange.take_changed_levels()
        self._lag_ms = max(0.0, (self._clock_us() - first.time_us) / 1_000)
        metrics.STANDBY_LAG.observe(self._lag_ms / 1_000)
        metrics.JOURNAL_SEQUENCE.set(self._sequence)
