"""Each party of a trade gets the proof of it, and nobody else does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.integration.api.venue import Trader, Venue
from tests.integration.api_v1.backend import JWT_SECRET, Client

from rtx.core.commands import ActivateRules, Checkpoint, SetFeeTier
from rtx.core.events import OrderState, decode_events
from rtx.proofs.checking import check_proof
from rtx.proofs.document import Proof, decode_proof
from rtx.proofs.signing import ProofKey
from rtx.store.proofs import find_rows
from rtx.verification.database import verify_database

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def log_in(venue: Venue, trader: Trader) -> Client:
    return await venue.backend.log_in(venue.emails[trader.account_id])


async def read_proof(venue: Venue, trader: Trader, symbol: str, trade_id: int) -> Proof:
    client = await log_in(venue, trader)
    answer = await client.get(f"/api/v1/proofs/trades/{trade_id}?symbol={symbol}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return decode_proof(answer.body)


async def meet(venue: Venue) -> tuple[str, Trader, Trader, dict[str, Any], dict[str, Any]]:
    """A market, a seller and a buyer who met in it, and their orders."""
    symbol = await venue.market()
    await venue.backend.link.submit(SetFeeTier(0, 1_000, 2_000), request_id="venue")
    seller = await venue.trader({symbol.removesuffix("USDT"): 10})
    buyer = await venue.trader({"USDT": 1_000})
    sold = await seller.order(symbol, "SELL", "2", "100.5")
    bought = await buyer.order(symbol, "BUY", "1.5", "101")
    return symbol, seller, buyer, sold, bought


async def test_both_parties_get_a_proof_that_holds(venue: Venue) -> None:
    symbol, seller, buyer, sold, bought = await meet(venue)
    trade_id = bought["fills"][0]["tradeId"]
    key = (await venue.public.get("/api/v1/proofs/key")).json
    assert key == {"algorithm": "Ed25519", "publicKey": ProofKey(JWT_SECRET).public_key, "previousPublicKeys": []}

    for trader, order, role in ((seller, sold, "MAKER"), (buyer, bought, "TAKER")):
        proof = await read_proof(venue, trader, symbol, trade_id)
        check_proof(proof, [key["publicKey"]])
        statement = proof.statement
        assert statement.account_id == trader.account_id
        assert statement.market.symbol == symbol
        assert (statement.trade.trade_id, Decimal(statement.trade.price)) == (trade_id, Decimal("100.5"))
        assert Decimal(statement.trade.quantity) == Decimal("1.5")
        assert Decimal(statement.trade.quote_quantity) == Decimal("150.75")
        (fill,) = statement.fills
        assert (fill.order_id, fill.role) == (order["orderId"], role)
        own = (await trader.get("/api/v3/myTrades", symbol=symbol)).json[0]
        assert (fill.commission, fill.commission_asset) == (own["commission"], own["commissionAsset"])
        # Rows of the journal, and of those of others only the one that made the trade.
        assert await find_rows(venue.backend.pool, [row.sequence for row in statement.rows]) == [
            row.entry() for row in statement.rows
        ]
        placed = {
            event.order_id
            for row in statement.rows
            if row.sequence != statement.trade.sequence
            for event in decode_events(bytes.fromhex(row.events))
            if isinstance(event, OrderState)
        }
        assert placed <= {order["orderId"]}
        assert len(statement.rows) == (2 if role == "MAKER" else 1)


async def test_the_newest_checkpoint_and_the_head_stand_in_a_proof(venue: Venue) -> None:
    symbol, seller, _, _, bought = await meet(venue)
    await venue.backend.link.submit(Checkpoint(), request_id="venue")
    taken = await venue.backend.link.submit(Checkpoint(), request_id="venue")
    proof = await read_proof(venue, seller, symbol, bought["fills"][0]["tradeId"])
    check_proof(proof)
    checkpoint = proof.statement.checkpoint
    assert checkpoint is not None
    assert checkpoint.row.sequence == taken.sequence
    assert bytes.fromhex(checkpoint.state_hash) == taken.events[0].state_hash  # type: ignore[union-attr] # a checkpoint's
    assert proof.statement.head.sequence >= taken.sequence


async def test_a_trade_with_oneself_is_proved_from_both_sides(venue: Venue) -> None:
    symbol = await venue.market()
    trader = await venue.trader({symbol.removesuffix("USDT"): 10, "USDT": 1_000})
    await trader.order(symbol, "SELL", "2", "100", selfTradePreventionMode="NONE")
    bought = await trader.order(symbol, "BUY", "2", "100", selfTradePreventionMode="NONE")
    proof = await read_proof(venue, trader, symbol, bought["fills"][0]["tradeId"])
    check_proof(proof)
    assert [(fill.role, fill.side) for fill in proof.statement.fills] == [("MAKER", "SELL"), ("TAKER", "BUY")]


async def test_a_trade_of_others_is_as_unknown_as_one_that_never_was(venue: Venue) -> None:
    symbol, _, _, _, bought = await meet(venue)
    stranger = await log_in(venue, await venue.trader())
    answers = [
        await stranger.get(f"/api/v1/proofs/trades/{trade_id}?symbol={symbol}")
        for trade_id in (bought["fills"][0]["tradeId"], 4711, 2**70)
    ]
    assert {(answer.status, answer.body) for answer in answers} == {
        (404, b'{"code":-9004,"msg":"Trade does not exist."}')
    }


async def test_what_a_request_lacks_is_said(venue: Venue) -> None:
    symbol, seller, *_ = await meet(venue)
    client = await log_in(venue, seller)
    assert (await venue.public.get(f"/api/v1/proofs/trades/1?symbol={symbol}")).status == 401
    answer = await client.get("/api/v1/proofs/trades/1")
    assert (answer.status, answer.code) == (400, -1102)
    assert "'symbol'" in answer.json["msg"]
    answer = await client.get("/api/v1/proofs/trades/1?symbol=NONE")
    assert (answer.status, answer.code) == (400, -1121)
    assert (await client.get(f"/api/v1/proofs/trades/one?symbol={symbol}")).status == 404


async def test_the_exchange_that_did_all_this_verifies(venue: Venue, module_database_url: str) -> None:
    """Other tests of this module left their trades behind; the engine goes on meanwhile."""
    await meet(venue)
    await venue.backend.link.submit(ActivateRules(2), request_id="venue")
    for from_snapshot in (False, True):
        report = await verify_database(module_database_url, from_snapshot=from_snapshot)
        assert report.difference is None
        assert report.checked["trades"] > 0
