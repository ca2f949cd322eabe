"""Two markets and a few funded accounts, made through the public API of a backend that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from tests.faults.exchange_client import Address, Answer, Credentials, HttpConnection

MARKETS: Final = {"GOLDEUR": "GOLD", "SILVEREUR": "SILVER"}
QUOTE: Final = "EUR"
FEE_RATE: Final = "0.001"
TRADERS: Final = 6
PASSWORD: Final = "the password of a trader in the tests"
FUNDS: Final = {"GOLD": "1000000", "SILVER": "1000000", QUOTE: "1000000000"}


@dataclass(frozen=True)
class Operator:
    """Who may deposit and open markets."""

    email: str
    password: str


@dataclass
class Venue:
    """What there is to trade and who trades; ``addresses`` are those of the replicas that serve it."""

    addresses: Sequence[Address]
    operator: Operator
    traders: list[Credentials]

    def from_home(self, number: int) -> Sequence[Address]:
        """The addresses in the order in which client ``number`` tries them."""
        home = number % len(self.addresses)
        return [*self.addresses[home:], *self.addresses[:home]]


async def call(connection: HttpConnection, method: str, path: str, content: object = None, token: str = "") -> Any:
    """Ask for something that has to work, and give the decoded answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer: Answer = await connection.request(method, path, headers, content)
    assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
    return answer.json


async def log_in(connection: HttpConnection, email: str, password: str) -> str:
    """The access token of a user."""
    answer = await call(connection, "POST", "/api/v1/auth/login", {"email": email, "password": password})
    token: str = answer["accessToken"]
    return token


async def open_venue(addresses: Sequence[Address], operator: Operator) -> Venue:
    """Open the markets and the accounts."""
    with closing(HttpConnection(*addresses)) as connection:
        token = await log_in(connection, operator.email, operator.password)
        await _open_markets(connection, token)
    traders = await asyncio.gather(*(_open_account(addresses, token, number) for number in range(TRADERS)))
    return Venue(addresses, operator, traders)


async def _open_markets(connection: HttpConnection, token: str) -> None:
    rates = {"makerRate": FEE_RATE, "takerRate": FEE_RATE}
    await call(connection, "PUT", "/api/v1/admin/fee-tiers/0", rates, token)
    for symbol, base in MARKETS.items():
        market = {
            "symbol": symbol,
            "baseAsset": base,
            "quoteAsset": QUOTE,
            "tickSize": "0.01",
            "stepSize": "0.001",
            "maxNumOrders": 10_000,
        }
        await call(connection, "POST", "/api/v1/admin/markets", market, token)


async def _open_account(addresses: Sequence[Address], operator_token: str, number: int) -> Credentials:
    email = f"trader-{number}@example.com"
    with closing(HttpConnection(*addresses)) as connection:
        user = {"email": email, "password": PASSWORD}
        user_id: int = (await call(connection, "POST", "/api/v1/auth/register", user))["userId"]
        for asset, amount in FUNDS.items():
            deposit = {"userId": user_id, "asset": asset, "amount": amount, "reference": f"{email} {asset}"}
            await call(connection, "POST", "/api/v1/admin/deposits", deposit, operator_token)
        token = await log_in(connection, email, PASSWORD)
        wanted = {"label": "faults", "permissions": ["read", "trade"], "ipAllow": []}
        key = await call(connection, "POST", "/api/v1/api-keys", wanted, token)
    return Credentials(user_id, key["apiKey"], key["secretKey"])


async def read_book(addresses: Sequence[Address], symbol: str) -> Any:
    """The answer to a question for the whole book of a market."""
    with closing(HttpConnection(*addresses)) as connection:
        return await call(connection, "GET", f"/api/v3/depth?symbol={symbol}&limit=5000")
