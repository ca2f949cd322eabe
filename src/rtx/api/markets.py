"""The markets and assets as an API worker knows them, with the conversions between its units and decimal strings.

The directory is a copy of what is in PostgreSQL. It is read again when PostgreSQL notifies of a change, and before a
symbol is called unknown, so a market exists for every worker as soon as its creation was answered by any of them.
Whether a market takes orders is for the engine to say: the status here only describes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from rtx.api import errors
from rtx.api.decimals import format_amount, parse_amount
from rtx.api.errors import ApiError
from rtx.core.commands import MarketFilters
from rtx.core.vocabulary import MAXIMUM_AMOUNT

REREAD_INTERVAL_S: Final = 0.1
"""Unknown symbols make the directory be read at most this often; those who ask in between wait for the next reading."""


class Asset:
    """An asset; its smallest unit is 10**-``scale``."""

    __slots__ = ("asset_id", "scale", "symbol")

    def __init__(self, asset_id: int, symbol: str, scale: int) -> None:
        self.asset_id = asset_id
        self.symbol = symbol
        self.scale = scale

    def text(self, amount: int) -> str:
        """Write an amount of smallest units as a decimal."""
        return format_amount(amount, self.scale)


class Market:
    """A market; prices are whole ticks of ``tick_size``, quantities whole lots of ``lot_size`` smallest units."""

    __slots__ = (
        "_base_scale",
        "_quote_scale",
        "base",
        "filters",
        "lot_size",
        "market_id",
        "quote",
        "status",
        "symbol",
        "tick_size",
    )

    def __init__(
        self,
        market_id: int,
        symbol: str,
        base: Asset,
        quote: Asset,
        *,
        tick_size: int,
        lot_size: int,
        status: int,
        filters: MarketFilters,
    ) -> None:
        self.market_id = market_id
        self.symbol = symbol
        self.base = base
        self.quote = quote
        self.tick_size = tick_size
        self.lot_size = lot_size
        self.status = status
        self.filters = filters
        self._base_scale = base.scale
        self._quote_scale = quote.scale

    def price_text(self, ticks: int) -> str:
        """Write a price as a decimal of the quote asset."""
        return format_amount(ticks * self.tick_size, self._quote_scale)

    def quantity_text(self, lots: int) -> str:
        """Write a quantity as a decimal of the base asset."""
        return format_amount(lots * self.lot_size, self._base_scale)

    def quote_text(self, amount: int) -> str:
        """Write an amount of the quote asset's smallest units as a decimal."""
        return format_amount(amount, self._quote_scale)

    def price_ticks(self, text: str, name: str) -> int:
        """Read the price in parameter ``name``; raises :class:`ApiError`, -1013 PRICE_FILTER when between two ticks."""
        ticks, remainder = divmod(parse_amount(text, self._quote_scale, name), self.tick_size)
        if remainder:
            raise filter_failure("PRICE_FILTER")
        if ticks > MAXIMUM_AMOUNT:
            raise errors.overflowed(name)
        return ticks

    def quantity_lots(self, text: str, name: str) -> int:
        """Read the quantity in parameter ``name``; raises :class:`ApiError`, -1013 LOT_SIZE when between two lots."""
        lots, remainder = divmod(parse_amount(text, self._base_scale, name), self.lot_size)
        if remainder:
            raise filter_failure("LOT_SIZE")
        if lots > MAXIMUM_AMOUNT:
            raise errors.overflowed(name)
        return lots

    def quote_amount(self, text: str, name: str) -> int:
        """Read an amount of the quote asset in parameter ``name``; raises :class:`ApiError`."""
        amount = parse_amount(text, self._quote_scale, name)
        if amount > MAXIMUM_AMOUNT:
            raise errors.overflowed(name)
        return amount


def filter_failure(filter_type: str) -> ApiError:
    """The order breaks one of the market's filters."""
    return ApiError(errors.INVALID_MESSAGE, f"Filter failure: {filter_type}")


class MarketDirectory:
    """All markets and assets by symbol and by id."""

    def __init__(self, load: Callable[[], Awaitable[tuple[Sequence[Asset], Sequence[Market]]]]) -> None:
        """``load`` reads all assets and markets, markets in the order of their ids."""
        self._load = load
        self._reading = asyncio.Lock()
        self._next_reading: asyncio.Task[None] | None = None
        self._next_rereading: asyncio.Task[None] | None = None
        self._reread_at_s = float("-inf")
        self.by_symbol: dict[str, Market] = {}
        self.by_id: dict[int, Market] = {}
        self.assets: dict[str, Asset] = {}
        self.assets_by_id: dict[int, Asset] = {}

    async def find(self, symbol: str) -> Market:
        """Give the market with this symbol; raises -1121 when PostgreSQL has none either."""
        market = self.by_symbol.get(symbol)
        if market is None:
            await self._reread()
            market = self.by_symbol.get(symbol)
            if market is None:
                raise errors.invalid_symbol()
        return market

    async def find_by_id(self, market_id: int) -> Market:
        """Give the market with this id, which something that was committed named."""
        market = self.by_id.get(market_id)
        if market is None:
            await self._reread()
            market = self.by_id[market_id]
        return market

    async def find_asset(self, symbol: str) -> Asset | None:
        """Give the asset with this symbol, or None when PostgreSQL has none either."""
        if symbol not in self.assets:
            await self._reread()
        return self.assets.get(symbol)

    async def find_asset_by_id(self, asset_id: int) -> Asset:
        """Give the asset with this id, which something that was committed named."""
        if asset_id not in self.assets_by_id:
            await self._reread()
        return self.assets_by_id[asset_id]

    async def read(self) -> None:
        """Read everything afresh, beginning after now, together with all who ask before it begins."""
        if self._next_reading is None:
            self._next_reading = asyncio.create_task(self._read_next())
        await asyncio.shield(self._next_reading)

    async def _reread(self) -> None:
        """Like :meth:`read`, not more often than every ``REREAD_INTERVAL_S``."""
        if self._next_rereading is None:
            self._next_rereading = asyncio.create_task(self._reread_when_due())
        await asyncio.shield(self._next_rereading)

    async def _reread_when_due(self) -> None:
        now_s = asyncio.get_running_loop().time()
        await asyncio.sleep(self._reread_at_s + REREAD_INTERVAL_S - now_s)
        self._reread_at_s = asyncio.get_running_loop().time()
        self._next_rereading = None
        await self.read()

    async def _read_next(self) -> None:
        async with self._reading:
            self._next_reading = None
            assets, markets = await self._load()
        self.assets = {asset.symbol: asset for asset in assets}
        self.assets_by_id = {asset.asset_id: asset for asset in assets}
        self.by_symbol = {market.symbol: market for market in markets}
        self.by_id = {market.market_id: market for market in markets}
