"""Several replicas of one exchange, each a backend with processes and ports of its own, and who of them leads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.faults.backend import HERE, OFTEN, Place, ServeProcess, Servers
from tests.faults.exchange_client import Address
from tests.faults.venue import Operator

from rtx.store.connection import DATABASE_ERRORS, Pool, create_pool
from rtx.store.handovers import Handover, HandoverStore
from rtx.store.lease import Lease, LeaseStore
from rtx.store.replicas import FOLLOWING, LEADING, STOPPED, ReplicaReport, ReplicaStore

TAKEOVER_TIMEOUT_S: Final = 30.0
HANDOVER_TIMEOUT_S: Final = 15.0
AGREEMENT_TIMEOUT_S: Final = 30.0
REPORT_AGE_S_MAX: Final = 3.0
"""An engine reports each second: one that was silent for longer is gone."""

POLL_INTERVAL_S: Final = 0.01


class Replicas:
    """The replicas; they run inside of :func:`running_replicas`."""

    def __init__(self, members: Sequence[ServeProcess], pool: Pool) -> None:
        self.members = members
        self._pool = pool
        self._leases = LeaseStore(pool)
        self._handovers = HandoverStore(pool)
        self._reports = ReplicaStore(pool)

    @property
    def addresses(self) -> Sequence[Address]:
        """Where clients find them."""
        return [member.address for member in self.members]

    @property
    def database_url(self) -> str:
        """Where everything is kept."""
        return self.members[0].database_url

    @property
    def operator(self) -> Operator:
        """Who may do everything."""
        return self.members[0].operator

    async def lease(self) -> Lease:
        """The lease as it stands, once the database answers."""
        async with asyncio.timeout(TAKEOVER_TIMEOUT_S):
            while True:
                with contextlib.suppress(*DATABASE_ERRORS):
                    lease = await self._leases.read()
                    if lease is not None and lease.expires_in_s > 0:
                        return lease
                await asyncio.sleep(POLL_INTERVAL_S)

    async def leader(self) -> ServeProcess:
        """The replica whose engine leads."""
        return self.holding(await self.lease())

    def holding(self, lease: Lease) -> ServeProcess:
        """The replica that has the lease."""
        return self._member(lease.holder)

    def _member(self, holder: str) -> ServeProcess:
        # Every start of a backend adds something of its own to the name that it was given.
        name, _, _ = holder.partition("/")
        return next(member for member in self.members if member.name == name)

    def others(self, than: ServeProcess) -> Sequence[ServeProcess]:
        """All but one."""
        return [member for member in self.members if member is not than]

    async def led_after(self, epoch: int) -> Lease:
        """Wait for a leader of a later epoch than this."""
        async with asyncio.timeout(TAKEOVER_TIMEOUT_S):
            while True:
                lease = await self.lease()
                if lease.epoch > epoch:
                    return lease
                await asyncio.sleep(POLL_INTERVAL_S)

    async def last_handover(self) -> Handover:
        """The newest handover that was carried through; its pause is complete when the new leader has answered."""
        handover = await self._handovers.last_taken()
        assert handover is not None
        return handover

    async def hand_over(self, target: str) -> None:
        """Order a handover to a colour, holder or replica, and wait until it was taken."""
        holders = [report.holder for report in await self.reports() if self._member(report.holder).name == target]
        handover_id = await self._handovers.request(next(iter(holders), target), HANDOVER_TIMEOUT_S)
        async with asyncio.timeout(HANDOVER_TIMEOUT_S):
            while True:
                handover = await self._handovers.read(handover_id)
                assert handover is not None
                assert handover.state != "refused", handover.reason
                if handover.state == "taken":
                    return
                await asyncio.sleep(POLL_INTERVAL_S)

    async def command_handover(self, target: str) -> None:
        """Have `rtx handover` hand over to a colour or to the engine whose name begins so."""
        program = Path(sys.executable).with_name("rtx")
        process = await asyncio.create_subprocess_exec(
            *(program, "handover", "--to", target),
            env={**os.environ, "DATABASE_URL": self.database_url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    async def hand_over_to(self, member: ServeProcess) -> None:
        """Have the engine of this replica lead, once it is a standby."""
        async with asyncio.timeout(HANDOVER_TIMEOUT_S):
            while self.holding(await self.lease()) is not member:
                for report in await self.reports():
                    if report.state == FOLLOWING and self._member(report.holder) is member:
                        await self.hand_over(report.holder)
                        return
                await asyncio.sleep(POLL_INTERVAL_S)

    async def reports(self) -> Sequence[ReplicaReport]:
        """What the engines that run say of themselves."""
        reports = await self._reports.all()
        return [report for report in reports if report.state != STOPPED and report.seen_s < REPORT_AGE_S_MAX]

    async def agree(self) -> int:
        """Have the whole state of every engine compared; gives the journal row at which that was done.

        The leader writes its state's hash into the journal before it hands over, and every other engine compares.
        """
        await self._all_following()
        leader = (await self.lease()).holder
        successor = next(report.holder for report in await self.reports() if report.holder != leader)
        await self.hand_over(successor)
        async with asyncio.timeout(AGREEMENT_TIMEOUT_S):
            while True:
                reports = await self.reports()
                assert not [report.reason for report in reports if report.reason]
                rows = {report.checkpoint_sequence for report in reports}
                if len(reports) == len(self.members) and len(rows) == 1:
                    return rows.pop()
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _all_following(self) -> None:
        """Wait until every engine that does not lead is a standby."""
        async with asyncio.timeout(AGREEMENT_TIMEOUT_S):
            while True:
                states = sorted(report.state for report in await self.reports())
                if states == [FOLLOWING] * (len(self.members) - 1) + [LEADING]:
                    return
                await asyncio.sleep(POLL_INTERVAL_S)

    async def all_ready(self) -> None:
        """Wait until every replica serves."""
        await asyncio.gather(*(member.ready() for member in self.members))


def signal_engine(replica: ServeProcess, number: signal.Signals) -> None:
    """Send a signal to the engine of a replica."""
    os.kill(replica.process_id("engine"), number)


def make_members(
    directory: Path,
    servers: Servers,
    operator: Operator,
    *,
    colours: Sequence[str] = ("blue", "blue", "blue"),
    places: Sequence[Place] = (HERE, HERE, HERE),
    settings: Mapping[str, str] = OFTEN,
) -> list[ServeProcess]:
    """A replica for each colour and place; nothing is started."""
    members = []
    for number, (colour, place) in enumerate(zip(colours, places, strict=True), start=1):
        own = directory / f"replica-{number}"
        own.mkdir()
        members.append(
            ServeProcess(
                own, servers, operator, name=own.name, colour=colour, api_workers=1, place=place, settings=settings
            )
        )
    return members


@contextlib.asynccontextmanager
async def running_replicas(members: Sequence[ServeProcess]) -> AsyncIterator[Replicas]:
    """Start all, the first before the others so that it leads, and end them after the block."""
    pool = await create_pool(members[0].database_url, application_name="rtx-test", minimum_size=0, maximum_size=2)
    try:
        members[0].start()
        await members[0].ready()
        for member in members[1:]:
            member.start()
        replicas = Replicas(members, pool)
        await replicas.all_ready()
        yield replicas
    finally:
        await asyncio.gather(*(member.end() for member in members))
        pool.terminate()
