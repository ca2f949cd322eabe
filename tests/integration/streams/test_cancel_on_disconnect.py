"""Cancel on disconnect over real sockets, with a real engine behind them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.api.venue import Trader, now_ms
from tests.integration.streams.server import StreamClient, StreamServer
from websockets.exceptions import ConnectionClosed

from rtx.core.commands import CancelAllAfter, ExpireCancelAllAfter, decode_command
from rtx.engine.own_commands import REQUEST_ID

TIMEOUT_S = 20.0
MINUTE_MS = 60_000


def signed(trader: Trader, **parameters: object) -> dict[str, object]:
    """Parameters as Binance's WebSocket API wants them signed."""
    named = {"apiKey": trader.api_key, "timestamp": now_ms(), **parameters}
    payload = "&".join(f"{name}={value}" for name, value in sorted(named.items()))
    return named | {"signature": trader.sign(payload)}


async def enable(client: StreamClient, trader: Trader, **parameters: object) -> dict[str, Any]:
    answer = await client.ask("cancelOnDisconnect.enable", signed(trader, **parameters))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def trader_with_orders(server: StreamServer, symbols: list[str]) -> Trader:
    trader = await server.venue.trader({"USDT": 1000})
    for symbol in symbols:
        await trader.order(symbol, "BUY", "1", "1.00")
        await trader.order(symbol, "BUY", "1", "2.00")
    return trader


async def open_orders(trader: Trader) -> int:
    return len((await trader.get("/api/v3/openOrders")).json)


async def until_none_is_open(trader: Trader) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while await open_orders(trader):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def commands_of(server: StreamServer, account_id: int) -> list[CancelAllAfter | ExpireCancelAllAfter]:
    """What the journal has about the switches of an account."""
    rows = await server.venue.backend.pool.fetch("SELECT command, request_id FROM journal ORDER BY sequence")
    found = []
    for row in rows:
        command = decode_command(row["command"])
        if isinstance(command, CancelAllAfter | ExpireCancelAllAfter) and command.account_id == account_id:
            assert (row["request_id"] == REQUEST_ID) == isinstance(command, ExpireCancelAllAfter)
            found.append(command)
    return found


async def test_the_orders_of_a_client_that_breaks_off_are_cancelled_at_once(server: StreamServer) -> None:
    symbols = [await server.venue.market(), await server.venue.market()]
    gone, there = await trader_with_orders(server, symbols), await trader_with_orders(server, symbols)
    async with server.connected("/ws") as still, server.connected("/stream") as client:
        await enable(still, there, graceMs=MINUTE_MS)
        result = await enable(client, gone, graceMs=MINUTE_MS)
        client.socket.transport.abort()
        # long before the grace is over
        await until_none_is_open(gone)
        assert await open_orders(there) == 4
        armed, ended, expired = await commands_of(server, gone.account_id)
        assert isinstance(armed, CancelAllAfter)
        assert armed.timeout_us == MINUTE_MS * 1_000
        assert ended == CancelAllAfter(gone.account_id, 1, result["session"], renews=True)
        assert isinstance(expired, ExpireCancelAllAfter)
        assert expired.session == result["session"]


async def test_a_client_that_disables_it_may_go(server: StreamServer) -> None:
    trader = await trader_with_orders(server, [await server.venue.market()])
    async with server.connected("/ws") as client:
        await enable(client, trader, graceMs=MINUTE_MS)
        assert await client.ask("cancelOnDisconnect.disable") == {"result": None, "id": 1}
    assert await server.venue.backend.link.deadlines(trader.account_id) == []
    assert [type(command) for command in await commands_of(server, trader.account_id)] == [CancelAllAfter] * 2
    assert await open_orders(trader) == 2


async def test_renewals_keep_it_from_going_off(server: StreamServer) -> None:
    trader = await trader_with_orders(server, [await server.venue.market()])
    async with server.connected("/ws") as client:
        result = await enable(client, trader, graceMs=1_000)
        async with asyncio.timeout(TIMEOUT_S):
            while len(await commands_of(server, trader.account_id)) < 7:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        assert await open_orders(trader) == 2
        ((session, _deadline_us),) = await server.venue.backend.link.deadlines(trader.account_id)
        assert session == result["session"]
    await until_none_is_open(trader)


async def test_a_worker_that_drains_leaves_the_client_its_grace_to_come_back(server: StreamServer) -> None:
    trader = await trader_with_orders(server, [await server.venue.market()])
    link = server.venue.backend.link
    async with server.connected("/ws") as client:
        result = await enable(client, trader, graceMs=MINUTE_MS)
        server.stop()
        assert (await client.hear())["e"] == "serverShutdown"
        with pytest.raises(ConnectionClosed, match="1001"):
            await client.hear()
    ((session, deadline_us),) = await link.deadlines(trader.account_id)
    assert session == result["session"]
    assert deadline_us // 1_000 >= result["deadline"]
    assert await open_orders(trader) == 2


async def test_errors_are_told_with_their_code(server: StreamServer) -> None:
    trader = await server.venue.trader(permissions=("read",))
    async with server.connected("/ws") as client:
        answer = await client.ask("cancelOnDisconnect.enable", signed(trader, graceMs=5_000))  # type: ignore[arg-type]
        assert answer["error"] == {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
        assert answer["id"] == 1
