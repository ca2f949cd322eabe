"""Market definitions and limits between decimals, as operators write them, and the whole units of the core.

The same names go in and come out, so what ``GET /api/v1/admin/markets`` says can be changed and sent back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rtx.api.auth.json_body import JsonObject, refuse
from rtx.api.decimals import format_amount
from rtx.core.commands import MarketFilters
from rtx.core.vocabulary import FEE_RATE_DENOMINATOR

MULTIPLIER_SCALE: Final = 6
"""Multipliers and rates are parts per million: six digits after the point."""

MAXIMUM_OPEN_ORDERS: Final = 100_000

_PRICES: Final = {"minPrice": "minimum_price", "maxPrice": "maximum_price"}
_QUANTITIES: Final = {
    "minQty": "minimum_quantity",
    "maxQty": "maximum_quantity",
    "marketMinQty": "market_minimum_quantity",
    "marketMaxQty": "market_maximum_quantity",
}
_NOTIONALS: Final = {"minNotional": "minimum_notional", "maxNotional": "maximum_notional"}
_SWITCHES: Final = {"applyMinToMarket": "apply_minimum_to_market", "applyMaxToMarket": "apply_maximum_to_market"}
_MULTIPLIERS: Final = {
    "bidMultiplierUp": "bid_multiplier_up",
    "bidMultiplierDown": "bid_multiplier_down",
    "askMultiplierUp": "ask_multiplier_up",
    "askMultiplierDown": "ask_multiplier_down",
}

FILTER_NAMES: Final = (*_PRICES, *_QUANTITIES, *_NOTIONALS, *_SWITCHES, *_MULTIPLIERS, "maxNumOrders")
"""Optional members of a market's JSON; what is left out does not limit (``maxNumOrders``: 200)."""

_PAIRS: Final = (
    ("minPrice", "maxPrice"),
    ("minQty", "maxQty"),
    ("marketMinQty", "marketMaxQty"),
    ("minNotional", "maxNotional"),
    ("bidMultiplierDown", "bidMultiplierUp"),
    ("askMultiplierDown", "askMultiplierUp"),
)


@dataclass(frozen=True, slots=True)
class Units:
    """What prices and quantities of a market are whole numbers of; see :class:`rtx.core.commands.CreateMarket`."""

    tick_size: int
    lot_size: int
    base_scale: int
    quote_scale: int

    def ticks(self, body: JsonObject, name: str) -> int:
        """Read a price as whole ticks."""
        return _whole(name, body.decimal(name, self.quote_scale), self.tick_size, "tickSize", self.quote_scale)

    def lots(self, body: JsonObject, name: str) -> int:
        """Read a quantity as whole lots."""
        return _whole(name, body.decimal(name, self.base_scale), self.lot_size, "stepSize", self.base_scale)

    def price_text(self, ticks: int) -> str:
        """Write a price."""
        return format_amount(ticks * self.tick_size, self.quote_scale)

    def quantity_text(self, lots: int) -> str:
        """Write a quantity."""
        return format_amount(lots * self.lot_size, self.base_scale)


def read_units(body: JsonObject, base_scale: int, quote_scale: int) -> Units:
    """Read ``tickSize`` and ``stepSize``; raises ``ApiError`` when a trade of the market could have to be rounded."""
    tick_size = body.decimal("tickSize", quote_scale)
    lot_size = body.decimal("stepSize", base_scale)
    for name, size in (("tickSize", tick_size), ("stepSize", lot_size)):
        if size == 0:
            refuse(name, "must be more than 0")
    if tick_size * lot_size % 10**base_scale:
        smallest = format_amount(1, quote_scale)
        refuse(
            "stepSize", f"times tickSize must be a whole multiple of {smallest}, the smallest unit of the quote asset"
        )
    return Units(tick_size, lot_size, base_scale, quote_scale)


def read_filters(body: JsonObject, units: Units) -> MarketFilters:
    """Read the members of :data:`FILTER_NAMES`; raises ``ApiError`` naming the one that is wrong."""
    defaults = MarketFilters()
    readers: list[tuple[dict[str, str], Callable[[str], int]]] = [
        (_PRICES, lambda name: units.ticks(body, name)),
        (_QUANTITIES, lambda name: units.lots(body, name)),
        (_NOTIONALS, lambda name: body.decimal(name, units.quote_scale)),
        (_MULTIPLIERS, lambda name: body.decimal(name, MULTIPLIER_SCALE)),
        ({"maxNumOrders": "maximum_open_orders"}, lambda name: body.integer(name, 0, MAXIMUM_OPEN_ORDERS)),
    ]
    limits = {
        field: body.optional(name, read, getattr(defaults, field))
        for names, read in readers
        for name, field in names.items()
    }
    switches = {field: body.optional(name, body.boolean, getattr(defaults, field)) for name, field in _SWITCHES.items()}
    _check_pairs(limits)
    return MarketFilters(**limits, **switches)


def filters_view(filters: MarketFilters, units: Units) -> dict[str, object]:
    """Write limits under the names of :data:`FILTER_NAMES`."""
    writers: list[tuple[dict[str, str], Callable[[int], object]]] = [
        (_PRICES, units.price_text),
        (_QUANTITIES, units.quantity_text),
        (_NOTIONALS, lambda amount: format_amount(amount, units.quote_scale)),
        (_SWITCHES, bool),
        (_MULTIPLIERS, lambda parts: format_amount(parts, MULTIPLIER_SCALE)),
        ({"maxNumOrders": "maximum_open_orders"}, int),
    ]
    return {name: write(getattr(filters, field)) for names, write in writers for name, field in names.items()}


def read_rate_ppm(body: JsonObject, name: str) -> int:
    """Read a fee rate such as "0.001" as parts per million; at most 1."""
    return body.decimal(name, MULTIPLIER_SCALE, maximum=FEE_RATE_DENOMINATOR)


def _whole(name: str, amount: int, unit: int, unit_name: str, scale: int) -> int:
    count, remainder = divmod(amount, unit)
    if remainder:
        refuse(name, f"must be a whole multiple of {unit_name} {format_amount(unit, scale)}")
    return count


def _check_pairs(limits: dict[str, int]) -> None:
    fields = _PRICES | _QUANTITIES | _NOTIONALS | _MULTIPLIERS
    for lowest, highest in _PAIRS:
        if 0 < limits[fields[highest]] < limits[fields[lowest]]:
            refuse(highest, f"must not be less than {lowest}; 0 sets no limit")
