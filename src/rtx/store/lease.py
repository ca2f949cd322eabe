"""The lease that makes one engine the leader, judged by the database's clock alone."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from rtx.store.connection import Database


class Lease(msgspec.Struct, frozen=True):
    """Who leads: ``expires_in_s`` counts from the database's now, 0 or less: nobody does."""

    epoch: int
    holder: str
    address: str
    colour: str
    version: str
    expires_in_s: float
    acquired_at_us: int


class LeaseStore:
    """The lease in PostgreSQL. Its epoch rises with every takeover and never falls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, holder: str, address: str, colour: str, version: str, ttl_s: float) -> int | None:
        """Take the lease if it has run out or was ``holder``'s own, and return the new epoch; None: another holds it.

        Waits for a commit under the old epoch that is on its way: once this returned, no such commit is written. A
        ``holder`` names one place that runs one engine at a time, so that an engine which was started again there need
        not wait for the lease of the one that died.
        """
        epoch: int | None = await self._database.fetchval(
            """
            UPDATE engine_lease SET epoch = epoch + 1, holder = $1, address = $2, colour = $3, version = $4,
                expires_at = clock_timestamp() + $5, acquired_at = clock_timestamp()
            WHERE expires_at <= clock_timestamp() OR holder = $1
            RETURNING epoch
            """,
            holder,
            address,
            colour,
            version,
            timedelta(seconds=ttl_s),
        )
        return epoch

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        """Hold the lease for another ``ttl_s`` seconds from now; False: it is lost.

        A lease that ran out but that nobody took yet is renewed: the epoch alone decides who may write.
        """
        return await self._extend(epoch, ttl_s)

    async def release(self, epoch: int) -> bool:
        """Let the lease run out at once, so that the next engine need not wait; False: it was lost before."""
        return await self._extend(epoch, 0.0)

    async def _extend(self, epoch: int, ttl_s: float) -> bool:
        status = await self._database.execute(
            "UPDATE engine_lease SET expires_at = clock_timestamp() + $2 WHERE epoch = $1",
            epoch,
            timedelta(seconds=ttl_s),
        )
        return status == "UPDATE 1"

    async def read(self) -> Lease | None:
        """Return the lease as it stands, or None when nobody ever held it."""
        row = await self._database.fetchrow(
            """
            SELECT epoch, holder, address, colour, version,
                extract(epoch FROM expires_at - clock_timestamp())::float8 AS expires_in_s,
                (extract(epoch FROM acquired_at) * 1000000)::bigint AS acquired_at_us
            FROM engine_lease WHERE epoch > 0
            """
        )
        return None if row is None else Lease(*row)
