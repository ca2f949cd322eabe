"""An engine that dies, hangs or is told to go loses nothing, and the next one goes on where it ended."""

from __future__ import annotations

import asyncio
import signal

import pytest
from tests.integration.engine.cluster import TIMEOUT_S, Cluster, Load, address_of, eventually, open_market

from rtx.core.commands import Deposit
from rtx.engine import snapshotter
from rtx.engine.recovery import recover
from rtx.engine.snapshotter import save_snapshot
from rtx.link.client import EngineClient, EngineTimeoutError
from rtx.settings import Settings
from rtx.store.journal import JournalStore

SHORT_LEASE = {"LEASE_TTL_S": "1.0", "LEASE_RENEWAL_S": "0.3"}


@pytest.mark.kill
async def test_an_engine_killed_under_load_loses_nothing(cluster: Cluster) -> None:
    engine = cluster.start_engine(SNAPSHOT_COMMANDS="300")
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            await load.answered(500)
            journal = JournalStore(cluster.pool)
            recovered = await recover(journal)
            await save_snapshot(journal, recovered.exchange, recovered.sequence, recovered.journal_hash)
            await load.answered(200)
            engine.kill()
            # as its supervisor does: the same place, so that it need not wait for the lease of the one that died
            cluster.start_engine()
        assert (await cluster.lease()).epoch == 2
        assert (await recover(journal)).snapshot_sequence >= recovered.sequence
        await cluster.check(client, load)


@pytest.mark.kill
async def test_another_engine_takes_over_when_the_leader_dies(cluster: Cluster) -> None:
    leader = cluster.start_engine("one", **SHORT_LEASE)
    await cluster.until_led("one")
    standby = cluster.start_engine("two", **SHORT_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            await load.answered(700)
            assert (await cluster.lease()).holder == "one"
            leader.kill()
            lease = await cluster.until_led("two")
        assert lease.epoch == 2
        assert "engine leads" in standby.log
        await cluster.check(client, load)


@pytest.mark.kill
async def test_a_leader_that_hung_beyond_its_lease_cannot_write(cluster: Cluster) -> None:
    hung = cluster.start_engine("one", **SHORT_LEASE)
    lease = await cluster.until_led("one")
    leader = cluster.start_engine("two", **SHORT_LEASE)
    hung_address = address_of(lease)

    async def locate_hung() -> tuple[str, int]:
        return hung_address

    async with cluster.client() as client, cluster.client(locate_hung) as faithful:
        await open_market(client)
        await faithful.state_hash(timeout_s=TIMEOUT_S)
        load = Load(client)
        async with load.running():
            await load.answered(500)
            hung.signal(signal.SIGSTOP)
            await ask_in_vain(faithful, "in-vain-1")
            takeover = await cluster.until_led("two")
            await load.answered(200)
            hung.signal(signal.SIGCONT)
            await ask_in_vain(faithful, "in-vain-2")
        rows = await cluster.pool.fetch("SELECT epoch, count(*), min(sequence) FROM journal GROUP BY epoch ORDER BY 1")
        assert [row["epoch"] for row in rows] == [lease.epoch, takeover.epoch]
        assert not {"in-vain-1", "in-vain-2"} & set(await cluster.request_ids())
        assert "term ended" in hung.log
        await cluster.check(client, load)
        # and it is good for leading again
        leader.kill()
        await cluster.until_led("one", after_epoch=takeover.epoch)
        await client.submit(Deposit(1001, 1, 1, "after"), request_id="after", timeout_s=TIMEOUT_S)


async def ask_in_vain(client: EngineClient, request_id: str) -> None:
    """Ask a former leader for a deposit, which it must not make."""
    with pytest.raises(EngineTimeoutError):
        await client.submit(Deposit(1001, 1, 1, request_id), request_id=request_id, timeout_s=0.5)


@pytest.mark.kill
async def test_an_engine_told_to_go_finishes_what_it_took(cluster: Cluster) -> None:
    engine = cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client)
        async with load.running():
            await load.answered(700)
            assert await engine.terminate() == 0
            assert (await cluster.lease()).expires_in_s <= 0
            snapshot = await JournalStore(cluster.pool).load_snapshot()
            assert snapshot is not None
            assert snapshot.sequence == await cluster.pool.fetchval("SELECT max(sequence) FROM journal")
            # another place: nothing but the released lease lets it lead at once
            cluster.start_engine("other")
        await cluster.check(client, load)


async def test_snapshots_are_kept_while_it_leads(cluster: Cluster) -> None:
    cluster.start_engine(SNAPSHOT_COMMANDS="100")
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client, commands=200, senders=8)
        async with load.running():
            pass

        async def is_kept() -> object:
            return await cluster.pool.fetchval("SELECT count(*) FROM snapshots WHERE sequence >= 100")

        await eventually(is_kept)
        await cluster.check(client, load)


async def test_several_snapshotters_do_not_disturb_each_other(cluster: Cluster) -> None:
    cluster.start_engine()
    async with cluster.client() as client:
        await open_market(client)
        load = Load(client, commands=500)
        async with load.running():
            settings = Settings(database_url=cluster.database_url, redis_url="", jwt_secret="")
            await asyncio.gather(*(snapshotter.run(settings) for _ in range(3)))
        await asyncio.gather(*(snapshotter.run(settings) for _ in range(3)))
        saved = await JournalStore(cluster.pool).load_snapshot()
        assert saved is not None
        assert saved.sequence == await client.position()
        await cluster.check(client, load)
