"""Streams over real sockets, with a real engine, PostgreSQL and Valkey behind them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integration.streams.server import BookFollower, StreamServer
from tests.integration.streams.traffic import Traffic, settle
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rtx.api.streams import endpoints
from rtx.api.streams.connection import StreamLimits
from rtx.embedded import EmbeddedValkey
from rtx.observability.metrics import STREAM_SLOW_CONSUMERS


@contextlib.asynccontextmanager
async def _running(*followers: BookFollower) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_followers_hold_the_servers_book_while_valkey_is_killed_and_comes_back(
    server: StreamServer, own_valkey: EmbeddedValkey
) -> None:
    venue = server.venue
    symbol = await venue.market()
    traffic = await Traffic.start(venue, symbol)
    followers = [BookFollower(server, symbol) for _ in range(3)]
    trade_ids: list[int] = []

    async def watch_trades() -> None:
        async with server.connected(f"/ws/{symbol.lower()}@trade") as client:
            while True:
                trade_ids.append((await client.hear())["t"])

    watcher = asyncio.create_task(watch_trades())
    async with _running(followers[0]):
        for _ in range(8):
            await followers[0].reached(await traffic.burst(40))
        assert trade_ids
        async with _running(followers[1]):
            await asyncio.to_thread(own_valkey.kill)
            for _ in range(20):
                await traffic.burst(40)
            async with _running(followers[2]):
                await traffic.burst(40)
                await asyncio.to_thread(own_valkey.start)
                for _ in range(8):
                    sequence = await traffic.burst(40)
                    for follower in followers:
                        await settle(follower, venue, symbol, sequence)
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher
    trades = (await venue.public.get(f"/api/v3/trades?symbol={symbol}&limit=1000")).json
    assert trade_ids == list(range(trade_ids[0], trades[-1]["id"] + 1))


async def test_a_stalled_client_is_dropped_and_delays_nobody(
    server: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "LIMITS", StreamLimits(queue_messages_max=200, close_timeout_s=0.1))
    venue = server.venue
    symbol = await venue.market()
    traffic = await Traffic.start(venue, symbol)
    server.shrink_send_buffers()
    stalled = await _stalled_client(server, symbol)
    follower = BookFollower(server, symbol)
    before = _slow_consumers()
    async with _running(follower):
        sequence = 0
        while _slow_consumers() == before:
            sequence = await traffic.burst(40)
        await settle(follower, venue, symbol, sequence)
    await _ended_by_server(stalled)


def _slow_consumers() -> float:
    return float(next(iter(STREAM_SLOW_CONSUMERS.collect())).samples[0].value)


async def _ended_by_server(raw: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(raw), contextlib.suppress(ConnectionResetError):
        while await loop.sock_recv(raw, 65536):
            pass


async def _stalled_client(server: StreamServer, symbol: str) -> socket.socket:
    """A client that subscribes to everything and never reads."""
    names = "/".join(f"{symbol.lower()}@{name}" for name in ("trade", "aggTrade", "bookTicker", "depth@100ms"))
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", server.port))
    request = (
        f"GET /stream?streams={names} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(raw, request.encode())
    return raw


async def test_streams_in_the_address(server: StreamServer) -> None:
    symbol = await server.venue.market()
    name = f"{symbol.lower()}@bookTicker"
    async with server.connected(f"/ws/{name}") as raw, server.connected(f"/stream?streams={name}") as combined:
        ticker = await raw.hear()
        assert (ticker["s"], ticker["B"]) == (symbol, "0.00000000")
        assert await combined.hear() == {"stream": name, "data": ticker}
    for path in ("/ws", "/ws/0", "/stream"):
        async with server.connected(path) as client:
            assert await client.ask("LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}


async def test_a_market_can_be_followed_as_soon_as_it_exists(server: StreamServer) -> None:
    async with server.connected("/ws") as client:
        symbol = await server.venue.market()
        assert await client.ask("SUBSCRIBE", [f"{symbol.lower()}@depth@100ms"]) == {"result": None, "id": 1}
        traffic = await Traffic.start(server.venue, symbol)
        await traffic.burst(5)
        assert (await client.hear())["s"] == symbol


async def test_times_in_microseconds(server: StreamServer) -> None:
    symbol = await server.venue.market()
    traffic = await Traffic.start(server.venue, symbol)
    path = f"/ws/{symbol.lower()}@depth@100ms"
    async with server.connected(path) as coarse, server.connected(f"{path}?timeUnit=MICROSECOND") as fine:
        await traffic.burst(20)
        assert (await fine.hear())["E"] // 1000 == (await coarse.hear())["E"]


@pytest.mark.parametrize(
    "path",
    [
        "/ws/nothing@trade",
        "/ws/btcusdt@nothing",
        "/stream?streams=nothing@trade",
        "/ws?timeUnit=HOUR",
        "/ws/!nothing@arr",
    ],
)
async def test_an_address_that_means_nothing_is_refused(server: StreamServer, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with server.connected(path):
            pass
    assert refused.value.response.status_code == 400
    assert b'"code":' in refused.value.response.body


async def test_an_end_of_the_server_is_announced(server: StreamServer) -> None:
    async with server.connected("/ws") as raw, server.connected("/stream") as combined:
        assert (await raw.ask("LIST_SUBSCRIPTIONS"))["result"] == []
        assert (await combined.ask("LIST_SUBSCRIPTIONS"))["result"] == []
        server.stop()
        assert (await raw.hear())["e"] == "serverShutdown"
        assert (await combined.hear())["stream"] == "!serverShutdown"
        for client in (raw, combined):
            with pytest.raises(ConnectionClosed) as closed:
                await client.hear()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001


async def test_candles_and_tickers_show_the_trades(server: StreamServer) -> None:
    venue = server.venue
    symbol = await venue.market()
    traffic = await Traffic.start(venue, symbol)
    await traffic.burst(60)
    trades = (await venue.public.get(f"/api/v3/trades?symbol={symbol}&limit=1000")).json
    names = [f"{symbol.lower()}@{kind}" for kind in ("kline_1m", "miniTicker", "ticker", "avgPrice")]
    heard: dict[str, Any] = {}
    async with server.connected("/stream?streams=" + "/".join([*names, "!miniTicker@arr"])) as client:
        while len(heard) < 5:
            message = await client.hear()
            heard[message["stream"]] = message["data"]
    candle = heard[names[0]]["k"]
    # The minute may have ended between the trades and the subscription: the candle then tells of its own trades only.
    in_candle = [trade for trade in trades if candle["t"] <= trade["time"] <= candle["T"]]
    last_trade_id = in_candle[-1]["id"] if in_candle else -1
    assert (candle["c"], candle["L"], candle["n"]) == (trades[-1]["price"], last_trade_id, len(in_candle))
    assert (heard[names[1]]["c"], heard[names[2]]["n"]) == (trades[-1]["price"], len(trades))
    assert heard[names[3]]["i"] == "5m"
    assert heard["!miniTicker@arr"] == [heard[names[1]] | {"E": heard["!miniTicker@arr"][0]["E"]}]
