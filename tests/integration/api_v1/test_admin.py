"""What operators do, what nobody else may do, and what happens to requests that are sent twice or are wrong."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from tests.integration.api_v1.backend import Backend, Client

from rtx.store import balances, users

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)


def market(symbol: str, **changes: object) -> dict[str, object]:
    """A market of two assets of its own."""
    defaults: dict[str, object] = {
        "symbol": symbol,
        "baseAsset": f"{symbol}B",
        "quoteAsset": f"{symbol}Q",
        "tickSize": "0.01",
        "stepSize": "0.00001",
    }
    return defaults | changes


async def new_asset(backend: Backend, precision: int = 8) -> str:
    symbol = f"ASSET{next(_numbers)}"
    answer = await backend.operator.post("/api/v1/admin/assets", {"symbol": symbol, "precision": precision})
    assert answer.status == 201, answer.body
    return symbol


async def new_user(backend: Backend) -> tuple[int, Client]:
    return await backend.new_user(f"user{next(_numbers)}@example.com")


async def balance(backend: Backend, user_id: int, asset: str) -> int:
    """Smallest units of an asset that a user has available."""
    directory = await backend.context.markets.find_asset(asset)
    assert directory is not None
    found = [held for held in await balances.find(backend.pool, user_id) if held.asset_id == directory.asset_id]
    return found[0].available if found else 0


async def transfer(backend: Backend, kind: str, **content: object) -> Any:
    return await backend.operator.post(f"/api/v1/admin/{kind}", content)


ENDPOINTS = [
    ("POST", "/api/v1/admin/deposits"),
    ("POST", "/api/v1/admin/withdrawals"),
    ("POST", "/api/v1/admin/assets"),
    ("POST", "/api/v1/admin/markets"),
    ("GET", "/api/v1/admin/markets"),
    ("GET", "/api/v1/admin/markets/BTCUSDT"),
    ("PUT", "/api/v1/admin/markets/BTCUSDT/status"),
    ("POST", "/api/v1/admin/markets/BTCUSDT/status"),
    ("PUT", "/api/v1/admin/markets/BTCUSDT/filters"),
    ("PUT", "/api/v1/admin/fee-tiers/1"),
    ("PUT", "/api/v1/admin/users/1001/fee-tier"),
    ("GET", "/api/v1/admin/reconciliation"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
async def test_operators_only(backend: Backend, method: str, path: str) -> None:
    _, user = await new_user(backend)

    assert (await backend.client().request(method, path, {})).status == 401
    assert (await user.request(method, path, {})).status == 403
    assert (await backend.operator.request(method, path, {})).status != 403


async def test_an_operator_who_is_one_no_more_is_refused_at_once(backend: Backend) -> None:
    user_id, _ = await backend.new_user("former@example.com")
    await users.set_role(backend.pool, user_id, "operator")
    former = await backend.log_in("former@example.com")
    assert (await former.get("/api/v1/admin/markets")).status == 200
    await users.set_role(backend.pool, user_id, "user")

    assert (await former.get("/api/v1/admin/markets")).status == 403


async def test_a_deposit_is_there_when_it_is_answered(backend: Backend) -> None:
    asset = await new_asset(backend, precision=2)
    user_id, _ = await new_user(backend)
    answer = await transfer(backend, "deposits", userId=user_id, asset=asset, amount="1000.5", reference="in 1")

    assert answer.status == 200
    assert answer.json["amount"] == "1000.50"
    assert (answer.json["userId"], answer.json["asset"], answer.json["reference"]) == (user_id, asset, "in 1")
    assert await balance(backend, user_id, asset) == 100_050


async def test_a_deposit_sent_again_is_done_once_and_answered_alike(backend: Backend) -> None:
    asset = await new_asset(backend, precision=2)
    user_id, _ = await new_user(backend)
    content = {"userId": user_id, "asset": asset, "amount": "10", "reference": f"again {asset}"}
    answers = await asyncio.gather(*(transfer(backend, "deposits", **content) for _ in range(3)))
    written_otherwise = await transfer(backend, "deposits", **(content | {"amount": 10.0, "userId": str(user_id)}))

    assert len({answer.body for answer in [*answers, written_otherwise]}) == 1
    assert answers[0].status == 200
    assert await balance(backend, user_id, asset) == 1_000


async def test_a_reference_stands_for_one_deposit(backend: Backend) -> None:
    asset = await new_asset(backend)
    other_asset = await new_asset(backend)
    user_id, _ = await new_user(backend)
    other_id, _ = await new_user(backend)
    content = {"userId": user_id, "asset": asset, "amount": "10", "reference": f"one {asset}"}
    await transfer(backend, "deposits", **content)
    for change in ({"amount": "11"}, {"userId": other_id}, {"asset": other_asset}):
        answer = await transfer(backend, "deposits", **(content | change))
        assert (answer.status, answer.json["field"]) == (409, "reference")

    assert await balance(backend, user_id, asset) == 10 * 10**8
    assert await balance(backend, other_id, asset) == 0
    withdrawal = await transfer(backend, "withdrawals", **content)
    assert withdrawal.status == 200


async def test_a_withdrawal_takes_what_is_available_and_no_more(backend: Backend) -> None:
    asset = await new_asset(backend, precision=2)
    user_id, _ = await new_user(backend)
    content = {"userId": user_id, "asset": asset, "amount": "7", "reference": f"out {asset}"}

    refused = await transfer(backend, "withdrawals", **content)
    assert (refused.status, refused.code) == (400, -2010)
    await transfer(backend, "deposits", userId=user_id, asset=asset, amount="10", reference=f"in {asset}")
    assert (await transfer(backend, "withdrawals", **content)).status == 200
    assert (await transfer(backend, "withdrawals", **content)).status == 200
    assert await balance(backend, user_id, asset) == 300


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"userId": 999_999}, "userId"),
        ({"userId": 1}, "userId"),
        ({"userId": 2}, "userId"),
        ({"userId": -5}, "userId"),
        ({"userId": 2**70}, "userId"),
        ({"userId": None}, "userId"),
        ({"asset": "NOTHING"}, "asset"),
        ({"asset": "x" * 1000}, "asset"),
        ({"asset": "\ud800"}, "asset"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1e400"}, "amount"),
        ({"amount": "0.001"}, "amount"),
        ({"amount": "1." + "0" * 40}, "amount"),
        ({"amount": "9" * 40}, "amount"),
        ({"amount": True}, "amount"),
        ({"reference": ""}, "reference"),
        ({"reference": "x" * 129}, "reference"),
        ({"reference": "a\x00b"}, "reference"),
        ({"note": "hello"}, "note"),
    ],
)
async def test_a_wrong_deposit_is_named_and_changes_nothing(
    backend: Backend, change: dict[str, object], field: str
) -> None:
    asset = await new_asset(backend, precision=2)
    user_id, _ = await new_user(backend)
    content = {"userId": user_id, "asset": asset, "amount": "1", "reference": "wrong"}
    _, before = await backend.link.state_hash()
    answer = await transfer(backend, "deposits", **(content | change))
    _, after = await backend.link.state_hash()

    assert (answer.status, answer.json["field"]) == (400, field)
    assert after == before


async def test_more_than_the_ledger_can_count_is_refused(backend: Backend) -> None:
    asset = await new_asset(backend, precision=0)
    user_id, _ = await new_user(backend)
    most = await transfer(backend, "deposits", userId=user_id, asset=asset, amount=str(2**62), reference="most")
    more = await transfer(backend, "deposits", userId=user_id, asset=asset, amount="1", reference="more")

    assert most.status == 200
    assert (more.status, more.json["field"]) == (400, "amount")


async def test_a_market_comes_with_its_assets_and_is_there_at_once(backend: Backend) -> None:
    made = await backend.operator.post("/api/v1/admin/markets", market("MADE", minNotional="5", maxNumOrders=10))

    assert made.status == 201
    assert made.json["status"] == "TRADING"
    assert (made.json["baseAsset"], made.json["baseAssetPrecision"]) == ("MADEB", 8)
    assert (made.json["tickSize"], made.json["stepSize"]) == ("0.01000000", "0.00001000")
    assert (made.json["minNotional"], made.json["maxNumOrders"]) == ("5.00000000", 10)
    assert (await backend.operator.get("/api/v1/admin/markets/MADE")).json == made.json
    assert made.json in (await backend.operator.get("/api/v1/admin/markets")).json
    assert backend.context.markets.by_symbol["MADE"].filters.maximum_open_orders == 10
    again = await backend.operator.post("/api/v1/admin/markets", market("MADE"))
    assert (again.status, again.json["field"]) == (409, "symbol")


async def test_what_a_market_says_of_itself_makes_another_like_it(backend: Backend) -> None:
    every_limit = {
        "minPrice": "0.01",
        "maxPrice": "1000",
        "minQty": "0.001",
        "maxQty": "100",
        "bidMultiplierUp": "5",
        "bidMultiplierDown": "0.2",
        "applyMaxToMarket": True,
        "baseAssetPrecision": 6,
    }
    first = (await backend.operator.post("/api/v1/admin/markets", market("FIRST", **every_limit))).json
    second = await backend.operator.post("/api/v1/admin/markets", first | {"symbol": "SECOND"})

    assert second.status == 201
    assert second.json == first | {"symbol": "SECOND"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbol": "lower"}, "symbol"),
        ({"symbol": "X" * 21}, "symbol"),
        ({"quoteAsset": "WRONGB"}, "quoteAsset"),
        ({"tickSize": "0"}, "tickSize"),
        ({"tickSize": "0.000000001"}, "tickSize"),
        ({"stepSize": None}, "stepSize"),
        ({"quoteAssetPrecision": 2}, "stepSize"),
        ({"baseAssetPrecision": 19}, "baseAssetPrecision"),
        ({"minPrice": "0.015"}, "minPrice"),
        ({"status": "OPEN"}, "status"),
        ({"minQuantity": "1"}, "minQuantity"),
    ],
)
async def test_a_wrong_market_is_named_and_leaves_no_asset_behind(
    backend: Backend, change: dict[str, object], field: str
) -> None:
    answer = await backend.operator.post("/api/v1/admin/markets", market("WRONG") | change)

    assert (answer.status, answer.json["field"]) == (400, field)
    assert await backend.context.markets.find_asset("WRONGB") is None


async def test_an_asset_has_one_precision(backend: Backend) -> None:
    asset = await new_asset(backend, precision=2)
    again = await backend.operator.post("/api/v1/admin/assets", {"symbol": asset, "precision": 2})
    other = await backend.operator.post(
        "/api/v1/admin/markets", market("PRECISE", quoteAsset=asset, quoteAssetPrecision=8)
    )

    assert (again.status, again.json["field"]) == (409, "symbol")
    assert (other.status, other.json["field"]) == (400, "quoteAssetPrecision")


async def test_a_market_is_halted_and_opened_again(backend: Backend) -> None:
    await backend.operator.post("/api/v1/admin/markets", market("HALTED"))
    path = "/api/v1/admin/markets/HALTED/status"
    halted = await backend.operator.put(path, {"status": "HALT"})
    halted_again = await backend.operator.post(path, {"status": "HALT"})
    opened = await backend.operator.post(path, {"status": "TRADING"})

    assert [answer.status for answer in (halted, halted_again, opened)] == [200, 200, 200]
    assert [answer.json["status"] for answer in (halted, halted_again, opened)] == ["HALT", "HALT", "TRADING"]
    wrong = await backend.operator.put(path, {"status": "CLOSED"})
    assert (wrong.status, wrong.json["field"]) == (400, "status")
    unknown = await backend.operator.put("/api/v1/admin/markets/NOWHERE/status", {"status": "HALT"})
    assert (unknown.status, unknown.code) == (404, -1121)


async def test_limits_are_replaced_as_a_whole(backend: Backend) -> None:
    await backend.operator.post("/api/v1/admin/markets", market("LIMITED", minNotional="5", maxQty="10"))
    changed = await backend.operator.put("/api/v1/admin/markets/LIMITED/filters", {"minQty": "0.1"})

    assert changed.status == 200
    assert (changed.json["minQty"], changed.json["maxQty"], changed.json["minNotional"]) == (
        "0.10000000",
        "0.00000000",
        "0.00000000",
    )
    assert (await backend.operator.get("/api/v1/admin/markets/LIMITED")).json == changed.json


async def test_fee_tiers(backend: Backend) -> None:
    user_id, _ = await new_user(backend)
    path = f"/api/v1/admin/users/{user_id}/fee-tier"
    unknown = await backend.operator.put(path, {"tier": 7})
    tier = await backend.operator.put("/api/v1/admin/fee-tiers/7", {"makerRate": "0.0001", "takerRate": "0.00055"})
    put = await backend.operator.put(path, {"tier": 7})

    assert (unknown.status, unknown.json["field"]) == (404, "tier")
    assert (tier.status, tier.json) == (200, {"tier": 7, "makerRate": "0.00010000", "takerRate": "0.00055000"})
    assert (put.status, put.json) == (200, {"userId": user_id, "tier": 7})


@pytest.mark.parametrize(
    ("path", "content", "status", "field"),
    [
        ("fee-tiers/1001", {"makerRate": "0", "takerRate": "0"}, 400, "tier"),
        ("fee-tiers/-1", {"makerRate": "0", "takerRate": "0"}, 400, "tier"),
        ("fee-tiers/one", {"makerRate": "0", "takerRate": "0"}, 400, "tier"),
        ("fee-tiers/1", {"makerRate": "1.1", "takerRate": "0"}, 400, "makerRate"),
        ("fee-tiers/1", {"makerRate": "0", "takerRate": "0.0000001"}, 400, "takerRate"),
        ("users/999999/fee-tier", {"tier": 0}, 404, "userId"),
        ("users/1/fee-tier", {"tier": 0}, 404, "userId"),
        ("users/me/fee-tier", {"tier": 0}, 404, "userId"),
    ],
)
async def test_wrong_fee_tiers_are_named(
    backend: Backend, path: str, content: dict[str, object], status: int, field: str
) -> None:
    answer = await backend.operator.put(f"/api/v1/admin/{path}", content)
    assert (answer.status, answer.json["field"]) == (status, field)


async def test_the_books_reconcile(backend: Backend) -> None:
    answer = await backend.operator.get("/api/v1/admin/reconciliation")
    sequence, state_hash = await backend.link.state_hash()

    assert answer.status == 200
    assert (answer.json["clean"], answer.json["findings"]) == (True, [])
    assert answer.json["engine"] == {"sequence": sequence, "stateHash": state_hash.hex()}
    assert answer.json["sequence"] == sequence


async def test_what_does_not_reconcile_is_said(backend: Backend) -> None:
    asset = await new_asset(backend)
    user_id, _ = await new_user(backend)
    await transfer(backend, "deposits", userId=user_id, asset=asset, amount="1", reference=f"before {asset}")
    change = "UPDATE balances SET available = available + $2 WHERE account_id = $1"
    await backend.pool.execute(change, user_id, 1)
    try:
        answer = await backend.operator.get("/api/v1/admin/reconciliation")
    finally:
        await backend.pool.execute(change, user_id, -1)

    assert answer.json["clean"] is False
    assert any(str(user_id) in finding["subject"] for finding in answer.json["findings"])
