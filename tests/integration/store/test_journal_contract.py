"""What every journal and lease does, whatever it is made of: the engine and the simulator rely on the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest
import pytest_asyncio
from tests.fakes.journal import FakeJournal
from tests.fakes.leadership import FakeHandovers, FakeLease, FakeReplicas, FakeWatch, take_lease
from tests.integration.store.trading import ALICE, BASE, BOB, Trading

from rtx.core.commands import CancelOrder
from rtx.core.vocabulary import BUY, SELL
from rtx.store import migrate
from rtx.store.connection import connect_engine
from rtx.store.engine_watch import EngineWatch
from rtx.store.entries import Snapshot
from rtx.store.errors import (
    CommandKnownError,
    JournalCorruptError,
    ProjectionError,
    SequenceTakenError,
    StaleEpochError,
)
from rtx.store.handovers import HandoverOrder, HandoverPendingError, HandoverStore
from rtx.store.journal import JournalStore
from rtx.store.lease import Acquired, Candidate, LeaseStore, Release
from rtx.store.protocols import HandoverBackend, JournalBackend, LeaseBackend, ReplicaBackend, Watch
from rtx.store.replicas import DIVERGED, FOLLOWING, RECOVERING, STOPPED, ReplicaReport, ReplicaStore

TTL_S = 60.0


@dataclass
class Backend:
    """A journal under a lease, and ways to spoil it behind its back."""

    journal: JournalBackend
    lease: LeaseBackend
    handovers: HandoverBackend
    replicas: ReplicaBackend
    watch: Watch
    forget_row: Callable[[int], Awaitable[None]]
    forge_row: Callable[[int], Awaitable[None]]
    let_expire: Callable[[], Awaitable[None]]
    let_expire_lease: Callable[[], Awaitable[None]]

    async def lead(self) -> Trading:
        """Take the lease and return an exchange to trade under it."""
        epoch = await take_lease(self.lease, "engine", ttl_s=TTL_S)
        assert epoch is not None
        return Trading(epoch)

    async def trade(self) -> Trading:
        """Commit an open market and three orders, of which one trades, in two batches."""
        trading = await self.lead()
        trading.open_market()
        await self.journal.commit(trading.take_batch())
        trading.place(ALICE, SELL, 100, 5)
        trading.place(BOB, BUY, 100, 3)
        trading.place(BOB, BUY, 90, 1)
        await self.journal.commit(trading.take_batch())
        return trading


@pytest.fixture(params=["postgresql", "fake"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def backend(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if kind == "fake":
        yield fake_backend()
        return
    url = request.getfixturevalue("database_url")
    migrate.upgrade(url)
    connection = await connect_engine(url)

    async def forget_row(sequence: int) -> None:
        await connection.execute("DELETE FROM journal WHERE sequence = $1", sequence)

    async def forge_row(sequence: int) -> None:
        await connection.execute("UPDATE journal SET time_us = time_us + 1 WHERE sequence = $1", sequence)

    async def let_expire() -> None:
        await connection.execute(
            "UPDATE engine_lease SET expires_at = now(), successor_until = now(),"
            " renewed_at = renewed_at - make_interval(secs => 1)"
        )
        await connection.execute("UPDATE engine_handovers SET expires_at = now()")

    async def let_expire_lease() -> None:
        await connection.execute("UPDATE engine_lease SET expires_at = now()")

    watch = EngineWatch(lambda: connect_engine(url))
    await watch.start()
    yield Backend(
        JournalStore(connection),
        LeaseStore(connection),
        HandoverStore(connection),
        ReplicaStore(connection),
        watch,
        forget_row,
        forge_row,
        let_expire,
        let_expire_lease,
    )
    watch.stop()
    await connection.close()


def fake_backend() -> Backend:
    now_s = [0.0]
    lease = FakeLease(lambda: now_s[0])
    journal = FakeJournal(lease)

    async def forget_row(sequence: int) -> None:
        del journal.rows[sequence]

    async def forge_row(sequence: int) -> None:
        entry = journal.rows[sequence]
        journal.rows[sequence] = msgspec.structs.replace(entry, time_us=entry.time_us + 1)

    async def let_expire() -> None:
        now_s[0] += TTL_S

    async def let_expire_lease() -> None:
        assert await lease.renew(lease.epoch, 0.0)

    return Backend(
        journal,
        lease,
        FakeHandovers(lease),
        FakeReplicas(lambda: now_s[0], lease),
        FakeWatch(lease),
        forget_row,
        forge_row,
        let_expire,
        let_expire_lease,
    )


async def test_what_was_committed_is_read_back(backend: Backend) -> None:
    trading = await backend.lead()
    trading.open_market()
    first = trading.take_batch()
    await backend.journal.commit(first)
    trading.place(ALICE, SELL, 100, 5)
    second = trading.take_batch()
    await backend.journal.commit(second)

    entries = [*first.entries, *second.entries]
    assert await backend.journal.read_after(0, 1000) == entries
    assert await backend.journal.read_after(3, 2) == entries[3:5]
    assert await backend.journal.read_after(entries[-1].sequence, 10) == []
    assert await backend.journal.last_entry() == entries[-1]
    wanted = [entries[4].command_id, bytes(16), entries[1].command_id]
    assert await backend.journal.find_commands(wanted) == [entries[1], entries[4]]


async def test_an_empty_journal_has_nothing(backend: Backend) -> None:
    assert await backend.journal.last_entry() is None
    assert await backend.journal.read_after(0, 10) == []
    assert await backend.journal.find_commands([bytes(16)]) == []
    assert await backend.journal.load_snapshot() is None


async def test_a_stale_epoch_writes_nothing(backend: Backend) -> None:
    trading = await backend.trade()
    last = await backend.journal.last_entry()
    await backend.let_expire()
    await backend.lead()
    trading.place(ALICE, SELL, 101, 1)
    with pytest.raises(StaleEpochError):
        await backend.journal.commit(trading.take_batch())
    assert await backend.journal.last_entry() == last


async def test_an_epoch_that_ran_out_writes_until_it_is_taken(backend: Backend) -> None:
    trading = await backend.trade()
    await backend.let_expire()
    trading.place(ALICE, SELL, 101, 1)
    await backend.journal.commit(trading.take_batch())
    last = await backend.journal.last_entry()
    assert last is not None
    assert last.sequence == trading.sequence


async def test_a_sequence_is_written_once(backend: Backend) -> None:
    trading = await backend.trade()
    trading.place(ALICE, SELL, 101, 1)
    batch = trading.take_batch()
    await backend.journal.commit(batch)
    other = [msgspec.structs.replace(batch.entries[0], command_id=b"another command!")]
    with pytest.raises(SequenceTakenError):
        await backend.journal.commit(msgspec.structs.replace(batch, entries=other))
    assert await backend.journal.last_entry() == batch.entries[-1]


async def test_a_command_is_written_once(backend: Backend) -> None:
    trading = await backend.trade()
    first = await backend.journal.read_after(0, 1)
    trading.place(ALICE, SELL, 101, 1)
    batch = trading.take_batch()
    other = [msgspec.structs.replace(batch.entries[0], command_id=first[0].command_id)]
    with pytest.raises(CommandKnownError):
        await backend.journal.commit(msgspec.structs.replace(batch, entries=other))
    await backend.journal.commit(batch)


async def test_a_change_of_an_order_that_is_not_there_is_refused_whole(backend: Backend) -> None:
    trading = await backend.trade()
    trading.place(ALICE, SELL, 101, 1, "lost")
    trading.take_batch()
    last = await backend.journal.last_entry()
    trading.apply(CancelOrder(ALICE, 1, client_order_id="lost"))
    lost = trading.take_batch()
    with pytest.raises(ProjectionError):
        await backend.journal.commit(lost)
    assert await backend.journal.last_entry() == last


async def test_a_negative_balance_is_refused_whole(backend: Backend) -> None:
    trading = await backend.trade()
    last = await backend.journal.last_entry()
    trading.place(ALICE, SELL, 101, 1)
    batch = trading.take_batch()
    for balance in ((ALICE, BASE, -1, 0), (ALICE, BASE, 0, -1)):
        with pytest.raises(ProjectionError):
            await backend.journal.commit(msgspec.structs.replace(batch, balances=[balance]))
    assert await backend.journal.last_entry() == last


async def test_a_gap_is_named(backend: Backend) -> None:
    await backend.trade()
    await backend.forget_row(4)
    assert len(await backend.journal.read_after(0, 3)) == 3
    with pytest.raises(JournalCorruptError) as error:
        await backend.journal.read_after(0, 100)
    assert error.value.sequence == 4
    with pytest.raises(JournalCorruptError) as error:
        await backend.journal.read_after(4, 100)
    assert error.value.sequence == 4


async def test_a_journal_without_its_beginning_is_named(backend: Backend) -> None:
    await backend.trade()
    await backend.forget_row(1)
    with pytest.raises(JournalCorruptError) as error:
        await backend.journal.read_after(0, 100)
    assert error.value.sequence == 1


async def test_a_forged_row_is_named_by_every_reader(backend: Backend) -> None:
    trading = await backend.trade()
    await backend.forge_row(trading.sequence)
    with pytest.raises(JournalCorruptError) as error:
        await backend.journal.read_after(0, 100)
    assert error.value.sequence == trading.sequence
    with pytest.raises(JournalCorruptError):
        await backend.journal.read_after(trading.sequence, 100)
    with pytest.raises(JournalCorruptError):
        await backend.journal.last_entry()


async def test_the_newest_snapshot_is_loaded(backend: Backend) -> None:
    await backend.trade()
    snapshots = [
        Snapshot(entry.sequence, entry.hash, b"hash", b"state %d" % entry.sequence)
        for entry in await backend.journal.read_after(0, 6)
    ]
    for snapshot in snapshots:
        await backend.journal.save_snapshot(snapshot)
        await backend.journal.save_snapshot(snapshot)
        assert await backend.journal.load_snapshot() == snapshot


async def test_a_snapshot_of_another_journal_is_refused(backend: Backend) -> None:
    await backend.trade()
    await backend.journal.save_snapshot(Snapshot(3, bytes(32), b"hash", b"state"))
    with pytest.raises(JournalCorruptError) as error:
        await backend.journal.load_snapshot()
    assert error.value.sequence == 3


async def test_a_snapshot_before_a_row_is_found(backend: Backend) -> None:
    await backend.trade()
    snapshots = [
        Snapshot(entry.sequence, entry.hash, b"hash", b"state %d" % entry.sequence)
        for entry in await backend.journal.read_after(0, 3)
    ]
    for snapshot in snapshots:
        await backend.journal.save_snapshot(snapshot)
    assert await backend.journal.load_snapshot(3) == snapshots[1]
    assert await backend.journal.load_snapshot(1) is None


async def test_one_holder_at_a_time(backend: Backend) -> None:
    assert await backend.lease.read() is None
    first = await backend.lease.acquire(Candidate("one", "10.0.0.1:1", "blue", "1.0"), TTL_S)
    assert first == Acquired(1, 0)
    assert await backend.lease.acquire(Candidate("two", "10.0.0.2:1", "blue", "1.1"), TTL_S) is None
    lease = await backend.lease.read()
    assert lease is not None
    assert (lease.epoch, lease.holder, lease.address, lease.colour, lease.version) == (
        1,
        "one",
        "10.0.0.1:1",
        "blue",
        "1.0",
    )
    assert 0 < lease.expires_in_s <= TTL_S


async def test_a_lease_that_ran_out_is_taken_and_the_old_one_is_lost(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.renew(1, TTL_S)
    await backend.let_expire()
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) == 2
    assert not await backend.lease.renew(1, TTL_S)
    assert not await backend.lease.release(1)
    lease = await backend.lease.read()
    assert lease is not None
    assert lease.holder == "two"


async def test_the_lease_of_one_who_begins_anew_is_free_at_once(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert not await backend.lease.surrender("two")
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) is None
    assert await backend.lease.surrender("one")
    assert not await backend.lease.surrender("one")
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) == 2
    assert not await backend.lease.renew(1, TTL_S)


async def test_a_released_lease_is_free_at_once(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.release(1)
    lease = await backend.lease.read()
    assert lease is not None
    assert lease.expires_in_s <= 0
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) == 2


async def test_a_renewal_that_comes_after_the_release_changes_nothing(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.release(1)
    assert not await backend.lease.renew(1, TTL_S)
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) == 2


async def test_a_lease_nobody_took_can_be_renewed_late(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    await backend.let_expire()
    assert await backend.lease.renew(1, TTL_S)
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) is None


async def test_only_the_named_successor_takes_it_while_its_time_lasts(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.release(1, Release("three", TTL_S / 2))
    lease = await backend.lease.read()
    assert lease is not None
    assert lease.successor == "three"
    assert 0 < lease.successor_in_s <= TTL_S / 2
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "three", colour="green", ttl_s=TTL_S) == 2
    lease = await backend.lease.read()
    assert lease is not None
    assert lease.successor == ""


async def test_others_take_it_when_the_successor_does_not(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.release(1, Release("three", TTL_S / 2))
    await backend.let_expire()
    assert await take_lease(backend.lease, "green one", colour="green", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 2


async def test_another_colour_takes_it_only_when_told_to(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    await backend.let_expire()
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) is None
    handover_id = await backend.handovers.request("green", TTL_S)
    assert await backend.handovers.pending() == HandoverOrder(handover_id, "green")
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) == 2
    # Now green is the active colour, and the order is carried out.
    assert await backend.lease.renew(2, TTL_S)
    assert await backend.handovers.pending() is None
    await backend.let_expire()
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "three", colour="green", ttl_s=TTL_S) == 3


async def test_a_colour_that_could_not_lead_gives_way_to_the_one_before(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.renew(1, TTL_S)
    assert await backend.lease.release(1, Release("two", TTL_S / 2))
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) == 2
    assert await backend.lease.surrender("two")
    assert await take_lease(backend.lease, "three", colour="red", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 3
    # Back and forth: neither has kept the lease yet.
    assert await backend.lease.release(3)
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) == 4
    assert await backend.lease.renew(4, TTL_S)
    assert await backend.lease.release(4)
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) is None


@pytest.mark.parametrize("state", [STOPPED, DIVERGED])
async def test_a_successor_that_has_ended_is_not_waited_for(backend: Backend, state: str) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.release(1, Release("three", TTL_S / 2))
    await backend.replicas.report(ReplicaReport("three", "", "blue", "1", 1, state, 0, 9, 0, 0, 0.0))
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) == 2


async def test_an_order_may_mean_one_engine(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    await backend.handovers.request("three", TTL_S)
    assert await take_lease(backend.lease, "three", colour="green", ttl_s=TTL_S) is None
    await backend.let_expire_lease()
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "three", colour="green", ttl_s=TTL_S) == 2


async def test_one_order_waits_at_a_time_and_none_for_ever(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    first = await backend.handovers.request("green", TTL_S / 2)
    with pytest.raises(HandoverPendingError):
        await backend.handovers.request("blue", TTL_S)
    await backend.let_expire()
    assert await backend.handovers.pending() is None
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) is None
    second = await backend.handovers.request("two", TTL_S)
    assert not await backend.handovers.refuse(first, "too late to refuse")
    assert await backend.handovers.refuse(second, "no such engine")
    assert await backend.handovers.pending() is None


async def test_an_order_that_was_withdrawn_in_the_last_moment_names_nobody(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    handover_id = await backend.handovers.request("green", TTL_S)
    assert await backend.handovers.refuse(handover_id, "withdrawn")
    assert await backend.lease.release(1, Release("two", TTL_S, stopped_s=0.01, handover_id=handover_id))
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 2


async def test_an_order_cannot_be_withdrawn_once_the_leader_let_go(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    handover_id = await backend.handovers.request("green", TTL_S)
    assert await backend.lease.release(1, Release("two", TTL_S, stopped_s=0.01, handover_id=handover_id))
    assert not await backend.handovers.refuse(handover_id, "withdrawn")
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) is None
    assert await take_lease(backend.lease, "two", colour="green", ttl_s=TTL_S) == 2


async def test_an_order_that_ran_out_is_not_taken_for_carried_out(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    handover_id = await backend.handovers.request("two", TTL_S / 2)
    await backend.let_expire()
    assert await take_lease(backend.lease, "two", ttl_s=TTL_S) == 2
    assert await backend.handovers.refuse(handover_id, "nobody carried it out in time")


async def test_who_leads_after_a_pause_is_told_how_long_nobody_did(backend: Backend) -> None:
    assert await backend.lease.acquire(Candidate("one", "", "blue", "1"), TTL_S) == Acquired(1, 0)
    assert await backend.lease.renew(1, TTL_S)
    await backend.let_expire()
    acquired = await backend.lease.acquire(Candidate("two", "", "blue", "1"), TTL_S)
    assert acquired is not None
    assert 0 < acquired.away_us <= TTL_S * 1_000_000


async def test_a_leader_that_never_renewed_was_not_there(backend: Backend) -> None:
    assert await take_lease(backend.lease, "one", ttl_s=TTL_S) == 1
    assert await backend.lease.renew(1, TTL_S)
    away_us = []
    for holder in ("two", "three"):
        await backend.let_expire()
        acquired = await backend.lease.acquire(Candidate(holder, "", "blue", "1"), TTL_S)
        assert acquired is not None
        away_us.append(acquired.away_us)
    assert 0 < away_us[0] < away_us[1]


async def test_engines_report_themselves(backend: Backend) -> None:
    report = ReplicaReport("one", "10.0.0.1:1", "blue", "1.0", 2, FOLLOWING, 7, 100, 90, 3, 1.5, rules=1)
    await backend.replicas.report(report)
    await backend.replicas.report(msgspec.structs.replace(report, holder="two", colour="green"))
    await backend.replicas.report(msgspec.structs.replace(report, sequence=110))
    first, second = await backend.replicas.all()
    assert msgspec.structs.replace(first, seen_s=0.0, started_s=0.0) == msgspec.structs.replace(report, sequence=110)
    assert (second.holder, second.colour) == ("two", "green")
    await backend.replicas.forget_old()
    assert len(await backend.replicas.all()) == 2


async def test_from_where_on_a_version_is_suspect_is_kept(backend: Backend) -> None:
    assert await backend.replicas.suspect_sequence("1.0") == 0
    for holder, agreed, diverged in (("one", 90, 95), ("two", 80, 100), ("three", 85, 110)):
        await backend.replicas.report(
            ReplicaReport(holder, "", "blue", "1.0", 1, DIVERGED, 7, 99, agreed, 0, 0.0, diverged, "other events")
        )
    # Between the last comparison and where it shows, every row may be the one.
    assert await backend.replicas.suspect_sequence("1.0") == 81
    assert await backend.replicas.suspect_sequence("1.1") == 0
    assert await backend.replicas.suspect_sequence("1.0", "three") == 86
    assert await backend.replicas.suspect_sequence("1.0", "four") == 0
    # It is not over when the engine starts again, but when it follows.
    again = ReplicaReport("two", "", "blue", "1.0", 1, RECOVERING, 0, 0, 80, 0, 0.0, diverged_sequence=81)
    await backend.replicas.report(again)
    assert await backend.replicas.suspect_sequence("1.0") == 81
    await backend.replicas.report(msgspec.structs.replace(again, state=FOLLOWING, diverged_sequence=0))
    assert await backend.replicas.suspect_sequence("1.0") == 86


@pytest.mark.parametrize("change", ["release", "surrender", "acquire", "request"])
async def test_who_waits_hears_of_it(backend: Backend, change: str) -> None:
    epoch = await take_lease(backend.lease, "one", ttl_s=TTL_S)
    assert epoch == 1
    if change == "acquire":
        await backend.let_expire()
    while await backend.watch.wait(0.1):
        pass
    waiting = asyncio.create_task(backend.watch.wait(TTL_S))
    if change == "release":
        await backend.lease.release(epoch)
    elif change == "surrender":
        await backend.lease.surrender("one")
    elif change == "acquire":
        await take_lease(backend.lease, "two", ttl_s=TTL_S)
    else:
        await backend.handovers.request("green", TTL_S)
    assert await waiting
