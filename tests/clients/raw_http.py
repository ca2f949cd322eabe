"""HTTP as bytes on a socket, for what no decent client library would send."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from tests.clients.server import Account

TIMEOUT_S: Final = 20.0
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Answer:
    """A status and what came with it, decoded."""

    status: int
    content: Any

    @property
    def code(self) -> int:
        """Binance's code."""
        return int(self.content["code"])


def now_ms() -> int:
    """The time to sign with."""
    return time.time_ns() // 1_000_000


def signed(account: Account, parameters: Mapping[str, object] | str, **times: object) -> str:
    """A query string or form with timestamp and signature; ``parameters`` may be a form already."""
    form = parameters if isinstance(parameters, str) else urlencode(parameters)
    form = "&".join(part for part in (form, urlencode({"timestamp": now_ms(), **times})) if part)
    signature = hmac.new(account.secret.encode(), form.encode(), hashlib.sha256).hexdigest()
    return f"{form}&signature={signature}"


def send(
    port: int, method: str, target: str, *, body: bytes | Iterable[bytes] | None = None, headers: Mapping[str, str]
) -> Answer:
    """Send one request over a connection of its own; an iterable goes out in chunks, its length not told."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, target, body=body, headers=dict(headers), encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        return Answer(response.status, json.loads(response.read()))
    finally:
        connection.close()


def exchange_bytes(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes, and give all that comes until the server closes; ``half_close``: nothing more will be sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
    return received
