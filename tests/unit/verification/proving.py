"""Proofs of trades that a real exchange made, put together by hand."""

from __future__ import annotations

from tests.integration.store.trading import ALICE, BOB, MARKET, Trading

from rtx.core.commands import Checkpoint, SetFeeTier
from rtx.core.events import CheckpointTaken, Trade
from rtx.core.vocabulary import BUY, SELL
from rtx.proofs.document import CheckpointClaim, FillClaim, Head, Market, Proof, Row, Statement, TradeClaim
from rtx.proofs.signing import ProofKey

SECRET = "a secret of the tests, long enough for anything"
PROOF_KEY = ProofKey(SECRET)


def traded() -> Trading:
    """Alice's sell order is met by Bob; there are fees, and a checkpoint at the end."""
    trading = Trading(epoch=3)
    trading.open_market()
    trading.apply(SetFeeTier(0, 1_000, 20_000))
    trading.place(ALICE, SELL, 100, 50, "alice's")
    trading.place(BOB, BUY, 90, 1)
    trading.place(BOB, BUY, 101, 30, "bob's")
    trading.apply(Checkpoint())
    return trading


def statement(trading: Trading) -> Statement:
    """What Alice is told of her fill."""
    placed, _, met, checkpoint = trading.entries[-4:]
    trade = next(event for event in trading.events[-2] if isinstance(event, Trade))
    taken = trading.events[-1][0]
    assert isinstance(taken, CheckpointTaken)
    return Statement(
        version=1,
        issued_at=1_760_000_000_000,
        account_id=ALICE,
        market=Market(MARKET, "BASEQUOTE", "BASE", 2, "QUOTE", 3, "100", "1"),
        trade=TradeClaim(1, met.sequence, met.time_us, "10.000", "0.30", "3.000", trade.maker_order_id, 3),
        fills=[FillClaim(1, "MAKER", "SELL", "0.003", "QUOTE", placed.sequence)],
        rows=[Row.of(placed), Row.of(met)],
        head=Head(checkpoint.sequence, checkpoint.hash.hex()),
        checkpoint=CheckpointClaim(taken.state_hash.hex(), Row.of(checkpoint)),
        public_key=PROOF_KEY.public_key,
    )


def proof() -> Proof:
    """Alice's proof."""
    return PROOF_KEY.sign(statement(traded()))
