"""A migrated database on which the test plays the engines: it takes leases and writes reports."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Mapping
from typing import Final

import asyncpg
import msgspec
from tests.integration.cli.program import Program, run

from rtx.store.handovers import Handover, HandoverStore
from rtx.store.lease import Acquired, Candidate, LeaseStore
from rtx.store.replicas import FOLLOWING, LEADING, ReplicaReport, ReplicaStore

TIMEOUT_S: Final = 30.0
POLL_INTERVAL_S: Final = 0.02
FRESH_S: Final = -3_600.0
"""Age of a report that does not get old while a test goes on, however slow the machine is."""


class PlayedExchange:
    """``variables`` is the environment of commands that are to look at it."""

    def __init__(self, database_url: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.variables: dict[str, str] = {"DATABASE_URL": database_url}
        self.pool = pool
        self.leases = LeaseStore(pool)
        self.handovers = HandoverStore(pool)
        self.replicas = ReplicaStore(pool)

    async def lead(self, holder: str, colour: str = "blue", *, ttl_s: float = 60.0, reports: bool = True) -> Acquired:
        """Have this engine take the lease and say so."""
        acquired = await self.leases.acquire(Candidate(holder, "127.0.0.1:4001", colour, "0.1.0"), ttl_s)
        assert acquired is not None
        if reports:
            await self.report(holder, colour, state=LEADING, epoch=acquired.epoch)
        return acquired

    async def report(
        self,
        holder: str,
        colour: str = "blue",
        *,
        seen_s: float = FRESH_S,
        state: str = FOLLOWING,
        epoch: int = 0,
        rules_latest: int = 2,
        sequence: int = 120,
        diverged_sequence: int = 0,
        reason: str = "",
        rules: int = 1,
    ) -> None:
        """Have this engine say something of itself, so many seconds ago."""
        report = ReplicaReport(
            holder, "127.0.0.1:4002", colour, "0.1.0", rules_latest, state, epoch, sequence, 100, 3, 1.5
        )
        await self.replicas.report(
            msgspec.structs.replace(report, diverged_sequence=diverged_sequence, reason=reason, rules=rules)
        )
        await self.pool.execute(
            "UPDATE engine_replicas SET seen_at = seen_at - make_interval(secs => $2) WHERE holder = $1", holder, seen_s
        )

    async def end_lease(self) -> None:
        """Let the leader be gone without a word."""
        await self.pool.execute("UPDATE engine_lease SET expires_at = now()")

    async def run(
        self, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, while this goes on."""
        return await asyncio.to_thread(run, *arguments, variables={**self.variables, **(variables or {})})

    async def order(self, number: int = 1) -> Handover:
        """Wait until the order with this number was given."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                handover = await self.handovers.read(number)
                if handover is not None:
                    return handover
                await asyncio.sleep(POLL_INTERVAL_S)

    def start(self, *arguments: str) -> Program:
        """Start a command that goes on."""
        return Program(*arguments, **self.variables)


async def said(program: Program, *wanted: str) -> None:
    """Wait until a command says this."""
    await asyncio.to_thread(program.read_until, *wanted)


async def interrupted(program: Program) -> int:
    """Press Ctrl-C; gives the exit code."""
    program.process.send_signal(signal.SIGINT)
    return await asyncio.to_thread(program.read_to_end)
