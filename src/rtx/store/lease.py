"""The lease that makes one engine the leader, judged by the database's clock alone.

Every change that an engine may wait for is told to a channel (:mod:`rtx.store.engine_watch`).
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from rtx.store.connection import Database
from rtx.store.engine_watch import CHANNEL
from rtx.store.handovers import MAY_TAKE


class Candidate(msgspec.Struct, frozen=True):
    """An engine that would lead. ``holder`` names one place that runs one engine at a time."""

    holder: str
    address: str
    colour: str
    version: str


class Acquired(msgspec.Struct, frozen=True):
    """A lease that was taken: its epoch, and how long before that nobody led (0 before the first leader)."""

    epoch: int
    away_us: int


class Release(msgspec.Struct, frozen=True):
    """How a leader lets go: only ``successor`` may take the lease for ``successor_s`` seconds, where one is named.

    ``stopped_s``: how long ago it took its last command, when it goes in order; ``handover_id``: the order that it
    carries out (None: it goes by itself).
    """

    successor: str = ""
    successor_s: float = 0.0
    stopped_s: float | None = None
    handover_id: int | None = None


class Lease(msgspec.Struct, frozen=True):
    """Who leads: ``expires_in_s`` counts from the database's now, 0 or less: nobody does.

    ``successor`` is the holder that may take a released lease, for ``successor_in_s`` seconds before all others.
    """

    epoch: int
    holder: str
    address: str
    colour: str
    version: str
    expires_in_s: float
    acquired_at_us: int
    successor: str = ""
    successor_in_s: float = 0.0


class LeaseStore:
    """The lease in PostgreSQL (see :class:`rtx.store.protocols.LeaseBackend`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, candidate: Candidate, ttl_s: float) -> Acquired | None:
        """Take a lease that ran out, and return the new epoch; None: another holds it, or is to take it.

        Only the successor that the last leader named may take it while its time lasts, unless it has ended; then
        engines of the active colour (that of the last leader), and those that an order to hand over means. When the
        active colour has just changed and its first leader did not live to renew, those of the colour before may too.

        Waits for a commit under the old epoch that is on its way: once this returned, no such commit is written.
        Only renewing shows that a leader is there (``renewed_at``): one that dies before is taken for one that never
        was, because it may not have written down how long nobody led before it.
        """
        row = await self._database.fetchrow(
            f"""
            WITH taken AS (
                UPDATE engine_lease SET epoch = epoch + 1, holder = $1, address = $2, colour = $3, version = $4,
                    expires_at = clock_timestamp() + $5, acquired_at = clock_timestamp(), released = false,
                    fallback_colour = CASE colour WHEN $3 THEN fallback_colour ELSE colour END,
                    successor = '', previous_renewed_at = renewed_at,
                    renewed_at = CASE WHEN isfinite(renewed_at) THEN renewed_at ELSE clock_timestamp() END
                WHERE expires_at <= clock_timestamp() AND {MAY_TAKE}
                RETURNING epoch, acquired_at, previous_renewed_at
            ), recorded AS (
                UPDATE engine_handovers SET state = 'taken', to_epoch = taken.epoch, to_holder = $1,
                    taken_at = acquired_at,
                    pause_ms = extract(epoch FROM acquired_at - coalesce(stopped_at, requested_at)) * 1000
                FROM taken WHERE state = 'released'
                    OR (state = 'requested' AND expires_at > clock_timestamp() AND target IN ($1, $3))
            )
            SELECT epoch, CASE WHEN isfinite(previous_renewed_at)
                THEN (extract(epoch FROM acquired_at - previous_renewed_at) * 1000000)::bigint ELSE 0 END,
                pg_notify('{CHANNEL}', '') FROM taken
            """,  # noqa: S608 - constants
            candidate.holder,
            candidate.address,
            candidate.colour,
            candidate.version,
            timedelta(seconds=ttl_s),
        )
        return None if row is None else Acquired(row[0], max(0, row[1]))

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        """Hold the lease for another ``ttl_s`` seconds from now; False: it is lost, or was let go.

        A lease that ran out but that nobody took yet is renewed: the epoch alone decides who may write.
        """
        status = await self._database.execute(
            "UPDATE engine_lease SET expires_at = clock_timestamp() + $2, renewed_at = clock_timestamp(),"
            " fallback_colour = '' WHERE epoch = $1 AND NOT released",
            epoch,
            timedelta(seconds=ttl_s),
        )
        return status == "UPDATE 1"

    async def release(self, epoch: int, release: Release | None = None) -> bool:
        """Let the lease run out at once, so that the next engine need not wait; False: it was lost before.

        When the order that it carries out was withdrawn meanwhile, the successor is not named.
        """
        release = release or Release()
        row = await self._database.fetchrow(
            f"""
            WITH carried_out AS (
                UPDATE engine_handovers SET state = 'released', stopped_at = clock_timestamp() - $5::interval
                FROM engine_lease WHERE epoch = $1 AND handover_id = $4 AND state = 'requested'
                RETURNING handover_id
            ), released AS (
                UPDATE engine_lease SET expires_at = clock_timestamp(), renewed_at = clock_timestamp(),
                    released = true, successor_until = clock_timestamp() + $3,
                    successor = CASE WHEN $4::bigint IS NULL OR EXISTS (SELECT FROM carried_out) THEN $2 ELSE '' END
                WHERE epoch = $1 RETURNING epoch, holder
            ), recorded AS (
                INSERT INTO engine_handovers (target, state, reason, from_epoch, from_holder, expires_at, stopped_at)
                SELECT '', 'released',
                    CASE WHEN $4::bigint IS NULL THEN 'the leader was told to stop' ELSE 'the order was withdrawn' END,
                    epoch, holder, clock_timestamp(), clock_timestamp() - $5::interval
                FROM released WHERE NOT EXISTS (SELECT FROM carried_out) AND $5::interval IS NOT NULL
            )
            SELECT pg_notify('{CHANNEL}', '') FROM released
            """,  # noqa: S608 - constants
            epoch,
            release.successor,
            timedelta(seconds=release.successor_s),
            release.handover_id,
            None if release.stopped_s is None else timedelta(seconds=release.stopped_s),
        )
        return row is not None

    async def surrender(self, holder: str) -> bool:
        """Let a lease of ``holder``'s run out at once; for an engine that begins anew where the last leader was.

        The caller must not lead. ``renewed_at`` keeps the time until which the engine before it was alive.
        """
        row = await self._database.fetchrow(
            f"""
            WITH surrendered AS (
                UPDATE engine_lease SET expires_at = clock_timestamp(), released = true
                WHERE holder = $1 AND expires_at > clock_timestamp() RETURNING epoch
            )
            SELECT pg_notify('{CHANNEL}', '') FROM surrendered
            """,  # noqa: S608 - constants
            holder,
        )
        return row is not None

    async def read(self) -> Lease | None:
        """Return the lease as it stands, or None when nobody ever held it."""
        row = await self._database.fetchrow(
            """
            SELECT epoch, holder, address, colour, version,
                extract(epoch FROM expires_at - clock_timestamp())::float8 AS expires_in_s,
                (extract(epoch FROM acquired_at) * 1000000)::bigint AS acquired_at_us, successor,
                CASE WHEN isfinite(successor_until)
                    THEN extract(epoch FROM successor_until - clock_timestamp())::float8 ELSE 0 END AS successor_in_s
            FROM engine_lease WHERE epoch > 0
            """
        )
        return None if row is None else Lease(*row)
