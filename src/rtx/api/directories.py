"""Where the worker's copies of markets and API keys come from, and how they stay right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import redis.asyncio
import structlog

from rtx.api.api_key_cache import ApiKey, ApiKeyCache
from rtx.api.auth.service import Authentication
from rtx.api.book_reader import BookReader
from rtx.api.context import ApiContext, ApiSettings, Engine
from rtx.api.history_reads import HistoryReads
from rtx.api.markets import Asset, Market, MarketDirectory
from rtx.api.notifications import NotificationListener
from rtx.api.secrets_at_rest import SecretBox, UndecryptableSecretError
from rtx.cancellation import end_tasks
from rtx.store import api_keys as stored_api_keys
from rtx.store import markets as stored_markets
from rtx.store.connection import Pool

_log = structlog.get_logger("rtx.api.directories")


def make_context(
    settings: ApiSettings,
    *,
    pool: Pool,
    redis_client: redis.asyncio.Redis,
    engine: Engine,
    clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    history: HistoryReads | None = None,
) -> ApiContext:
    """Put a worker's context together from its connections, which stay the caller's to close.

    Without ``history`` everything is read from ``pool``.
    """
    secrets = SecretBox(settings.jwt_secrets)
    return ApiContext(
        settings=settings,
        pool=pool,
        history=history or HistoryReads(pool),
        engine=engine,
        redis=redis_client,
        secrets=secrets,
        markets=MarketDirectory(lambda: _load_markets(pool)),
        api_keys=ApiKeyCache(
            lambda api_key: _load_api_key(pool, secrets, api_key),
            time.monotonic,
            settings.api_key_cache_ttl_s,
            # As long as an order would wait for the engine, which waits for the same database.
            wait_s=settings.engine_timeout_s,
        ),
        books=BookReader(engine.book, timeout_s=settings.engine_timeout_s),
        auth=Authentication(pool, redis_client, settings.jwt_secrets, lambda: clock_us() // 1_000_000),
        clock_us=clock_us,
    )


@asynccontextmanager
async def lifespan(context: ApiContext) -> AsyncIterator[None]:
    """Read the markets, and keep them and the API keys right while the worker runs."""
    await context.markets.read()
    reading: set[asyncio.Task[None]] = set()

    def read_markets(_payload: str = "") -> None:
        task = asyncio.create_task(_read_markets(context.markets))
        reading.add(task)
        task.add_done_callback(reading.discard)

    def on_listening() -> None:
        context.api_keys.listening()
        read_markets()

    listener = NotificationListener(
        context.pool,
        {stored_api_keys.CHANNEL: context.api_keys.changed, stored_markets.CHANNEL: read_markets},
        on_listening=on_listening,
        on_deaf=context.api_keys.deaf,
    )
    listening = asyncio.create_task(listener.run())
    try:
        yield
    finally:
        await end_tasks(listening)
        context.auth.close()


async def _read_markets(markets: MarketDirectory) -> None:
    try:
        await markets.read()
    except Exception as error:  # noqa: BLE001 - the directory in hand stays; the next notice or unknown symbol reads again
        _log.warning("markets.not_read", error=f"{type(error).__name__}: {error}")


async def _load_markets(pool: Pool) -> tuple[list[Asset], list[Market]]:
    directory = await stored_markets.read_directory(pool)
    assets = {asset.asset_id: Asset(asset.asset_id, asset.symbol, asset.scale) for asset in directory.assets}
    markets = [
        Market(
            market.market_id,
            market.symbol,
            assets[market.base_asset_id],
            assets[market.quote_asset_id],
            tick_size=market.tick_size,
            lot_size=market.lot_size,
            status=market.status,
            filters=market.filters,
        )
        for market in directory.markets
    ]
    return list(assets.values()), markets


async def _load_api_key(pool: Pool, secrets: SecretBox, api_key: str) -> ApiKey | None:
    stored = await stored_api_keys.find(pool, api_key)
    if stored is None or stored.user_disabled:
        return None
    try:
        secret = secrets.decrypt(stored.encryption_key_id, stored.secret_encrypted, api_key)
    except UndecryptableSecretError as error:
        _log.error("api_key.undecryptable", error=str(error))
        return None
    return ApiKey(stored.user_id, secret, frozenset(stored.permissions), stored.ip_allow)
