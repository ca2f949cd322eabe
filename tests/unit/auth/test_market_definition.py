"""Market definitions between decimals and whole units: what goes in comes out, and what would round is refused."""

from __future__ import annotations

import json

import pytest

from rtx.api.admin.market_definition import (
    FILTER_NAMES,
    Units,
    filters_view,
    read_filters,
    read_rate_ppm,
    read_units,
)
from rtx.api.auth.json_body import JsonObject, parse_json_object
from rtx.api.errors import ApiError
from rtx.core.commands import MarketFilters

NAMES = ("tickSize", "stepSize", "makerRate", *FILTER_NAMES)

UNITS = Units(tick_size=1, lot_size=1_000, base_scale=8, quote_scale=2)

EVERY_LIMIT = {
    "minPrice": "0.01",
    "maxPrice": "1000000.00",
    "minQty": "0.00001000",
    "maxQty": "9000.00000000",
    "marketMinQty": "0.00002000",
    "marketMaxQty": "100.00000000",
    "minNotional": "5.00",
    "maxNotional": "9000000.00",
    "applyMinToMarket": False,
    "applyMaxToMarket": True,
    "bidMultiplierUp": "5.000000",
    "bidMultiplierDown": "0.200000",
    "askMultiplierUp": "5.000000",
    "askMultiplierDown": "0.200000",
    "maxNumOrders": 150,
}


def body(members: object) -> JsonObject:
    return parse_json_object(json.dumps(members).encode(), NAMES)


def test_every_limit_goes_in_and_comes_out_under_the_same_name() -> None:
    filters = read_filters(body(EVERY_LIMIT), UNITS)

    assert filters == MarketFilters(
        minimum_price=1,
        maximum_price=100_000_000,
        minimum_quantity=1,
        maximum_quantity=900_000_000,
        market_minimum_quantity=2,
        market_maximum_quantity=10_000_000,
        minimum_notional=500,
        maximum_notional=900_000_000,
        apply_minimum_to_market=False,
        apply_maximum_to_market=True,
        bid_multiplier_up=5_000_000,
        bid_multiplier_down=200_000,
        ask_multiplier_up=5_000_000,
        ask_multiplier_down=200_000,
        maximum_open_orders=150,
    )
    assert filters_view(filters, UNITS) == EVERY_LIMIT
    assert set(FILTER_NAMES) == set(EVERY_LIMIT)


def test_limits_left_out_do_not_limit() -> None:
    assert read_filters(body({}), UNITS) == MarketFilters()


@pytest.mark.parametrize(
    ("members", "field", "message"),
    [
        ({"minPrice": "0.001"}, "minPrice", "at most 2 digits"),
        ({"minQty": "0.00000001"}, "minQty", "stepSize 0.00001000"),
        ({"minQty": "2", "maxQty": "1"}, "maxQty", "less than minQty"),
        ({"bidMultiplierDown": "2", "bidMultiplierUp": "1"}, "bidMultiplierUp", "less than bidMultiplierDown"),
        ({"maxNumOrders": 1.5}, "maxNumOrders", "whole number"),
        ({"maxNumOrders": -1}, "maxNumOrders", "whole number"),
        ({"applyMinToMarket": "yes"}, "applyMinToMarket", "true or false"),
    ],
)
def test_limits_that_make_no_sense_are_named(members: object, field: str, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refusal:
        read_filters(body(members), UNITS)

    assert refusal.value.field == field


def test_price_limits_lie_on_ticks() -> None:
    with pytest.raises(ApiError, match=r"tickSize 0\.05"):
        read_filters(body({"maxPrice": "1.02"}), Units(tick_size=5, lot_size=1_000, base_scale=8, quote_scale=2))


def test_a_market_is_only_accepted_if_no_trade_can_round() -> None:
    assert read_units(body({"tickSize": "0.01", "stepSize": "0.00001"}), 8, 8) == Units(1_000_000, 1_000, 8, 8)
    with pytest.raises(ApiError, match=r"times tickSize .* 0\.01") as refusal:
        read_units(body({"tickSize": "0.01", "stepSize": "0.00001"}), 8, 2)
    assert refusal.value.field == "stepSize"


@pytest.mark.parametrize("name", ["tickSize", "stepSize"])
def test_sizes_are_more_than_nothing(name: str) -> None:
    with pytest.raises(ApiError, match="more than 0") as refusal:
        read_units(body({"tickSize": "1", "stepSize": "1", name: "0"}), 8, 8)
    assert refusal.value.field == name


def test_rates_are_parts_of_one() -> None:
    assert read_rate_ppm(body({"makerRate": "0.001"}), "makerRate") == 1_000
    for wrong in ("1.000001", "0.0000001", "-0.001"):
        with pytest.raises(ApiError, match="makerRate"):
            read_rate_ppm(body({"makerRate": wrong}), "makerRate")
