"""What the engine asks of a journal, so that a simulation can stand in for PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rtx.store.entries import Batch, JournalEntry, Snapshot


class JournalBackend(Protocol):
    """The journal; :class:`rtx.store.journal.JournalStore` in production."""

    async def commit(self, batch: Batch) -> None: ...

    async def read_after(self, sequence: int, limit: int) -> list[JournalEntry]: ...

    async def find_commands(self, command_ids: Sequence[bytes]) -> list[JournalEntry]: ...

    async def last_entry(self) -> JournalEntry | None: ...

    async def save_snapshot(self, snapshot: Snapshot) -> None: ...

    async def load_snapshot(self) -> Snapshot | None: ...
