"""Speaks to a backend the way any outsider does: over HTTP, with an API key or an operator's login.

The demo traders use it, and ``rtx dev`` to set up its first markets; nothing of the backend's inside is imported.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
import msgspec

REQUEST_TIMEOUT_S: Final = 15.0
CONNECTIONS_MAX: Final = 8

_JSON: Final = {"Content-Type": "application/json"}

JsonValue = Any
"""What a JSON answer decodes to; its shape is the API's document's."""


class AnsweredError(Exception):
    """The backend refused: HTTP ``status``, and ``code`` and ``message`` of its answer (0 and "" without one)."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(f"HTTP {status}, code {code}: {message}")


class UnreachableError(Exception):
    """No answer: whether the request was carried out is unknown."""


class HttpConnection:
    """Connections to one backend, shared by all clients of this process."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        )

    async def request(
        self, method: str, target: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> JsonValue:
        """Send one request and decode its answer; raises :class:`AnsweredError` and :class:`UnreachableError`."""
        status, body = await self._send(method, target, content, headers)
        return _decode(status, body)

    async def read(self, target: str) -> bytes:
        """Get what is not JSON; raises the same."""
        status, body = await self._send("GET", target, None, None)
        if status != 200:
            raise AnsweredError(status, 0, "")
        return body

    async def _send(
        self, method: str, target: str, content: bytes | None, headers: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self.base_url + target, data=content, headers=headers) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()


class TradingClient:
    """Signs requests with an API key; ``parameters`` go out as they are, numbers already as decimal text."""

    def __init__(self, connection: HttpConnection, api_key: str, secret: str) -> None:
        self._connection = connection
        self._headers = {"X-MBX-APIKEY": api_key}
        self._secret = secret.encode()

    async def signed(self, method: str, path: str, **parameters: str | int) -> JsonValue:
        """Call a private endpoint."""
        query = urlencode({**parameters, "recvWindow": 60_000, "timestamp": time.time_ns() // 1_000_000})
        signature = hmac.digest(self._secret, query.encode(), hashlib.sha256).hex()
        return await self._connection.request(method, f"{path}?{query}&signature={signature}", headers=self._headers)


class AccountClient:
    """A user or operator with e-mail address and password; logs in when needed, also when the login ran out."""

    def __init__(self, connection: HttpConnection, email: str, password: str) -> None:
        self._connection = connection
        self._email = email
        self._password = password
        self._token = ""

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> JsonValue:
        """Call one of our own endpoints with a JSON body."""
        if not self._token:
            await self.log_in()
        try:
            return await self._send(method, path, body)
        except AnsweredError as error:
            if error.status != 401:
                raise
        await self.log_in()
        return await self._send(method, path, body)

    async def log_in(self) -> None:
        """Begin a session; raises :class:`AnsweredError` 401 for a wrong password."""
        credentials = {"email": self._email, "password": self._password}
        answer = await self._connection.request(
            "POST", "/api/v1/auth/login", content=msgspec.json.encode(credentials), headers=_JSON
        )
        self._token = answer["accessToken"]

    async def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> JsonValue:
        content = None if body is None else msgspec.json.encode(body)
        headers = {**_JSON, "Authorization": f"Bearer {self._token}"}
        return await self._connection.request(method, path, content=content, headers=headers)


def _decode(status: int, body: bytes) -> JsonValue:
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise AnsweredError(status, 0, "") from None
    if status < 400:
        return answer
    if not isinstance(answer, dict):
        raise AnsweredError(status, 0, "")
    raise AnsweredError(status, int(answer.get("code", 0)), str(answer.get("msg", "")))
