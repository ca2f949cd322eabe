"""Bad input gets Binance's code and text, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from tests.integration.api.venue import Trader, Venue, now_ms

from rtx.core.commands import MarketFilters

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Setting:
    """A market with limits, somebody who could buy, and an order that would be taken."""

    venue: Venue
    buyer: Trader
    order: dict[str, str]

    async def nothing_changed(self) -> None:
        assert (await self.buyer.get("/api/v3/openOrders")).json == []
        assert await self.buyer.free("USDT") == ("10000.00000000", "0.00000000")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(venue: Venue) -> Setting:
    filters = MarketFilters(
        minimum_price=100, maximum_price=100_000_000, minimum_quantity=10, minimum_notional=5 * 10**8
    )
    order = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100"}
    return Setting(venue, await venue.trader({"USDT": 10_000}), {"symbol": await venue.market(filters=filters)} | order)


DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
CLIENT_ORDER_ID = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"


def illegal(name: str, legal: str) -> str:
    return f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."


def mandatory(name: str) -> str:
    return f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


ABSENT = object()


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"symbol": "NOSUCHUSDT"}, -1121, "Invalid symbol."),
        ({"symbol": "btcusdt"}, -1100, illegal("symbol", "^[A-Z0-9-_.]{1,20}$")),
        ({"symbol": ""}, -1105, "Parameter 'symbol' was empty."),
        ({"symbol": ABSENT}, -1102, mandatory("symbol")),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"side": ABSENT}, -1102, mandatory("side")),
        ({"type": "ICEBERG"}, -1116, "Invalid orderType."),
        ({"type": ABSENT}, -1102, mandatory("type")),
        ({"timeInForce": "GTD"}, -1115, "Invalid timeInForce."),
        ({"timeInForce": ABSENT}, -1102, mandatory("timeInForce")),
        ({"price": ABSENT}, -1102, mandatory("price")),
        ({"price": ""}, -1105, "Parameter 'price' was empty."),
        ({"price": "0"}, -1013, "Invalid price."),
        ({"price": "-1"}, -1100, illegal("price", DECIMAL)),
        ({"price": "+1"}, -1100, illegal("price", DECIMAL)),
        ({"price": "NaN"}, -1100, illegal("price", DECIMAL)),
        ({"price": "Infinity"}, -1100, illegal("price", DECIMAL)),
        ({"price": "1e400"}, -1100, illegal("price", DECIMAL)),
        ({"price": "1."}, -1100, illegal("price", DECIMAL)),
        ({"price": ".5"}, -1100, illegal("price", DECIMAL)),
        ({"price": "1,5"}, -1100, illegal("price", DECIMAL)),
        ({"price": "0x10"}, -1100, illegal("price", DECIMAL)),
        ({"price": "1_000"}, -1100, illegal("price", DECIMAL)),
        ({"price": "\u0661"}, -1100, illegal("price", DECIMAL)),
        ({"price": "1\n"}, -1100, illegal("price", DECIMAL)),
        ({"price": "[1]"}, -1100, illegal("price", DECIMAL)),
        ({"price": "1." + "1" * 40}, -1100, illegal("price", DECIMAL)),
        ({"price": "1.123456789"}, -1111, "Parameter 'price' has too much precision."),
        ({"price": "99999999999999999999"}, -1108, "Parameter 'price' overflowed."),
        ({"price": "100.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "0.01"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "1000000.01"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": ABSENT}, -1102, mandatory("quantity")),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"quantity": "nan"}, -1100, illegal("quantity", DECIMAL)),
        ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.00001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "1.0000000001"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "0.01"}, -1013, "Filter failure: NOTIONAL"),
        ({"stopPrice": "90"}, -1106, "Parameter 'stopPrice' sent when not required."),
        ({"quoteOrderQty": "90"}, -1106, "Parameter 'quoteOrderQty' sent when not required."),
        ({"icebergQty": "0.5"}, -1013, "Iceberg orders are not supported for this symbol."),
        ({"trailingDelta": "100"}, -1013, "Trailing stop orders are not supported for this symbol."),
        ({"pegPriceType": "PRIMARY_PEG"}, -1013, "Pegged orders are not supported for this symbol."),
        ({"newClientOrderId": ""}, -1105, "Parameter 'newClientOrderId' was empty."),
        ({"newClientOrderId": "a b"}, -1100, illegal("newClientOrderId", CLIENT_ORDER_ID)),
        ({"newClientOrderId": "x" * 37}, -1100, illegal("newClientOrderId", CLIENT_ORDER_ID)),
        ({"newClientOrderId": "<script>"}, -1100, illegal("newClientOrderId", CLIENT_ORDER_ID)),
        ({"newOrderRespType": "SOME"}, -1130, "Data sent for parameter 'newOrderRespType' is not valid."),
        (
            {"selfTradePreventionMode": "TRANSFER"},
            -1130,
            "Data sent for parameter 'selfTradePreventionMode' is not valid.",
        ),
        ({"colour": "red"}, -1104, "Not all sent parameters were read; read '8' parameter(s) but was sent '9'."),
        ({"recvWindow": "60001"}, -1131, "recvWindow must be less than or equal to 60000."),
        ({"recvWindow": "5000.1234"}, -1100, illegal("recvWindow", r"^[0-9]{1,10}(\.[0-9]{1,3})?$")),
        ({"recvWindow": "-1"}, -1100, illegal("recvWindow", r"^[0-9]{1,10}(\.[0-9]{1,3})?$")),
        ({"type": "MARKET", "timeInForce": ABSENT}, -1106, "Parameter 'price' sent when not required."),
        ({"type": "MARKET"}, -1106, "Parameter 'timeInForce' sent when not required."),
        (
            {"type": "MARKET", "timeInForce": ABSENT, "price": ABSENT, "quantity": ABSENT},
            -1102,
            "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!",
        ),
        ({"type": "LIMIT_MAKER"}, -1106, "Parameter 'timeInForce' sent when not required."),
        ({"type": "STOP_LOSS_LIMIT"}, -1102, mandatory("stopPrice")),
        ({"type": "STOP_LOSS_LIMIT", "stopPrice": "0.001"}, -1013, "Filter failure: PRICE_FILTER"),
    ],
)
async def test_an_order_with_one_thing_wrong(setting: Setting, changes: dict[str, Any], code: int, text: str) -> None:
    order = setting.order | changes
    answer = await setting.buyer.post(
        "/api/v3/order", **{name: value for name, value in order.items() if value is not ABSENT}
    )
    assert (answer.status, answer.json) == (400, {"code": code, "msg": text})
    await setting.nothing_changed()


async def test_a_parameter_twice(setting: Setting) -> None:
    form = urlencode(setting.order | {"timestamp": now_ms()}) + "&price=101"
    signed = f"{form}&signature={setting.buyer.sign(form)}"
    for in_body in (True, False):
        answer = await setting.buyer.send("POST", "/api/v3/order", signed, in_body=in_body)
        assert (answer.status, answer.code) == (400, -1101)
        assert answer.json["msg"] == "Duplicate values for a parameter detected."
    await setting.nothing_changed()


@pytest.mark.parametrize("text", ["%FF%FE", "%C3%28"])
async def test_bytes_that_are_no_text(setting: Setting, text: str) -> None:
    form = urlencode(setting.order | {"timestamp": now_ms()}) + f"&newClientOrderId={text}"
    answer = await setting.buyer.send("POST", "/api/v3/order", f"{form}&signature={setting.buyer.sign(form)}")
    assert (answer.status, answer.json) == (
        400,
        {"code": -1100, "msg": "Illegal characters found in a parameter."},
    )


async def test_hundreds_of_parameters(setting: Setting) -> None:
    form = "&".join(f"p{number}=1" for number in range(101))
    answer = await setting.buyer.send("POST", "/api/v3/order", form)
    assert (answer.status, answer.code) == (400, -1101)


@pytest.mark.parametrize("body", [b'{"symbol": "BTCUSDT"', b'{"symbol": "BTCUSDT"}', b"[]"])
async def test_json_where_a_form_belongs(setting: Setting, body: bytes) -> None:
    answer = await setting.buyer.client.request(
        "POST", "/api/v3/order", body=body, headers={"X-MBX-APIKEY": setting.buyer.api_key}
    )
    assert (answer.status, answer.code) == (415, -1135)
    await setting.nothing_changed()


async def test_a_long_query(setting: Setting) -> None:
    answer = await setting.buyer.send("POST", "/api/v3/order", "symbol=" + "A" * 20_000)
    assert (answer.status, answer.code) == (414, -9002)


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("/api/v3/order", {}, -1102),
        ("/api/v3/order", {"orderId": ""}, -1105),
        ("/api/v3/order", {"orderId": "-1"}, -1100),
        ("/api/v3/order", {"orderId": "1.5"}, -1100),
        ("/api/v3/order", {"orderId": "99999999999999999999"}, -1108),
        ("/api/v3/order", {"orderId": "9223372036854775807"}, -2013),
        ("/api/v3/order", {"orderId": "0"}, -2013),
        ("/api/v3/order", {"origClientOrderId": "never"}, -2013),
        ("/api/v3/allOrders", {"limit": "0"}, -1130),
        ("/api/v3/allOrders", {"limit": "ten"}, -1100),
        ("/api/v3/allOrders", {"startTime": "yesterday"}, -1100),
        ("/api/v3/allOrders", {"startTime": "2", "endTime": "1"}, -1128),
        ("/api/v3/myTrades", {"orderId": "1", "startTime": "1"}, -1128),
        ("/api/v3/myTrades", {"startTime": "1", "endTime": "100000000"}, -1127),
    ],
)
async def test_queries_with_one_thing_wrong(setting: Setting, path: str, parameters: dict[str, str], code: int) -> None:
    answer = await setting.buyer.get(path, symbol=setting.order["symbol"], **parameters)
    assert (answer.status, answer.code) == (400, code), answer.body


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("depth", {"symbol": "NOSUCHUSDT"}, -1121),
        ("depth", {}, -1102),
        ("depth", {"symbol": "{symbol}", "limit": "0"}, -1130),
        ("depth", {"symbol": "{symbol}", "limit": "-5"}, -1100),
        ("depth", {"symbol": "{symbol}", "symbolStatus": "HALT"}, -1220),
        ("depth", {"symbol": "{symbol}", "symbolStatus": "SLEEPING"}, -1122),
        ("depth", {"symbol": "{symbol}", "colour": "red"}, -1104),
        ("trades", {"symbol": ""}, -1105),
        ("klines", {"symbol": "{symbol}"}, -1102),
        ("klines", {"symbol": "{symbol}", "interval": "7m"}, -1120),
        ("klines", {"symbol": "{symbol}", "interval": "1m", "timeZone": "15"}, -1130),
        ("klines", {"symbol": "{symbol}", "interval": "1m", "timeZone": "east"}, -1130),
        ("klines", {"symbol": "{symbol}", "interval": "1m", "startTime": "9" * 20}, -1108),
        ("aggTrades", {"symbol": "{symbol}", "fromId": "1", "startTime": "1"}, -1128),
        ("ticker/24hr", {"symbol": "{symbol}", "type": "HUGE"}, -1139),
        ("ticker/price", {"symbols": "{symbol}"}, -1100),
        ("ticker/price", {"symbols": "[]"}, -1100),
        ("ticker/price", {"symbols": '["{symbol}","{symbol}"]'}, -1151),
        ("ticker/price", {"symbols": '["NOSUCHUSDT"]'}, -1121),
        ("ticker/price", {"symbol": "{symbol}", "symbols": '["{symbol}"]'}, -1128),
        ("exchangeInfo", {"symbol": "NOSUCHUSDT"}, -1121),
        ("exchangeInfo", {"symbol": "{symbol}", "permissions": "SPOT"}, -1128),
        ("exchangeInfo", {"permissions": "[SPOT"}, -1100),
        ("exchangeInfo", {"showPermissionSets": "maybe"}, -1100),
        ("ping", {"x": "1"}, -1104),
    ],
)
async def test_market_data_with_one_thing_wrong(
    setting: Setting, path: str, parameters: dict[str, str], code: int
) -> None:
    symbol = setting.order["symbol"]
    query = urlencode({name: value.replace("{symbol}", symbol) for name, value in parameters.items()})
    answer = await setting.venue.public.get(f"/api/v3/{path}?{query}")
    assert (answer.status, answer.code) == (400, code), answer.body


async def test_addresses_and_methods_that_do_not_exist(setting: Setting) -> None:
    client = setting.venue.public
    assert ((await client.get("/api/v3/nothing")).status, (await client.get("/api/v3/nothing")).code) == (404, -9004)
    wrong = await client.request("PATCH", "/api/v3/order")
    assert (wrong.status, wrong.code) == (405, -1020)
    assert wrong.headers["allow"] == "DELETE, GET, POST"
    wrong = await client.request("PATCH", "/api/v1/auth/login")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
