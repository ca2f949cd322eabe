"""Whatever goes wrong beside the matching, the leader goes on, or lets others lead at once."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.fakes.journal import FakeJournal
from tests.fakes.leadership import take_lease
from tests.unit.engine.leader import TIMEOUT_S, Worker, bid, new_command_id
from tests.unit.engine.replica import Replica, World

from rtx.core.commands import AnyCommand, encode_command
from rtx.core.events import encode_events
from rtx.engine.standby import DivergedError
from rtx.engine.term import TermEndedError
from rtx.link.messages import SUBMIT, UNAVAILABLE, Request
from rtx.store.entries import Batch, JournalEntry, entry_hash
from rtx.store.handovers import HandoverOrder
from rtx.store.lease import Acquired, Candidate
from rtx.store.replicas import DIVERGED, FOLLOWING, LEADING, RECOVERING, ReplicaReport


@pytest.fixture
async def world() -> World:
    return await World.open()


async def free(world: World) -> None:
    """Have the engine before let go."""
    assert await world.lease.release(world.lease.epoch)


def request(command: AnyCommand) -> Request:
    return Request(1, SUBMIT, msgspec.Raw(encode_command(command)), new_command_id(), "request")


@pytest.mark.parametrize("fault", [ValueError("not thought of"), ConnectionError("cut")])
async def test_an_order_is_carried_out_although_looking_for_one_failed(
    world: World, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    found = asyncio.Event()
    pending = world.handovers.pending

    async def fail_first() -> HandoverOrder | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise fault
        order = await pending()
        if order is not None:
            found.set()
        return order

    monkeypatch.setattr(world.handovers, "pending", fail_first)
    await free(world)
    replica = Replica(world)
    await replica.until(replica.publisher.announced)
    await world.handovers.request("green", 10.0)
    await replica.until(found)
    await replica.stop()
    assert looks > 1


async def test_it_reports_again_after_a_report_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = False
    reported = asyncio.Event()
    report = world.replicas.report

    async def fail_first(one: ReplicaReport) -> None:
        nonlocal failed
        if one.state == LEADING and not failed:
            failed = True
            raise ValueError("not thought of")
        await report(one)
        if one.state == LEADING:
            reported.set()

    monkeypatch.setattr(world.replicas, "report", fail_first)
    await free(world)
    replica = Replica(world)
    await replica.until(reported)
    await replica.stop()


@pytest.mark.parametrize("state", [DIVERGED, RECOVERING])
async def test_one_that_follows_no_more_is_no_successor_whatever_it_compared_before(world: World, state: str) -> None:
    commit = world.journal.commit

    def report(state: str, checkpoint_sequence: int, reason: str = "") -> ReplicaReport:
        address = replica.service._engine.address
        return ReplicaReport("other", address, "green", "1", 1, state, 0, 7, checkpoint_sequence, 0, 0.0, 0, reason, 1)

    async def commit_and_leave(batch: Batch) -> None:
        await commit(batch)
        await world.replicas.report(report(state, batch.entries[-1].sequence, "its state is another one"))

    await free(world)
    replica = Replica(world)
    await replica.until(replica.publisher.announced)
    await world.replicas.report(report(FOLLOWING, 0))
    world.journal.commit = commit_and_leave  # type: ignore[method-assign]
    handover_id = await world.handovers.request("green", 10.0)
    refused = asyncio.Event()
    refuse = world.handovers.refuse

    async def note(handover_id: int, reason: str) -> bool:
        refused.set()
        return await refuse(handover_id, reason)

    world.handovers.refuse = note  # type: ignore[method-assign]
    await replica.until(refused)
    await replica.stop()
    (order,) = (order for order in world.lease.orders if order.handover_id == handover_id)
    assert (order.state, order.reason) == ("refused", f"other is {state}: its state is another one")


async def test_what_is_unanswered_is_sent_back_before_anything_else_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = asyncio.Event()
    goes_on = asyncio.Event()
    report = world.replicas.report

    async def hang(one: ReplicaReport) -> None:
        await report(one)
        if one.state == LEADING:
            hangs.set()
            while not goes_on.is_set():
                # A database client that waits for its cancelled statement.
                try:
                    await goes_on.wait()
                except asyncio.CancelledError:
                    continue

    monkeypatch.setattr(world.replicas, "report", hang)
    world.journal.holds_commits = True
    await free(world)
    replica = Replica(world)
    await replica.until(hangs)
    worker, order = Worker(), request(bid())
    replica.service._handle(worker, [order])
    commit = await world.journal.next_commit()
    assert replica.service._term is not None
    replica.service._term.end(TermEndedError("another engine has the lease"))
    try:
        assert (await worker.answer(order)).status == UNAVAILABLE
    finally:
        goes_on.set()
    commit.fail(ConnectionError("cut"))
    await replica.until(replica.publisher.retired)
    await replica.stop()


async def test_one_that_diverges_as_it_takes_the_lease_gives_it_back_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = world.lease.acquire

    async def acquire_late(candidate: Candidate, ttl_s: float) -> Acquired | None:
        before = world.lease.epoch
        acquired = await acquire(candidate, ttl_s)
        if acquired is not None and candidate.holder == "engine":
            # The last batch of the leader before, which this engine reads only now.
            world.journal.rows |= _last_batch_with_other_events(world, before)
        return acquired

    monkeypatch.setattr(world.lease, "acquire", acquire_late)
    await free(world)
    replica = Replica(world)
    with pytest.raises(DivergedError):
        async with asyncio.timeout(TIMEOUT_S):
            await replica.run
    assert await take_lease(world.lease, "other") is not None


async def test_one_that_is_told_to_stop_and_cannot_commit_gives_the_lease_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: FakeJournal, batch: Batch) -> None:
        raise ConnectionError("cut")

    await free(world)
    replica = Replica(world)
    await replica.until(replica.publisher.announced)
    monkeypatch.setattr(FakeJournal, "commit", fail)
    worker, order = Worker(), request(bid())
    replica.service._handle(worker, [order])
    await replica.stop()
    assert (await worker.answer(order)).status == UNAVAILABLE
    assert await take_lease(world.lease, "other") is not None


def _last_batch_with_other_events(world: World, epoch: int) -> dict[int, JournalEntry]:
    """A row whose events no engine computes, in good order otherwise."""
    world.trading.apply(bid())
    (entry,) = world.trading.take_batch().entries
    events = encode_events([])
    changed = msgspec.structs.replace(entry, epoch=epoch, events=events)
    changed_hash = entry_hash(
        changed.previous_hash,
        changed.sequence,
        epoch,
        changed.time_us,
        changed.command_id,
        changed.request_id,
        changed.request_hash,
        changed.command,
        events,
    )
    return {changed.sequence: msgspec.structs.replace(changed, hash=changed_hash)}
