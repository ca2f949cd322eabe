"""The crowd as a whole: who trades where, and who pays for it."""

from __future__ import annotations

import asyncio
import random
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from rtx.demo.client import AccountClient, AnsweredError, HttpConnection, TradingClient, UnreachableError
from rtx.demo.market_profile import CROWD_FUNDS, MARKETS
from rtx.demo.traders import Maker, Taker
from rtx.observability.logging import get_logger

FUNDS_INTERVAL_S: Final = 60.0
FUNDS_RETRY_S: Final = 5.0
LOW_SHARE: Final = Decimal("0.25")

_log = get_logger("rtx.demo")


class Login(msgspec.Struct, frozen=True, rename="camel"):
    """How somebody signs in."""

    email: str
    password: str


class TraderKeys(msgspec.Struct, frozen=True, rename="camel"):
    """A trader's account and API key."""

    user_id: int
    api_key: str
    secret: str


class CrowdFile(msgspec.Struct, frozen=True, rename="camel"):
    """What the crowd is told: where the API is, who may deposit, and the traders' keys."""

    api: str
    operator: Login
    maker: TraderKeys
    taker: TraderKeys


class Treasurer:
    """Brings a trader's balances back up by deposits, now and then and when asked."""

    def __init__(self, operator: AccountClient, client: TradingClient, user_id: int) -> None:
        self._operator = operator
        self._client = client
        self._user_id = user_id
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have the balances looked at soon."""
        self._asked.set()

    async def run(self) -> None:
        """Look after the trader until cancelled."""
        while True:
            try:
                await self.top_up()
            except (AnsweredError, UnreachableError) as error:
                _log.warning("demo trader could not be given money", reason=str(error))
            self._asked.clear()
            # Not at once even when asked: the balance may be short for every order of a busy second.
            await asyncio.sleep(FUNDS_RETRY_S)
            try:
                async with asyncio.timeout(FUNDS_INTERVAL_S - FUNDS_RETRY_S):
                    await self._asked.wait()
            except TimeoutError:
                pass

    async def top_up(self) -> None:
        """Deposit what is missing of each asset of which little is left."""
        account = await self._client.signed("GET", "/api/v3/account", omitZeroBalances="true")
        free = {row["asset"]: Decimal(row["free"]) for row in account["balances"]}
        for asset, target in CROWD_FUNDS.items():
            missing = Decimal(target) - free.get(asset, Decimal(0))
            if missing > Decimal(target) * (1 - LOW_SHARE):
                body = {
                    "userId": self._user_id,
                    "asset": asset,
                    "amount": str(missing),
                    "reference": f"demo-{secrets.token_hex(8)}",
                }
                await self._operator.call("POST", "/api/v1/admin/deposits", body)


async def run_crowd(plan: CrowdFile, chance: random.Random | None = None) -> None:
    """Trade on every demo market until cancelled."""
    source = chance or random.Random()  # noqa: S311 - it makes a picture, not a secret
    async with HttpConnection(plan.api) as connection, asyncio.TaskGroup() as tasks:
        operator = AccountClient(connection, plan.operator.email, plan.operator.password)
        makers, making = _trader(connection, operator, plan.maker)
        takers, taking = _trader(connection, operator, plan.taker)
        for treasurer in (making, taking):
            tasks.create_task(treasurer.run())
        for profile in MARKETS:
            tasks.create_task(Maker(profile, connection, makers, source, making.ask).run())
            tasks.create_task(Taker(profile, connection, takers, source, taking.ask).run())


def _trader(connection: HttpConnection, operator: AccountClient, keys: TraderKeys) -> tuple[TradingClient, Treasurer]:
    client = TradingClient(connection, keys.api_key, keys.secret)
    return client, Treasurer(operator, client, keys.user_id)


async def read_plan(path: Path, interval_s: float = 0.25) -> CrowdFile:
    """Wait for the file that says how to trade; whoever starts the crowd writes it when the markets are open."""
    while True:
        try:
            return msgspec.json.decode(path.read_bytes(), type=CrowdFile)  # noqa: ASYNC240 - a small local file
        except (FileNotFoundError, msgspec.DecodeError):
            await asyncio.sleep(interval_s)
