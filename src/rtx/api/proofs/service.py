"""Puts the proof of a trade together and signs it."""

from __future__ import annotations

from typing import Literal

from rtx.api.context import ApiContext
from rtx.api.markets import Market
from rtx.core.events import CheckpointTaken, Trade, decode_events
from rtx.core.vocabulary import BUY
from rtx.proofs import document
from rtx.proofs.checking import ProofRefusedError, check_proof
from rtx.proofs.document import CheckpointClaim, FillClaim, Head, Proof, Row, Statement, TradeClaim
from rtx.proofs.signing import ProofKey
from rtx.store.entries import JournalEntry
from rtx.store.proofs import Evidence, find_evidence

_LARGEST_ID = 2**63 - 1


async def prove_trade(context: ApiContext, account_id: int, market: Market, trade_id: int) -> Proof | None:
    """The proof of a trade for one of its parties; None when the account had no part in one with this id.

    Raises ``ProofRefusedError`` when the journal and the tables do not agree on it: then nothing is handed out.
    """
    if trade_id > _LARGEST_ID:
        return None
    evidence = await find_evidence(context.pool, account_id, market.market_id, trade_id)
    if evidence is None:
        return None
    key = ProofKey(context.settings.jwt_secrets[0])
    issued_at_ms = context.clock_us() // 1000
    proof = key.sign(_statement(evidence, account_id, market, trade_id, issued_at_ms, key.public_key))
    check_proof(proof)
    return proof


def public_keys(context: ApiContext) -> list[str]:
    """The keys of proofs, in hexadecimal: the current one first, then those of secrets that are still valid."""
    return [ProofKey(secret).public_key for secret in context.settings.jwt_secrets]


def _statement(
    evidence: Evidence, account_id: int, market: Market, trade_id: int, issued_at_ms: int, public_key: str
) -> Statement:
    row, trade = _journaled(evidence, market, trade_id)
    return Statement(
        document.VERSION,
        issued_at_ms,
        account_id,
        _market(market),
        TradeClaim(
            trade_id,
            row.sequence,
            row.time_us,
            market.price_text(trade.price),
            market.quantity_text(trade.quantity),
            market.quote_text(trade.quote_quantity),
            trade.maker_order_id,
            trade.taker_order_id,
        ),
        _fills(evidence, account_id, market, trade),
        [Row.of(entry) for entry in evidence.rows],
        Head(evidence.head_sequence, evidence.head_hash.hex()),
        None if evidence.checkpoint is None else _checkpoint(evidence.checkpoint),
        public_key,
    )


def _journaled(evidence: Evidence, market: Market, trade_id: int) -> tuple[JournalEntry, Trade]:
    for row in evidence.rows:
        if row.sequence == evidence.trade_sequence:
            for event in decode_events(row.events):
                if isinstance(event, Trade) and (event.market_id, event.trade_id) == (market.market_id, trade_id):
                    return row, event
    raise ProofRefusedError(f"journal row {evidence.trade_sequence} does not have the trade that the table has")


def _market(market: Market) -> document.Market:
    return document.Market(
        market.market_id,
        market.symbol,
        market.base.symbol,
        market.base.scale,
        market.quote.symbol,
        market.quote.scale,
        str(market.tick_size),
        str(market.lot_size),
    )


def _fills(evidence: Evidence, account_id: int, market: Market, trade: Trade) -> list[FillClaim]:
    """One fill, or two where the account traded with itself."""
    taker_buys = trade.taker_side == BUY
    if evidence.placed_sequences.keys() != {
        order_id
        for order_id, owner_id in (
            (trade.maker_order_id, trade.maker_account_id),
            (trade.taker_order_id, trade.taker_account_id),
        )
        if owner_id == account_id
    }:
        raise ProofRefusedError(f"the table does not have the orders of trade {trade.trade_id}")
    fills = []
    if trade.maker_account_id == account_id:
        fills.append(_fill(evidence, market, "MAKER", trade.maker_order_id, trade.maker_fee, not taker_buys))
    if trade.taker_account_id == account_id:
        fills.append(_fill(evidence, market, "TAKER", trade.taker_order_id, trade.taker_fee, taker_buys))
    return fills


def _fill(
    evidence: Evidence, market: Market, role: Literal["MAKER", "TAKER"], order_id: int, fee: int, is_buyer: bool
) -> FillClaim:
    asset = market.base if is_buyer else market.quote
    side: Literal["BUY", "SELL"] = "BUY" if is_buyer else "SELL"
    return FillClaim(order_id, role, side, asset.text(fee), asset.symbol, evidence.placed_sequences[order_id])


def _checkpoint(entry: JournalEntry) -> CheckpointClaim | None:
    for event in decode_events(entry.events):
        if isinstance(event, CheckpointTaken):
            return CheckpointClaim(event.state_hash.hex(), Row.of(entry))
    return None
