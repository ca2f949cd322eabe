"""What the engine wants of a journal and a lease, so that it runs unchanged on PostgreSQL and on a simulated one.

One suite of tests (``tests/integration/store/test_journal_contract.py``) runs against every implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rtx.store.entries import Batch, JournalEntry, Snapshot
from rtx.store.handovers import HandoverOrder
from rtx.store.lease import Acquired, Candidate, Lease, Release
from rtx.store.replicas import ReplicaReport


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

    async def load_snapshot(self, before_sequence: int | None = None) -> Snapshot | None:
        """Return the newest snapshot (made before this row), or None; raises JournalCorruptError."""


class LeaseBackend(Protocol):
    """A lease with a time to live and an epoch that rises with every takeover."""

    async def acquire(self, candidate: Candidate, ttl_s: float) -> Acquired | None:
        """Take a lease that ran out, if ``candidate`` may; None: another holds it, or is to take it."""

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        """Hold the lease for another ``ttl_s`` seconds; False: it is lost."""

    async def release(self, epoch: int, release: Release | None = None) -> bool:
        """Let the lease run out at once; False: it was lost before."""

    async def surrender(self, holder: str) -> bool:
        """Let a lease of this holder's run out at once; the holder must not lead."""

    async def read(self) -> Lease | None:
        """Return the lease as it stands, or None when nobody ever held it."""


class HandoverBackend(Protocol):
    """Orders to hand over."""

    async def request(self, target: str, valid_s: float) -> int:
        """Order a handover to a colour or holder; returns its id, raises HandoverPendingError."""

    async def pending(self) -> HandoverOrder | None:
        """The order that waits to be carried out, if there is one."""

    async def refuse(self, handover_id: int, reason: str) -> bool:
        """Say why an order is not carried out, or that it was withdrawn; False: it is too late for that."""

    async def note_serving(self, epoch: int, after_ms: float) -> None:
        """Add to the pause how long the leader of ``epoch`` took from its lease to its first command."""


class ReplicaBackend(Protocol):
    """What the engines say of themselves."""

    async def report(self, report: ReplicaReport) -> None:
        """Write down what an engine says of itself now."""

    async def all(self) -> list[ReplicaReport]:
        """Every report of the last day."""

    async def forget_old(self) -> None:
        """Remove the reports of engines that have been gone for a day."""

    async def suspect_sequence(self, version: str, holder: str | None = None) -> int:
        """The lowest journal row from which on an engine of this version may have gone wrong; 0: none diverged.

        With ``holder`` that engine alone counts.
        """


class Watch(Protocol):
    """Wakes those who wait for a lease or an order."""

    async def wait(self, timeout_s: float) -> bool:
        """Return True as soon as something happened since the last call, False after ``timeout_s`` seconds."""
