"""What every engine says of itself, so that leader, operators and probes know who could take over."""

from __future__ import annotations

import msgspec

from rtx.store.connection import Database

RECOVERING = "recovering"
FOLLOWING = "following"
LEADING = "leading"
DIVERGED = "diverged"
STOPPED = "stopped"


class ReplicaReport(msgspec.Struct, frozen=True):
    """One engine, as it sees itself.

    ``sequence`` is the journal row that it has; ``checkpoint_sequence`` the newest row at which its state hash was
    compared with the leader's (of a diverged engine: the newest at which it was right). ``lag_ms`` is how long after
    its commit the last row was there (0 when none came since the report before). ``diverged_sequence`` and ``reason``
    say where a diverged one stopped; the former is not 0 either while it reads the journal up to there again.
    ``rules`` are the matching rules in force (0: not known yet), ``rules_latest`` the newest that it could compute by.
    ``seen_s`` is the report's age in seconds, ``started_s`` that of the engine.
    """

    holder: str
    address: str
    colour: str
    version: str
    rules_latest: int
    state: str
    epoch: int
    sequence: int
    checkpoint_sequence: int
    lag_rows: int
    lag_ms: float
    diverged_sequence: int = 0
    reason: str = ""
    rules: int = 0
    started_s: float = 0.0
    seen_s: float = 0.0


_FORGOTTEN_AFTER = "1 day"


class ReplicaStore:
    """The reports in PostgreSQL (see :class:`rtx.store.protocols.ReplicaBackend`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, report: ReplicaReport) -> None:
        """Write down what an engine says of itself now; its last report goes."""
        await self._database.execute(
            """
            INSERT INTO engine_replicas (holder, address, colour, version, rules_latest, state, epoch, sequence,
                checkpoint_sequence, lag_rows, lag_ms, diverged_sequence, reason, rules, started_at, seen_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                clock_timestamp() - make_interval(secs => $15), clock_timestamp())
            ON CONFLICT (holder) DO UPDATE SET address = excluded.address, colour = excluded.colour,
                version = excluded.version, rules_latest = excluded.rules_latest, state = excluded.state,
                epoch = excluded.epoch, sequence = excluded.sequence,
                checkpoint_sequence = excluded.checkpoint_sequence, lag_rows = excluded.lag_rows,
                lag_ms = excluded.lag_ms, diverged_sequence = excluded.diverged_sequence, reason = excluded.reason,
                rules = excluded.rules, started_at = excluded.started_at, seen_at = excluded.seen_at
            """,
            *msgspec.structs.astuple(report)[:15],
        )

    async def all(self) -> list[ReplicaReport]:
        """Every report of the last day, by colour and holder."""
        rows = await self._database.fetch(
            """
            SELECT holder, address, colour, version, rules_latest, state, epoch, sequence, checkpoint_sequence,
                lag_rows, lag_ms, diverged_sequence, reason, rules,
                extract(epoch FROM clock_timestamp() - started_at)::float8,
                extract(epoch FROM clock_timestamp() - seen_at)::float8
            FROM engine_replicas WHERE seen_at > clock_timestamp() - $1::text::interval ORDER BY colour, holder
            """,
            _FORGOTTEN_AFTER,
        )
        return [ReplicaReport(*row) for row in rows]

    async def divergence(self, holder: str) -> tuple[int, str] | None:
        """Journal row and reason where this engine came to another state than the leader; None where it did not."""
        row = await self._database.fetchrow(
            "SELECT diverged_sequence, reason FROM engine_replicas WHERE holder = $1 AND diverged_sequence > 0", holder
        )
        return None if row is None else (row[0], row[1])

    async def forget_old(self) -> None:
        """Remove the reports of engines that have been gone for a day."""
        await self._database.execute(
            "DELETE FROM engine_replicas WHERE seen_at <= clock_timestamp() - $1::text::interval", _FORGOTTEN_AFTER
        )

    async def suspect_sequence(self, version: str, holder: str | None = None) -> int:
        """The lowest journal row from which on an engine of this version may have gone wrong; 0: none diverged.

        With ``holder`` that engine alone counts. A wrong state may show at a later row than where it came about: all
        rows after the last comparison are suspect.
        """
        sequence: int | None = await self._database.fetchval(
            "SELECT min(checkpoint_sequence + 1) FROM engine_replicas"
            " WHERE version = $1 AND diverged_sequence > 0 AND holder = coalesce($2, holder)",
            version,
            holder,
        )
        return sequence or 0
