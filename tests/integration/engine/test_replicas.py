"""Several engines on one journal: who follows, who takes over, who must not, and that nothing is lost on the way."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from tests.integration.engine.builds import build
from tests.integration.engine.cluster import (
    ACCOUNTS,
    BASE,
    TIMEOUT_S,
    Cluster,
    Load,
    eventually,
    open_market,
)
from tests.integration.engine.replicas import checkpoint, hand_over, reports, until_state

from rtx.core.commands import Deposit
from rtx.engine.recovery import recover
from rtx.engine.snapshotter import EXIT_JOURNAL, save_snapshot
from rtx.link.client import EngineClient
from rtx.store.handovers import HandoverStore
from rtx.store.journal import JournalStore
from rtx.store.replicas import DIVERGED, FOLLOWING, LEADING, STOPPED, ReplicaReport, ReplicaStore

LONG_LEASE: Final = {"LEASE_TTL_S": "60", "LEASE_RENEWAL_S": "1"}
"""Nobody takes over within a test because such a lease ran out."""

SHORT_LEASE: Final = {"LEASE_TTL_S": "1.0", "LEASE_RENEWAL_S": "0.3"}
MANY_CHECKPOINTS: Final = {"CHECKPOINT_COMMANDS": "100"}

MARKED: Final = "marked for the faulty build"
_DEPOSIT: Final = "    def _deposit(self, command: Deposit) -> list[AnyEvent]:\n"
DIFFERS_SILENTLY: Final = {
    "core/exchange.py": (
        _DEPOSIT,
        (
            f'{_DEPOSIT}        if command.reference == "{MARKED}":\n'
            '            self.deadlines[(command.account_id, "a fault")] = 1\n'
        ),
    )
}
"""A build whose state differs after a marked deposit, although the deposit's events are the same."""

DIFFERS: Final = {
    "core/exchange.py": (
        _DEPOSIT,
        f'{_DEPOSIT}        if command.reference == "{MARKED}":\n            return []\n',
    )
}
"""A build that computes other events from a marked deposit."""


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


async def test_standbys_follow_and_compare_their_states(cluster: Cluster) -> None:
    cluster.start_engine("leader", **LONG_LEASE, **MANY_CHECKPOINTS)
    await cluster.until_led("leader")
    cluster.start_engine("blue")
    cluster.start_engine("green", COLOUR="green")
    async with cluster.client() as client:
        await open_market(client)
        for holder in ("blue", "green"):
            await until_state(cluster, holder, FOLLOWING)
        async with Load(client, commands=1_000).running():
            pass

        async def have_compared() -> bool:
            row = await cluster.pool.fetchval("SELECT max(sequence) FROM journal WHERE request_id = 'engine'")
            known = await reports(cluster)
            # A report that came with a checkpoint was written while more rows came.
            return row is not None and all(
                known[holder].checkpoint_sequence == row and known[holder].lag_rows == 0
                for holder in ("leader", "blue", "green")
            )

        await eventually(have_compared)
        known = await reports(cluster)
        assert known["leader"].state == LEADING
        for holder, colour in (("blue", "blue"), ("green", "green")):
            report = known[holder]
            assert (report.colour, report.state, report.rules, report.lag_rows) == (colour, FOLLOWING, 1, 0)


async def test_a_state_that_differs_without_a_sign_is_found_at_the_checkpoint_and_not_forgotten(
    cluster: Cluster, tmp_path: Path
) -> None:
    faulty = build(tmp_path / "faulty", "0.0.9", DIFFERS_SILENTLY)
    cluster.start_engine("leader", **LONG_LEASE)
    await cluster.until_led("leader")
    standby = cluster.start_build(faulty, "faulty")
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
            again = cluster.start_build(faulty, "faulty")
            assert await again.exit_code() == EXIT_JOURNAL
            assert (await reports(cluster))["faulty"].diverged_sequence == row
            assert "engine leads" not in again.log
        refused = await hand_over(cluster, "faulty")
        assert refused.state == "refused"
        assert "faulty is diverged (journal row" in refused.reason
        assert await deposit(client, "the leader goes on")
    assert (await cluster.lease()).epoch == 1


async def test_a_fault_of_one_engine_does_not_bind_others_of_the_leader_s_version(cluster: Cluster) -> None:
    cluster.start_engine("leader", **LONG_LEASE)
    await cluster.until_led("leader")
    async with cluster.client() as client:
        await open_market(client)
        kept = await keep_snapshot(cluster)
        version = (await cluster.lease()).version
        fault = ReplicaReport(
            "faulty", "", "blue", version, 2, DIVERGED, 0, 0, kept - 2, 0, 0.0, kept - 1, "other events"
        )
        await ReplicaStore(cluster.pool).report(fault)
        healthy, faulty = cluster.start_engine("healthy", **LONG_LEASE), cluster.start_engine("faulty", **LONG_LEASE)
        for holder in ("healthy", "faulty"):
            await until_state(cluster, holder, FOLLOWING)
    assert "the rows from there on are done again" in faulty.log
    assert "the rows from there on are done again" not in healthy.log


async def test_a_standby_that_computes_other_events_says_where_and_never_leads(
    cluster: Cluster, tmp_path: Path
) -> None:
    faulty = build(tmp_path / "faulty", "0.0.9", DIFFERS)
    leader = cluster.start_engine("leader", **SHORT_LEASE)
    await cluster.until_led("leader")
    standby = cluster.start_build(faulty, "faulty", **SHORT_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        await until_state(cluster, "faulty", FOLLOWING)
        row = await deposit(client, MARKED)
        assert await standby.exit_code() == EXIT_JOURNAL
        report = (await reports(cluster))["faulty"]
        assert (report.state, report.diverged_sequence) == (DIVERGED, row)
        assert "this program computes other events than the journal holds" in report.reason
        assert await keep_snapshot(cluster) >= row
        leader.kill()
        # Alone with a lease that runs out, it still does not lead; the build that wrote the journal does.
        again = cluster.start_build(faulty, "faulty", **SHORT_LEASE)
        assert await again.exit_code() == EXIT_JOURNAL
        assert (await cluster.lease()).epoch == 1
        cluster.start_engine("faulty", **SHORT_LEASE)
        await cluster.until_led("faulty")
        assert (await until_state(cluster, "faulty", LEADING)).diverged_sequence == 0


@pytest.mark.kill
async def test_the_book_is_handed_over_under_load_by_colour_and_by_holder(cluster: Cluster) -> None:
    cluster.start_engine("blue-1", **LONG_LEASE)
    await cluster.until_led("blue-1")
    cluster.start_engine("green-1", COLOUR="green", **LONG_LEASE)
    cluster.start_engine("green-2", COLOUR="green", **LONG_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        for holder in ("green-1", "green-2"):
            await until_state(cluster, holder, FOLLOWING)
        load = Load(client, commands=6_000)
        async with load.running():
            for number, target in enumerate(("green", "blue", "green-2", "green-1", "blue-1", "green"), start=2):
                await load.answered(200)
                handover = await hand_over(cluster, target)
                assert handover.state == "taken", handover.reason
                lease = await cluster.lease()
                assert (lease.epoch, lease.holder) == (number, handover.to_holder)
                assert target in (lease.holder, lease.colour)
                assert handover.pause_ms is not None
        await cluster.check(client, load)
        epochs = await cluster.pool.fetch("SELECT DISTINCT epoch FROM journal ORDER BY epoch")
        assert [row["epoch"] for row in epochs] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.kill
async def test_another_takes_over_when_the_successor_does_not(cluster: Cluster) -> None:
    cluster.start_engine("blue-1", **SHORT_LEASE)
    await cluster.until_led("blue-1")
    cluster.start_engine("blue-2", **SHORT_LEASE)
    green = cluster.start_engine("green-1", COLOUR="green", **SHORT_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        await until_state(cluster, "blue-2", FOLLOWING)
        await until_state(cluster, "green-1", FOLLOWING)
        load = Load(client, commands=3_000)
        async with load.running():
            await load.answered(300)
            handovers = HandoverStore(cluster.pool)
            async with letting_go_held_up(cluster):
                handover_id = await handovers.request("green", TIMEOUT_S)
                await eventually(lambda: is_letting_go(cluster))
                green.signal(signal.SIGSTOP)
            lease = await cluster.until_epoch(2)
            assert lease.holder in ("blue-1", "blue-2")
            green.signal(signal.SIGCONT)
            handover = await handovers.read(handover_id)
            assert handover is not None
            assert (handover.state, handover.from_holder, handover.to_holder) == ("taken", "blue-1", lease.holder)
        await cluster.check(client, load)
        # It follows again, and is good for the next order.
        await until_state(cluster, "green-1", FOLLOWING)
        assert (await hand_over(cluster, "green")).to_holder == "green-1"


@contextlib.asynccontextmanager
async def letting_go_held_up(cluster: Cluster) -> AsyncIterator[None]:
    """Have a leader that has named its successor wait until the end of the block before the lease is released."""
    await cluster.pool.execute(
        """
        CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
        CREATE TRIGGER hold_up BEFORE UPDATE ON engine_lease FOR EACH ROW
            WHEN (NEW.released AND NEW.successor <> '') EXECUTE FUNCTION hold_up();
        """
    )
    async with cluster.pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock(1)")
        yield
        await connection.execute("SELECT pg_advisory_unlock(1)")


async def is_letting_go(cluster: Cluster) -> bool:
    """Whether a leader waits for the end of that block."""
    waiting: int = await cluster.pool.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )
    return waiting > 0


async def test_an_order_that_cannot_be_carried_out_leaves_the_leader_leading(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start_engine("blue-1", **LONG_LEASE)
    await cluster.until_led("blue-1")
    stopped = cluster.start_engine("green-1", COLOUR="green", **LONG_LEASE)
    faulty = cluster.start_build(build(tmp_path / "faulty", "0.0.9", DIFFERS), "green-2", COLOUR="green")
    async with cluster.client() as client:
        await open_market(client)
        for holder in ("green-1", "green-2"):
            await until_state(cluster, holder, FOLLOWING)
        row = await deposit(client, MARKED)
        assert await faulty.exit_code() == EXIT_JOURNAL
        assert await stopped.terminate() == 0
        await until_state(cluster, "green-1", STOPPED)
        for target, reason in (
            ("nobody", "there is no engine nobody"),
            ("blue", "blue leads already (by blue-1); name a holder to move within a colour"),
            ("blue-1", "blue-1 leads already"),
            ("green-1", "no engine of green-1 can take over: green-1 is stopped"),
            ("green-2", f"no engine of green-2 can take over: green-2 is diverged (journal row {row}: "),
            ("green", "no engine of green can take over: green-1 is stopped; green-2 is diverged"),
        ):
            refused = await hand_over(cluster, target)
            assert refused.state == "refused"
            assert refused.reason.startswith(reason)
        await deposit(client, "the leader goes on")
    assert (await cluster.lease()).epoch == 1


async def test_an_engine_that_workers_could_not_reach_does_not_lead(cluster: Cluster) -> None:
    cluster.start_engine("blue-1", **LONG_LEASE)
    await cluster.until_led("blue-1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cluster.start_engine("green-1", COLOUR="green", ENGINE_ADDRESS=address, ENGINE_PORT=free_port(), **LONG_LEASE)
        async with cluster.client() as client:
            await open_market(client)
            await until_state(cluster, "green-1", FOLLOWING)
            refused = await hand_over(cluster, "green")
            assert refused.state == "refused"
            assert refused.reason.startswith(f"green-1 cannot be reached at {address}")
            await deposit(client, "the leader goes on")
    assert (await cluster.lease()).epoch == 1


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.mark.kill
async def test_a_leader_that_is_told_to_go_is_followed_at_once_by_its_own_colour(cluster: Cluster) -> None:
    leader = cluster.start_engine("blue-1", **LONG_LEASE)
    await cluster.until_led("blue-1")
    cluster.start_engine("blue-2", **LONG_LEASE)
    cluster.start_engine("green-1", COLOUR="green", **LONG_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        for holder in ("blue-2", "green-1"):
            await until_state(cluster, holder, FOLLOWING)
        load = Load(client, commands=1_000)
        async with load.running():
            await load.answered(300)
            assert await leader.terminate() == 0
            assert (await cluster.until_led("blue-2")).epoch == 2
        await cluster.check(client, load)
        last = await HandoverStore(cluster.pool).last_taken()
        assert last is not None
        assert (last.from_holder, last.to_holder, last.to_epoch) == ("blue-1", "blue-2", 2)


async def test_another_colour_does_not_take_over_until_it_is_told_to(cluster: Cluster) -> None:
    leader = cluster.start_engine("blue-1", **LONG_LEASE)
    await cluster.until_led("blue-1")
    cluster.start_engine("green-1", COLOUR="green", **LONG_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        await until_state(cluster, "green-1", FOLLOWING)
        assert await leader.terminate() == 0
        # It looks at the lease ten times between two of its reports.
        started = (await reports(cluster))["green-1"].started_s

        async def has_reported_twice() -> bool:
            return (await reports(cluster))["green-1"].started_s > started + 2

        await eventually(has_reported_twice)
        lease = await cluster.lease()
        assert (lease.epoch, lease.holder) == (1, "blue-1")
        assert lease.expires_in_s <= 0
        assert (await hand_over(cluster, "green")).to_holder == "green-1"
        await deposit(client, "green leads")
    assert (await cluster.lease()).colour == "green"


@pytest.mark.kill
async def test_a_killed_leader_is_followed_by_its_own_colour_once_the_lease_is_over(cluster: Cluster) -> None:
    leader = cluster.start_engine("blue-1", **SHORT_LEASE)
    await cluster.until_led("blue-1")
    cluster.start_engine("blue-2", **SHORT_LEASE)
    cluster.start_engine("green-1", COLOUR="green", **SHORT_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        for holder in ("blue-2", "green-1"):
            await until_state(cluster, holder, FOLLOWING)
        load = Load(client, commands=1_000)
        async with load.running():
            await load.answered(300)
            leader.kill()
            assert (await cluster.until_led("blue-2")).epoch == 2
        await cluster.check(client, load)


@pytest.mark.kill
async def test_an_engine_that_starts_again_where_the_leader_died_gives_way_to_a_standby(cluster: Cluster) -> None:
    leader = cluster.start_engine("blue-1", **LONG_LEASE)
    await cluster.until_led("blue-1")
    cluster.start_engine("blue-2", **LONG_LEASE)
    async with cluster.client() as client:
        await open_market(client)
        await until_state(cluster, "blue-2", FOLLOWING)
        load = Load(client, commands=1_000)
        async with load.running():
            await load.answered(300)
            leader.kill()
            cluster.start_engine("blue-1", **LONG_LEASE)
            assert (await cluster.until_led("blue-2")).epoch == 2
        await until_state(cluster, "blue-1", FOLLOWING)
        await cluster.check(client, load)
