"""The demo markets: how they are set up, and at what prices and sizes the crowd trades on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final


@dataclass(frozen=True)
class MarketProfile:
    """One demo market.

    ``definition`` goes to the operators' endpoint for markets as it stands. Prices of the crowd are in ticks and
    quantities in lots: ``spread`` between best bid and ask, ``spacing`` of the levels, ``order_lots`` a typical order.
    ``volatility`` is the standard deviation of the price's relative change in one second.
    """

    symbol: str
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    first_price: Decimal
    spread: int
    spacing: int
    order_lots: int
    volatility: float = 0.00012
    levels: int = 14
    limits: Mapping[str, object] = field(default_factory=dict)

    @property
    def definition(self) -> dict[str, object]:
        """The market as an operator opens it."""
        return {
            "symbol": self.symbol,
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "tickSize": str(self.tick),
            "stepSize": str(self.lot),
            **self.limits,
        }

    @property
    def first_price_ticks(self) -> int:
        """The price before anybody traded, in ticks."""
        return int(self.first_price / self.tick)

    def price_text(self, ticks: int) -> str:
        """A price as the API takes it."""
        return str(ticks * self.tick)

    def quantity_text(self, lots: int) -> str:
        """A quantity as the API takes it."""
        return str(lots * self.lot)

    def price_ticks(self, text: str) -> int:
        """A price that the API gave, in ticks."""
        return int(Decimal(text) / self.tick)


_COIN_LIMITS: Final = {
    "minPrice": "0.01",
    "maxPrice": "1000000",
    "minNotional": "5",
    "bidMultiplierUp": "5",
    "bidMultiplierDown": "0.2",
    "askMultiplierUp": "5",
    "askMultiplierDown": "0.2",
    "maxNumOrders": 1000,
}

MARKETS: Final = (
    MarketProfile(
        "BTCUSDT",
        "BTC",
        "USDT",
        Decimal("0.01"),
        Decimal("0.00001"),
        Decimal(65_000),
        spread=200,
        spacing=250,
        order_lots=4_000,
        limits={**_COIN_LIMITS, "minQty": "0.00001", "maxQty": "9000"},
    ),
    MarketProfile(
        "ETHUSDT",
        "ETH",
        "USDT",
        Decimal("0.01"),
        Decimal("0.0001"),
        Decimal(3_200),
        spread=20,
        spacing=25,
        order_lots=6_000,
        limits={**_COIN_LIMITS, "minQty": "0.0001", "maxQty": "90000"},
    ),
    # An order book of shares recorded elsewhere can be replayed here, so it limits no price and hardly any count.
    MarketProfile(
        "AAPLUSD",
        "AAPL",
        "USD",
        Decimal("0.01"),
        Decimal(1),
        Decimal(230),
        spread=3,
        spacing=2,
        order_lots=60,
        limits={"minQty": "1", "maxNumOrders": 100_000},
    ),
)

ASSET_PRECISION: Final = 8
"""Digits after the point of every demo asset."""

DEMO_FUNDS: Final = {"USDT": "1000000", "USD": "1000000", "BTC": "10", "ETH": "100", "AAPL": "1000"}
"""What the demo account begins with."""

CROWD_FUNDS: Final = {"USDT": "50000000", "USD": "20000000", "BTC": "500", "ETH": "8000", "AAPL": "200000"}
"""What each trader of the crowd begins with and is brought back to when a quarter of it is left."""

FEE_RATE: Final = "0.001"
"""Maker and taker rate of fee tier 0: a tenth of a percent."""
