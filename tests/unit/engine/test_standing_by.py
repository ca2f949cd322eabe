"""An engine follows the journal that is there, whatever it remembers of another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest
from tests.fakes.leadership import take_lease
from tests.unit.engine.leader import bid
from tests.unit.engine.replica import Replica, World

from rtx.engine.answers import RememberedAnswers
from rtx.engine.standby import DivergedError, Standby
from rtx.store.entries import JournalEntry, entry_hash
from rtx.store.replicas import FOLLOWING, ReplicaReport


@pytest.fixture
async def world() -> World:
    return await World.open()


async def standby_of(world: World) -> Standby:
    return await Standby.recover(world.journal, lambda: time.time_ns() // 1_000, RememberedAnswers())


async def add_order(world: World) -> int:
    """Journal one more row; gives its sequence."""
    world.trading.apply(bid())
    await world.journal.commit(world.trading.take_batch())
    return world.trading.sequence


def lose(world: World, sequence: int) -> None:
    """The journal of a server that this row had not reached."""
    del world.journal.rows[sequence]


def replace(world: World, sequence: int) -> None:
    """The journal of a server where another row was written in this place."""
    world.journal.rows[sequence] = another(world.journal.rows[sequence])


def another(entry: JournalEntry) -> JournalEntry:
    """A row in good order that is not this one."""
    request_id = "another request"
    changed_hash = entry_hash(
        entry.previous_hash,
        entry.sequence,
        entry.epoch,
        entry.time_us,
        entry.command_id,
        request_id,
        entry.request_hash,
        entry.command,
        entry.events,
    )
    return msgspec.structs.replace(entry, request_id=request_id, hash=changed_hash)


@pytest.mark.parametrize("change", [lose, replace])
@pytest.mark.parametrize("rows_after", [0, 1])
async def test_it_does_not_stand_on_a_row_that_is_not_there(
    world: World, change: Callable[[World, int], None], rows_after: int
) -> None:
    sequence = await add_order(world)
    standby = await standby_of(world)
    for _ in range(rows_after):
        await add_order(world)
    change(world, sequence)
    with pytest.raises(DivergedError) as raised:
        await standby.follow()
    assert raised.value.sequence in (sequence, sequence + rows_after)


async def test_from_the_first_row_on(world: World) -> None:
    rows, world.journal.rows = world.journal.rows, {}
    standby = await standby_of(world)
    for sequence, row in rows.items():
        world.journal.rows[sequence] = row
        assert not await standby.follow()
        assert standby.sequence == sequence


async def test_a_journal_that_lost_rows_with_its_server_is_read_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    follows = asyncio.Event()
    report = world.replicas.report

    async def note(one: ReplicaReport) -> None:
        await report(one)
        if one.state == FOLLOWING:
            follows.set()

    monkeypatch.setattr(world.replicas, "report", note)
    sequence = await add_order(world)
    replica = Replica(world)
    await replica.until(follows)
    read_after = world.journal.read_after

    async def break_off(_sequence: int, _limit: int) -> list[JournalEntry]:
        monkeypatch.setattr(world.journal, "read_after", read_after)
        lose(world, sequence)
        await world.lease.release(world.lease.epoch)
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(world.journal, "read_after", break_off)
    await replica.until(replica.publisher.announced)
    assert replica.service._leader is not None
    assert replica.service._leader.sequencer.sequence == sequence - 1
    await replica.stop()
    assert await take_lease(world.lease, "other") is not None
