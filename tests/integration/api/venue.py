"""A running backend with markets, and traders who sign their requests as Binance's clients do."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.integration.api_v1.backend import Answer, Backend, Client

from rtx.core.commands import CreateAsset, CreateMarket, Deposit, MarketFilters, SetMarketStatus
from rtx.core.events import AssetCreated
from rtx.core.vocabulary import MarketStatus

_numbers = itertools.count(1)


def now_ms() -> int:
    """The time that a client would sign with."""
    return time.time_ns() // 1_000_000


@dataclass
class Trader:
    """A user with an API key; ``request`` signs and sends, parameters in the query unless ``in_body``."""

    client: Client
    account_id: int
    api_key: str
    secret: str
    headers: dict[str, str] = field(default_factory=dict)

    def sign(self, payload: str) -> str:
        return hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()

    async def request(
        self,
        method: str,
        path: str,
        parameters: dict[str, Any] | None = None,
        *,
        in_body: bool = False,
        headers: dict[str, str] | None = None,
        timestamp_ms: int | None = None,
    ) -> Answer:
        form = urlencode({**(parameters or {}), "timestamp": timestamp_ms or now_ms()})
        return await self.send(method, path, f"{form}&signature={self.sign(form)}", in_body=in_body, headers=headers)

    async def send(
        self, method: str, path: str, form: str, *, in_body: bool = False, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a form as it is."""
        sent = {"X-MBX-APIKEY": self.api_key, "content-type": "application/x-www-form-urlencoded"}
        return await self.client.request(
            method,
            path if in_body else f"{path}?{form}",
            body=form.encode() if in_body else b"",
            headers=sent | self.headers | (headers or {}),
        )

    async def get(self, path: str, **parameters: Any) -> Answer:
        return await self.request("GET", path, parameters)

    async def post(self, path: str, **parameters: Any) -> Answer:
        return await self.request("POST", path, parameters, in_body=True)

    async def put(self, path: str, **parameters: Any) -> Answer:
        return await self.request("PUT", path, parameters, in_body=True)

    async def delete(self, path: str, **parameters: Any) -> Answer:
        return await self.request("DELETE", path, parameters)

    async def order(self, symbol: str, side: str, quantity: str, price: str, **more: Any) -> dict[str, Any]:
        """Place a LIMIT order that is good till cancelled, and expect it to be taken."""
        parameters = {"symbol": symbol, "side": side, "type": "LIMIT", "quantity": quantity, "price": price}
        answer = await self.post("/api/v3/order", **(parameters | {"timeInForce": "GTC"} | more))
        assert answer.status == 200, answer.body
        content: dict[str, Any] = answer.json
        return content

    async def free(self, asset: str) -> tuple[str, str]:
        """What the account has of an asset: free and locked."""
        answer = await self.get("/api/v3/account")
        assert answer.status == 200, answer.body
        return next((row["free"], row["locked"]) for row in answer.json["balances"] if row["asset"] == asset)


@dataclass
class Venue:
    """The backend and what it has been given to trade."""

    backend: Backend
    assets: dict[str, int] = field(default_factory=dict)
    emails: dict[int, str] = field(default_factory=dict)

    @property
    def public(self) -> Client:
        return self.backend.client()

    async def asset(self, symbol: str, scale: int = 8) -> int:
        if symbol not in self.assets:
            applied = await self.backend.link.submit(CreateAsset(symbol, scale), request_id="venue")
            created = applied.events[0]
            assert isinstance(created, AssetCreated)
            self.assets[symbol] = created.asset_id
        return self.assets[symbol]

    async def market(
        self,
        base: str | None = None,
        quote: str = "USDT",
        *,
        tick_size: int = 1_000_000,
        lot_size: int = 1_000,
        filters: MarketFilters | None = None,
    ) -> str:
        """Open a market of a new asset in USDT: ticks of 0.01, lots of 0.00001."""
        base = base or f"COIN{next(_numbers)}"
        command = CreateMarket(
            base + quote,
            await self.asset(base),
            await self.asset(quote),
            tick_size,
            lot_size,
            filters or MarketFilters(),
        )
        await self.backend.link.submit(command, request_id="venue")
        return base + quote

    async def set_status(self, symbol: str, status: MarketStatus) -> None:
        market = await self.backend.context.markets.find(symbol)
        await self.backend.link.submit(SetMarketStatus(market.market_id, status.value), request_id="venue")

    async def market_id(self, symbol: str) -> int:
        return (await self.backend.context.markets.find(symbol)).market_id

    async def trader(
        self,
        amounts: dict[str, int] | None = None,
        *,
        permissions: tuple[str, ...] = ("read", "trade"),
        ip_allow: tuple[str, ...] = (),
    ) -> Trader:
        """Make a user with an API key, and ``amounts`` of assets in whole units."""
        email = f"trader{next(_numbers)}@example.com"
        account_id, client = await self.backend.new_user(email)
        self.emails[account_id] = email
        answer = await client.post(
            "/api/v1/api-keys", {"label": "test", "permissions": list(permissions), "ipAllow": list(ip_allow)}
        )
        assert answer.status in (200, 201), answer.body
        for symbol, amount in (amounts or {}).items():
            await self.deposit(account_id, symbol, amount)
        return Trader(self.backend.client(), account_id, answer.json["apiKey"], answer.json["secretKey"])

    async def deposit(self, account_id: int, symbol: str, amount: int) -> None:
        command = Deposit(account_id, await self.asset(symbol), amount * 10**8, f"deposit {next(_numbers)}")
        await self.backend.link.submit(command, request_id="venue")
