"""How far a replica of the database has come, and whether it is one of this exchange's database at all."""

from __future__ import annotations

import msgspec

from rtx.store.connection import Database


class ReplicaPosition(msgspec.Struct, frozen=True):
    """The newest journal row that is there: 0 and no hash of an empty journal."""

    sequence: int
    hash: bytes


async def read(database: Database) -> ReplicaPosition:
    """Return the position of the database; with a pool that leads to several replicas, of any."""
    row = await database.fetchrow("SELECT sequence, hash FROM journal ORDER BY sequence DESC LIMIT 1")
    return ReplicaPosition(0, b"") if row is None else ReplicaPosition(*row)


async def is_of(primary: Database, position: ReplicaPosition) -> bool:
    """Return whether ``primary`` has the row that a replica of it says to have."""
    if not position.sequence:
        return True
    found = await primary.fetchval("SELECT hash FROM journal WHERE sequence = $1", position.sequence)
    return bool(found == position.hash)
