"""What waits is done in its order, no more than a bounded number waits, and a clean end leaves nothing half done."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.engine.leader import Leader, Worker

from rtx.core.snapshot import state_hash
from rtx.engine.sequencer import SequencerFailedError
from rtx.link.messages import ANSWERED, APPLIED, OVERLOADED, UNAVAILABLE, Response


async def done_by(leader: Leader, worker: Worker) -> Response:
    """The answer to an order that is placed now."""
    leader.journal.holds_commits = False
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    return await worker.answer(order)


async def test_commands_beyond_a_batch_wait_in_their_order() -> None:
    leader, worker = await Leader.start(batch_commands_max=2), Worker()
    orders = [leader.bid() for _ in range(7)]
    leader.sequencer.handle(worker, orders[:4])
    first = await leader.journal.next_commit()
    leader.sequencer.handle(worker, orders[4:])
    sizes = [len(first.batch.entries)]
    first.go_on()
    for _ in range(3):
        commit = await leader.journal.next_commit()
        sizes.append(len(commit.batch.entries))
        commit.go_on()
    sequences = [(await worker.answer(order)).sequence for order in orders]
    assert sequences == sorted(sequences)
    assert sizes == [2, 2, 2, 1]


async def test_a_query_does_not_overtake_the_commands_before_it() -> None:
    leader, worker = await Leader.start(batch_commands_max=1), Worker()
    first, second, query = leader.bid(), leader.bid(), leader.query_book()
    leader.sequencer.handle(worker, [first, second, query])
    for _ in range(2):
        (await leader.journal.next_commit()).go_on()
    assert (await worker.answer(query)).sequence == (await worker.answer(second)).sequence


async def test_beyond_its_bound_the_queue_takes_nothing() -> None:
    leader, worker = await Leader.start(batch_commands_max=1, queue_commands_max=2), Worker()
    leader.sequencer.handle(worker, [leader.bid()])
    commit = await leader.journal.next_commit()
    requests = [leader.bid(), leader.bid(), leader.query_book(), leader.bid(), leader.query_book()]
    leader.sequencer.handle(worker, requests)
    # one is matched already, two wait, the others are sent back at once and in one frame
    assert worker.statuses(*requests) == [[], [], [], [OVERLOADED], [OVERLOADED]]
    assert len(worker.frames) == 1
    assert leader.recorder.refused_count == 2
    commit.go_on()
    for _ in range(2):
        (await leader.journal.next_commit()).go_on()
    answers = [await worker.answer(request) for request in requests[:3]]
    assert [answer.status for answer in answers] == [APPLIED, APPLIED, ANSWERED]
    assert leader.journaled(requests[3]) == []


async def test_commands_sent_again_wait_and_are_bounded_like_all_others() -> None:
    leader, worker = await Leader.start(batch_commands_max=1, queue_commands_max=1), Worker()
    leader.journal.holds_lookups = True
    first, waiting = leader.bid(), leader.bid()
    leader.sequencer.handle(worker, [first])
    commit = await leader.journal.next_commit()
    again = [leader.again(leader.bid()), leader.again(leader.bid())]
    leader.sequencer.handle(worker, again)
    lookup = await leader.journal.next_lookup()
    leader.sequencer.handle(worker, [waiting])
    lookup.go_on()
    assert (await worker.answer(again[1])).status == OVERLOADED
    assert worker.statuses(waiting, again[0]) == [[], []]
    commit.go_on()
    for _ in range(2):
        (await leader.journal.next_commit()).go_on()
    assert (await worker.answer(again[0])).sequence == (await worker.answer(waiting)).sequence + 1


async def test_a_copy_that_waits_twice_is_done_once() -> None:
    leader, worker = await Leader.start(batch_commands_max=1), Worker()
    leader.sequencer.handle(worker, [leader.bid(), leader.bid()])
    commit = await leader.journal.next_commit()
    order = leader.bid()
    copies = [leader.again(order), leader.again(order)]
    leader.sequencer.handle(worker, copies)
    leader.journal.holds_commits = False
    await leader.journal.was_asked.wait()
    commit.go_on()
    assert (await worker.answer(copies[0])).sequence == (await worker.answer(copies[1])).sequence
    assert len(leader.journaled(order)) == 1


async def test_what_waits_over_a_connection_that_ended_is_not_done_when_its_copy_was_refused() -> None:
    leader, lost, worker = await Leader.start(batch_commands_max=1, queue_commands_max=1), Worker(), Worker()
    first, order = leader.bid(), leader.bid()
    leader.sequencer.handle(lost, [first, order])
    commit = await leader.journal.next_commit()
    lost.is_closed = True
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    assert (await worker.answer(again)).status == OVERLOADED
    commit.go_on()
    await lost.answer(first)
    assert (await done_by(leader, worker)).status == APPLIED
    assert leader.journaled(order) == []


async def test_what_is_looked_up_for_a_connection_that_ended_is_not_done_either() -> None:
    leader, lost, worker = await Leader.start(), Worker(), Worker()
    leader.journal.holds_lookups = True
    order = leader.again(leader.bid())
    leader.sequencer.handle(lost, [order])
    lookup = await leader.journal.next_lookup()
    lost.is_closed = True
    lookup.go_on()
    leader.journal.holds_lookups = False
    for _ in range(2):
        assert (await done_by(leader, worker)).status == APPLIED
    assert leader.journaled(order) == []


async def test_closing_commits_what_was_matched_and_sends_back_the_rest() -> None:
    leader, worker = await Leader.start(batch_commands_max=1), Worker()
    leader.journal.holds_lookups = True
    committing, matched, waiting = leader.bid(), leader.bid(), leader.bid()
    leader.sequencer.handle(worker, [committing])
    commit = await leader.journal.next_commit()
    looked_up = leader.again(leader.bid())
    leader.sequencer.handle(worker, [matched, waiting, looked_up])
    await leader.journal.next_lookup()
    closing = asyncio.create_task(leader.sequencer.close())
    await asyncio.sleep(0)
    late = leader.bid()
    leader.sequencer.handle(worker, [late])
    assert worker.statuses(waiting, looked_up, late) == [[UNAVAILABLE]] * 3
    commit.go_on()
    commit = await leader.journal.next_commit()
    assert not closing.done()
    commit.go_on()
    await closing
    assert worker.statuses(committing, matched) == [[APPLIED], [APPLIED]]
    assert leader.sequencer.sequence == max(leader.journal.rows)
    assert leader.sequencer.journal_hash == leader.journal.rows[leader.sequencer.sequence].hash
    assert (leader.sequencer.sequence, state_hash(leader.exchange)) == await leader.recovered_state()


async def test_closing_an_idle_engine_returns_at_once() -> None:
    leader = await Leader.start()
    await leader.sequencer.close()
    assert leader.recorder.failures == []


async def test_closing_says_when_the_last_commit_failed() -> None:
    leader, worker = await Leader.start(), Worker()
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    commit = await leader.journal.next_commit()
    closing = asyncio.create_task(leader.sequencer.close())
    commit.fail(ConnectionError("gone"))
    with pytest.raises(SequencerFailedError, match="gone"):
        await closing
    assert (await worker.answer(order)).status == UNAVAILABLE
