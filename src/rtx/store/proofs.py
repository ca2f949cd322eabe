"""The journal rows behind one trade, as they prove it to one of its parties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import msgspec

from rtx.core.commands import Checkpoint, encode_command
from rtx.store.connection import Connection, Database
from rtx.store.entries import JournalEntry

CHECKPOINT_SEARCH_ROWS: Final = 100_000
"""How far back a checkpoint is looked for: the journal has no index of its commands."""

_TRADE: Final = """
    SELECT sequence, maker_order_id, taker_order_id FROM trades
    WHERE market_id = $1 AND trade_id = $2 AND $3 IN (maker_account_id, taker_account_id)
"""
_PLACED: Final = """
    SELECT order_id, created_sequence FROM orders
    WHERE account_id = $1 AND market_id = $2 AND order_id = ANY ($3::bigint[])
"""
_ROWS: Final = """
    SELECT sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash
    FROM journal WHERE sequence = ANY ($1::bigint[]) ORDER BY sequence
"""
_HEAD: Final = "SELECT sequence, hash FROM journal ORDER BY sequence DESC LIMIT 1"
_NEWEST_CHECKPOINT: Final = """
    SELECT sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash
    FROM journal WHERE sequence > $1 AND command = $2 ORDER BY sequence DESC LIMIT 1
"""


class Evidence(msgspec.Struct, frozen=True):
    """What the journal has of a trade, as of one moment.

    ``placed_sequences`` gives, by order id, the rows that placed those of its two orders that are the party's own;
    ``rows`` are these and the one that made the trade (``trade_sequence``), by rising sequence. ``checkpoint`` is the
    newest one among the last :data:`CHECKPOINT_SEARCH_ROWS` rows.
    """

    trade_sequence: int
    placed_sequences: dict[int, int]
    rows: list[JournalEntry]
    head_sequence: int
    head_hash: bytes
    checkpoint: JournalEntry | None


async def find_evidence(database: Database, account_id: int, market_id: int, trade_id: int) -> Evidence | None:
    """Return what proves a trade to an account; None when it had no part in one with this id."""
    if isinstance(database, asyncpg.Pool):
        async with database.acquire() as connection:
            return await _find_evidence(connection, account_id, market_id, trade_id)
    return await _find_evidence(database, account_id, market_id, trade_id)


async def find_rows(database: Database, sequences: Sequence[int]) -> list[JournalEntry]:
    """Return those of the journal rows that are there, as they are."""
    return [JournalEntry(*row) for row in await database.fetch(_ROWS, sequences)]


async def _find_evidence(connection: Connection, account_id: int, market_id: int, trade_id: int) -> Evidence | None:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        trade = await connection.fetchrow(_TRADE, market_id, trade_id, account_id)
        if trade is None:
            return None
        order_ids = [trade["maker_order_id"], trade["taker_order_id"]]
        orders = await connection.fetch(_PLACED, account_id, market_id, order_ids)
        placed = {order["order_id"]: order["created_sequence"] for order in orders}
        rows = await find_rows(connection, [trade["sequence"], *placed.values()])
        head = await connection.fetchrow(_HEAD)
        assert head is not None
        head_sequence, head_hash = head
        checkpoint = await connection.fetchrow(
            _NEWEST_CHECKPOINT, head_sequence - CHECKPOINT_SEARCH_ROWS, encode_command(Checkpoint())
        )
    return Evidence(
        trade["sequence"],
        placed,
        rows,
        head_sequence,
        head_hash,
        None if checkpoint is None else JournalEntry(*checkpoint),
    )
