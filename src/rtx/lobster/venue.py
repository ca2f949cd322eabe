"""Makes a market ready for a replay: an empty book, accounts with API keys, and the money and shares they need."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec

from rtx.demo.client import AccountClient, AnsweredError, HttpConnection, TradingClient, UnreachableError
from rtx.lobster.errors import ReplayError
from rtx.lobster.plan import Needs, Plan
from rtx.lobster.record import PRICE_UNITS_PER_DOLLAR
from rtx.lobster.translation import Place, Take

QUOTE_ASSET: Final = "USD"
"""What the record's prices are in."""

_NEW_MARKET: Final = {"tickSize": "0.01", "stepSize": "1", "minQty": "1", "maxNumOrders": 100_000}

_UNKNOWN_SYMBOL: Final = -1121
_UNKNOWN_ORDER: Final = -2011
_NO_SUCH_KEY: Final = 404


@dataclass(frozen=True)
class Market:
    """What a replay has to know of a market; ``orders_max`` is how many one account may have open."""

    symbol: str
    base_asset: str
    quote_asset: str
    tick: Decimal
    lot: Decimal
    orders_max: int | None

    def can_express(self, price: int, quantity: int) -> bool:
        """Whether an order may have this price (in 1/10,000 dollar) and quantity."""
        return not (dollars(price) % self.tick or Decimal(quantity) % self.lot)


@dataclass
class Trader:
    """An account made for the replay; ``open_orders`` counts those that it placed and that still rest."""

    account: AccountClient
    api_key: str
    client: TradingClient
    open_orders: int = 0


@dataclass
class Traders:
    """Who plays: makers own what rests, the taker executes it."""

    taker: Trader
    makers: list[Trader] = field(default_factory=list)

    def least_busy(self) -> Trader:
        """The maker with the fewest orders open."""
        return min(self.makers, key=lambda trader: trader.open_orders)


async def prepare_market(connection: HttpConnection, operator: AccountClient, symbol: str) -> Market:
    """Find the market, or open it; raises :class:`ReplayError` when it cannot be used."""
    description = await _describe(connection, symbol)
    if description is None:
        await _open_market(operator, symbol)
        description = await _describe(connection, symbol)
    if description is None or description["status"] != "TRADING":
        raise ReplayError(
            f"{symbol} is not open for trading",
            f'an operator opens it with PUT /api/v1/admin/markets/{symbol}/status {{"status": "TRADING"}}',
        )
    filters = {entry["filterType"]: entry for entry in description["filters"]}
    return Market(
        symbol,
        description["baseAsset"],
        description["quoteAsset"],
        tick=Decimal(filters["PRICE_FILTER"]["tickSize"]),
        lot=Decimal(filters["LOT_SIZE"]["stepSize"]),
        orders_max=filters["MAX_NUM_ORDERS"]["maxNumOrders"] if "MAX_NUM_ORDERS" in filters else None,
    )


async def check_empty(connection: HttpConnection, symbol: str) -> None:
    """Raise :class:`ReplayError` when somebody has orders in the book; a market that does not exist is empty."""
    try:
        book = await connection.request("GET", f"/api/v3/depth?symbol={symbol}&limit=5")
    except AnsweredError as error:
        if error.code == _UNKNOWN_SYMBOL:
            return
        raise
    if book["asks"] or book["bids"]:
        raise ReplayError(
            f"the book of {symbol} at {connection.base_url} is not empty, so it could not become the recorded one",
            "name a market of its own, which will be opened, such as --symbol AAPLREPLAYUSD",
            "or use a backend without demo traders: rtx dev --no-demo --data DIR",
        )


def check_steps(market: Market, plan: Plan) -> None:
    """Raise :class:`ReplayError` when the market's ticks or lots cannot express the record."""
    for step in plan.steps:
        for action in step.actions:
            if isinstance(action, Place | Take) and not market.can_express(action.price, action.quantity):
                raise ReplayError(
                    f"message {step.message.number} needs {action.quantity} at {dollars(action.price)}, but "
                    f"{market.symbol} has ticks of {market.tick.normalize():f} and lots of {market.lot.normalize():f}",
                    "name a market that does not exist yet: it is opened with ticks of 0.01 and lots of 1",
                )


@contextlib.asynccontextmanager
async def traders(
    connection: HttpConnection, operator: AccountClient, market: Market, needs: Needs, *, keep: bool
) -> AsyncIterator[Traders]:
    """Accounts that can play the record; in the end their orders and keys are taken back, unless ``keep``."""
    run = secrets.token_hex(6)
    makers_count = -(-needs.orders_max // (market.orders_max or needs.orders_max)) if needs.orders_max else 1
    made: list[Trader] = []
    try:
        for number in range(makers_count + 1):
            trader = await _make_trader(connection, f"lobster-{run}-{number}@rtx.localhost")
            made.append(trader[0])
            is_taker = number == 0
            money = needs.taking_money if is_taker else needs.resting_money
            shares = needs.taking_shares if is_taker else needs.resting_shares
            amounts = {market.quote_asset: dollars(money), market.base_asset: Decimal(shares)}
            await _fund(operator, trader[1], amounts, f"lobster-{run}-{number}")
        yield Traders(made[0], made[1:])
    except BaseException:
        # Whatever ended the replay is what has to be told, not that its traces could not be removed either.
        with contextlib.suppress(AnsweredError, UnreachableError):
            await _take_back(market.symbol, () if keep else made)
        raise
    await _take_back(market.symbol, () if keep else made)


def dollars(price: int) -> Decimal:
    """An amount in units of 1/10,000 dollar, in dollars."""
    return Decimal(price) / PRICE_UNITS_PER_DOLLAR


async def _describe(connection: HttpConnection, symbol: str) -> dict[str, Any] | None:
    try:
        answer = await connection.request("GET", f"/api/v3/exchangeInfo?symbol={symbol}")
    except AnsweredError as error:
        if error.code == _UNKNOWN_SYMBOL:
            return None
        raise
    description: dict[str, Any] = answer["symbols"][0]
    return description


async def _open_market(operator: AccountClient, symbol: str) -> None:
    base = symbol.removesuffix(QUOTE_ASSET)
    if not base or base == symbol:
        raise ReplayError(
            f"there is no market {symbol}, and its name does not say which shares it would trade for {QUOTE_ASSET}",
            f"name one that ends in {QUOTE_ASSET}, such as --symbol AAPLUSD",
        )
    definition = {"symbol": symbol, "baseAsset": base, "quoteAsset": QUOTE_ASSET, **_NEW_MARKET}
    await operator.call("POST", "/api/v1/admin/markets", definition)


async def _make_trader(connection: HttpConnection, email: str) -> tuple[Trader, int]:
    credentials = {"email": email, "password": secrets.token_urlsafe(18)}
    registered = await connection.request(
        "POST",
        "/api/v1/auth/register",
        content=msgspec.json.encode(credentials),
        headers={"Content-Type": "application/json"},
    )
    account = AccountClient(connection, **credentials)
    body = {"label": "recorded order flow", "permissions": ["read", "trade"], "ipAllow": []}
    made = await account.call("POST", "/api/v1/api-keys", body)
    client = TradingClient(connection, made["apiKey"], made["secretKey"])
    return Trader(account, made["apiKey"], client), registered["userId"]


async def _fund(operator: AccountClient, user_id: int, amounts: dict[str, Decimal], reference: str) -> None:
    for asset, amount in amounts.items():
        if amount:
            body = {"userId": user_id, "asset": asset, "amount": f"{amount:f}", "reference": f"{reference}-{asset}"}
            await operator.call("POST", "/api/v1/admin/deposits", body)


async def _take_back(symbol: str, made: Sequence[Trader]) -> None:
    for trader in made:
        try:
            await trader.client.signed("DELETE", "/api/v3/openOrders", symbol=symbol)
        except AnsweredError as error:
            if error.code != _UNKNOWN_ORDER:
                raise
        try:
            await trader.account.call("DELETE", f"/api/v1/api-keys/{trader.api_key}")
        except AnsweredError as error:
            if error.status != _NO_SUCH_KEY:
                raise
