"""A signed HTTP client that never does a thing twice: what it cannot know stays unknown, which the tests are about."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

REQUEST_TIMEOUT_S: Final = 15.0
"""More than the backend takes to say that it does not know."""

READ_AGAIN_INTERVAL_S: Final = 0.05
RECEIVE_WINDOW_MS: Final = 60_000


Address = tuple[str, int]
"""Host and port."""


class NotSentError(Exception):
    """There was no connection to be had, so nothing was asked."""


class NoAnswerError(Exception):
    """The request left, in part or whole, and no whole answer came: what became of it is unknown.

    ``address`` is where it was sent.
    """

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(reason)
        self.address = address


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Credentials:
    """An account and the key that trades for it."""

    account_id: int
    api_key: str
    secret: str

    def signed(self, path: str, parameters: dict[str, str | int]) -> str:
        """The request target with parameters, time and signature."""
        stamp = {"recvWindow": RECEIVE_WINDOW_MS, "timestamp": time.time_ns() // 1_000_000}
        query = urlencode({**parameters, **stamp})
        signature = hmac.digest(self.secret.encode(), query.encode(), hashlib.sha256).hex()
        return f"{path}?{query}&signature={signature}"


class HttpConnection:
    """One connection that is kept, with one request at a time; it is made anew when it turns out to be gone.

    It goes to the first of the addresses that takes it, as a load balancer would send it there.
    """

    def __init__(self, *addresses: Address, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.address = addresses[0]
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(
        self, method: str, target: str, headers: dict[str, str] | None = None, content: object = None
    ) -> Answer:
        """Send one request; raises :class:`NotSentError` or :class:`NoAnswerError`."""
        reader, writer = await self._connected()
        body = b"" if content is None else msgspec.json.encode(content)
        sent = {"Host": "127.0.0.1", "Content-Length": str(len(body))} | (headers or {})
        if content is not None:
            sent["Content-Type"] = "application/json"
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
                return await self._receive(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.close()
            raise NoAnswerError(self.address, type(error).__name__) from error

    async def signed(
        self, method: str, path: str, who: Credentials, *, idempotency_key: str = "", **parameters: str | int
    ) -> Answer:
        """Send one request of a trader; raises the same."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return await self._signed(method, path, who, parameters, headers)

    async def read(self, path: str, who: Credentials, **parameters: str | int) -> Answer:
        """Ask for something of a trader's, again while the backend says that it cannot tell now; raises the same."""
        give_up_s = time.monotonic() + self._timeout_s
        while True:
            answer = await self._signed("GET", path, who, parameters, {})
            if answer.status < 500 or time.monotonic() > give_up_s:
                return answer
            await asyncio.sleep(READ_AGAIN_INTERVAL_S)

    def close(self) -> None:
        """Let the connection go."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _signed(
        self, method: str, path: str, who: Credentials, parameters: dict[str, str | int], headers: dict[str, str]
    ) -> Answer:
        return await self.request(method, who.signed(path, parameters), {"X-MBX-APIKEY": who.api_key, **headers})

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = self._reader, self._writer
        if reader is not None and writer is not None:
            if not (reader.at_eof() or reader.exception() or writer.is_closing()):
                return reader, writer
            self.close()
        reasons = []
        for address in self._addresses:
            try:
                async with asyncio.timeout(self._timeout_s):
                    reader, writer = await asyncio.open_connection(*address)
            except (OSError, TimeoutError) as error:
                reasons.append(type(error).__name__)
                continue
            self.address, self._reader, self._writer = address, reader, writer
            return reader, writer
        raise NotSentError(reasons[0])

    async def _receive(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(head[0].split(" ", 2)[1]), body)
