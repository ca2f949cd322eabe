"""The directory as everybody reads it: assets, markets and fees."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rtx.core.commands import MarketFilters
from rtx.store.connection import Database
from rtx.store.directory import CHANNEL

__all__ = ["CHANNEL", "Asset", "Directory", "FeeTier", "Market", "fee_tier_of", "read_directory"]


class Asset(msgspec.Struct, frozen=True):
    """An asset whose smallest unit is 10**-``scale``."""

    asset_id: int
    symbol: str
    scale: int


class Market(msgspec.Struct, frozen=True):
    """A market; fields as in :class:`rtx.core.commands.CreateMarket`."""

    market_id: int
    symbol: str
    base_asset_id: int
    quote_asset_id: int
    tick_size: int
    lot_size: int
    status: int
    filters: MarketFilters
    created_at_us: int


class FeeTier(msgspec.Struct, frozen=True):
    """Rates in parts per million of what is received."""

    tier: int
    maker_rate_ppm: int
    taker_rate_ppm: int


class Directory(msgspec.Struct, frozen=True):
    """All assets, markets and fee tiers, each by rising id, as of one moment."""

    assets: tuple[Asset, ...]
    markets: tuple[Market, ...]
    fee_tiers: tuple[FeeTier, ...]


_READ: Final = """
    SELECT
        (SELECT coalesce(json_agg(json_build_object('asset_id', asset_id, 'symbol', symbol, 'scale', scale)
            ORDER BY asset_id), '[]') FROM assets) AS assets,
        (SELECT coalesce(json_agg(to_json(markets) ORDER BY market_id), '[]') FROM markets) AS markets,
        (SELECT coalesce(json_agg(to_json(fee_tiers) ORDER BY tier), '[]') FROM fee_tiers) AS fee_tiers
"""

_FEE_TIER_OF: Final = """
    SELECT wanted.tier, coalesce(maker_rate_ppm, 0), coalesce(taker_rate_ppm, 0)
    FROM (SELECT coalesce((SELECT tier FROM account_fee_tiers WHERE account_id = $1), 0) AS tier) AS wanted
    LEFT JOIN fee_tiers USING (tier)
"""


async def read_directory(database: Database) -> Directory:
    """Return the whole directory, read in one statement, so that its parts belong together."""
    row = await database.fetchrow(_READ)
    assert row is not None
    return Directory(
        msgspec.json.decode(row["assets"], type=tuple[Asset, ...]),
        tuple(_market(fields) for fields in msgspec.json.decode(row["markets"])),
        msgspec.json.decode(row["fee_tiers"], type=tuple[FeeTier, ...]),
    )


async def fee_tier_of(database: Database, account_id: int) -> FeeTier:
    """Return the account's fee tier; tier 0 without fees while nothing was set."""
    row = await database.fetchrow(_FEE_TIER_OF, account_id)
    assert row is not None
    return FeeTier(*row)


def _market(fields: dict[str, Any]) -> Market:
    """Build a market; limits that an older version did not write have their defaults, a newer one's are left out."""
    written = fields["filters"]
    filters = MarketFilters(**{name: written[name] for name in MarketFilters.__struct_fields__ if name in written})
    return Market(**{**fields, "filters": filters})
