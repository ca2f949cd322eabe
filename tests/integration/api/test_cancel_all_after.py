"""``/api/v1/cancel-all-after``: whose switch is set by whom, and what the exchange does when nobody renews it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.integration.api.venue import Trader, Venue, now_ms
from tests.integration.api_v1.backend import PASSWORD, Answer, Client

from rtx.core.commands import CancelAllAfter, ExpireCancelAllAfter, decode_command
from rtx.core.vocabulary import MOST_SESSIONS
from rtx.engine.own_commands import REQUEST_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/cancel-all-after"
TIMEOUT_S = 20.0
MINUTE_MS = 60_000


async def signed(
    trader: Trader, method: str, body: bytes = b"", query: str = "", *, signed_body: bytes = b""
) -> Answer:
    """Send a request as a program with an API key does; ``signed_body`` where another body is signed than sent."""
    query = f"{query}timestamp={now_ms()}"
    signature = trader.sign(query + (signed_body or body).decode())
    return await trader.client.request(
        method, f"{PATH}?{query}&signature={signature}", body=body, headers={"X-MBX-APIKEY": trader.api_key}
    )


async def set_switch(trader: Trader, timeout_ms: object) -> Answer:
    return await signed(trader, "POST", json.dumps({"timeout_ms": timeout_ms}).encode())


async def user_of(venue: Venue, trader: Trader) -> Client:
    """The trader, logged in."""
    return await venue.backend.log_in(venue.emails[trader.account_id], PASSWORD)


async def until_none_is_open(trader: Trader) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while (await trader.get("/api/v3/openOrders")).json:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_arming_renewing_showing_and_disarming(venue: Venue) -> None:
    trader = await venue.trader()
    assert (await signed(trader, "GET")).json["deadline"] is None
    before_ms = now_ms()
    first = await set_switch(trader, MINUTE_MS)
    assert first.status == 200, first.body
    armed = first.json
    assert armed["timeoutMs"] == MINUTE_MS
    assert armed["deadline"] - armed["serverTime"] == MINUTE_MS
    assert before_ms <= armed["serverTime"] <= now_ms() + 1
    assert first.headers["cache-control"] == "no-store"
    second = await set_switch(trader, 2 * MINUTE_MS)
    assert second.json["deadline"] > armed["deadline"]
    shown = (await signed(trader, "GET")).json
    assert (shown["deadline"], shown["sessions"]) == (second.json["deadline"], [])
    third = await set_switch(trader, 0)
    assert (third.json["timeoutMs"], third.json["deadline"]) == (0, None)
    shown = (await signed(trader, "GET")).json
    assert (shown["deadline"], shown["sessions"]) == (None, [])
    assert abs(shown["serverTime"] - now_ms()) < MINUTE_MS


async def test_orders_of_the_account_are_cancelled_once_and_nobody_elses(venue: Venue) -> None:
    markets = [await venue.market(), await venue.market()]
    trader, other = await venue.trader({"USDT": 1000}), await venue.trader({"USDT": 1000})
    for symbol in markets:
        for price in ("1.00", "2.00"):
            await trader.order(symbol, "BUY", "1", price)
        await other.order(symbol, "BUY", "1", "1.00")
    assert (await set_switch(trader, 1_000)).status == 200
    await until_none_is_open(trader)
    assert await trader.free("USDT") == ("1000.00000000", "0.00000000")
    assert len((await other.get("/api/v3/openOrders")).json) == 2
    assert (await signed(trader, "GET")).json["deadline"] is None
    rows = await venue.backend.pool.fetch("SELECT request_id, command, time_us FROM journal ORDER BY sequence")
    arming = [row for row in rows if isinstance(decode_command(row["command"]), CancelAllAfter)]
    expiries = [
        row
        for row in rows
        if isinstance(command := decode_command(row["command"]), ExpireCancelAllAfter)
        and command.account_id == trader.account_id
    ]
    (expiry,) = expiries
    assert expiry["request_id"] == REQUEST_ID
    assert expiry["time_us"] - arming[-1]["time_us"] >= 1_000_000


async def test_a_person_sets_it_with_an_access_token(venue: Venue) -> None:
    trader = await venue.trader()
    user = await user_of(venue, trader)
    answer = await user.post(PATH, {"timeout_ms": MINUTE_MS})
    assert answer.status == 200, answer.body
    assert (await user.get(PATH)).json["deadline"] == answer.json["deadline"]
    assert (await signed(trader, "GET")).json["deadline"] == answer.json["deadline"]
    stranger = await venue.trader()
    assert (await signed(stranger, "GET")).json["deadline"] is None


@pytest.mark.parametrize(
    ("timeout_ms", "message"),
    [
        (999, "Field 'timeout_ms' must be 0, which disarms, or from 1000 to 86400000."),
        (1, "Field 'timeout_ms' must be 0, which disarms, or from 1000 to 86400000."),
        (86_400_001, "Field 'timeout_ms' must be a whole number from 0 to 86400000."),
        (-1, "Field 'timeout_ms' must be a whole number from 0 to 86400000."),
        (1500.5, "Field 'timeout_ms' must be a whole number from 0 to 86400000."),
        (True, "Field 'timeout_ms' must be a whole number, not true or false."),
        (None, "Field 'timeout_ms' must be a whole number, not null."),
    ],
)
async def test_times_that_are_refused(venue: Venue, timeout_ms: Any, message: str) -> None:
    trader = await venue.trader()
    answer = await set_switch(trader, timeout_ms)
    assert (answer.status, answer.json) == (400, {"code": -1130, "msg": message, "field": "timeout_ms"})
    assert (await signed(trader, "GET")).json["deadline"] is None


@pytest.mark.parametrize("timeout_ms", [1_000, 86_400_000])
async def test_the_shortest_and_the_longest_time(venue: Venue, timeout_ms: int) -> None:
    answer = await set_switch(await venue.trader(), timeout_ms)
    assert answer.json["deadline"] - answer.json["serverTime"] == timeout_ms


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", -1135, None),
        (b"timeout_ms=5000", -1135, None),
        (b"{}", -1102, "timeout_ms"),
        (b'{"timeoutMs":1}', -1104, "timeoutMs"),
    ],
)
async def test_bodies_that_are_refused(venue: Venue, body: bytes, code: int, field: str | None) -> None:
    answer = await signed(await venue.trader(), "POST", body)
    assert (answer.status, answer.json["code"], answer.json.get("field")) == (400, code, field)


async def test_the_body_is_signed_too(venue: Venue) -> None:
    trader = await venue.trader()
    answer = await signed(trader, "POST", b'{"timeout_ms":0}', signed_body=b'{"timeout_ms":5000}')
    assert answer.json == {"code": -1022, "msg": "Signature for this request is not valid."}


async def test_who_may_set_and_see_it(venue: Venue) -> None:
    nobody = venue.backend.client()
    assert (await nobody.post(PATH, {"timeout_ms": 0})).status == 401
    assert (await nobody.get(PATH)).status == 401
    reader = await venue.trader(permissions=("read",))
    assert (await set_switch(reader, MINUTE_MS)).code == -2015
    assert (await signed(reader, "GET")).status == 200
    elsewhere = await venue.trader(ip_allow=("198.51.100.0/24",))
    assert (await set_switch(elsewhere, MINUTE_MS)).code == -2015
    unsigned = await reader.client.request("GET", PATH, headers={"X-MBX-APIKEY": reader.api_key})
    assert unsigned.code == -1102
    odd = await nobody.request("GET", PATH, headers={"X-MBX-APIKEY": "ü"})
    assert odd.code == -2014
    unknown = await signed(reader, "GET", query="more=1&")
    assert unknown.code == -1104


async def test_sessions_are_shown_and_limited(venue: Venue) -> None:
    trader = await venue.trader()
    link = venue.backend.link
    for number in range(MOST_SESSIONS):
        await link.submit(CancelAllAfter(trader.account_id, 60_000_000, f"ws-{number:02}"), request_id="test")
    shown = (await signed(trader, "GET")).json
    assert [switch["session"] for switch in shown["sessions"]] == [f"ws-{n:02}" for n in range(MOST_SESSIONS)]
    assert all(switch["deadline"] > shown["serverTime"] for switch in shown["sessions"])
    full = await set_switch(trader, MINUTE_MS)
    assert full.status == 400
    assert full.json["msg"] == (
        "This account has 32 dead-man's switches armed already, which is the most there can be."
    )
