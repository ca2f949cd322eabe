"""What the database says of the engines: who leads, who follows, and what keeps whom from leading.

`rtx status`, `rtx handover` and `rtx activate-rules` look at the same things and have to judge them alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from rtx.cli.database import fail_unreachable, first_line
from rtx.cli.messages import fail
from rtx.engine.succession import REPORT_AGE_S_MAX
from rtx.settings import redacted_url
from rtx.store.connection import DATABASE_ERRORS, Pool, create_pool
from rtx.store.handovers import Handover, HandoverStore, WaitingHandover
from rtx.store.lease import Lease, LeaseStore
from rtx.store.replicas import DIVERGED, FOLLOWING, RECOVERING, STOPPED, ReplicaReport, ReplicaStore

NOT_MIGRATED: Final = ("42P01", "42703")
"""PostgreSQL's codes for a table and a column that do not exist."""

GONE_S: Final = 600.0
"""An engine that was last heard of before this is nobody's concern any more."""

Result = TypeVar("Result")


class Engines(msgspec.Struct, frozen=True):
    """One look at the database; ``replicas`` are the reports of the last day, by colour and holder."""

    lease: Lease | None
    replicas: Sequence[ReplicaReport]
    last_handover: Handover | None
    waiting: WaitingHandover | None

    @property
    def leader(self) -> Lease | None:
        """The lease, while it holds."""
        return self.lease if self.lease is not None and self.lease.expires_in_s > 0 else None

    @property
    def active_colour(self) -> str:
        """Whose standbys take over by themselves; "" before the first leader."""
        return "" if self.lease is None else self.lease.colour

    @property
    def recent(self) -> Sequence[ReplicaReport]:
        """The reports of engines that run, or did until a few minutes ago."""
        return [report for report in self.replicas if report.seen_s < GONE_S]

    @property
    def rules(self) -> int:
        """The matching rules in force, as the engine that is furthest in the journal knows; 0: nobody said."""
        informed = [report for report in self.recent if report.rules]
        return max(informed, key=lambda report: report.sequence).rules if informed else 0


def is_alive(report: ReplicaReport) -> bool:
    """Whether an engine runs, as far as its last report tells."""
    return report.seen_s <= REPORT_AGE_S_MAX and report.state not in (STOPPED, DIVERGED)


async def read_engines(pool: Pool) -> Engines:
    """Look once; raises what the database raises."""
    handovers = HandoverStore(pool)
    return Engines(
        await LeaseStore(pool).read(),
        await ReplicaStore(pool).all(),
        await handovers.last_taken(),
        await handovers.waiting(),
    )


def on_database(url: str, application_name: str, work: Callable[[Pool], Awaitable[Result]]) -> Result:
    """Do ``work`` on the database; ends the command when that is out of reach or has other tables than expected."""

    async def run() -> Result:
        pool = await create_pool(url, application_name=application_name, maximum_size=2)
        try:
            return await work(pool)
        finally:
            pool.terminate()

    try:
        return asyncio.run(run())
    except DATABASE_ERRORS as error:
        if getattr(error, "sqlstate", "") in NOT_MIGRATED:
            fail(
                f"the database {redacted_url(url)} does not have the tables of this version",
                "run `rtx migrate` with the same DATABASE_URL first",
            )
        fail_unreachable(url, first_line(error))


def next_step(engines: Engines) -> str:
    """What somebody should do, or wait for, when no engine leads."""
    colour = engines.active_colour
    alive = [report for report in engines.replicas if is_alive(report)]
    if not alive:
        return _next_step_without_engines(engines)
    active = [report for report in alive if colour in ("", report.colour)]
    following = [report.holder for report in active if report.state == FOLLOWING]
    recovering = [report.holder for report in active if report.state == RECOVERING]
    if engines.lease is not None and engines.lease.successor_in_s > 0:
        return f"{engines.lease.successor} is named to take over; look again in a moment"
    if following:
        return f"{following[0]} follows and takes the lease within moments; look again"
    others = sorted({report.colour for report in alive if report.state == FOLLOWING} - {colour})
    otherwise = f"to let {others[0]} lead now: `rtx handover --to {others[0]}`" if others else ""
    if recovering:
        reading = f"{recovering[0]} reads the journal and leads when it is through"
        return f"{reading}; {otherwise}" if otherwise else reading
    if otherwise:
        return f"the active colour is {colour} and no {colour} engine follows; {otherwise}"
    return f"the active colour is {colour} and no engine follows; start one with `rtx serve` and RTX_COLOUR={colour}"


def _next_step_without_engines(engines: Engines) -> str:
    diverged = [report for report in engines.recent if report.state == DIVERGED]
    if diverged:
        newest = min(diverged, key=lambda report: report.seen_s)
        return (
            f"{newest.holder} (version {newest.version}) diverged and may not lead: {newest.reason}; "
            "start the version that wrote the journal"
        )
    colour = f" and RTX_COLOUR={engines.active_colour}" if engines.active_colour else ""
    return f"no engine runs: start one with `rtx serve`{colour}"
