"""Cancel on disconnect when it is not the client that goes: a replica dies without a word, or is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from tests.faults.backend import ServeProcess
from tests.faults.exchange_client import Credentials, HttpConnection
from tests.faults.replicas import Replicas
from tests.faults.venue import Venue, open_venue
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rtx.core.commands import ExpireCancelAllAfter, decode_command
from rtx.core.events import OrderState, decode_events
from rtx.store.connection import create_pool

pytestmark = pytest.mark.kill

GRACE_MS: Final = 3_000
LONG_GRACE_MS: Final = 60_000
TIMEOUT_S: Final = 40.0
SWITCHES: Final = "/api/v1/cancel-all-after"


@contextlib.asynccontextmanager
async def connected(replica: ServeProcess) -> AsyncIterator[ClientConnection]:
    host, port = replica.address
    async with connect(f"ws://{host}:{port}/ws") as socket:
        yield socket


async def enable(socket: ClientConnection, who: Credentials, **parameters: object) -> dict[str, Any]:
    """Enable cancel on disconnect, signed as Binance's WebSocket API wants it."""
    named: dict[str, object] = {"apiKey": who.api_key, "timestamp": time.time_ns() // 1_000_000, **parameters}
    payload = "&".join(f"{name}={value}" for name, value in sorted(named.items()))
    named["signature"] = hmac.digest(who.secret.encode(), payload.encode(), hashlib.sha256).hex()
    await socket.send(msgspec.json.encode({"method": "cancelOnDisconnect.enable", "params": named, "id": 1}).decode())
    answer = msgspec.json.decode(await socket.recv())
    assert "error" not in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def place(connection: HttpConnection, who: Credentials) -> set[int]:
    """Place orders that nobody takes, in two markets; gives their ids."""
    order_ids = set()
    for symbol in ("GOLDEUR", "SILVEREUR"):
        for price in ("1.00", "2.00"):
            answer = await connection.signed(
                "POST", "/api/v3/order", who,
                symbol=symbol, side="BUY", type="LIMIT", timeInForce="GTC", quantity="1", price=price,
            )  # fmt: skip
            assert answer.status == 200, answer.body
            order_ids.add(answer.json["orderId"])
    return order_ids


async def open_orders(connection: HttpConnection, who: Credentials) -> set[int]:
    answer = await connection.read("/api/v3/openOrders", who)
    assert answer.status == 200, answer.body
    return {order["orderId"] for order in answer.json}


async def until_cancelled(connection: HttpConnection, who: Credentials) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while await open_orders(connection, who):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def cancelled_by_switches(replicas: Replicas) -> dict[int, list[int]]:
    """The orders that each expiry in the journal cancelled, by account."""
    pool = await create_pool(replicas.database_url, application_name="rtx-test", minimum_size=0, maximum_size=1)
    try:
        rows = await pool.fetch("SELECT command, events FROM journal ORDER BY sequence")
    finally:
        await pool.close()
    cancelled: dict[int, list[int]] = {}
    for row in rows:
        command = decode_command(row["command"])
        if isinstance(command, ExpireCancelAllAfter):
            events = decode_events(row["events"])
            orders = cancelled.setdefault(command.account_id, [])
            orders += [event.order_id for event in events if isinstance(event, OrderState)]
    return cancelled


async def venue_of(replicas: Replicas) -> Venue:
    return await open_venue(replicas.addresses, replicas.operator)


@pytest.mark.parametrize("leads", [True, False])
async def test_a_replica_that_dies_without_a_word(replicas: Replicas, leads: bool) -> None:
    """The leader sees that nobody renews, and so does its successor when it is the leader that died."""
    venue = await venue_of(replicas)
    lease = await replicas.lease()
    leader = replicas.holding(lease)
    others = replicas.others(leader)
    home, elsewhere = (leader, others[0]) if leads else (others[0], others[1])
    gone, there = venue.traders[:2]
    with contextlib.closing(HttpConnection(elsewhere.address)) as connection:
        lost, kept = await place(connection, gone), await place(connection, there)
        async with connected(home) as socket, connected(elsewhere) as still:
            await enable(socket, gone, graceMs=GRACE_MS)
            await enable(still, there, graceMs=GRACE_MS)
            await asyncio.to_thread(home.kill_everything)
            await until_cancelled(connection, gone)
            assert await open_orders(connection, there) == kept
            cancelled = await cancelled_by_switches(replicas)
            assert cancelled == {gone.account_id: sorted(lost)}


async def test_a_replica_that_is_told_to_end_leaves_its_clients_time_to_go_elsewhere(replicas: Replicas) -> None:
    venue = await venue_of(replicas)
    home, elsewhere = replicas.others(await replicas.leader())
    trader = venue.traders[0]
    with contextlib.closing(HttpConnection(elsewhere.address)) as connection:
        kept = await place(connection, trader)
        async with connected(home) as socket:
            former = await enable(socket, trader, graceMs=LONG_GRACE_MS)
            ending = asyncio.create_task(home.stop())
            assert msgspec.json.decode(await socket.recv())["e"] == "serverShutdown"
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        async with connected(elsewhere) as socket:
            session = await enable(socket, trader, graceMs=LONG_GRACE_MS, replaces=former["session"])
            assert session["replaced"] is True
            assert await ending == 0
            shown = (await connection.read(SWITCHES, trader)).json
            assert [switch["session"] for switch in shown["sessions"]] == [session["session"]]
            assert await open_orders(connection, trader) == kept
        await until_cancelled(connection, trader)
        assert await cancelled_by_switches(replicas) == {trader.account_id: sorted(kept)}
