"""The API on a real port, because WebSockets are about sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn
from tests.integration.api.venue import Venue
from tests.unit.streams.recipe_client import RecipeClient
from websockets.asyncio.client import ClientConnection, connect

from rtx.api.streams.websocket_protocol import StreamWebSocketProtocol


@dataclass
class StreamServer:
    """Where to connect, and what there is to trade."""

    venue: Venue
    port: int
    uvicorn: uvicorn.Server

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    @contextlib.asynccontextmanager
    async def connected(self, path: str, **options: Any) -> AsyncIterator[StreamClient]:
        async with connect(self.url(path), **options) as socket:
            yield StreamClient(socket)

    def shrink_send_buffers(self) -> None:
        """Have the kernel keep little for clients that connect from now on and do not read."""
        self.uvicorn.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    def stop(self) -> None:
        """Tell the server to end, as a signal would."""
        self.uvicorn.should_exit = True


@dataclass
class StreamClient:
    """A WebSocket that speaks JSON."""

    socket: ClientConnection

    async def hear(self) -> Any:
        return msgspec.json.decode(await self.socket.recv())

    async def ask(self, method: str, params: list[Any] | None = None, request_id: int = 1, **more: object) -> Any:
        """Send a control message, and give the next message, which is the answer where nothing else is subscribed."""
        content = {"method": method, "id": request_id} | ({} if params is None else {"params": params}) | more
        await self.socket.send(msgspec.json.encode(content).decode())
        return await self.hear()


@contextlib.asynccontextmanager
async def serving(venue: Venue) -> AsyncIterator[StreamServer]:
    """Serve the venue's application until the block ends."""
    configuration = uvicorn.Config(
        venue.backend.application,
        port=0,
        lifespan="off",
        log_config=None,
        ws=StreamWebSocketProtocol,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(configuration)
    ready = asyncio.Event()
    start = server.startup

    async def start_and_tell(sockets: Any = None) -> None:
        await start(sockets)
        ready.set()

    server.startup = start_and_tell  # type: ignore[method-assign]
    task = asyncio.create_task(server._serve())
    await ready.wait()
    try:
        yield StreamServer(venue, server.servers[0].sockets[0].getsockname()[1], server)
    finally:
        server.should_exit = True
        await task


class BookFollower(RecipeClient):
    """Follows the recipe over a WebSocket and REST, until told to stop."""

    def __init__(self, server: StreamServer, symbol: str) -> None:
        super().__init__()
        self._server = server
        self._symbol = symbol
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Follow until cancelled."""
        path = f"/ws/{self._symbol.lower()}@depth@100ms"
        async with self._server.connected(path) as client:
            try:
                while True:
                    if self.wants_snapshot:
                        self.wants_snapshot = False
                        self._tasks.append(asyncio.create_task(self._ask_for_snapshot()))
                    self.offer(await client.socket.recv(decode=True))
                    self._moved.set()
            finally:
                for task in self._tasks:
                    task.cancel()

    async def reached(self, sequence: int) -> None:
        """Wait until the book is at least as new as a journal position."""
        while self.update_id is None or self.update_id < sequence:
            self._moved.clear()
            await self._moved.wait()

    async def _ask_for_snapshot(self) -> None:
        answer = await self._server.venue.public.get(f"/api/v3/depth?symbol={self._symbol}&limit=5000")
        book = answer.json
        self.take_snapshot(book["lastUpdateId"], dict(book["bids"]), dict(book["asks"]))
        self._moved.set()
