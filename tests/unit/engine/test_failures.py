"""When a commit fails, or nobody knows whether it did, nothing is guessed and nobody is left without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.fakes.leadership import take_lease
from tests.integration.store.trading import MARKET
from tests.unit.engine.leader import Leader, Waiting, Worker, hopeless

from rtx.core.exchange import Exchange
from rtx.core.snapshot import state_hash
from rtx.engine import sequencer as sequencer_module
from rtx.engine.sequencer import LeaseExpiredError, SequencerFailedError
from rtx.link.messages import APPLIED, FAULTED, QUERY_STATE_HASH, REJECTED, UNAVAILABLE, Request
from rtx.store.errors import StaleEpochError


def fail_unwritten(commit: Waiting) -> None:
    commit.fail(ConnectionError("lost before"))


def fail_written(commit: Waiting) -> None:
    commit.do_and_fail(TimeoutError("lost after"))


@pytest.mark.parametrize("end", [fail_unwritten, fail_written])
async def test_whatever_became_of_a_commit_its_command_is_done_once(end: Any) -> None:
    leader, worker = await Leader.start(), Worker()
    order, query, refused = leader.bid(price=7), leader.query_book(), leader.submit(hopeless())
    leader.sequencer.handle(worker, [order, query, refused])
    commit = await leader.journal.next_commit()
    next_order = leader.bid(price=8)
    leader.sequencer.handle(worker, [next_order])
    end(commit)
    requests = [order, query, refused, next_order]
    assert [(await worker.answer(request)).status for request in requests] == [UNAVAILABLE] * 4
    assert len(leader.recorder.failures) == 1
    leader.journal.holds_commits = False
    await leader.lead()
    again = [leader.again(request) for request in requests]
    leader.sequencer.handle(worker, again)
    assert (await worker.answer(again[0])).status == (await worker.answer(again[3])).status == APPLIED
    assert len(leader.journaled(order)) == len(leader.journaled(next_order)) == 1
    assert leader.exchange.book_levels(MARKET, 0)[0] == [(8, 1), (7, 1)]


async def test_a_failed_engine_takes_nothing_more() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.sequencer.handle(worker, [leader.bid()])
    (await leader.journal.next_commit()).fail(ConnectionError())
    late = leader.bid()
    with pytest.raises(SequencerFailedError):
        await leader.sequencer.close()
    leader.sequencer.handle(worker, [late])
    assert (await worker.answer(late)).status == UNAVAILABLE
    assert leader.journal.commit_count == 1


async def test_a_commit_that_ends_well_after_the_failure_was_declared_changes_no_answer() -> None:
    leader, worker = await Leader.start(), Worker()
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    commit = await leader.journal.next_commit()
    reason = RuntimeError("the lease was lost")
    leader.sequencer.fail(reason)
    assert worker.statuses(order) == [[UNAVAILABLE]]
    assert leader.recorder.failures == [reason]
    commit.go_on()
    await commit.ended.wait()
    # the next engine waits for that commit, finds its row, and tells whoever asks again
    await leader.lead()
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    assert (await worker.answer(again)).status == APPLIED
    assert worker.statuses(order) == [[UNAVAILABLE]]
    assert leader.recorder.updates == []


async def test_a_leader_that_was_replaced_cannot_commit() -> None:
    leader, worker = await Leader.start(), Worker()
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    commit = await leader.journal.next_commit()
    leader.now_s += 10
    assert await take_lease(leader.lease, "other", ttl_s=3.0) is not None
    commit.go_on()
    assert (await worker.answer(order)).status == UNAVAILABLE
    assert [type(error) for error in leader.recorder.failures] == [StaleEpochError]
    assert leader.journaled(order) == []


async def test_commands_that_are_looked_up_when_the_engine_fails_are_sent_back() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_lookups = True
    looked_up = leader.again(leader.bid())
    leader.sequencer.handle(worker, [looked_up, leader.bid()])
    await leader.journal.next_lookup()
    unstarted = leader.again(leader.bid())
    leader.sequencer.handle(worker, [unstarted])
    leader.sequencer.fail(RuntimeError("the lease was lost"))
    assert worker.statuses(looked_up, unstarted) == [[UNAVAILABLE], [UNAVAILABLE]]


async def test_a_lookup_that_ends_in_spite_of_its_cancellation_does_nothing() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_lookups = leader.journal.loses_cancellations = True
    looked_up = leader.again(leader.bid())
    leader.sequencer.handle(worker, [looked_up])
    lookup = await leader.journal.next_lookup()
    before = state_hash(leader.exchange)
    await leader.sequencer.close()
    lookup.go_on()
    for _ in range(5):
        await asyncio.sleep(0)
    assert worker.statuses(looked_up) == [[UNAVAILABLE]]
    assert state_hash(leader.exchange) == before
    assert leader.journal.commit_count == 0


class FaultError(Exception):
    """A fault in the core that nobody foresaw."""


def spoil_matching(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the exchange fail on the next order only."""
    original = exchange.apply

    def apply(command: Any, time_us: int) -> Any:
        monkeypatch.setattr(exchange, "apply", original)
        raise FaultError

    monkeypatch.setattr(exchange, "apply", apply)


def spoil_journaling(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a step fail that comes when the exchange has already changed."""

    def encode_events(events: object) -> Any:
        raise FaultError

    monkeypatch.setattr(sequencer_module, "encode_events", encode_events)


@pytest.mark.parametrize("spoil", [spoil_matching, spoil_journaling])
async def test_after_a_fault_nothing_of_the_spoilt_memory_is_kept(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, worker = await Leader.start(), Worker()
    position_before = await leader.recovered_state()
    before, poison, after, known = leader.bid(), leader.bid(), leader.bid(), leader.again(leader.bid())
    leader.sequencer.handle(worker, [before])
    with monkeypatch.context() as patch:
        spoil(leader.exchange, patch)
        leader.sequencer.handle(worker, [known, poison, after])
    assert worker.statuses(before, known, after) == [[UNAVAILABLE]] * 3
    assert FAULTED in worker.statuses(poison)[0]
    assert [type(error) for error in leader.recorder.failures] == [FaultError]
    with pytest.raises(SequencerFailedError):
        await leader.sequencer.close()
    assert leader.journal.commit_count == 0
    assert await leader.recovered_state() == position_before


async def test_a_fault_in_a_command_that_waited_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, worker = await Leader.start(batch_commands_max=1), Worker()
    first = leader.bid()
    leader.sequencer.handle(worker, [first])
    commit = await leader.journal.next_commit()
    second, poison, behind = leader.bid(), leader.bid(), leader.bid()
    leader.sequencer.handle(worker, [second, poison, behind])
    commit.go_on()
    assert (await worker.answer(first)).status == APPLIED
    commit = await leader.journal.next_commit()
    spoil_matching(leader.exchange, monkeypatch)
    commit.go_on()
    assert (await worker.answer(poison)).status == FAULTED
    assert (await worker.answer(second)).status == APPLIED
    assert (await worker.answer(behind)).status == UNAVAILABLE


async def test_a_fault_in_a_command_that_was_looked_up_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_lookups = True
    poison, behind = leader.again(leader.bid()), leader.again(leader.bid())
    leader.sequencer.handle(worker, [poison, behind])
    lookup = await leader.journal.next_lookup()
    spoil_matching(leader.exchange, monkeypatch)
    lookup.go_on()
    assert (await worker.answer(poison)).status == FAULTED
    assert (await worker.answer(behind)).status == UNAVAILABLE


async def test_without_a_valid_lease_nothing_is_taken() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.may_lead = False
    requests: list[Request] = [leader.bid(), leader.query_book(), leader.again(leader.bid())]
    leader.sequencer.handle(worker, requests)
    assert worker.statuses(*requests) == [[UNAVAILABLE]] * 3
    leader.may_lead = True
    leader.journal.holds_commits = False
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    assert (await worker.answer(order)).status == APPLIED


async def test_without_a_valid_lease_nothing_is_committed_and_no_query_answered() -> None:
    leader, worker = await Leader.start(), Worker()
    first, query, order = leader.bid(), leader.query_book(), leader.bid()
    leader.sequencer.handle(worker, [first])
    commit = await leader.journal.next_commit()
    leader.sequencer.handle(worker, [query, order])
    leader.may_lead = False
    commit.go_on()
    # what the database took under the epoch counts
    assert (await worker.answer(first)).status == APPLIED
    assert [(await worker.answer(one)).status for one in (query, order)] == [UNAVAILABLE] * 2
    assert [type(error) for error in leader.recorder.failures] == [LeaseExpiredError]
    assert leader.journal.commit_count == 1


async def test_a_lookup_that_ends_after_the_lease_takes_nothing() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_lookups = True
    again = leader.again(leader.bid())
    leader.sequencer.handle(worker, [again])
    lookup = await leader.journal.next_lookup()
    leader.may_lead = False
    lookup.go_on()
    assert (await worker.answer(again)).status == UNAVAILABLE


async def test_a_refused_command_changes_no_state() -> None:
    leader, worker = await Leader.start(), Worker()
    before = state_hash(leader.exchange)
    refused, query = leader.submit(hopeless()), leader.query(QUERY_STATE_HASH)
    leader.sequencer.handle(worker, [refused, query])
    assert (await worker.answer(refused)).status == REJECTED
    await worker.answer(query)
    assert state_hash(leader.exchange) == before
