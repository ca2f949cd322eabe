"""A dead-man's switch over handovers, deaths of the leader and an absent database: once, and not before its time.

What is compared stands in the journal: the deadline that was set, how much it was extended by, and the expiry.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.integration.engine.cluster import (
    ACCOUNTS,
    MARKET,
    TIMEOUT_S,
    Cluster,
    EngineProcess,
    eventually,
    open_market,
    running_cluster,
)
from tests.integration.engine.replicas import hand_over, until_state

from rtx.core.commands import (
    AnyCommand,
    CancelAllAfter,
    ExpireCancelAllAfter,
    ExtendDeadlines,
    NewOrder,
    decode_command,
)
from rtx.core.events import CancelAllAfterSet, OrderState, decode_events
from rtx.core.vocabulary import BUY, GTC, LIMIT, OrderStatus
from rtx.embedded import EmbeddedPostgresql
from rtx.engine.deadlines import DRIFT_US_MAX
from rtx.engine.own_commands import REQUEST_ID
from rtx.link.client import EngineClient
from rtx.store import migrate
from rtx.store.replicas import FOLLOWING

LEASE: Final = {"LEASE_TTL_S": "1.0", "LEASE_RENEWAL_S": "0.3"}
LEASE_LEFT_US: Final = 700_000
"""What a lease has left at least when its holder dies."""

TIMEOUT_US: Final = 2_500_000
ARMED, RENEWING, QUIET = ACCOUNTS[:3]


@dataclass
class Journaled:
    """What the journal has about switches."""

    armed_us: dict[tuple[int, str], int] = field(default_factory=dict)
    """The deadlines as they were set, the newest of each session."""

    extended_us: int = 0
    """By how much those that were set before the last extension have been extended."""

    expiries: list[tuple[ExpireCancelAllAfter, int, list[OrderState]]] = field(default_factory=list)
    """Each with the time of its row, and the orders that it cancelled."""

    @classmethod
    async def read(cls, cluster: Cluster) -> Journaled:
        journaled = cls()
        for row in await cluster.pool.fetch(
            "SELECT request_id, time_us, command, events FROM journal ORDER BY sequence"
        ):
            command: AnyCommand = decode_command(row["command"])
            events = decode_events(row["events"])
            if isinstance(command, CancelAllAfter):
                assert isinstance(events[0], CancelAllAfterSet)
                journaled.armed_us[command.account_id, command.session] = events[0].deadline_us
            elif isinstance(command, ExtendDeadlines):
                assert row["request_id"] == REQUEST_ID
                journaled.extended_us += command.away_us
            elif isinstance(command, ExpireCancelAllAfter):
                assert row["request_id"] == REQUEST_ID
                cancelled = [event for event in events if isinstance(event, OrderState)]
                journaled.expiries.append((command, row["time_us"], cancelled))
        return journaled


async def place(client: EngineClient, account_id: int, count: int = 3) -> set[int]:
    """Place orders that nobody takes; gives their ids."""
    order_ids = set()
    for number in range(count):
        name = f"{account_id}-{number}"
        applied = await client.submit(
            NewOrder(account_id, MARKET, BUY, LIMIT, GTC, 1 + number, 1, name), request_id=name, timeout_s=TIMEOUT_S
        )
        order_ids |= {event.order_id for event in applied.events if isinstance(event, OrderState)}
    return order_ids


async def arm(client: EngineClient, account_id: int, timeout_us: int = TIMEOUT_US, session: str = "") -> None:
    await client.submit(CancelAllAfter(account_id, timeout_us, session), request_id="arm", timeout_s=TIMEOUT_S)


async def until_gone_off(cluster: Cluster) -> Journaled:
    async def has_gone_off() -> bool:
        return bool((await Journaled.read(cluster)).expiries)

    await eventually(has_gone_off)
    return await Journaled.read(cluster)


async def check_once(cluster: Cluster, client: EngineClient, order_ids: set[int], kept: set[int]) -> Journaled:
    """The switch goes off once, at the deadline with all that it was extended by, and takes these orders alone."""
    await until_gone_off(cluster)
    # what would come twice would have come by the time at which other sessions went off
    await arm(client, QUIET, 500_000)

    async def others_have_gone_off() -> bool:
        return not await client.deadlines(QUIET, timeout_s=TIMEOUT_S)

    await eventually(others_have_gone_off)
    journaled = await Journaled.read(cluster)
    (expiry, time_us, cancelled), *others = journaled.expiries
    assert (expiry.account_id, expiry.session) == (ARMED, "")
    assert expiry.deadline_us == journaled.armed_us[ARMED, ""] + journaled.extended_us
    assert time_us >= expiry.deadline_us - DRIFT_US_MAX
    assert {order.order_id for order in cancelled} == order_ids
    assert len(cancelled) == len(order_ids)
    assert {order.status for order in cancelled} == {OrderStatus.CANCELED}
    assert [(other.account_id, orders) for other, _, orders in others] == [(QUIET, [])]
    open_orders = await cluster.pool.fetch("SELECT order_id FROM orders WHERE status <= 1")
    assert {row["order_id"] for row in open_orders} == kept
    return journaled


Ending = Callable[[Cluster, EngineProcess], Coroutine[Any, Any, None]]


async def kill(_cluster: Cluster, leader: EngineProcess) -> None:
    leader.kill()


async def stop_beyond_the_lease(cluster: Cluster, leader: EngineProcess) -> None:
    leader.signal(signal.SIGSTOP)
    await cluster.until_led("two")
    leader.signal(signal.SIGCONT)


async def order_a_handover(cluster: Cluster, _leader: EngineProcess) -> None:
    assert (await hand_over(cluster, "two")).state == "taken"


async def tell_to_go(_cluster: Cluster, leader: EngineProcess) -> None:
    assert await leader.terminate() == 0


@pytest.mark.kill
@pytest.mark.parametrize(
    ("end", "extension_us"),
    [(kill, LEASE_LEFT_US), (stop_beyond_the_lease, LEASE_LEFT_US), (order_a_handover, 0), (tell_to_go, 0)],
)
async def test_it_outlives_its_leader(cluster: Cluster, end: Ending, extension_us: int) -> None:
    leader = cluster.start_engine("one", **LEASE)
    await cluster.until_led("one")
    cluster.start_engine("two", **LEASE)
    await until_state(cluster, "two", FOLLOWING)
    async with cluster.client() as client:
        await open_market(client)
        order_ids, kept = await place(client, ARMED), await place(client, RENEWING)
        await arm(client, ARMED)
        await end(cluster, leader)
        await cluster.until_led("two")
        journaled = await check_once(cluster, client, order_ids, kept)
        assert journaled.extended_us > extension_us


@pytest.mark.kill
async def test_a_client_that_goes_on_renewing_keeps_its_orders(cluster: Cluster) -> None:
    """Its renewals wait for the next leader, where they come before the deadline that they move."""
    leader = cluster.start_engine("one", **LEASE)
    await cluster.until_led("one")
    cluster.start_engine("two", **LEASE)
    await until_state(cluster, "two", FOLLOWING)
    async with cluster.client() as client:
        await open_market(client)
        order_ids, kept = await place(client, ARMED), await place(client, RENEWING)

        async def renew() -> None:
            while True:
                await arm(client, RENEWING, 900_000)
                await asyncio.sleep(0.3)

        renewing = asyncio.create_task(renew())
        await arm(client, ARMED)
        leader.kill()
        await check_once(cluster, client, order_ids, kept)
        renewing.cancel()
        await asyncio.wait({renewing})
        assert await client.deadlines(RENEWING, timeout_s=TIMEOUT_S)


@pytest.fixture
def own_postgresql(tmp_path: Path) -> Iterator[EmbeddedPostgresql]:
    """A PostgreSQL that the test may stop."""
    with EmbeddedPostgresql(tmp_path / "postgresql") as server:
        yield server


@pytest_asyncio.fixture
async def own_cluster(own_postgresql: EmbeddedPostgresql, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster on that PostgreSQL."""
    await asyncio.to_thread(migrate.upgrade, own_postgresql.database_url)
    async with running_cluster(own_postgresql.database_url, redis_url, tmp_path) as running:
        yield running


@pytest.mark.kill
async def test_time_without_a_database_does_not_count(own_cluster: Cluster, own_postgresql: EmbeddedPostgresql) -> None:
    cluster = own_cluster
    engine = cluster.start_engine(**LEASE)
    async with cluster.client() as client:
        await open_market(client)
        order_ids, kept = await place(client, ARMED), await place(client, RENEWING)
        await arm(client, ARMED)
        await asyncio.to_thread(own_postgresql.stop, "immediate")

        async def is_over() -> bool:
            return "term ended" in engine.log or "no leadership now" in engine.log

        await eventually(is_over)
        # longer than the switch had left
        await asyncio.sleep(TIMEOUT_US / 1_000_000)
        await asyncio.to_thread(own_postgresql.start)
        journaled = await check_once(cluster, client, order_ids, kept)
        assert journaled.extended_us > TIMEOUT_US
