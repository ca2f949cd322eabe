"""Forges a journal the way somebody would who knows how it is chained."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import psycopg

from rtx.store.entries import JournalEntry, entry_hash

_COLUMNS = "sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash"


def rechain(database_url: str, sequence: int, change: Callable[[JournalEntry], JournalEntry]) -> None:
    """Change one row and give it and all rows after it the hashes that they would have."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM journal WHERE sequence >= %s ORDER BY sequence", (sequence,), binary=True
        ).fetchall()
        entries = [JournalEntry(*row) for row in rows]
        previous_hash = entries[0].previous_hash
        entries[0] = change(entries[0])
        for entry in entries:
            chained = msgspec.structs.replace(entry, previous_hash=previous_hash, hash=b"")
            previous_hash = hash_of(chained)
            connection.execute(
                "UPDATE journal SET epoch = %s, time_us = %s, command = %s, events = %s, previous_hash = %s, hash = %s "
                "WHERE sequence = %s",
                (
                    chained.epoch,
                    chained.time_us,
                    chained.command,
                    chained.events,
                    chained.previous_hash,
                    previous_hash,
                    chained.sequence,
                ),
            )
        # The snapshots would be forged as well.
        connection.execute(
            "UPDATE snapshots SET journal_hash = journal.hash FROM journal WHERE journal.sequence = snapshots.sequence"
        )


def hash_of(entry: JournalEntry) -> bytes:
    """The hash that a row with this content has."""
    return entry_hash(
        entry.previous_hash,
        entry.sequence,
        entry.epoch,
        entry.time_us,
        entry.command_id,
        entry.request_id,
        entry.request_hash,
        entry.command,
        entry.events,
    )
