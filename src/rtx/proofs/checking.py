"""Whether a proof holds, found out from the document alone.

A signature says who states it. That the statement is true of the journal follows from the rows: their hashes are those
of their content, and their events hold the trade and the orders as the statement has them.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import msgspec

from rtx.core.commands import decode_command
from rtx.core.events import CheckpointTaken, OrderState, Trade, decode_events
from rtx.core.vocabulary import BUY
from rtx.proofs.document import FillClaim, Market, Proof, Row, Statement, TradeClaim
from rtx.proofs.signing import is_signed
from rtx.store.entries import verify_entry
from rtx.store.errors import JournalCorruptError


class ProofRefusedError(Exception):
    """The proof does not hold; the message says why."""


def check_proof(proof: Proof, public_keys: Collection[str] = ()) -> None:
    """Raise ProofRefusedError unless the proof holds.

    ``public_keys``: the keys (hexadecimal) that are known to be the exchange's. Without them it is only certain that
    one and the same key signed all of it.
    """
    statement = proof.statement
    if public_keys and statement.public_key not in public_keys:
        raise ProofRefusedError(f"it is signed under the key {statement.public_key}, not under the one given")
    if not is_signed(proof):
        raise ProofRefusedError("its signature is not that of its statement")
    _check_rows(statement)
    rows = {row.sequence: row for row in statement.rows}
    trade = _trade_of(statement, rows)
    expected_fills = _fills_of(statement, trade)
    if [_without_row(fill) for fill in statement.fills] != expected_fills:
        raise ProofRefusedError(
            f"its fills are {statement.fills}; account {statement.account_id} had {expected_fills} in the trade"
        )
    for fill in statement.fills:
        _check_placed(statement, fill, rows)
    needed = {statement.trade.sequence, *(fill.placed_sequence for fill in statement.fills)}
    if rows.keys() != needed:
        raise ProofRefusedError(f"it has the journal rows {sorted(rows)}, and needs {sorted(needed)}")
    _check_checkpoint(statement)


# -- rows -------------------------------------------------------------------------------------------------------------


def _check_rows(statement: Statement) -> None:
    """Check each row's hash, and that all of them fit into one journal that ends at the head."""
    for first, second in pairwise(statement.rows):
        if second.sequence <= first.sequence:
            raise ProofRefusedError(f"journal row {second.sequence} stands after row {first.sequence}")
    checkpoint = [statement.checkpoint.row] if statement.checkpoint is not None else []
    for row in (*statement.rows, *checkpoint):
        try:
            verify_entry(row.entry())
        except JournalCorruptError as error:
            raise ProofRefusedError(str(error)) from error
    rows = sorted([*statement.rows, *checkpoint], key=lambda row: row.sequence)
    for first, second in pairwise(rows):
        if second.sequence == first.sequence and second != first:
            raise ProofRefusedError(f"it has two different journal rows {first.sequence}")
        if second.sequence == first.sequence + 1 and second.previous_hash != first.hash:
            raise ProofRefusedError(f"journal row {second.sequence} does not name the hash of the row before it")
        if second.time_us < first.time_us or second.epoch < first.epoch:
            raise ProofRefusedError(f"journal row {second.sequence} is older than row {first.sequence}")
    head = statement.head
    for row in rows:
        if row.sequence > head.sequence:
            raise ProofRefusedError(f"journal row {row.sequence} comes after the head, {head.sequence}")
        if row.sequence == head.sequence and row.hash != head.hash:
            raise ProofRefusedError(f"journal row {row.sequence} is the head and has another hash")


def _row(rows: dict[int, Row], sequence: int, purpose: str) -> Row:
    row = rows.get(sequence)
    if row is None:
        raise ProofRefusedError(f"journal row {sequence}, which {purpose}, is missing")
    return row


def _events_of(row: Row) -> list[object]:
    try:
        decode_command(bytes.fromhex(row.command))
        return list(decode_events(bytes.fromhex(row.events)))
    except msgspec.DecodeError as error:
        raise ProofRefusedError(f"journal row {row.sequence} cannot be read ({error})") from error


# -- what the rows say ------------------------------------------------------------------------------------------------


def _trade_of(statement: Statement, rows: dict[int, Row]) -> Trade:
    claim, market = statement.trade, statement.market
    row = _row(rows, claim.sequence, "made the trade")
    for event in _events_of(row):
        if isinstance(event, Trade) and (event.market_id, event.trade_id) == (market.market_id, claim.trade_id):
            expected = TradeClaim(
                claim.trade_id,
                row.sequence,
                row.time_us,
                _decimal(event.price * int(market.tick_size), market.quote_scale),
                _decimal(event.quantity * int(market.lot_size), market.base_scale),
                _decimal(event.quote_quantity, market.quote_scale),
                event.maker_order_id,
                event.taker_order_id,
            )
            if claim != expected:
                raise ProofRefusedError(f"its trade is {claim}; journal row {row.sequence} has {expected}")
            return event
    raise ProofRefusedError(f"journal row {row.sequence} has no trade {claim.trade_id} of market {market.market_id}")


def _fills_of(statement: Statement, trade: Trade) -> list[FillClaim]:
    """The part that the account had in the trade, without the rows that placed its orders."""
    fills = []
    for role, account_id, order_id, fee, is_buyer in (
        ("MAKER", trade.maker_account_id, trade.maker_order_id, trade.maker_fee, trade.taker_side != BUY),
        ("TAKER", trade.taker_account_id, trade.taker_order_id, trade.taker_fee, trade.taker_side == BUY),
    ):
        if account_id == statement.account_id:
            fills.append(_fill(statement.market, role, order_id, fee, is_buyer))
    return fills


def _fill(market: Market, role: str, order_id: int, fee: int, is_buyer: bool) -> FillClaim:
    asset, scale = (market.base_asset, market.base_scale) if is_buyer else (market.quote_asset, market.quote_scale)
    return FillClaim(order_id, role, "BUY" if is_buyer else "SELL", _decimal(fee, scale), asset, 0)  # type: ignore[arg-type] # one of the two


def _without_row(fill: FillClaim) -> FillClaim:
    return msgspec.structs.replace(fill, placed_sequence=0)


def _check_placed(statement: Statement, fill: FillClaim, rows: dict[int, Row]) -> None:
    row = _row(rows, fill.placed_sequence, f"placed order {fill.order_id}")
    for event in _events_of(row):
        if isinstance(event, OrderState) and event.is_new and event.order_id == fill.order_id:
            placed = (event.account_id, event.market_id, "BUY" if event.side == BUY else "SELL")
            expected = (statement.account_id, statement.market.market_id, fill.side)
            if placed != expected:
                raise ProofRefusedError(
                    f"journal row {row.sequence} placed order {fill.order_id} of account {placed[0]} in market "
                    f"{placed[1]} to {placed[2]}, not of account {expected[0]} in market {expected[1]} to {expected[2]}"
                )
            return
    raise ProofRefusedError(f"journal row {row.sequence} did not place order {fill.order_id}")


def _check_checkpoint(statement: Statement) -> None:
    checkpoint = statement.checkpoint
    if checkpoint is None:
        return
    if CheckpointTaken(bytes.fromhex(checkpoint.state_hash)) not in _events_of(checkpoint.row):
        raise ProofRefusedError(
            f"journal row {checkpoint.row.sequence} is no checkpoint with the state hash {checkpoint.state_hash}"
        )


def _decimal(amount: int, scale: int) -> str:
    """Write whole smallest units, which are never negative here, as a decimal."""
    digits = str(amount).zfill(scale + 1)
    return f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
