"""Trades as the API reads them: a market's, aggregated or not, and an account's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from rtx.store.connection import Database


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A fill as everybody sees it; price in ticks, quantity in lots, quote quantity in smallest quote units."""

    trade_id: int
    price: int
    quantity: int
    quote_quantity: int
    time_us: int
    taker_side: int


class AggregateTrade(msgspec.Struct, frozen=True, gc=False):
    """The fills of one taker order at one price. ``first_trade_id`` is also its own id."""

    first_trade_id: int
    last_trade_id: int
    price: int
    quantity: int
    time_us: int
    taker_side: int


class AccountTrade(msgspec.Struct, frozen=True, gc=False):
    """A fill as one side of it sees it; ``fee`` in the smallest unit of base for a buyer, of quote for a seller."""

    market_id: int
    trade_id: int
    order_id: int
    time_us: int
    price: int
    quantity: int
    quote_quantity: int
    fee: int
    is_buyer: bool
    is_maker: bool


_BEYOND_ALL: Final = 2**63 - 1

_RECENT: Final = """
    SELECT trade_id, price, quantity, quote_quantity, time_us, taker_side FROM trades
    WHERE market_id = $1 ORDER BY trade_id DESC LIMIT $2
"""

_FROM_ID: Final = """
    SELECT trade_id, price, quantity, quote_quantity, time_us, taker_side FROM trades
    WHERE market_id = $1 AND trade_id >= $2 ORDER BY trade_id LIMIT $3
"""

_FIRST_SINCE: Final = """
    -- Halves the range of trade ids until the first trade at or after the time is found: ids and times rise together.
    WITH RECURSIVE search (low, high) AS (
        SELECT min(trade_id), max(trade_id) + 1 FROM trades WHERE market_id = $1
        UNION ALL
        SELECT CASE WHEN probe.time_us < $2 THEN probe.trade_id + 1 ELSE search.low END,
            CASE WHEN probe.time_us < $2 THEN search.high ELSE (search.low + search.high) / 2 END
        FROM search CROSS JOIN LATERAL (
            SELECT trade_id, time_us FROM trades
            WHERE market_id = $1 AND trade_id >= (search.low + search.high) / 2 ORDER BY trade_id LIMIT 1
        ) AS probe
        WHERE search.low < search.high
    )
    SELECT low FROM search WHERE low >= high
"""

# A trade's group is (taker_order_id, price): a taker meets each price once, so its fills there have adjacent ids.
_GROUPABLE_OLDEST: Final = """
    SELECT trade_id, price, quantity, time_us, taker_side, taker_order_id FROM trades
    WHERE market_id = $1 AND trade_id >= $2 AND trade_id < $3 ORDER BY trade_id LIMIT $4
"""

_GROUPABLE_NEWEST: Final = """
    SELECT trade_id, price, quantity, time_us, taker_side, taker_order_id FROM trades
    WHERE market_id = $1 AND trade_id >= $2 AND trade_id < $3 ORDER BY trade_id DESC LIMIT $4
"""

# Each half walks an index of its own in the order of trade ids, so that a limit ends it early.
_OF_ACCOUNT_OLDEST: Final = """
    (SELECT market_id, trade_id, maker_order_id AS order_id, time_us, price, quantity, quote_quantity, maker_fee AS fee,
        taker_side = 1 AS is_buyer, true AS is_maker
    FROM trades WHERE maker_account_id = $1 AND market_id = $2 AND trade_id >= $3 AND trade_id < $4
        AND ($5::bigint IS NULL OR maker_order_id = $5)
    ORDER BY trade_id LIMIT $6)
    UNION ALL
    (SELECT market_id, trade_id, taker_order_id, time_us, price, quantity, quote_quantity, taker_fee,
        taker_side = 0, false
    FROM trades WHERE taker_account_id = $1 AND market_id = $2 AND trade_id >= $3 AND trade_id < $4
        AND ($5::bigint IS NULL OR taker_order_id = $5)
    ORDER BY trade_id LIMIT $6)
    ORDER BY trade_id, is_maker LIMIT $6
"""

_OF_ACCOUNT_NEWEST: Final = """
    (SELECT market_id, trade_id, maker_order_id AS order_id, time_us, price, quantity, quote_quantity, maker_fee AS fee,
        taker_side = 1 AS is_buyer, true AS is_maker
    FROM trades WHERE maker_account_id = $1 AND market_id = $2 AND trade_id >= $3 AND trade_id < $4
        AND ($5::bigint IS NULL OR maker_order_id = $5)
    ORDER BY trade_id DESC LIMIT $6)
    UNION ALL
    (SELECT market_id, trade_id, taker_order_id, time_us, price, quantity, quote_quantity, taker_fee,
        taker_side = 0, false
    FROM trades WHERE taker_account_id = $1 AND market_id = $2 AND trade_id >= $3 AND trade_id < $4
        AND ($5::bigint IS NULL OR taker_order_id = $5)
    ORDER BY trade_id DESC LIMIT $6)
    ORDER BY trade_id DESC, is_maker DESC LIMIT $6
"""

_LIFE_OF_ORDER: Final = """
    SELECT created_at_us, updated_at_us FROM orders WHERE account_id = $1 AND market_id = $2 AND order_id = $3
"""

_LAST_PRICE: Final = "SELECT price FROM trades WHERE market_id = $1 ORDER BY trade_id DESC LIMIT 1"

_LAST_PRICES: Final = """
    SELECT market_id, last.price FROM markets CROSS JOIN LATERAL (
        SELECT price FROM trades WHERE trades.market_id = markets.market_id ORDER BY trade_id DESC LIMIT 1
    ) AS last ORDER BY market_id
"""


async def recent(database: Database, market_id: int, limit: int = 500) -> list[Trade]:
    """Return the newest trades of a market, oldest first."""
    rows = await database.fetch(_RECENT, market_id, limit)
    return [Trade(*row) for row in reversed(rows)]


async def from_id(database: Database, market_id: int, trade_id: int, limit: int = 500) -> list[Trade]:
    """Return the first trades of a market from ``trade_id`` on."""
    return [Trade(*row) for row in await database.fetch(_FROM_ID, market_id, trade_id, limit)]


async def last_price(database: Database, market_id: int) -> int | None:
    """Return the price of the newest trade in ticks, or None before the first."""
    price: int | None = await database.fetchval(_LAST_PRICE, market_id)
    return price


async def last_prices(database: Database) -> dict[int, int]:
    """Return the price of the newest trade in ticks by market; a market without trades is not in it."""
    return {row["market_id"]: row["price"] for row in await database.fetch(_LAST_PRICES)}


async def aggregated(
    database: Database,
    market_id: int,
    *,
    from_id: int | None = None,
    start_time_us: int | None = None,
    end_time_us: int | None = None,
    limit: int = 500,
) -> list[AggregateTrade]:
    """Return aggregated trades by rising id.

    With ``from_id`` or ``start_time_us`` (inclusive) the first ``limit`` from there, else the newest; ``end_time_us``
    is inclusive.
    """
    first, end = await _range_of_ids(database, market_id, from_id, start_time_us, end_time_us)
    if from_id is None and start_time_us is None:
        return await _newest_groups(database, market_id, first, end, limit)
    return await _oldest_groups(database, market_id, first, end, limit)


async def of_account(
    database: Database,
    account_id: int,
    market_id: int,
    *,
    order_id: int | None = None,
    from_id: int | None = None,
    start_time_us: int | None = None,
    end_time_us: int | None = None,
    limit: int = 500,
) -> list[AccountTrade]:
    """Return the account's trades by rising id; one with itself comes twice, as taker and as maker.

    With ``from_id`` or ``start_time_us`` (inclusive) the first ``limit`` from there, else the newest; ``end_time_us``
    is inclusive. With ``order_id`` only those of that order.
    """
    if order_id is not None:
        life = await database.fetchrow(_LIFE_OF_ORDER, account_id, market_id, order_id)
        if life is None:
            return []
        start_of_search_us = max(life["created_at_us"], start_time_us or 0)
        end_of_search_us = life["updated_at_us"] if end_time_us is None else min(life["updated_at_us"], end_time_us)
        first, end = await _range_of_ids(database, market_id, from_id, start_of_search_us, end_of_search_us)
    else:
        first, end = await _range_of_ids(database, market_id, from_id, start_time_us, end_time_us)
    is_from_start = from_id is not None or start_time_us is not None
    rows = await database.fetch(
        _OF_ACCOUNT_OLDEST if is_from_start else _OF_ACCOUNT_NEWEST, account_id, market_id, first, end, order_id, limit
    )
    if not is_from_start:
        rows.reverse()
    return [AccountTrade(*row) for row in rows]


async def first_since(database: Database, market_id: int, time_us: int) -> int:
    """Return an id below which all trades of the market are older than ``time_us``, and at or above which none is."""
    trade_id: int | None = await database.fetchval(_FIRST_SINCE, market_id, time_us)
    return 0 if trade_id is None else trade_id


async def _range_of_ids(
    database: Database, market_id: int, from_id: int | None, start_time_us: int | None, end_time_us: int | None
) -> tuple[int, int]:
    """Return the ids that the conditions leave, as first and end (exclusive)."""
    first, end = from_id or 0, _BEYOND_ALL
    if start_time_us is not None:
        first = max(first, await first_since(database, market_id, start_time_us))
    if end_time_us is not None:
        end = await first_since(database, market_id, end_time_us + 1)
    return first, end


async def _oldest_groups(database: Database, market_id: int, first: int, end: int, limit: int) -> list[AggregateTrade]:
    """Collect the first ``limit`` whole groups whose first trade is in the range.

    It starts one trade early, to see whether ``first`` is in the middle of a group, and reads on until the group after
    the last one wanted has begun, because only then that one is whole.
    """
    groups: dict[tuple[int, int], AggregateTrade] = {}
    position = first - 1
    while len(groups) <= limit + 1:
        chunk = 2 * limit + 2
        rows = await database.fetch(_GROUPABLE_OLDEST, market_id, position, end, chunk)
        for trade_id, price, quantity, time_us, taker_side, taker_order_id in rows:
            key = (taker_order_id, price)
            group = groups.get(key)
            groups[key] = (
                AggregateTrade(trade_id, trade_id, price, quantity, time_us, taker_side)
                if group is None
                else AggregateTrade(
                    group.first_trade_id, trade_id, price, group.quantity + quantity, time_us, taker_side
                )
            )
        if len(rows) < chunk:
            break
        position = rows[-1]["trade_id"] + 1
    return [group for group in groups.values() if group.first_trade_id >= first][:limit]


async def _newest_groups(database: Database, market_id: int, first: int, end: int, limit: int) -> list[AggregateTrade]:
    """Collect the last ``limit`` whole groups of the range, reading backwards until the group before them is seen."""
    groups: dict[tuple[int, int], AggregateTrade] = {}
    while len(groups) <= limit:
        chunk = 2 * limit + 2
        rows = await database.fetch(_GROUPABLE_NEWEST, market_id, first, end, chunk)
        for trade_id, price, quantity, time_us, taker_side, taker_order_id in rows:
            key = (taker_order_id, price)
            group = groups.get(key)
            groups[key] = (
                AggregateTrade(trade_id, trade_id, price, quantity, time_us, taker_side)
                if group is None
                else AggregateTrade(
                    trade_id, group.last_trade_id, price, group.quantity + quantity, time_us, taker_side
                )
            )
        if len(rows) < chunk:
            break
        end = rows[-1]["trade_id"]
    return _reversed(groups.values(), limit)


def _reversed(groups: Iterable[AggregateTrade], limit: int) -> list[AggregateTrade]:
    newest = list(groups)[:limit]
    newest.reverse()
    return newest
