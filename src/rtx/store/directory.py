"""Write what changes the directory: assets, markets, their status and filters, and fees.

These events are rare, so each has a plain statement; they run inside the transaction of their batch's commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from rtx.core.commands import MarketFilters
from rtx.core.events import (
    AccountFeeTierSet,
    AssetCreated,
    FeeTierSet,
    MarketCreated,
    MarketFiltersChanged,
    MarketStatusChanged,
)
from rtx.store.connection import Database
from rtx.store.projection import DirectoryEvent

CHANNEL: Final = "rtx_markets"
"""Notified, with an empty payload, after every commit that changed the directory."""

Statement = tuple[str, tuple[Any, ...]]


async def write_directory(database: Database, events: Sequence[tuple[int, DirectoryEvent]]) -> None:
    """Write the events, each with its time in microseconds, in their order and announce the change at commit."""
    for time_us, event in events:
        statement, parameters = _STATEMENTS[type(event)](time_us, event)
        await database.execute(statement, *parameters)
    await database.execute("SELECT pg_notify($1, '')", CHANNEL)


def encode_filters(filters: MarketFilters) -> str:
    """Return the filters as a JSON object under their field names."""
    return msgspec.json.encode(msgspec.structs.asdict(filters)).decode()


def _asset_created(_: int, event: AssetCreated) -> Statement:
    return (
        "INSERT INTO assets (asset_id, symbol, scale) VALUES ($1, $2, $3)",
        (event.asset_id, event.symbol, event.scale),
    )


def _market_created(time_us: int, event: MarketCreated) -> Statement:
    return (
        """
        INSERT INTO markets (market_id, symbol, base_asset_id, quote_asset_id, tick_size, lot_size, status, filters,
            created_at_us)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        (
            event.market_id,
            event.symbol,
            event.base_asset_id,
            event.quote_asset_id,
            event.tick_size,
            event.lot_size,
            event.status,
            encode_filters(event.filters),
            time_us,
        ),
    )


def _market_status_changed(_: int, event: MarketStatusChanged) -> Statement:
    return "UPDATE markets SET status = $2 WHERE market_id = $1", (event.market_id, event.status)


def _market_filters_changed(_: int, event: MarketFiltersChanged) -> Statement:
    return (
        "UPDATE markets SET filters = $2 WHERE market_id = $1",
        (event.market_id, encode_filters(event.filters)),
    )


def _fee_tier_set(_: int, event: FeeTierSet) -> Statement:
    return (
        """
        INSERT INTO fee_tiers (tier, maker_rate_ppm, taker_rate_ppm) VALUES ($1, $2, $3)
        ON CONFLICT (tier) DO UPDATE SET maker_rate_ppm = excluded.maker_rate_ppm,
            taker_rate_ppm = excluded.taker_rate_ppm
        """,
        (event.tier, event.maker_rate_ppm, event.taker_rate_ppm),
    )


def _account_fee_tier_set(_: int, event: AccountFeeTierSet) -> Statement:
    return (
        """
        INSERT INTO account_fee_tiers (account_id, tier) VALUES ($1, $2)
        ON CONFLICT (account_id) DO UPDATE SET tier = excluded.tier
        """,
        (event.account_id, event.tier),
    )


_STATEMENTS: Final[dict[type, Callable[[int, Any], Statement]]] = {
    AssetCreated: _asset_created,
    MarketCreated: _market_created,
    MarketStatusChanged: _market_status_changed,
    MarketFiltersChanged: _market_filters_changed,
    FeeTierSet: _fee_tier_set,
    AccountFeeTierSet: _account_fee_tier_set,
}
