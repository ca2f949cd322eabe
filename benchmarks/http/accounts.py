"""Fresh, funded accounts with API keys, made through the public API as any client would make them."""

from __future__ import annotations

import http.client
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from benchmarks.backend import Operator

REQUEST_SECONDS_MAX = 30
KEY_PERMISSIONS = ("read", "trade")


class SetupError(Exception):
    """The API refused a step that has to work before anything can be measured."""


@dataclass(frozen=True, slots=True)
class Trader:
    """One account that can sign orders."""

    user_id: int | str
    api_key: str
    secret_key: str = ""

    def __repr__(self) -> str:
        return f"Trader(user_id={self.user_id!r})"


class JsonClient:
    """One keep-alive connection to the API, for what is not measured."""

    def __init__(self, api_url: str) -> None:
        address = urlsplit(api_url)
        if address.scheme != "http" or address.hostname is None:
            raise SetupError(f"the API's address must be http://HOST:PORT, not {api_url!r}")
        self._connection = http.client.HTTPConnection(address.hostname, address.port or 80, timeout=REQUEST_SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None, token: str = "") -> Any:
        """Send one request and give the decoded answer; raises :class:`SetupError` on anything but 2xx."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        content = None if body is None else msgspec.json.encode(body)
        try:
            self._connection.request(method, path, body=content, headers=headers)
            answer = self._connection.getresponse()
            payload = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise SetupError(f"{method} {path} had no answer: {error!r}") from error
        if not 200 <= answer.status < 300:
            raise SetupError(f"{method} {path} gave {answer.status}: {payload[:300].decode(errors='replace')}")
        return msgspec.json.decode(payload)


def create_traders(
    client: JsonClient, operator: Operator, count: int, funding: Mapping[str, Decimal]
) -> tuple[Trader, ...]:
    """Register ``count`` accounts, deposit ``funding`` (amounts by asset) into each, and make each an API key."""
    operator_token = _login(client, operator.email, operator.password)
    run = secrets.token_hex(6)
    return tuple(_create_trader(client, operator_token, f"bench-{run}-{index}", funding) for index in range(count))


def _create_trader(client: JsonClient, operator_token: str, name: str, funding: Mapping[str, Decimal]) -> Trader:
    email, password = f"{name}@example.com", secrets.token_urlsafe(24)
    user_id = client.call("POST", "/api/v1/auth/register", {"email": email, "password": password})["userId"]
    for asset, amount in funding.items():
        deposit = {"userId": user_id, "asset": asset, "amount": f"{amount:f}", "reference": f"{name}-{asset}"}
        client.call("POST", "/api/v1/admin/deposits", deposit, operator_token)
    key_request = {"label": "benchmark", "permissions": KEY_PERMISSIONS, "ipAllow": []}
    key = client.call("POST", "/api/v1/api-keys", key_request, _login(client, email, password))
    return Trader(user_id=user_id, api_key=key["apiKey"], secret_key=key["secretKey"])


def _login(client: JsonClient, email: str, password: str) -> str:
    token: str = client.call("POST", "/api/v1/auth/login", {"email": email, "password": password})["accessToken"]
    return token
