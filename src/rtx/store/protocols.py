"""What the engine wants of a journal and a lease, so that it runs unchanged on PostgreSQL and on a simulated one.

One suite of tests (``tests/integration/store/test_journal_contract.py``) runs against every implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rtx.store.entries import Batch, JournalEntry, Snapshot
from rtx.store.lease import Lease


class JournalBackend(Protocol):
    """A gap-free, hash-chained journal that only the holder of the newest epoch can write."""

    async def commit(self, batch: Batch) -> None:
        """Write the batch, all or nothing, and return once it is durable.

        Raises StaleEpochError, SequenceTakenError, CommandKnownError, ProjectionError: nothing was written. After any
        other error it is unknown whether the batch was written.
        """

    async def read_after(self, sequence: int, limit: int) -> list[JournalEntry]:
        """Return at most ``limit`` rows after ``sequence``, oldest first; raises JournalCorruptError."""

    async def find_commands(self, command_ids: Sequence[bytes]) -> list[JournalEntry]:
        """Return the rows of those of the commands that were journaled, oldest first."""

    async def last_entry(self) -> JournalEntry | None:
        """Return the newest row, or None of an empty journal."""

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the snapshot, and of all only the newest few."""

    async def load_snapshot(self) -> Snapshot | None:
        """Return the newest snapshot, or None; raises JournalCorruptError when it is of another journal."""


class LeaseBackend(Protocol):
    """A lease with a time to live and an epoch that rises with every takeover."""

    async def acquire(self, holder: str, address: str, colour: str, version: str, ttl_s: float) -> int | None:
        """Take the lease if it ran out or was ``holder``'s own, and return the new epoch; None: another holds it."""

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        """Hold the lease for another ``ttl_s`` seconds; False: it is lost."""

    async def release(self, epoch: int) -> bool:
        """Let the lease run out at once; False: it was lost before."""

    async def read(self) -> Lease | None:
        """Return the lease as it stands, or None when nobody ever held it."""
