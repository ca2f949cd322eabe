"""A proof holds as it was made, and in no other form; a signature alone does not make one hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.store.trading import BOB
from tests.unit.verification.proving import PROOF_KEY, proof, statement, traded

from rtx.core.events import decode_events, encode_events
from rtx.proofs.checking import ProofRefusedError, check_proof
from rtx.proofs.document import FillClaim, MalformedProofError, Row, Statement, decode_proof, signed_bytes
from rtx.proofs.signing import ProofKey

DOCUMENT = msgspec.json.encode(proof())
Change = Callable[[Statement], Statement]


def holds(document: bytes) -> bool:
    try:
        check_proof(decode_proof(document), [PROOF_KEY.public_key])
    except (MalformedProofError, ProofRefusedError):
        return False
    return True


def test_a_proof_holds() -> None:
    assert holds(DOCUMENT)
    check_proof(decode_proof(DOCUMENT))


def test_white_space_is_no_part_of_a_proof() -> None:
    """People look at documents with tools that lay them out."""
    assert holds(msgspec.json.format(DOCUMENT, indent=2))


@settings(max_examples=600, deadline=None)
@given(st.integers(0, len(DOCUMENT) - 1), st.integers(1, 255))
def test_a_flipped_byte_anywhere_is_found(position: int, difference: int) -> None:
    changed = bytearray(DOCUMENT)
    changed[position] ^= difference
    assert not holds(bytes(changed))


def test_every_flipped_letter_case_is_found() -> None:
    """Hexadecimal that means the same is not the same."""
    for position, byte in enumerate(DOCUMENT):
        if chr(byte).isalpha():
            changed = bytearray(DOCUMENT)
            changed[position] ^= 0x20
            assert not holds(bytes(changed)), DOCUMENT[position - 20 : position + 20]


def test_a_proof_under_another_key_does_not_hold_where_the_key_is_known() -> None:
    other = ProofKey("another secret of the tests, which is as long")
    signed = other.sign(replace(statement(traded()), public_key=other.public_key))
    check_proof(signed)
    with pytest.raises(ProofRefusedError, match="not under the one given"):
        check_proof(signed, [PROOF_KEY.public_key])


def test_replicas_with_one_secret_have_one_key() -> None:
    assert ProofKey("one secret").public_key == ProofKey("one secret").public_key
    assert ProofKey("one secret").public_key != ProofKey("another secret").public_key


def test_what_is_signed_does_not_depend_on_the_order_of_members() -> None:
    content = msgspec.json.decode(DOCUMENT)
    turned: dict[str, Any] = {name: content[name] for name in reversed(content)}
    turned["statement"] = {name: turned["statement"][name] for name in reversed(turned["statement"])}
    assert signed_bytes(decode_proof(msgspec.json.encode(turned)).statement) == signed_bytes(proof().statement)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version"),
        ({"publicKey": "00"}, "publicKey"),
        ({"more": 1}, "more"),
        ({"trade": None}, "trade"),
    ],
)
def test_a_document_of_another_form_is_told_apart(change: dict[str, Any], words: str) -> None:
    content = msgspec.json.decode(DOCUMENT)
    content["statement"] |= change
    with pytest.raises(MalformedProofError, match=words):
        decode_proof(msgspec.json.encode(content))


# -- signed, and not true ---------------------------------------------------------------------------------------------


def replace(original: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(original, **changes)


def of_trade(**changes: Any) -> Change:
    return lambda told: replace(told, trade=replace(told.trade, **changes))


def of_fill(**changes: Any) -> Change:
    return lambda told: replace(told, fills=[replace(told.fills[0], **changes)])


def of_row(number: int, **changes: Any) -> Change:
    return lambda told: replace(told, rows=[*told.rows[:number], replace(told.rows[number], **changes)])


def with_forged_events(told: Statement) -> Statement:
    row = told.rows[1].entry()
    events = decode_events(row.events)
    forged = replace(row, events=encode_events([replace(events[0], price=99), *events[1:]]))
    return msgspec.structs.replace(told, rows=[told.rows[0], Row.of(forged)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_trade(price="10.001"), "its trade is"),
        (of_trade(quantity="0.31"), "its trade is"),
        (of_trade(quote_quantity="3"), "its trade is"),
        (of_trade(time_us=5), "its trade is"),
        (of_trade(taker_order_id=2), "its trade is"),
        (of_trade(trade_id=2), "has no trade 2 of market 1"),
        (of_trade(sequence=1), "journal row 1, which made the trade, is missing"),
        (lambda told: replace(told, market=replace(told.market, market_id=2)), "has no trade 1 of market 2"),
        (lambda told: replace(told, market=replace(told.market, lot_size="2")), "its trade is"),
        (lambda told: replace(told, account_id=BOB), "account 1002 had"),
        (lambda told: replace(told, account_id=1003), "account 1003 had"),
        (of_fill(order_id=2), "its fills are"),
        (of_fill(role="TAKER"), "its fills are"),
        (of_fill(side="BUY"), "its fills are"),
        (of_fill(commission="0.000"), "its fills are"),
        (of_fill(commission_asset="BASE"), "its fills are"),
        (of_fill(placed_sequence=1), "journal row 1, which placed order 1, is missing"),
        (lambda told: of_fill(placed_sequence=told.trade.sequence)(told), "did not place order 1"),
        (lambda told: replace(told, fills=[]), "its fills are"),
        (lambda told: replace(told, fills=told.fills * 2), "its fills are"),
        (
            lambda told: replace(told, fills=[*told.fills, FillClaim(3, "TAKER", "BUY", "0.00", "BASE", 1)]),
            "its fills are",
        ),
        (with_forged_events, "its hash is not that of its content"),
        (of_row(1, request_id="another"), "its hash is not that of its content"),
        (of_row(1, previous_hash="00" * 32), "its hash is not that of its content"),
        (lambda told: replace(told, rows=told.rows[::-1]), "stands after row"),
        (lambda told: replace(told, rows=[told.rows[0]] * 2), "stands after row"),
        (lambda told: replace(told, rows=told.rows[1:]), "which placed order 1, is missing"),
        (lambda told: replace(told, rows=told.rows[:1]), "which made the trade, is missing"),
        (lambda told: replace(told, rows=[*told.rows, told.checkpoint.row]), "and needs"),
        (lambda told: replace(told, head=replace(told.head, sequence=told.head.sequence - 2)), "comes after the head"),
        (lambda told: replace(told, head=replace(told.head, hash="00" * 32)), "is the head and has another hash"),
        (
            lambda told: replace(told, checkpoint=replace(told.checkpoint, state_hash="00" * 32)),
            "is no checkpoint with the state hash 0000",
        ),
        (lambda told: replace(told, checkpoint=replace(told.checkpoint, row=told.rows[0])), "is no checkpoint"),
    ],
)
def test_a_signature_does_not_make_a_proof_hold(change: Change, words: str) -> None:
    told = change(statement(traded()))
    with pytest.raises(ProofRefusedError, match=words):
        check_proof(PROOF_KEY.sign(told))


def test_a_proof_without_a_checkpoint_holds() -> None:
    check_proof(PROOF_KEY.sign(replace(statement(traded()), checkpoint=None)))
