"""Nobody hears of a command before it is committed, and nothing waits for anything but that."""

from __future__ import annotations

import msgspec
from tests.integration.store.trading import BOB, MARKET
from tests.unit.engine.leader import Leader, Worker, bid, book_of, events_of, hopeless

from rtx.core.commands import NewOrder
from rtx.core.events import OrderState, Rejected, Trade
from rtx.core.rejections import Reason
from rtx.core.snapshot import state_hash
from rtx.core.vocabulary import GTC, LIMIT, SELL
from rtx.link.messages import ANSWERED, APPLIED, QUERY_BOOK, QUERY_STATE_HASH, REJECTED
from rtx.store.entries import verify_chain


async def test_an_answer_leaves_only_after_the_commit() -> None:
    leader, worker = await Leader.start(), Worker()
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    commit = await leader.journal.next_commit()
    assert worker.frames == []
    commit.go_on()
    answer = await worker.answer(order)
    (entry,) = leader.journaled(order)
    assert (answer.status, answer.sequence, answer.time_us) == (APPLIED, entry.sequence, entry.time_us)
    assert bytes(answer.payload) == entry.events


async def test_what_arrives_during_a_commit_is_the_next_batch() -> None:
    leader, worker = await Leader.start(), Worker()
    first, second, third = (leader.bid() for _ in range(3))
    leader.sequencer.handle(worker, [first])
    commit = await leader.journal.next_commit()
    leader.sequencer.handle(worker, [second])
    leader.sequencer.handle(worker, [third])
    commit.go_on()
    assert (await worker.answer(first)).status == APPLIED
    commit = await leader.journal.next_commit()
    assert worker.statuses(second, third) == [[], []]
    assert [entry.command_id for entry in commit.batch.entries] == [second.command_id, third.command_id]
    commit.go_on()
    assert (await worker.answer(third)).sequence == (await worker.answer(second)).sequence + 1
    # one frame a batch
    assert [len(frame) for frame in worker.frames] == [1, 2]


async def test_what_arrives_in_one_turn_shares_a_commit_whoever_sends_it() -> None:
    leader, one, other = await Leader.start(), Worker(), Worker()
    first, second = leader.bid(), leader.bid()
    leader.sequencer.handle(one, [first])
    leader.sequencer.handle(other, [second])
    (await leader.journal.next_commit()).go_on()
    assert (await one.answer(first)).status == (await other.answer(second)).status == APPLIED
    assert leader.recorder.batch_sizes == [2]


async def test_a_refusal_waits_for_what_it_may_rest_on() -> None:
    leader, worker = await Leader.start(), Worker()
    order, refused = leader.bid(), leader.submit(hopeless())
    leader.sequencer.handle(worker, [order, refused])
    commit = await leader.journal.next_commit()
    late = leader.submit(hopeless())
    leader.sequencer.handle(worker, [late])
    assert worker.frames == []
    commit.go_on()
    answer = await worker.answer(refused)
    assert (answer.status, events_of(answer)) == (
        REJECTED,
        [Rejected(Reason.INSUFFICIENT_BALANCE, "amount")],
    )
    assert (await worker.answer(late)).status == REJECTED
    assert leader.journal.commit_count == 1


async def test_a_batch_of_refusals_and_queries_needs_no_commit() -> None:
    leader, worker = await Leader.start(), Worker()
    refused, query = leader.submit(hopeless()), leader.query_book()
    leader.sequencer.handle(worker, [refused, query])
    assert (await worker.answer(refused)).status == REJECTED
    assert (await worker.answer(query)).status == ANSWERED
    assert leader.journal.commit_count == 0
    assert leader.journaled(refused) == []
    # and the next command commits as ever
    order = leader.bid()
    leader.sequencer.handle(worker, [order])
    (await leader.journal.next_commit()).go_on()
    assert (await worker.answer(order)).status == APPLIED


async def test_a_query_tells_nothing_that_is_not_committed_when_it_is_answered() -> None:
    leader, worker = await Leader.start(), Worker()
    order = leader.bid(price=7)
    leader.sequencer.handle(worker, [order])
    commit = await leader.journal.next_commit()
    query = leader.query_book()
    leader.sequencer.handle(worker, [query])
    later = leader.bid(price=8)
    leader.sequencer.handle(worker, [later])
    assert worker.frames == []
    commit.go_on()
    await worker.answer(order)
    commit = await leader.journal.next_commit()
    # the query shares a batch with what came after it, and says how things stood before that
    assert worker.statuses(query) == [[]]
    commit.go_on()
    answer = await worker.answer(query)
    assert (answer.sequence, book_of(answer).bids) == ((await worker.answer(order)).sequence, [(7, 1)])


async def test_the_state_hash_is_that_of_a_replay() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    buy = leader.bid(price=5, quantity=3)
    sell = leader.submit(NewOrder(BOB, MARKET, SELL, LIMIT, GTC, 5, 2, "sell"))
    query = leader.query(QUERY_STATE_HASH)
    leader.sequencer.handle(worker, [buy, sell, query])
    answer = await worker.answer(query)
    assert any(isinstance(event, Trade) for event in events_of(await worker.answer(sell)))
    assert (answer.sequence, msgspec.msgpack.decode(answer.payload)) == await leader.recovered_state()
    assert state_hash(leader.exchange) == msgspec.msgpack.decode(answer.payload)


async def test_the_chain_goes_on_over_batches_and_engines() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    for _ in range(2):
        for _ in range(3):
            order = leader.bid()
            leader.sequencer.handle(worker, [order])
            await worker.answer(order)
        await leader.sequencer.close()
        await leader.lead()
    entries = await leader.journal.read_after(0, 1_000)
    verify_chain(entries, 0, bytes(32))
    assert [entry.epoch for entry in entries[-6:]] == [2, 2, 2, 3, 3, 3]


async def test_time_never_runs_backwards_though_the_clock_does() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    first, second = leader.bid(), leader.bid()
    leader.sequencer.handle(worker, [first])
    leader.time_us -= 1_000_000
    leader.sequencer.handle(worker, [second])
    assert (await worker.answer(second)).time_us == (await worker.answer(first)).time_us + 1


async def test_markets_are_published_after_their_answers_and_without_gaps() -> None:
    leader, worker = await Leader.start(), Worker()
    opened = leader.sequencer.sequence
    first, second = leader.bid(price=7), leader.bid(price=8)
    leader.sequencer.handle(worker, [first])
    commit = await leader.journal.next_commit()
    leader.sequencer.handle(worker, [second])
    assert leader.recorder.updates == []
    commit.go_on()
    (await leader.journal.next_commit()).go_on()
    await leader.sequencer.close()
    earlier, later = leader.recorder.updates
    # nothing happened in the market since it was made
    assert 0 < earlier.previous_sequence <= opened
    assert (earlier.sequence, earlier.bids) == (opened + 1, [(7, 1)])
    assert (later.previous_sequence, later.sequence, later.bids) == (opened + 1, opened + 2, [(8, 1)])


async def test_what_cannot_be_read_is_refused_and_harms_nobody() -> None:
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    wrong = [
        leader.query(QUERY_BOOK, b"\xc0"),
        leader.query(99),
        msgspec.structs.replace(leader.bid(), payload=msgspec.Raw(b"\x91\x63")),
        leader.submit(bid(), command_id=b"short"),
        leader.query(QUERY_BOOK, msgspec.msgpack.encode([12345, 1])),
    ]
    order = leader.bid()
    leader.sequencer.handle(worker, [*wrong, order])
    answer = await worker.answer(order)
    assert [state.is_new for state in events_of(answer) if isinstance(state, OrderState)] == [True]
    assert worker.statuses(*wrong) == [[REJECTED]] * len(wrong)
    assert [[event.field for event in events_of(await worker.answer(one))] for one in wrong] == [  # type: ignore[union-attr]
        ["query"],
        ["kind"],
        ["command"],
        ["command_id"],
        ["market_id"],
    ]
