"""An API worker finds the leader over a connection of its own, and hears when there is another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
from tests.fakes.leadership import take_lease

from rtx.store.connection import DATABASE_ERRORS, connect_engine
from rtx.store.leader_lookup import LeaderLookup
from rtx.store.lease import LeaseStore, Release
from rtx.store.replicas import FOLLOWING, ReplicaReport, ReplicaStore

TIMEOUT_S = 10.0
NAME = "rtx-test-lookup"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def lookup(migrated_url: str) -> AsyncIterator[LeaderLookup]:
    one = LeaderLookup(lambda: connect_engine(migrated_url, application_name=NAME))
    yield one
    one.close()


async def report(connection: Connection, holder: str, address: str) -> None:
    await ReplicaStore(connection).report(ReplicaReport(holder, address, "blue", "1", 2, FOLLOWING, 1, 1, 1, 0, 0.0))


async def test_nobody_led_yet(lookup: LeaderLookup) -> None:
    assert await lookup.read() is None


async def test_a_change_is_heard(lookup: LeaderLookup, connection: Connection) -> None:
    changed = asyncio.Event()
    lookup.on_change = changed.set
    await lookup.read()
    await take_lease(LeaseStore(connection))
    async with asyncio.timeout(TIMEOUT_S):
        await changed.wait()
    found = await lookup.read()
    assert found is not None
    assert found.epoch == 1


async def test_a_lost_connection_is_replaced(lookup: LeaderLookup, connection: Connection) -> None:
    await take_lease(LeaseStore(connection))
    before = await lookup.read()
    assert before is not None
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = $1", NAME
    )
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                found = await lookup.read()
            except DATABASE_ERRORS:
                continue
            break
    assert found is not None
    assert found.epoch == before.epoch


async def test_a_look_that_is_broken_off_leaves_nothing_behind(lookup: LeaderLookup, connection: Connection) -> None:
    await take_lease(LeaseStore(connection))
    await lookup.read()
    async with connection.transaction():
        await connection.execute("LOCK TABLE engine_lease IN ACCESS EXCLUSIVE MODE")
        looking = asyncio.create_task(lookup.read())
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'engine_lease'::regclass"
        ):
            pass
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
    assert await lookup.read() is not None


async def test_while_the_lease_waits_for_a_successor_that_is_who_is_found(
    lookup: LeaderLookup, connection: Connection
) -> None:
    leases = LeaseStore(connection)
    epoch = await take_lease(leases)
    assert epoch is not None
    await report(connection, "other", "10.0.0.2:7000")
    assert await leases.release(epoch, Release("other", 30.0))
    found = await lookup.read()
    assert found is not None
    assert (found.epoch, found.address) == (epoch, "10.0.0.2:7000")
    # One that never told its address is not found; the lease is all there is.
    assert await leases.release(epoch, Release("unheard of", 30.0))
    found = await lookup.read()
    assert found is not None
    assert found.address != "10.0.0.2:7000"
