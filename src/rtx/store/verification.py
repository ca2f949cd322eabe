"""Whole tables as `rtx verify` reads them: every row, in the order of the primary key, all as of one moment.

Several connections share one exported snapshot, so that the server works on the next rows while those in hand are
judged, and so that everything read belongs together although the exchange trades meanwhile. What is read at a time is
bounded: the caller asks for blocks.
"""

# ruff: noqa: S608 - names of tables and columns, which are constants of this module, cannot be parameters
from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec

from rtx.core.commands import MarketFilters
from rtx.store.connection import CONNECT_TIMEOUT_S, Connection
from rtx.store.entries import JournalEntry

Row: TypeAlias = Any
"""A tuple, or a record of asyncpg, which compares equal to a tuple of the same values."""


class Table(msgspec.Struct, frozen=True):
    """A table as it is compared: its columns, of which the first ``key_length`` name a row.

    ``sequence_column`` is where in a row the journal row stands that wrote it last (None: nowhere).
    """

    name: str
    columns: tuple[str, ...]
    key_length: int
    sequence_column: int | None = None


ORDERS: Final = Table(
    "orders",
    (
        "account_id",
        "market_id",
        "order_id",
        "side",
        "type",
        "time_in_force",
        "status",
        "price",
        "quantity",
        "executed_quantity",
        "executed_quote_quantity",
        "client_order_id",
        "created_at_us",
        "working_at_us",
        "quote_quantity",
        "stop_price",
        "self_trade_prevention",
        "prevented_quantity",
        "created_sequence",
        "updated_sequence",
        "updated_at_us",
    ),
    3,
    19,
)
TRADES: Final = Table(
    "trades",
    (
        "market_id",
        "trade_id",
        "price",
        "quantity",
        "quote_quantity",
        "taker_side",
        "maker_order_id",
        "taker_order_id",
        "maker_account_id",
        "taker_account_id",
        "maker_fee",
        "taker_fee",
        "sequence",
        "time_us",
    ),
    2,
    12,
)
POSTINGS: Final = Table("postings", ("sequence", "line", "account_id", "asset_id", "amount"), 2, 0)
CANDLES: Final = Table(
    "candles",
    (
        "market_id",
        "interval_s",
        "open_time_s",
        "open",
        "high",
        "low",
        "close",
        "trade_count",
        "first_trade_id",
        "last_trade_id",
        "volume",
        "quote_volume",
        "taker_buy_volume",
        "taker_buy_quote_volume",
    ),
    3,
)
BALANCES: Final = Table("balances", ("account_id", "asset_id", "available", "held", "updated_sequence"), 2, 4)
ASSETS: Final = Table("assets", ("asset_id", "symbol", "scale"), 1)
MARKETS: Final = Table(
    "markets",
    (
        "market_id",
        "symbol",
        "base_asset_id",
        "quote_asset_id",
        "tick_size",
        "lot_size",
        "status",
        "filters",
        "created_at_us",
    ),
    1,
)
FEE_TIERS: Final = Table("fee_tiers", ("tier", "maker_rate_ppm", "taker_rate_ppm"), 1)
ACCOUNT_FEE_TIERS: Final = Table("account_fee_tiers", ("account_id", "tier"), 1)


class SnapshotHead(msgspec.Struct, frozen=True):
    """A kept snapshot without its state."""

    sequence: int
    journal_hash: bytes
    state_hash: bytes


_BEFORE_ALL: Final = -(2**63)

_JOURNAL: Final = """
    SELECT sequence, epoch, time_us, command_id, request_id, request_hash, command, events, previous_hash, hash
    FROM journal WHERE sequence > $1 ORDER BY sequence LIMIT $2
"""


def _columns(table: Table, alias: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in table.columns)


def _select(table: Table) -> str:
    return f"SELECT {_columns(table, table.name)} FROM {table.name} "


_ORDERS_BY_KEY: Final = (
    f"SELECT {_columns(ORDERS, 'o')} "
    "FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS wanted (account_id, market_id, order_id) "
    "JOIN orders AS o USING (account_id, market_id, order_id) ORDER BY account_id, market_id, order_id"
)
_CANDLES_BY_KEY: Final = (
    f"SELECT {_columns(CANDLES, 'c')} "
    "FROM unnest($1::integer[], $2::integer[], $3::bigint[]) AS wanted (market_id, interval_s, open_time_s) "
    "JOIN candles AS c USING (market_id, interval_s, open_time_s) ORDER BY market_id, interval_s, open_time_s"
)
_TRADES_IN_RANGES: Final = (
    f"SELECT {_columns(TRADES, 't')} "
    "FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS wanted (market_id, first, last) "
    "JOIN trades AS t ON t.market_id = wanted.market_id AND t.trade_id BETWEEN wanted.first AND wanted.last "
    "ORDER BY t.market_id, t.trade_id"
)
_POSTINGS_BETWEEN: Final = _select(POSTINGS) + "WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence, line"

_EXTRA_POSTING: Final = _select(POSTINGS) + "WHERE sequence > $1 ORDER BY sequence, line LIMIT 1"
_EXTRA_TRADE: Final = (
    _select(TRADES)
    + """
    WHERE NOT EXISTS (
        SELECT FROM unnest($1::integer[], $2::bigint[]) AS market (market_id, last_trade_id)
        WHERE market.market_id = trades.market_id AND trades.trade_id BETWEEN 1 AND last_trade_id
    )
    ORDER BY market_id, trade_id LIMIT 1
"""
)
_EXTRA_ORDER: Final = (
    _select(ORDERS)
    + """
    WHERE order_id NOT BETWEEN 1 AND $1 OR order_id IN (
        SELECT order_id FROM orders GROUP BY order_id HAVING count(*) > 1
    )
    ORDER BY order_id, created_sequence DESC LIMIT 2
"""
)
_STRANGE_CANDLE: Final = _select(CANDLES) + (
    "WHERE interval_s <> ALL ($1::integer[]) ORDER BY market_id, interval_s, open_time_s LIMIT 1"
)
_EMPTY_CANDLE: Final = (
    _select(CANDLES)
    + """
    LEFT JOIN (
        SELECT DISTINCT market_id, time_us / ($1 * 1000000::bigint) * $1 AS open_time_s FROM trades
    ) AS traded USING (market_id, open_time_s)
    WHERE interval_s = $1 AND traded.market_id IS NULL
    ORDER BY market_id, open_time_s LIMIT 1
"""
)

_SHARED_SETTINGS: Final = {
    "jit": "off",
    # A statement's answer may wait while a block is judged, and the whole run is one transaction.
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
}
_LOOK_UP_SETTINGS: Final = {
    **_SHARED_SETTINGS,
    # Blocks are looked up by key, however few rows the planner believes the table to have.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class DatabaseMoment:
    """A database as of one moment.

    There is a connection for the journal and for what is asked once, one for postings by block and one for the other
    tables by block. Calls of one connection have to follow each other, those of different ones may run side by side.
    """

    def __init__(self, journal: Connection, postings: Connection, tables: Connection) -> None:
        self._journal = journal
        self._postings = postings
        self._tables = tables

    # -- on the connection of the journal -------------------------------------------------------------------------

    async def head_sequence(self) -> int:
        """The newest journal row's sequence; 0 of an empty journal."""
        sequence: int = await self._journal.fetchval("SELECT coalesce(max(sequence), 0) FROM journal")
        return sequence

    async def lease_epoch(self) -> int:
        """The newest epoch that an engine ever had."""
        epoch: int = await self._journal.fetchval("SELECT max(epoch) FROM engine_lease")
        return epoch

    async def journal_after(self, sequence: int | None, limit: int) -> list[JournalEntry]:
        """At most ``limit`` rows after ``sequence`` (None: from the first), oldest first, as they are."""
        rows = await self._journal.fetch(_JOURNAL, _BEFORE_ALL if sequence is None else sequence, limit)
        return [JournalEntry(*row) for row in rows]

    async def snapshots(self) -> list[SnapshotHead]:
        """The kept snapshots, oldest first."""
        rows = await self._journal.fetch("SELECT sequence, journal_hash, state_hash FROM snapshots ORDER BY sequence")
        return [SnapshotHead(*row) for row in rows]

    async def snapshot_state(self, sequence: int) -> bytes:
        """The state of the snapshot made after journal row ``sequence``."""
        state: bytes = await self._journal.fetchval("SELECT state FROM snapshots WHERE sequence = $1", sequence)
        return state

    async def count(self, table: Table) -> int:
        """How many rows the table has."""
        count: int = await self._journal.fetchval(f"SELECT count(*) FROM {table.name}")
        return count

    async def extra_trade(self, last_trade_ids: dict[int, int]) -> Row | None:
        """A trade that is not among the first ones of its market up to the last trade id given for it."""
        return await self._journal.fetchrow(_EXTRA_TRADE, list(last_trade_ids), list(last_trade_ids.values()))

    async def extra_orders(self, last_order_id: int) -> list[Row]:
        """Two orders, or one, of those whose id was never given or which have the same id."""
        return await self._journal.fetch(_EXTRA_ORDER, last_order_id)

    async def extra_candle(self, intervals_s: Sequence[int]) -> Row | None:
        """A candle of none of the intervals, or one in whose time nothing traded."""
        found = await self._journal.fetchrow(_STRANGE_CANDLE, intervals_s)
        for interval_s in intervals_s:
            found = found or await self._journal.fetchrow(_EMPTY_CANDLE, interval_s)
        return found

    async def all_rows(self, table: Table) -> list[Row]:
        """A whole table of the directory, or the balances, by key; a market's filters as a dictionary."""
        key = ", ".join(table.columns[: table.key_length])
        rows = await self._journal.fetch(f"{_select(table)} ORDER BY {key}")
        if table is not MARKETS:
            return rows
        column = table.columns.index("filters")
        return [(*row[:column], _filters(row[column]), *row[column + 1 :]) for row in map(tuple, rows)]

    async def posting_after(self, sequence: int) -> Row | None:
        """The first posting of a journal row after ``sequence``."""
        return await self._journal.fetchrow(_EXTRA_POSTING, sequence)

    # -- on the connection of the postings ------------------------------------------------------------------------

    async def postings_between(self, after: int | None, last: int) -> list[Row]:
        """The postings of the journal rows after ``after`` (None: from the first) up to and with ``last``."""
        return await self._postings.fetch(_POSTINGS_BETWEEN, _BEFORE_ALL if after is None else after, last)

    # -- on the connection of the other tables --------------------------------------------------------------------

    async def orders(self, keys: Sequence[Row]) -> list[Row]:
        """Those of the orders with these (account, market, order id) that are there, by key."""
        return await self._tables.fetch(_ORDERS_BY_KEY, *_transposed(keys))

    async def candles(self, keys: Sequence[Row]) -> list[Row]:
        """Those of the candles with these (market, interval, open time) that are there, by key."""
        return await self._tables.fetch(_CANDLES_BY_KEY, *_transposed(keys))

    async def trades(self, ranges: Sequence[Row]) -> list[Row]:
        """The trades in these ranges of (market, first trade id, last trade id), by key."""
        return await self._tables.fetch(_TRADES_IN_RANGES, *_transposed(ranges))


@asynccontextmanager
async def open_moment(database_url: str) -> AsyncIterator[DatabaseMoment]:
    """Hold the database as it is now until the block ends; raises what ``asyncpg.connect`` raises.

    The server keeps all row versions of this moment meanwhile, as for any long reading transaction.
    """
    connections: list[Connection] = []
    try:
        journal = await _connect(database_url, _SHARED_SETTINGS)
        connections.append(journal)
        postings = await _connect(database_url, _LOOK_UP_SETTINGS)
        connections.append(postings)
        tables = await _connect(database_url, _LOOK_UP_SETTINGS)
        connections.append(tables)
        for connection in connections:
            await connection.transaction(isolation="repeatable_read", readonly=True).start()
        snapshot_id = await journal.fetchval("SELECT pg_export_snapshot()")
        for connection in (postings, tables):
            # The statement takes no parameters; the id is the server's own.
            await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot_id}'")
        yield DatabaseMoment(journal, postings, tables)
    finally:
        for connection in connections:
            # Nothing was written, and a statement that nobody waits for any more would keep a polite end waiting.
            connection.terminate()


async def _connect(database_url: str, settings: dict[str, str]) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        max_cached_statement_lifetime=0,
        server_settings={**settings, "application_name": "rtx-verify"},
    )


def _transposed(keys: Sequence[Row]) -> tuple[tuple[Any, ...], ...]:
    return tuple(zip(*keys, strict=True))


def _filters(text: str) -> dict[str, Any]:
    """The filters by name; limits that an older version did not write have their defaults."""
    written: dict[str, Any] = msgspec.json.decode(text)
    return msgspec.structs.asdict(MarketFilters()) | written
