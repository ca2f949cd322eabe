"""The server's side of a WebSocket, without a network: the test is the client."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import msgspec


class FakeWebSocket:
    """``receive`` and ``send`` are for the connection under test, the other methods for the test."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.closed: tuple[int, str] | None = None
        self.was_aborted = False
        self._to_server: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._to_client: asyncio.Queue[str] = asyncio.Queue()

    async def receive(self) -> MutableMapping[str, Any]:
        return await self._to_server.get()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Like a socket whose buffer is full, this waits while the client does not read."""
        await self.reading.wait()
        if message["type"] == "websocket.send":
            self._to_client.put_nowait(message["text"])
        else:
            assert message["type"] == "websocket.close"
            self.closed = message["code"], message["reason"]

    def abort(self) -> None:
        self.was_aborted = True

    def say(self, text: str | bytes) -> None:
        """Send a message to the server."""
        key = "text" if isinstance(text, str) else "bytes"
        self._to_server.put_nowait({"type": "websocket.receive", key: text})

    def request(self, method: str, params: list[Any] | None = None, request_id: int = 1, **more: object) -> None:
        """Send a control message."""
        content = {"method": method, "id": request_id} | ({} if params is None else {"params": params}) | more
        self.say(msgspec.json.encode(content).decode())

    def disconnect(self) -> None:
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def hear(self) -> Any:
        """The next message from the server."""
        return msgspec.json.decode(await self._to_client.get())

    @property
    def unheard(self) -> int:
        return self._to_client.qsize()
