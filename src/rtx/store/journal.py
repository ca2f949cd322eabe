"""The commit: a whole batch in one statement, and with it the journal as engines read it.

One statement means one round trip and one transaction. Every part of it writes only while the lease carries the batch's
epoch; the share lock on the lease's row keeps a takeover out until the commit is through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from rtx.store.commit_statement import MISSING_ROWS_SQLSTATE, PARTS, commit_statement
from rtx.store.connection import Connection, Database
from rtx.store.directory import write_directory
from rtx.store.entries import (
    GENESIS_HASH,
    Batch,
    JournalEntry,
    Snapshot,
    entry_hash,
    verify_chain,
    verify_entry,
)
from rtx.store.errors import (
    CommandKnownError,
    JournalCorruptError,
    ProjectionError,
    SequenceTakenError,
    StaleEpochError,
)
from rtx.store.projection import Projection, project

__all__ = ["GENESIS_HASH", "Batch", "JournalEntry", "JournalStore", "Snapshot", "entry_hash"]

SNAPSHOTS_KEPT: Final = 3

_PART_NAMES: Final = tuple(part.name for part in PARTS)

_READ_AFTER: Final = """
    SELECT sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash
    FROM journal WHERE sequence >= $1 ORDER BY sequence LIMIT $2
"""

_FIND_COMMANDS: Final = """
    SELECT sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash
    FROM journal WHERE command_id = ANY ($1) ORDER BY sequence
"""

_LAST_ENTRY: Final = """
    SELECT sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash
    FROM journal ORDER BY sequence DESC LIMIT 1
"""


class JournalStore:
    """The journal in PostgreSQL (see :class:`rtx.store.protocols.JournalBackend`).

    Give it the connection of :func:`rtx.store.connection.connect_engine` to commit through; a pool does for reading.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def commit(self, batch: Batch) -> None:
        """Write the batch, all or nothing, and return once it is on disk.

        Raises StaleEpochError, SequenceTakenError, CommandKnownError, ProjectionError: nothing was written. After any
        other error (a lost connection, ``TimeoutError``) it is unknown whether the batch was written.
        """
        projection = project(batch)
        try:
            if projection.directory:
                await self._commit_with_directory(batch, projection)
            else:
                await _execute(self._database, batch, projection)
        except asyncpg.UniqueViolationError as error:
            raise _duplicate(error) from error
        except asyncpg.CheckViolationError as error:
            raise ProjectionError(f"{error.table_name}: {error.constraint_name} does not hold") from error
        except asyncpg.PostgresError as error:
            if error.sqlstate == MISSING_ROWS_SQLSTATE:
                raise ProjectionError(str(error)) from error
            raise

    async def _commit_with_directory(self, batch: Batch, projection: Projection) -> None:
        if isinstance(self._database, asyncpg.Pool):
            async with self._database.acquire() as connection:
                await _commit_in_transaction(connection, batch, projection)
        else:
            await _commit_in_transaction(self._database, batch, projection)

    async def read_after(self, sequence: int, limit: int) -> list[JournalEntry]:
        """Return at most ``limit`` rows after ``sequence``, oldest first; the row at ``sequence`` anchors their chain.

        Raises JournalCorruptError, naming the row, for a gap or a hash that does not follow.
        """
        first = max(sequence, 1)
        rows = await self._database.fetch(_READ_AFTER, first, limit + (first == sequence))
        entries = [JournalEntry(*row) for row in rows]
        if sequence < 1:
            verify_chain(entries, 0, GENESIS_HASH)
            return entries
        if not entries or entries[0].sequence != sequence:
            raise JournalCorruptError(sequence, "is missing")
        verify_chain(entries, sequence - 1, None)
        return entries[1:]

    async def find_commands(self, command_ids: Sequence[bytes]) -> list[JournalEntry]:
        """Return the rows of those of the commands that were journaled, oldest first."""
        rows = await self._database.fetch(_FIND_COMMANDS, command_ids)
        return [_verified(row) for row in rows]

    async def last_entry(self) -> JournalEntry | None:
        """Return the newest row, or None of an empty journal; raises JournalCorruptError when its hash is wrong."""
        row = await self._database.fetchrow(_LAST_ENTRY)
        return None if row is None else _verified(row)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the snapshot, and only the newest :data:`SNAPSHOTS_KEPT` of all; saving one twice changes nothing."""
        await self._database.execute(
            """
            WITH saved AS (
                INSERT INTO snapshots (sequence, journal_hash, state_hash, state) VALUES ($1, $2, $3, $4)
                ON CONFLICT (sequence) DO NOTHING
            )
            DELETE FROM snapshots WHERE sequence < $1 AND sequence NOT IN (
                SELECT sequence FROM snapshots WHERE sequence < $1 ORDER BY sequence DESC LIMIT $5 - 1
            )
            """,
            snapshot.sequence,
            snapshot.journal_hash,
            snapshot.state_hash,
            snapshot.state,
            SNAPSHOTS_KEPT,
        )

    async def load_snapshot(self, before_sequence: int | None = None) -> Snapshot | None:
        """Return the newest snapshot, made before journal row ``before_sequence`` where that is given, or None.

        Raises JournalCorruptError when the journal has another row there.
        """
        row = await self._database.fetchrow(
            """
            SELECT snapshot.sequence, journal_hash, state_hash, state, journal.hash
            FROM snapshots AS snapshot LEFT JOIN journal USING (sequence)
            WHERE $1::bigint IS NULL OR snapshot.sequence < $1
            ORDER BY snapshot.sequence DESC LIMIT 1
            """,
            before_sequence,
        )
        if row is None:
            return None
        if row["hash"] != row["journal_hash"]:
            raise JournalCorruptError(row["sequence"], "is not the row that the snapshot was made after")
        return Snapshot(*row[:4])


async def _commit_in_transaction(connection: Connection, batch: Batch, projection: Projection) -> None:
    """Commit a batch that changes assets, markets or fees: rare, so that these have statements of their own."""
    async with connection.transaction():
        await _execute(connection, batch, projection)
        await write_directory(connection, projection.directory)


async def _execute(connection: Database, batch: Batch, projection: Projection) -> None:
    columns = [(name, getattr(projection, name)) for name in _PART_NAMES]
    names = tuple(name for name, parameters in columns if parameters)
    parameters = [parameter for _, part in columns for parameter in part]
    if not await connection.fetchval(commit_statement(names), batch.epoch, *parameters):
        raise StaleEpochError(batch.epoch)


def _duplicate(error: asyncpg.UniqueViolationError) -> Exception:
    if error.constraint_name == "journal_pkey":
        return SequenceTakenError(str(error.detail))
    if error.constraint_name == "journal_command_id_key":
        return CommandKnownError(str(error.detail))
    return ProjectionError(f"{error.table_name}: {error.constraint_name}: {error.detail}")


def _verified(row: asyncpg.Record) -> JournalEntry:
    entry = JournalEntry(*row)
    verify_entry(entry)
    return entry
