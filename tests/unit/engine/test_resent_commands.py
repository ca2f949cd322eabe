"""A command that is sent again, at whatever moment, is done once and gets the same answer."""

from __future__ import annotations

from tests.integration.store.trading import ALICE
from tests.unit.engine.leader import Leader, Worker, bid, events_of, hopeless, new_command_id

from rtx.core.commands import Deposit
from rtx.core.events import Rejected
from rtx.link.messages import APPLIED, CONFLICT, QUERY_BOOK, REJECTED, UNAVAILABLE, Request, Response
from rtx.store.errors import CommandKnownError, JournalCorruptError

HASH = b"h" * 32
OTHER_HASH = b"o" * 32


def content(response: Response) -> tuple[int, int, int, bytes]:
    """All of an answer but the number of the request."""
    return response.status, response.sequence, response.time_us, bytes(response.payload)


async def done(leader: Leader, request: Request) -> Response:
    """Have a request done and committed over a connection of its own."""
    worker = Worker()
    leader.journal.holds_commits = False
    leader.sequencer.handle(worker, [request])
    answer = await worker.answer(request)
    leader.journal.holds_commits = True
    return answer


async def test_a_committed_command_is_answered_from_memory() -> None:
    leader, worker = await Leader.start(), Worker()
    order = leader.bid()
    first = await done(leader, order)
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    assert content(await worker.answer(again)) == content(first)
    assert (leader.journal.lookup_count, leader.journal.commit_count) == (0, 1)


async def test_a_command_on_its_way_is_answered_after_its_commit() -> None:
    leader, lost, worker = await Leader.start(), Worker(), Worker()
    order = leader.bid()
    leader.sequencer.handle(lost, [order])
    commit = await leader.journal.next_commit()
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    assert worker.frames == []
    commit.go_on()
    assert content(await worker.answer(again)) == content(await lost.answer(order))
    assert len(leader.journaled(order)) == 1


async def test_a_command_in_the_batch_that_fills_is_answered_with_it() -> None:
    leader, lost, worker = await Leader.start(), Worker(), Worker()
    leader.sequencer.handle(lost, [leader.bid()])
    commit = await leader.journal.next_commit()
    order = leader.bid()
    leader.sequencer.handle(lost, [order])
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    commit.go_on()
    commit = await leader.journal.next_commit()
    assert worker.frames == []
    commit.go_on()
    assert (await worker.answer(again)).status == APPLIED
    assert len(leader.journaled(order)) == 1


async def test_a_command_of_the_engine_before_is_answered_from_the_journal() -> None:
    leader, worker = await Leader.start(), Worker()
    order, refused = leader.bid(), leader.submit(hopeless(), request_hash=HASH)
    first = [await done(leader, request) for request in (order, refused)]
    await leader.lead()
    again = [leader.again(order), leader.again(refused)]
    leader.sequencer.handle(worker, again)
    assert [content(await worker.answer(request)) for request in again] == [content(answer) for answer in first]
    assert leader.journal.lookup_count == 1


async def test_a_command_that_memory_forgot_is_answered_from_the_journal() -> None:
    leader, worker = await Leader.start(remembered_commands_max=2), Worker()
    order = leader.bid()
    first = await done(leader, order)
    for _ in range(2):
        await done(leader, leader.bid())
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    assert content(await worker.answer(again)) == content(first)
    assert leader.journal.lookup_count == 1
    assert len(leader.journaled(order)) == 1


async def test_a_command_that_never_arrived_is_done() -> None:
    leader = await Leader.start()
    order = leader.bid()
    assert (await done(leader, leader.again(order))).status == APPLIED
    assert len(leader.journaled(order)) == 1


async def test_the_original_that_arrives_while_its_copy_is_looked_up_is_done_once() -> None:
    leader, lost, worker = await Leader.start(), Worker(), Worker()
    leader.journal.holds_lookups = True
    order = leader.bid()
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    lookup = await leader.journal.next_lookup()
    first = await done(leader, order)
    lookup.go_on()
    assert content(await worker.answer(again)) == content(first)
    assert lost.frames == []
    assert len(leader.journaled(order)) == 1


async def test_an_original_that_arrives_after_its_copy_was_done_gets_its_answer() -> None:
    leader = await Leader.start()
    order = leader.bid()
    copy = await done(leader, leader.again(order))
    assert content(await done(leader, order)) == content(copy)
    assert leader.recorder.failures == []
    assert len(leader.journaled(order)) == 1


async def test_of_two_copies_looked_up_together_one_is_done() -> None:
    leader, one, other = await Leader.start(), Worker(), Worker()
    leader.journal.holds_lookups = True
    order = leader.bid()
    copies = [leader.again(order), leader.again(order)]
    leader.sequencer.handle(one, [copies[0]])
    leader.sequencer.handle(other, [copies[1]])
    first, second = await leader.journal.next_lookup(), await leader.journal.next_lookup()
    second.go_on()
    (await leader.journal.next_commit()).go_on()
    await other.answer(copies[1])
    first.go_on()
    assert content(await one.answer(copies[0])) == content(await other.answer(copies[1]))
    assert len(leader.journaled(order)) == 1


async def test_a_copy_twice_in_one_frame_is_done_once() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    order = leader.bid()
    copies = [leader.again(order), leader.again(order)]
    leader.sequencer.handle(worker, copies)
    assert content(await worker.answer(copies[0])) == content(await worker.answer(copies[1]))
    assert len(leader.journaled(order)) == 1


async def test_a_copy_whose_lookup_outlived_the_memory_is_still_not_done_twice() -> None:
    leader, worker = await Leader.start(remembered_commands_max=1), Worker()
    leader.journal.holds_lookups = True
    order = leader.bid()
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    lookup = await leader.journal.next_lookup()
    first = await done(leader, order)
    await done(leader, leader.bid())
    lookup.go_on()
    assert (await worker.answer(again)).status == UNAVAILABLE
    leader.journal.holds_lookups = False
    once_more = leader.again(order)
    assert content(await done(leader, once_more)) == content(first)
    assert len(leader.journaled(order)) == 1


async def test_a_command_that_slipped_past_every_look_is_not_done_twice() -> None:
    leader, worker = await Leader.start(remembered_commands_max=1), Worker()
    deposit = leader.submit(Deposit(ALICE, 1, 5, "once"))
    first = await done(leader, deposit)
    await done(leader, leader.bid())
    # The journal itself refuses the second one, and the engine begins again from what is committed.
    leader.sequencer.handle(worker, [deposit])
    (await leader.journal.next_commit()).go_on()
    assert (await worker.answer(deposit)).status == UNAVAILABLE
    assert [type(error) for error in leader.recorder.failures] == [CommandKnownError]
    await leader.lead()
    assert content(await done(leader, leader.again(deposit))) == content(first)


async def test_a_query_sent_again_asks_no_journal() -> None:
    leader, worker = await Leader.start(), Worker()
    query = leader.again(leader.query_book())
    assert query.kind == QUERY_BOOK
    leader.sequencer.handle(worker, [query])
    await worker.answer(query)
    assert leader.journal.lookup_count == 0


async def test_a_refusal_under_a_request_hash_is_kept() -> None:
    leader = await Leader.start()
    withdrawal = leader.submit(hopeless(), request_hash=HASH)
    first = await done(leader, withdrawal)
    assert first.status == REJECTED
    assert [type(event) for event in events_of(first)] == [Rejected]
    assert len(leader.journaled(withdrawal)) == 1
    await done(leader, leader.submit(Deposit(ALICE, 1, 2**61, "more")))
    # also when it could be done by now, and from memory as from the journal
    assert content(await done(leader, leader.again(withdrawal))) == content(first)
    await leader.lead()
    assert content(await done(leader, leader.again(withdrawal))) == content(first)


async def test_a_refusal_without_a_request_hash_is_judged_again() -> None:
    leader = await Leader.start(batch_commands_max=10)
    order = leader.submit(bid(price=10_000_000, quantity=10_000))
    assert (await done(leader, order)).status == REJECTED
    assert leader.journaled(order) == []
    await done(leader, leader.submit(Deposit(ALICE, 2, 2**61, "more")))
    assert (await done(leader, leader.again(order))).status == APPLIED


async def test_one_key_for_two_requests_is_a_conflict() -> None:
    leader = await Leader.start()
    command_id = new_command_id()
    order = leader.submit(bid(), command_id=command_id, may_be_known=True, request_hash=HASH)
    first = await done(leader, order)
    other = leader.submit(bid(), command_id=command_id, may_be_known=True, request_hash=OTHER_HASH)
    for _ in range(2):
        conflict = await done(leader, leader.again(other))
        assert (conflict.status, conflict.sequence) == (CONFLICT, first.sequence)
        assert content(await done(leader, leader.again(order))) == content(first)
        await leader.lead()
    assert len(leader.journaled(order)) == 1


async def test_a_conflict_shows_while_the_first_request_is_on_its_way() -> None:
    leader, worker = await Leader.start(), Worker()
    command_id = new_command_id()
    order = leader.submit(bid(), command_id=command_id, request_hash=HASH)
    leader.sequencer.handle(worker, [order])
    commit = await leader.journal.next_commit()
    other = leader.submit(bid(), command_id=command_id, may_be_known=True, request_hash=OTHER_HASH)
    leader.sequencer.handle(worker, [other])
    assert worker.frames == []
    commit.go_on()
    assert (await worker.answer(other)).status == CONFLICT


async def test_a_lookup_that_fails_is_to_be_asked_again() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_lookups = True
    order = leader.bid()
    again = leader.again(order)
    leader.sequencer.handle(worker, [again])
    (await leader.journal.next_lookup()).fail(OSError("connection lost"))
    assert (await worker.answer(again)).status == UNAVAILABLE
    assert leader.recorder.failures == []
    assert (await done(leader, order)).status == APPLIED


async def test_a_broken_row_found_by_a_lookup_stops_the_engine() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_lookups = True
    again = leader.again(leader.bid())
    leader.sequencer.handle(worker, [again])
    error = JournalCorruptError(7, "its hash is not that of its content")
    (await leader.journal.next_lookup()).fail(error)
    assert (await worker.answer(again)).status == UNAVAILABLE
    assert leader.recorder.failures == [error]
