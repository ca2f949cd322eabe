"""A proof as it is handed out: a JSON object of a statement and a signature over it.

Everything binary is lower-case hexadecimal, amounts are decimal strings, members that are unknown or malformed are
refused: what is not covered by the signature cannot be in the document.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from rtx.store.entries import JournalEntry

VERSION: Final = 1

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Hexadecimal = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{2})*\Z")]
CommandId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PublicKey = Hash
Signature = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]


class MalformedProofError(Exception):
    """The document is not of the form of a proof."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Row(_Part, frozen=True):
    """A journal row, whole; fields as in :class:`~rtx.store.entries.JournalEntry`."""

    sequence: Whole
    epoch: Whole
    time_us: Whole
    command_id: CommandId
    request_id: str
    request_hash: Hexadecimal
    command: Hexadecimal
    events: Hexadecimal
    previous_hash: Hash
    hash: Hash

    @classmethod
    def of(cls, entry: JournalEntry) -> Row:
        """Write down a row of the journal."""
        return cls(
            entry.sequence,
            entry.epoch,
            entry.time_us,
            entry.command_id.hex(),
            entry.request_id,
            entry.request_hash.hex(),
            entry.command.hex(),
            entry.events.hex(),
            entry.previous_hash.hex(),
            entry.hash.hex(),
        )

    def entry(self) -> JournalEntry:
        """The row of the journal that this is said to be."""
        return JournalEntry(
            self.sequence,
            self.epoch,
            self.time_us,
            bytes.fromhex(self.command_id),
            self.request_id,
            bytes.fromhex(self.request_hash),
            bytes.fromhex(self.command),
            bytes.fromhex(self.events),
            bytes.fromhex(self.previous_hash),
            bytes.fromhex(self.hash),
        )


class Market(_Part, frozen=True):
    """What turns the whole numbers of the journal into decimals.

    ``tick_size`` in smallest units of the quote asset per whole base unit, ``lot_size`` in smallest units of the base
    asset, both written as text; a smallest unit is 10**-scale.
    """

    market_id: Whole
    symbol: str
    base_asset: str
    base_scale: Whole
    quote_asset: str
    quote_scale: Whole
    tick_size: Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,18}\Z")]
    lot_size: Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,18}\Z")]


class TradeClaim(_Part, frozen=True):
    """The trade, and the journal row that made it."""

    trade_id: Whole
    sequence: Whole
    time_us: Whole
    price: str
    quantity: str
    quote_quantity: str
    maker_order_id: Whole
    taker_order_id: Whole


class FillClaim(_Part, frozen=True):
    """The part that an order of the account had in the trade, and the journal row that placed the order."""

    order_id: Whole
    role: Literal["MAKER", "TAKER"]
    side: Literal["BUY", "SELL"]
    commission: str
    commission_asset: str
    placed_sequence: Whole


class Head(_Part, frozen=True):
    """The newest journal row when the proof was made."""

    sequence: Whole
    hash: Hash


class CheckpointClaim(_Part, frozen=True):
    """The newest checkpoint when the proof was made: a row that holds the hash of the whole state."""

    state_hash: Hash
    row: Row


class Statement(_Part, frozen=True):
    """What the exchange states; ``issued_at`` in milliseconds, ``rows`` by rising sequence."""

    version: Literal[1]
    issued_at: Whole
    account_id: Whole
    market: Market
    trade: TradeClaim
    fills: list[FillClaim]
    rows: list[Row]
    head: Head
    checkpoint: CheckpointClaim | None
    public_key: PublicKey


class Proof(_Part, frozen=True):
    """A statement, and the Ed25519 signature over :func:`signed_bytes` of it."""

    statement: Statement
    signature: Signature


_CONTEXT: Final = b"rtx proof of a trade\n"
"""Keeps a signature under a proof from being one under anything else."""


def signed_bytes(statement: Statement) -> bytes:
    """What is signed: a line that says what it is, and the statement as JSON with sorted members and no white space."""
    return _CONTEXT + msgspec.json.encode(statement, order="sorted")


def decode_proof(document: bytes) -> Proof:
    """Read a proof; raises MalformedProofError, which says what is wrong and where."""
    try:
        return msgspec.json.decode(document, type=Proof)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedProofError(str(error)) from error
