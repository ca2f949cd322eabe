"""Who may do what: signatures, times, permissions and addresses."""

from __future__ import annotations

import hmac
from urllib.parse import urlencode

import pytest
from tests.integration.api.venue import Trader, Venue, now_ms

pytestmark = pytest.mark.asyncio(loop_scope="module")

REJECTED = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}


def form_of(**parameters: object) -> str:
    return urlencode({"timestamp": now_ms(), **parameters})


async def test_the_signature_may_be_in_the_query_or_the_body_and_of_either_case(venue: Venue) -> None:
    symbol = await venue.market()
    buyer = await venue.trader({"USDT": 1000})
    query = f"symbol={symbol}&side=BUY"
    body = form_of(type="LIMIT", timeInForce="GTC", quantity="1", price="1")
    signature = buyer.sign(query + body)
    mixed = await buyer.send("POST", f"/api/v3/order?{query}", f"{body}&signature={signature.upper()}", in_body=True)
    assert mixed.status == 200, mixed.body
    in_query = await buyer.send("POST", f"/api/v3/order?{query}&signature={signature}", body, in_body=True)
    assert in_query.status == 200, in_query.body
    first = await buyer.send("POST", f"/api/v3/order?signature={signature}&{query}", body, in_body=True)
    assert first.status == 200, first.body


async def test_what_the_query_says_stands_where_the_body_says_something_else(venue: Venue) -> None:
    symbol = await venue.market()
    buyer = await venue.trader({"USDT": 1000})
    query = "price=2"
    body = form_of(symbol=symbol, side="BUY", type="LIMIT", timeInForce="GTC", quantity="1", price="1")
    answer = await buyer.send(
        "POST", f"/api/v3/order?{query}", f"{body}&signature={buyer.sign(query + body)}", in_body=True
    )
    assert answer.json["price"] == "2.00000000"


async def test_percent_encoded_parameters_are_signed_as_sent(venue: Venue) -> None:
    symbol = await venue.market()
    buyer = await venue.trader({"USDT": 1000})
    form = form_of(symbol=symbol, side="BUY", type="LIMIT", timeInForce="GTC", quantity="1", price="1")
    form += "&newClientOrderId=a%2Fb%3Ac"
    answer = await buyer.send("POST", "/api/v3/order", f"{form}&signature={buyer.sign(form)}", in_body=True)
    assert answer.json["clientOrderId"] == "a/b:c"


@pytest.mark.parametrize("damage", ["wrong", "short", "not hexadecimal", "of another secret", "of another body"])
async def test_a_signature_that_is_not_valid(venue: Venue, damage: str) -> None:
    trader = await venue.trader()
    form = form_of()
    signature = {
        "wrong": "0" * 64,
        "short": trader.sign(form)[:63],
        "not hexadecimal": "z" * 64,
        "of another secret": hmac.new(b"another", form.encode(), "sha256").hexdigest(),
        "of another body": trader.sign(form + "&symbol=BTCUSDT"),
    }[damage]
    answer = await trader.send("GET", "/api/v3/account", f"{form}&signature={signature}")
    assert (answer.status, answer.json) == (
        400,
        {"code": -1022, "msg": "Signature for this request is not valid."},
    )


async def test_no_signature_and_no_timestamp(venue: Venue) -> None:
    trader = await venue.trader()
    text = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."
    unsigned = await trader.send("GET", "/api/v3/account", form_of())
    assert unsigned.json == {"code": -1102, "msg": text.format("signature")}
    for form in ("omitZeroBalances=true", "timestamp=", "timestamp=now"):
        untimed = await trader.send("GET", "/api/v3/account", f"{form}&signature={trader.sign(form)}")
        assert untimed.json == {"code": -1102, "msg": text.format("timestamp")}


async def test_a_request_is_good_for_its_window_only(venue: Venue) -> None:
    trader = await venue.trader()
    late = await trader.request("GET", "/api/v3/account", timestamp_ms=now_ms() - 5100)
    assert (late.status, late.json) == (
        400,
        {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."},
    )
    within = await trader.request("GET", "/api/v3/account", {"recvWindow": "59999.999"}, timestamp_ms=now_ms() - 30_000)
    assert within.status == 200
    early = await trader.request("GET", "/api/v3/account", timestamp_ms=now_ms() + 2000)
    assert early.json == {
        "code": -1021,
        "msg": "Timestamp for this request was 1000ms ahead of the server's time.",
    }
    in_microseconds = await trader.request("GET", "/api/v3/account", timestamp_ms=now_ms() * 1000)
    assert in_microseconds.status == 200


@pytest.mark.parametrize("api_key", [None, "", "short", "k" * 63 + "!", "k" * 65])
async def test_what_cannot_be_an_api_key(venue: Venue, api_key: str | None) -> None:
    headers = {} if api_key is None else {"X-MBX-APIKEY": api_key}
    answer = await venue.public.request("GET", f"/api/v3/account?{form_of(signature='0' * 64)}", headers=headers)
    assert (answer.status, answer.json) == (401, {"code": -2014, "msg": "API-key format invalid."})


async def test_unknown_deleted_and_disabled_keys(venue: Venue) -> None:
    trader = await venue.trader()
    stranger = Trader(trader.client, 0, "k" * 64, "s" * 64)
    answer = await stranger.get("/api/v3/account")
    assert (answer.status, answer.json) == (401, REJECTED)

    assert (await trader.get("/api/v3/account")).status == 200
    owner = await venue.backend.log_in(venue.emails[trader.account_id])
    deleted = await owner.delete(f"/api/v1/api-keys/{trader.api_key}")
    assert deleted.status in (200, 204), deleted.body
    assert (await trader.get("/api/v3/account")).json == REJECTED


async def test_a_key_does_what_it_may_and_no_more(venue: Venue) -> None:
    symbol = await venue.market()
    reader = await venue.trader({"USDT": 10}, permissions=("read",))
    assert (await reader.get("/api/v3/account")).status == 200
    order = {"symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "1"}
    for method, path in (
        ("POST", "/api/v3/order"),
        ("POST", "/api/v3/order/test"),
        ("POST", "/api/v3/order/cancelReplace"),
        ("PUT", "/api/v3/order/amend/keepPriority"),
        ("DELETE", "/api/v3/order"),
        ("DELETE", "/api/v3/openOrders"),
    ):
        answer = await reader.request(method, path, order)
        assert (answer.status, answer.json) == (401, REJECTED)
    trader = await venue.trader({"USDT": 10}, permissions=("trade",))
    assert (await trader.post("/api/v3/order", **order)).status == 200
    assert (await trader.get("/api/v3/openOrders")).json == REJECTED


async def test_a_key_is_good_from_its_addresses_only(venue: Venue) -> None:
    trader = await venue.trader(ip_allow=("198.51.100.0/24", "2001:db8::1"))
    assert (await trader.get("/api/v3/account")).json == REJECTED
    for address in ("198.51.100.7", "2001:db8::1", "::ffff:198.51.100.9"):
        trader.client.address = address
        assert (await trader.get("/api/v3/account")).status == 200
    trader.client.address = "2001:db8::2"
    assert (await trader.get("/api/v3/account")).json == REJECTED
    # Nobody has said that this peer may speak for others.
    trader.headers["X-Forwarded-For"] = "198.51.100.7"
    assert (await trader.get("/api/v3/account")).json == REJECTED


async def test_every_answer_names_its_request(venue: Venue) -> None:
    given = await venue.public.request("GET", "/api/v3/ping", headers={"X-Request-Id": "trace-1"})
    made = await venue.public.get("/api/v3/ping")
    unfit = await venue.public.request("GET", "/api/v3/ping", headers={"X-Request-Id": "x" * 65})
    refused = await venue.public.get("/api/v3/depth")
    assert given.headers["x-request-id"] == "trace-1"
    names = [answer.headers["x-request-id"] for answer in (made, unfit, refused)]
    assert len(set(names)) == 3
    assert "x" * 65 not in names


async def test_the_request_id_reaches_the_journal(venue: Venue) -> None:
    symbol = await venue.market()
    buyer = await venue.trader({"USDT": 10})
    buyer.headers["X-Request-Id"] = "reaches-the-journal"
    await buyer.order(symbol, "BUY", "1", "1")
    found = await venue.backend.pool.fetchval("SELECT count(*) FROM journal WHERE request_id = 'reaches-the-journal'")
    assert found == 1
