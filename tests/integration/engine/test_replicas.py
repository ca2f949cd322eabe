"""Several engines on one journal: who follows, who takes over, who must not, and that nothing is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from tests.integration.engine.builds import build
from tests.integration.engine.cluster import ACCOUNTS, BASE, TIMEOUT_S, Cluster, Load, eventually, open_market

from rtx.core.commands import Checkpoint, Deposit
from rtx.engine.recovery import recover
from rtx.engine.snapshotter import EXIT_JOURNAL, save_snapshot
from rtx.link.client import EngineClient
from rtx.store.handovers import Handover, HandoverStore
from rtx.store.journal import JournalStore
from rtx.store.replicas import DIVERGED, FOLLOWING, LEADING, STOPPED, ReplicaReport, ReplicaStore

LONG_LEASE: Final = {"LEASE_TTL_S": "60", "LEASE_RENEWAL_S": "1"}
"""Nobody takes over within a test because such a lease ran out."""

SHORT_LEASE: Final = {"LEASE_TTL_S": "1.0", "LEASE_RENEWAL_S": "0.3"}
MANY_CHECKPOINTS: Final = {"CHECKPOINT_COMMANDS": "100"}

MARKED: Final = "marked for the faulty build"
ON_MARKED_DEPOSIT: Final = f'if type(command) is Deposit and command.reference == "{MARKED}":'
FORGETS_NOTHING_BUT_DIFFERS: Final = {
    "core/exchange.py": (
        "    def _deposit(self, command: Deposit) -> list[AnyEvent]:\n",
        "    def _deposit(self, command: Deposit) -> list[AnyEvent]:\n"
        f'        if command.reference == "{MARKED}":\n'
        '            self.deadlines[(command.account_id, "a fault")] = 1\n',
    )
}
"""A build whose state differs after a marked deposit, although the deposit's events are the same."""


async def reports(cluster: Cluster) -> dict[str, ReplicaReport]:
    """What the engines say of themselves, by holder."""
    return {report.holder: report for report in await ReplicaStore(cluster.pool).all()}


async def until_state(cluster: Cluster, holder: str, state: str) -> ReplicaReport:
    """Wait until an engine says that it is in this state."""

    async def is_in_it() -> bool:
        report = (await reports(cluster)).get(holder)
        return report is not None and report.state == state

    await eventually(is_in_it)
    return (await reports(cluster))[holder]


async def hand_over(cluster: Cluster, target: str) -> Handover:
    """Order a handover; gives it when it was taken or refused."""
    handovers = HandoverStore(cluster.pool)
    handover_id = await handovers.request(target, TIMEOUT_S)

    async def is_over() -> bool:
        handover = await handovers.read(handover_id)
        return handover is not None and handover.state in ("taken", "refused")

    await eventually(is_over)
    handover = await handovers.read(handover_id)
    assert handover is not None
    return handover


async def checkpoint(client: EngineClient, name: str) -> int:
    """Have the states of all engines compared; gives the journal row."""
    return (await client.submit(Checkpoint(), request_id=name, timeout_s=TIMEOUT_S)).sequence


async def keep_snapshot(cluster: Cluster) -> int:
    """Keep a snapshot as of now; gives the row that it was made after."""
    journal = JournalStore(cluster.pool)
    recovered = await recover(journal)
    await save_snapshot(journal, recovered.exchange, recovered.sequence, recovered.journal_hash)
    return recovered.sequence


async def deposit(client: EngineClient, reference: str) -> int:
    """One more journal row; gives its position."""
    command = Deposit(ACCOUNTS[0], BASE, 1, reference)
    return (await client.submit(command, request_id=reference, timeout_s=TIMEOUT_S)).sequence


async def test_a_state_that_differs_without_a_sign_is_found_at_the_checkpoint_and_not_forgotten(
    cluster: Cluster, tmp_path: Path
) -> None:
    faulty = build(tmp_path / "faulty", "0.0.9", FORGETS_NOTHING_BUT_DIFFERS)
    cluster.start_engine("leader", **LONG_LEASE)
    await cluster.until_led("leader")
    standby = cluster.start_engine("faulty", build=faulty)
    async with cluster.client() as client:
        await open_market(client)
        await until_state(cluster, "faulty", FOLLOWING)
        await deposit(client, MARKED)
        await deposit(client, "after it")
        # The leader keeps a snapshot of a state that the faulty build never computed.
        kept = await keep_snapshot(cluster)
        row = await checkpoint(client, "checkpoint")
        assert kept < row
        assert await standby.exit_code() == EXIT_JOURNAL
        report = (await reports(cluster))["faulty"]
        assert (report.state, report.diverged_sequence) == (DIVERGED, row)
        assert report.reason == f"journal row {row}: at this checkpoint the state is another one than the leader's"
        assert await keep_snapshot(cluster) >= row
        for _ in range(2):
            again = cluster.start_engine("faulty", build=faulty)
            assert await again.exit_code() == EXIT_JOURNAL
            assert (await reports(cluster))["faulty"].diverged_sequence == row
            assert "engine leads" not in again.log
        refused = await hand_over(cluster, "faulty")
        assert refused.state == "refused"
        assert "faulty is diverged (journal row" in refused.reason
        assert await deposit(client, "the leader goes on")
    assert (await cluster.lease()).epoch == 1
