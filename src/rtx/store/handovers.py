"""Orders to hand the book over to another engine, and what became of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from rtx.store.connection import Database
from rtx.store.engine_watch import CHANNEL

MAY_TAKE: Final = """
    CASE WHEN successor <> '' AND successor_until > clock_timestamp() AND NOT EXISTS (
            SELECT FROM engine_replicas
            WHERE engine_replicas.holder = successor AND state IN ('diverged', 'stopped')
        ) THEN successor = $1
        ELSE colour IN ('', $3) OR fallback_colour = $3 OR EXISTS (
            SELECT FROM engine_handovers
            WHERE state = 'requested' AND engine_handovers.expires_at > clock_timestamp() AND target IN ($1, $3)
        ) END
"""
"""Condition on ``engine_lease``: whether holder ``$1`` of colour ``$3`` may take a lease that ran out."""


class HandoverOrder(msgspec.Struct, frozen=True):
    """An order that waits: ``target`` is a colour or a holder."""

    handover_id: int
    target: str


class Handover(msgspec.Struct, frozen=True):
    """An order to hand over, or a leader's end, and what became of it.

    ``state`` is requested, released (nobody took it yet), taken or refused (``reason`` says why). ``pause_ms``: from
    when the old leader took no more until the new one did.
    """

    handover_id: int
    target: str
    state: str
    reason: str
    from_epoch: int
    from_holder: str
    to_epoch: int | None
    to_holder: str
    requested_at: datetime
    pause_ms: float | None
    taken_at: datetime | None = None


class WaitingHandover(msgspec.Struct, frozen=True):
    """An order that waits, as people see it; ages and times left in seconds."""

    handover_id: int
    target: str
    age_s: float
    expires_in_s: float


class HandoverPendingError(Exception):
    """Another order waits to be carried out."""


_COLUMNS: Final = (
    "handover_id, target, state, reason, from_epoch, from_holder, to_epoch, to_holder, requested_at, pause_ms, taken_at"
)


class HandoverStore:
    """Handovers in PostgreSQL (see :class:`rtx.store.protocols.HandoverBackend`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, target: str, valid_s: float) -> int:
        """Order a handover, to be begun within ``valid_s`` seconds; returns its id.

        Raises :class:`HandoverPendingError` while another order waits.
        """
        await self._database.execute(
            "UPDATE engine_handovers SET state = 'refused', reason = 'nobody carried it out in time'"
            " WHERE state = 'requested' AND expires_at <= clock_timestamp()"
        )
        try:
            handover_id: int = await self._database.fetchval(
                f"""
                WITH ordered AS (
                    INSERT INTO engine_handovers (target, state, from_epoch, from_holder, expires_at)
                    SELECT $1, 'requested', epoch, holder, clock_timestamp() + $2::interval FROM engine_lease
                    RETURNING handover_id
                )
                SELECT handover_id, pg_notify('{CHANNEL}', '') FROM ordered
                """,  # noqa: S608 - constants
                target,
                timedelta(seconds=valid_s),
            )
        except asyncpg.UniqueViolationError as error:
            raise HandoverPendingError from error
        return handover_id

    async def pending(self) -> HandoverOrder | None:
        """The order that waits to be carried out, if there is one."""
        row = await self._database.fetchrow(
            "SELECT handover_id, target FROM engine_handovers"
            " WHERE state = 'requested' AND expires_at > clock_timestamp()"
        )
        return None if row is None else HandoverOrder(*row)

    async def waiting(self) -> WaitingHandover | None:
        """The order that waits, with its times."""
        row = await self._database.fetchrow(
            "SELECT handover_id, target, extract(epoch FROM clock_timestamp() - requested_at)::float8,"
            " extract(epoch FROM expires_at - clock_timestamp())::float8 FROM engine_handovers"
            " WHERE state = 'requested' AND expires_at > clock_timestamp()"
        )
        return None if row is None else WaitingHandover(*row)

    async def refuse(self, handover_id: int, reason: str) -> bool:
        """Say why an order is not carried out, or that it was withdrawn; False: it is too late for that."""
        status = await self._database.execute(
            "UPDATE engine_handovers SET state = 'refused', reason = $2 WHERE handover_id = $1 AND state = 'requested'",
            handover_id,
            reason,
        )
        return status == "UPDATE 1"

    async def note_serving(self, epoch: int, after_ms: float) -> None:
        """Add to the pause how long the leader of ``epoch`` took from its lease to its first command."""
        await self._database.execute(
            "UPDATE engine_handovers SET pause_ms = pause_ms + $2 WHERE to_epoch = $1 AND state = 'taken'",
            epoch,
            after_ms,
        )

    async def read(self, handover_id: int) -> Handover | None:
        """One handover."""
        row = await self._database.fetchrow(
            f"SELECT {_COLUMNS} FROM engine_handovers WHERE handover_id = $1",  # noqa: S608 - constants
            handover_id,
        )
        return None if row is None else Handover(*row)

    async def last_taken(self) -> Handover | None:
        """The newest handover that was carried through."""
        row = await self._database.fetchrow(
            f"SELECT {_COLUMNS} FROM engine_handovers WHERE state = 'taken'"  # noqa: S608 - constants
            " ORDER BY handover_id DESC LIMIT 1"
        )
        return None if row is None else Handover(*row)
