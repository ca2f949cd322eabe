"""What tests of several engines ask of them: how they are, to compare their states, to hand over."""

from __future__ import annotations

from tests.integration.engine.cluster import TIMEOUT_S, Cluster, eventually

from rtx.core.commands import Checkpoint
from rtx.link.client import EngineClient
from rtx.store.handovers import Handover, HandoverStore
from rtx.store.replicas import ReplicaReport, ReplicaStore


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
