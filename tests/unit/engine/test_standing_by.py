"""An engine follows the journal that is there, whatever it remembers of another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from tests.fakes.leadership import take_lease
from tests.unit.engine.leader import bid
from tests.unit.engine.replica import Replica, World

from rtx.engine.answers import RememberedAnswers
from rtx.engine.standby import DivergedError, Standby
from rtx.observability import metrics
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


def noting(world: World, follows: asyncio.Event) -> Callable[[ReplicaReport], Coroutine[Any, Any, None]]:
    """Takes reports, and sets ``follows`` after one of a standby."""
    report = world.replicas.report

    async def note(one: ReplicaReport) -> None:
        await report(one)
        if one.state == FOLLOWING:
            follows.set()

    return note


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


async def test_it_lags_behind_no_longer_when_nothing_comes(world: World) -> None:
    standby = await standby_of(world)
    await add_order(world)
    await standby.follow()
    assert standby.take_lag_ms() > 0
    await standby.follow()
    assert standby.take_lag_ms() == 0


async def test_metrics_say_what_it_is_now(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.ENGINE_DIVERGED.set(1)
    replica = Replica(world)
    follows = asyncio.Event()
    monkeypatch.setattr(world.replicas, "report", noting(world, follows))
    await replica.until(follows)
    assert REGISTRY.get_sample_value("rtx_engine_diverged") == 0
    metrics.STANDBY_LAG_ROWS.set(5)
    await world.lease.release(world.lease.epoch)
    await replica.until(replica.publisher.announced)
    assert REGISTRY.get_sample_value("rtx_standby_lag_rows") == 0
    await replica.stop()


async def test_a_journal_that_lost_rows_with_its_server_is_read_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    follows = asyncio.Event()
    monkeypatch.setattr(world.replicas, "report", noting(world, follows))
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
