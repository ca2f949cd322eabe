"""Sets up what a first run finds: an operator, assets and markets, and the accounts of the demo and of the crowd.

Only the users are written into the database, because this run knows their passwords; all else goes through the public
API, as it would anywhere. Every step looks for what is there already, so the next run completes an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rtx.api.auth.passwords import hash_password, verify_password
from rtx.cli.dev.data_directory import Account, Credentials, DataDirectory
from rtx.demo.client import AccountClient, AnsweredError, HttpConnection, TradingClient
from rtx.demo.crowd import CrowdFile, TraderKeys
from rtx.demo.market_profile import ASSET_PRECISION, CROWD_FUNDS, DEMO_FUNDS, FEE_RATE, MARKETS
from rtx.store import users
from rtx.store.connection import Pool, create_pool

Progress = Callable[[str], None]

_CONFLICT = 409
_REFUSED_KEY_CODES = (-2014, -2015)


async def ensure_users(database_url: str, credentials: Credentials) -> None:
    """See that operator and accounts exist with the passwords in hand, and note the accounts' user ids."""
    pool = await create_pool(database_url, application_name="rtx-dev", maximum_size=1)
    try:
        await _ensure_user(pool, credentials.operator.email, credentials.operator.password, "operator")
        for account in (credentials.demo, credentials.maker, credentials.taker):
            account.user_id = await _ensure_user(pool, account.email, account.password, "user")
    finally:
        await pool.close()


async def _ensure_user(pool: Pool, email: str, password: str, role: str) -> int:
    user = await users.by_email(pool, email)
    if user is None:
        return await users.create(pool, email, hash_password(password), role=role)
    if not verify_password(password, user.password_hash):
        # The credentials were lost and made anew while the database was kept.
        await users.set_password_hash(pool, user.user_id, hash_password(password))
    return user.user_id


async def seed(api: str, data: DataDirectory, credentials: Credentials, report: Progress) -> CrowdFile:
    """Create what is missing; returns what the crowd has to know. Raises the errors of :mod:`rtx.demo.client`."""
    async with HttpConnection(api) as connection:
        operator = AccountClient(connection, credentials.operator.email, credentials.operator.password)
        await _ensure_markets(operator, report)
        funds = ((credentials.demo, DEMO_FUNDS), (credentials.maker, CROWD_FUNDS), (credentials.taker, CROWD_FUNDS))
        for account, amounts in funds:
            if await _ensure_api_key(connection, account):
                data.save(credentials)
            await _ensure_funds(operator, account, amounts)
    return CrowdFile(api, credentials.operator, _keys(credentials.maker), _keys(credentials.taker))


async def _ensure_markets(operator: AccountClient, report: Progress) -> None:
    existing = {market["symbol"] for market in await operator.call("GET", "/api/v1/admin/markets")}
    missing = [profile for profile in MARKETS if profile.symbol not in existing]
    if not missing:
        return
    report("opening the demo markets")
    assets = dict.fromkeys(asset for profile in missing for asset in (profile.base, profile.quote))
    for asset in assets:
        await _create(operator, "/api/v1/admin/assets", {"symbol": asset, "precision": ASSET_PRECISION})
    if not existing:
        await operator.call("PUT", "/api/v1/admin/fee-tiers/0", {"makerRate": FEE_RATE, "takerRate": FEE_RATE})
    for profile in missing:
        await _create(operator, "/api/v1/admin/markets", profile.definition)


async def _create(operator: AccountClient, path: str, body: Mapping[str, object]) -> None:
    try:
        await operator.call("POST", path, body)
    except AnsweredError as error:
        if error.status != _CONFLICT:
            raise


async def _ensure_api_key(connection: HttpConnection, account: Account) -> bool:
    """See that the account has an API key that signs; returns whether one was made."""
    if account.api_key and await _can_sign(connection, account):
        return False
    client = AccountClient(connection, account.email, account.password)
    body = {"label": "made by rtx dev", "permissions": ["read", "trade"], "ipAllow": []}
    made = await client.call("POST", "/api/v1/api-keys", body)
    account.api_key, account.secret = made["apiKey"], made["secretKey"]
    return True


async def _can_sign(connection: HttpConnection, account: Account) -> bool:
    try:
        await TradingClient(connection, account.api_key, account.secret).signed("GET", "/api/v3/openOrders")
    except AnsweredError as error:
        if error.code in _REFUSED_KEY_CODES:
            return False
        raise
    return True


async def _ensure_funds(operator: AccountClient, account: Account, amounts: Mapping[str, str]) -> None:
    """Book the first deposits; the reference makes sure that each is booked once, in however many runs."""
    for asset, amount in amounts.items():
        reference = f"first-{account.email}-{asset}"
        body = {"userId": account.user_id, "asset": asset, "amount": amount, "reference": reference}
        await operator.call("POST", "/api/v1/admin/deposits", body)


def _keys(account: Account) -> TraderKeys:
    return TraderKeys(account.user_id, account.api_key, account.secret)
