"""What an account owns, did and pays."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.venue import Trader, Venue, now_ms

from rtx.core.commands import SetAccountFeeTier, SetFeeTier

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def pair(venue: Venue) -> tuple[str, str, Trader, Trader]:
    symbol = await venue.market()
    base = symbol.removesuffix("USDT")
    return symbol, base, await venue.trader({base: 10}), await venue.trader({"USDT": 10_000})


async def test_an_account_lists_every_asset_or_those_it_has(venue: Venue) -> None:
    symbol, base, _, buyer = await pair(venue)
    await buyer.order(symbol, "BUY", "1", "100")
    account = (await buyer.get("/api/v3/account")).json
    balances = {row["asset"]: (row["free"], row["locked"]) for row in account.pop("balances")}
    assert balances["USDT"] == ("9900.00000000", "100.00000000")
    assert balances[base] == ("0.00000000", "0.00000000")
    assert abs(account.pop("updateTime") - now_ms()) < 60_000
    zero = "0.00000000"
    assert account == {
        "makerCommission": 0,
        "takerCommission": 0,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": zero, "taker": zero, "buyer": zero, "seller": zero},
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "accountType": "SPOT",
        "permissions": ["SPOT"],
        "uid": buyer.account_id,
    }
    short = (await buyer.get("/api/v3/account", omitZeroBalances="true")).json
    assert [row["asset"] for row in short["balances"]] == ["USDT"]
    stranger = await venue.trader()
    assert (await stranger.get("/api/v3/account", omitZeroBalances="true")).json["balances"] == []


async def test_own_trades_of_both_sides(venue: Venue) -> None:
    symbol, base, seller, buyer = await pair(venue)
    resting = await seller.order(symbol, "SELL", "1", "100")
    first = await buyer.order(symbol, "BUY", "0.4", "100")
    second = await buyer.order(symbol, "BUY", "0.6", "100")

    bought = (await buyer.get("/api/v3/myTrades", symbol=symbol)).json
    assert bought[0] == {
        "symbol": symbol,
        "id": 1,
        "orderId": first["orderId"],
        "orderListId": -1,
        "price": "100.00000000",
        "qty": "0.40000000",
        "quoteQty": "40.00000000",
        "commission": "0.00000000",
        "commissionAsset": base,
        "time": first["transactTime"],
        "isBuyer": True,
        "isMaker": False,
        "isBestMatch": True,
    }
    sold = (await seller.get("/api/v3/myTrades", symbol=symbol)).json
    assert [(row["orderId"], row["isBuyer"], row["isMaker"], row["commissionAsset"]) for row in sold] == [
        (resting["orderId"], False, True, "USDT")
    ] * 2

    async def ids(**parameters: Any) -> list[int]:
        answer = await buyer.get("/api/v3/myTrades", symbol=symbol, **parameters)
        assert answer.status == 200, answer.body
        return [row["id"] for row in answer.json]

    assert await ids(orderId=second["orderId"]) == [2]
    assert await ids(fromId=2) == [2]
    assert await ids(orderId=first["orderId"], fromId=2) == []
    assert await ids(limit=1) == [2]
    assert await ids(startTime=first["transactTime"], endTime=second["transactTime"]) == [1, 2]
    assert await ids(endTime=first["transactTime"] - 1) == []


async def test_fees_are_shown_where_they_are_paid(venue: Venue) -> None:
    symbol, base, seller, buyer = await pair(venue)
    link = venue.backend.link
    await link.submit(SetFeeTier(7, 1000, 1500), request_id="test")
    for trader in (seller, buyer):
        await link.submit(SetAccountFeeTier(trader.account_id, 7), request_id="test")
    await seller.order(symbol, "SELL", "1", "100")
    taken = await buyer.order(symbol, "BUY", "1", "100")
    assert [(fill["commission"], fill["commissionAsset"]) for fill in taken["fills"]] == [("0.00150000", base)]
    sold = (await seller.get("/api/v3/myTrades", symbol=symbol)).json
    assert [(row["commission"], row["commissionAsset"]) for row in sold] == [("0.10000000", "USDT")]
    assert await buyer.free(base) == ("0.99850000", "0.00000000")

    account = (await buyer.get("/api/v3/account")).json
    assert (account["makerCommission"], account["takerCommission"]) == (10, 15)
    assert account["commissionRates"]["taker"] == "0.00150000"
    commission = (await buyer.get("/api/v3/account/commission", symbol=symbol)).json
    assert commission["standardCommission"] == {
        "maker": "0.00100000",
        "taker": "0.00150000",
        "buyer": "0.00000000",
        "seller": "0.00000000",
    }
    fees = (await buyer.get("/sapi/v1/asset/tradeFee", symbol=symbol)).json
    assert fees == [{"symbol": symbol, "makerCommission": "0.00100000", "takerCommission": "0.00150000"}]
    assert symbol in [row["symbol"] for row in (await buyer.get("/sapi/v1/asset/tradeFee")).json]


async def test_the_wallet_reads_that_ccxt_makes(venue: Venue) -> None:
    _, base, seller, _ = await pair(venue)
    coins = {row["coin"]: row for row in (await seller.get("/sapi/v1/capital/config/getall")).json}
    assert (coins[base]["free"], coins[base]["locked"]) == ("10.00000000", "0.00000000")
    assert coins[base]["networkList"][0]["withdrawIntegerMultiple"] == "0.00000001"
    for path in ("/sapi/v1/margin/allPairs", "/sapi/v1/margin/isolated/allPairs", "/api/v3/rateLimit/order"):
        assert (await seller.get(path)).json == []
