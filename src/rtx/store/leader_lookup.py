"""Where the leader is, over a connection of its own that also hears when that changes.

Whoever looks for the leader must not wait behind slow reads for a connection of a pool, nor hang with one that the
network cut: a look that takes too long is broken off together with its connection, and the next look opens another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import msgspec

from rtx.store.engine_watch import CHANNEL, Connect
from rtx.store.lease import Lease, LeaseStore
from rtx.store.replicas import ReplicaStore


class LeaderLookup:
    """Reads the lease. ``on_change`` is called when it was released or taken, as long as the connection lasts."""

    def __init__(self, connect: Connect) -> None:
        self.on_change: Callable[[], None] = _do_nothing
        self._connect = connect
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def read(self) -> Lease | None:
        """Return the lease as it stands; while it waits for a named successor, with the successor's address.

        None when nobody ever held it. Raises :data:`rtx.store.connection.DATABASE_ERRORS`.
        """
        async with self._one_at_a_time:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                    await self._connection.add_listener(CHANNEL, self._hear)
                return await _with_successor(self._connection)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _hear(self, *_details: Any) -> None:
        self.on_change()


async def _with_successor(connection: asyncpg.Connection[asyncpg.Record]) -> Lease | None:
    lease = await LeaseStore(connection).read()
    if lease is None or lease.expires_in_s > 0 or not lease.successor or lease.successor_in_s <= 0:
        return lease
    for replica in await ReplicaStore(connection).all():
        if replica.holder == lease.successor:
            return msgspec.structs.replace(lease, address=replica.address)
    return lease


def _do_nothing() -> None:
    """Nobody listens."""
