"""A journal in memory, for simulations; believed because it passes the suite that PostgreSQL passes."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes.leadership import FakeLease

from rtx.core.events import OrderState
from rtx.core.vocabulary import EXTERNAL_ACCOUNT_ID
from rtx.store.entries import GENESIS_HASH, Batch, JournalEntry, Snapshot, verify_chain, verify_entry
from rtx.store.errors import (
    CommandKnownError,
    JournalCorruptError,
    ProjectionError,
    SequenceTakenError,
    StaleEpochError,
)

SNAPSHOTS_KEPT = 3


class FakeJournal:
    """A journal under a :class:`FakeLease`; ``rows`` may be spoilt to see what a reader says of it."""

    def __init__(self, lease: FakeLease) -> None:
        self._lease = lease
        self.rows: dict[int, JournalEntry] = {}
        self._command_ids: set[bytes] = set()
        self._order_ids: set[int] = set()
        self._snapshots: dict[int, Snapshot] = {}

    async def commit(self, batch: Batch) -> None:
        if batch.epoch != self._lease.epoch:
            raise StaleEpochError(batch.epoch)
        order_ids = self._order_ids.copy()
        for entry, events in zip(batch.entries, batch.events, strict=True):
            if entry.sequence in self.rows:
                raise SequenceTakenError(f"sequence {entry.sequence}")
            if entry.command_id in self._command_ids:
                raise CommandKnownError(f"command {entry.command_id.hex()}")
            for event in events:
                if isinstance(event, OrderState):
                    if not event.is_new and event.order_id not in order_ids:
                        raise ProjectionError(f"order {event.order_id}")
                    order_ids.add(event.order_id)
        for account_id, asset_id, available, held in batch.balances:
            if held < 0 or (available < 0 and account_id != EXTERNAL_ACCOUNT_ID):
                raise ProjectionError(f"balance of account {account_id}, asset {asset_id}")
        self._order_ids = order_ids
        self.rows.update((entry.sequence, entry) for entry in batch.entries)
        self._command_ids.update(entry.command_id for entry in batch.entries)

    async def read_after(self, sequence: int, limit: int) -> list[JournalEntry]:
        entries = [self.rows[number] for number in sorted(self.rows) if number > sequence][:limit]
        previous_hash = GENESIS_HASH
        if sequence > 0:
            before = self.rows.get(sequence)
            if before is None:
                raise JournalCorruptError(sequence, "is missing")
            verify_entry(before)
            previous_hash = before.hash
        verify_chain(entries, max(sequence, 0), previous_hash)
        return entries

    async def find_commands(self, command_ids: Sequence[bytes]) -> list[JournalEntry]:
        return [entry for _, entry in sorted(self.rows.items()) if entry.command_id in command_ids]

    async def last_entry(self) -> JournalEntry | None:
        if not self.rows:
            return None
        entry = self.rows[max(self.rows)]
        verify_entry(entry)
        return entry

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshots.setdefault(snapshot.sequence, snapshot)
        for sequence in sorted(self._snapshots)[:-SNAPSHOTS_KEPT]:
            del self._snapshots[sequence]

    async def load_snapshot(self, before_sequence: int | None = None) -> Snapshot | None:
        sequences = [number for number in self._snapshots if before_sequence is None or number < before_sequence]
        if not sequences:
            return None
        snapshot = self._snapshots[max(sequences)]
        entry = self.rows.get(snapshot.sequence)
        if entry is None or entry.hash != snapshot.journal_hash:
            raise JournalCorruptError(snapshot.sequence, "is not the row that the snapshot was made after")
        return snapshot
