"""What an engine begins with is what the journal says, by way of a snapshot or without one, or it does not begin."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from tests.fakes.journal import FakeJournal
from tests.integration.store.trading import BOB, MARKET
from tests.unit.engine.leader import Leader, Worker, hopeless

from rtx.core import snapshot
from rtx.core.commands import ActivateRules, AnyCommand, Checkpoint, NewOrder, encode_command
from rtx.core.events import CheckpointTaken, Rejected, RulesActivated, encode_events
from rtx.core.exchange import Exchange
from rtx.core.rejections import Reason
from rtx.core.rules import LATEST_RULES
from rtx.core.snapshot import state_hash
from rtx.core.vocabulary import GTC, LIMIT, SELL
from rtx.engine.recovery import ReplayDivergedError, dismantle, recover, replay_entry
from rtx.engine.snapshotter import save_snapshot
from rtx.store.entries import Snapshot, entry_hash
from rtx.store.errors import JournalCorruptError


async def traded() -> Leader:
    """A journal with orders, a trade and a refusal under a request hash."""
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    requests = [leader.bid(price=number, quantity=3) for number in range(1, 6)]
    requests.append(leader.submit(NewOrder(BOB, MARKET, SELL, LIMIT, GTC, 4, 5, "sell")))
    requests.append(leader.submit(hopeless(), request_hash=b"h" * 32))
    leader.sequencer.handle(worker, requests)
    await leader.sequencer.close()
    return leader


async def keep_snapshot(leader: Leader) -> None:
    recovered = await recover(leader.journal)
    await save_snapshot(leader.journal, recovered.exchange, recovered.sequence, recovered.journal_hash)


def rewrite(journal: FakeJournal, sequence: int, **changes: bytes | int) -> None:
    """Change a row and make the chain whole again, as a program with other rules would have written it."""
    previous_hash = journal.rows[sequence].previous_hash
    for number in range(sequence, max(journal.rows) + 1):
        entry = msgspec.structs.replace(journal.rows[number], previous_hash=previous_hash, **changes)
        changes = {}
        fields = msgspec.structs.asdict(entry)
        del fields["hash"]
        previous_hash = entry_hash(**fields)
        journal.rows[number] = msgspec.structs.replace(entry, hash=previous_hash)


async def test_a_replay_gives_the_state_that_was() -> None:
    leader = await traded()
    recovered = await recover(leader.journal)
    assert state_hash(recovered.exchange) == state_hash(leader.exchange)
    assert (recovered.sequence, recovered.journal_hash) == (leader.sequencer.sequence, leader.sequencer.journal_hash)
    assert recovered.exchange.take_changed_balances() == []
    assert recovered.exchange.take_changed_levels() == []


async def test_a_snapshot_and_what_came_after_it_give_the_same_state() -> None:
    leader = await traded()
    await keep_snapshot(leader)
    await leader.lead()
    worker = Worker()
    order = leader.bid(price=2)
    leader.sequencer.handle(worker, [order])
    await worker.answer(order)
    recovered = await recover(leader.journal)
    assert recovered.snapshot_sequence == recovered.sequence - 1
    assert state_hash(recovered.exchange) == state_hash(leader.exchange)


async def test_a_row_that_gives_other_events_now_stops_the_engine() -> None:
    leader = await traded()
    rewrite(leader.journal, 9, events=encode_events([]))
    with pytest.raises(ReplayDivergedError, match="row 9"):
        await recover(leader.journal)


@pytest.mark.parametrize("command", [b"\xc1", b"\x92\x63\x01"])
async def test_a_command_that_cannot_be_read_stops_the_engine(command: bytes) -> None:
    leader = await traded()
    rewrite(leader.journal, 9, command=command)
    with pytest.raises(ReplayDivergedError, match=r"row 9: .* cannot read"):
        await recover(leader.journal)


async def test_a_command_that_the_program_fails_on_stops_the_engine() -> None:
    leader = await traded()
    time_us = leader.journal.rows[9].time_us
    rewrite(leader.journal, 9, time_us=time_us + 10**12)
    with pytest.raises(ReplayDivergedError, match=r"row 9|row 10"):
        await recover(leader.journal)


async def journaled(command: AnyCommand, request_hash: bytes = b"") -> tuple[Leader, int]:
    """A journal with one more command, and that command's row."""
    leader, worker = await Leader.start(), Worker()
    leader.journal.holds_commits = False
    leader.sequencer.handle(worker, [leader.submit(command, request_hash=request_hash), leader.bid()])
    await leader.sequencer.close()
    return leader, leader.sequencer.sequence - 1


async def test_rules_that_the_program_does_not_know_stop_it_and_it_says_which_it_knows() -> None:
    leader, row = await journaled(ActivateRules(2))
    unknown = LATEST_RULES + 1
    changes = {
        "command": encode_command(ActivateRules(unknown)),
        "events": encode_events([RulesActivated(unknown)]),
    }
    rewrite(leader.journal, row, **changes)
    with pytest.raises(ReplayDivergedError) as caught:
        await recover(leader.journal)
    assert str(caught.value) == (
        f"journal row {row}: it activates rules {unknown}; "
        f"this program knows rules up to {LATEST_RULES}: run a newer version"
    )


async def test_rules_refused_by_a_program_that_did_not_know_them_stay_refused() -> None:
    """The refusal may stand in the journal; a program that knows them by now goes on by the rules of that day."""
    leader, row = await journaled(ActivateRules(LATEST_RULES + 1), request_hash=b"h" * 32)
    newer = Exchange(latest_rules=LATEST_RULES + 1)
    for sequence, entry in sorted(leader.journal.rows.items()):
        events = replay_entry(newer, entry)
        assert (events == [Rejected(Reason.UNKNOWN_RULES, "version")]) == (sequence == row)
    assert newer.rules == 1
    assert state_hash(newer) == state_hash(leader.exchange)


async def test_a_checkpoint_with_another_hash_stops_the_engine() -> None:
    leader, row = await journaled(Checkpoint())
    await recover(leader.journal)
    rewrite(leader.journal, row, events=encode_events([CheckpointTaken(bytes(32))]))
    with pytest.raises(ReplayDivergedError, match=f"row {row}: at this checkpoint the state is another one"):
        await recover(leader.journal)


async def test_a_row_that_is_broken_or_missing_stops_the_engine() -> None:
    leader = await traded()
    spoilt = leader.journal.rows[9]
    leader.journal.rows[9] = msgspec.structs.replace(spoilt, command=encode_command(hopeless()))
    with pytest.raises(JournalCorruptError, match="row 9"):
        await recover(leader.journal)
    del leader.journal.rows[9]
    with pytest.raises(JournalCorruptError, match="row 9"):
        await recover(leader.journal)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda saved: msgspec.structs.replace(saved, state=saved.state[:-1]),
        lambda saved: msgspec.structs.replace(saved, state_hash=bytes(32)),
        lambda saved: of_state(saved, b"\xc1"),
        lambda saved: of_state(saved, msgspec.msgpack.encode([99, *msgspec.msgpack.decode(saved.state)[1:]])),
    ],
    ids=["cut", "hash", "unreadable", "version"],
)
async def test_a_snapshot_that_cannot_be_used_costs_time_and_nothing_else(spoil: object) -> None:
    leader = await traded()
    recovered = await recover(leader.journal)
    state = snapshot.dump(recovered.exchange)
    saved = Snapshot(recovered.sequence, recovered.journal_hash, hashlib.sha256(state).digest(), state)
    assert callable(spoil)
    await leader.journal.save_snapshot(spoil(saved))
    recovered = await recover(leader.journal)
    assert recovered.snapshot_sequence == 0
    assert state_hash(recovered.exchange) == state_hash(leader.exchange)


async def test_instead_of_a_snapshot_that_cannot_be_used_the_one_before_is() -> None:
    leader = await traded()
    await keep_snapshot(leader)
    kept_sequence = leader.sequencer.sequence
    await leader.lead()
    worker, order = Worker(), leader.bid(price=2)
    leader.sequencer.handle(worker, [order])
    await worker.answer(order)
    newest = leader.journal.rows[kept_sequence + 1]
    await leader.journal.save_snapshot(Snapshot(newest.sequence, newest.hash, bytes(32), b"of a newer program"))
    recovered = await recover(leader.journal)
    assert recovered.snapshot_sequence == kept_sequence
    assert state_hash(recovered.exchange) == state_hash(leader.exchange)


def of_state(saved: Snapshot, state: bytes) -> Snapshot:
    """A snapshot that is whole, of another state."""
    return msgspec.structs.replace(saved, state=state, state_hash=hashlib.sha256(state).digest())


async def test_a_snapshot_of_another_journal_is_not_kept() -> None:
    leader = await traded()
    recovered = await recover(leader.journal)
    with pytest.raises(JournalCorruptError):
        await save_snapshot(leader.journal, recovered.exchange, recovered.sequence, bytes(32))
    with pytest.raises(JournalCorruptError):
        await save_snapshot(leader.journal, recovered.exchange, recovered.sequence + 5, recovered.journal_hash)
    assert await leader.journal.load_snapshot() is None


async def test_an_exchange_that_was_taken_apart_has_no_circles_of_orders() -> None:
    leader = await traded()
    exchange = (await recover(leader.journal)).exchange
    orders = list(exchange.orders.values())
    assert any(order.level is not None for order in orders)
    dismantle(exchange)
    assert [(order.level, order.previous, order.next) for order in orders] == [(None, None, None)] * len(orders)
