"""Orders as the API reads them: one, those that are open, and the history."""

from __future__ import annotations

from typing import Final

import msgspec

from rtx.store.connection import Database


class Order(msgspec.Struct, frozen=True, gc=False):
    """An order as it stands; units as in :class:`rtx.core.events.OrderState`, times in microseconds."""

    order_id: int
    account_id: int
    market_id: int
    side: int
    type: int
    time_in_force: int
    status: int
    price: int
    quantity: int
    executed_quantity: int
    executed_quote_quantity: int
    client_order_id: str
    created_at_us: int
    working_at_us: int
    updated_at_us: int
    quote_quantity: int
    stop_price: int
    self_trade_prevention: int
    prevented_quantity: int


_SELECT: Final = """
    SELECT order_id, account_id, market_id, side, type, time_in_force, status, price, quantity, executed_quantity,
        executed_quote_quantity, client_order_id, created_at_us, working_at_us, updated_at_us, quote_quantity,
        stop_price, self_trade_prevention, prevented_quantity
    FROM orders
"""

_BY_ID: Final = _SELECT + "WHERE account_id = $1 AND market_id = $2 AND order_id = $3"

_BY_CLIENT_ORDER_ID: Final = (
    _SELECT + "WHERE account_id = $1 AND market_id = $2 AND client_order_id = $3 ORDER BY order_id DESC LIMIT 1"
)

_OPEN: Final = _SELECT + "WHERE account_id = $1 AND status <= 1 ORDER BY market_id, order_id"

_OPEN_IN_MARKET: Final = _SELECT + "WHERE account_id = $1 AND market_id = $2 AND status <= 1 ORDER BY order_id"

_RANGE: Final = _SELECT + "WHERE account_id = $1 AND market_id = $2 AND order_id >= $3 AND order_id < $4 "

_OLDEST: Final = _RANGE + "ORDER BY order_id LIMIT $5"

_NEWEST: Final = _RANGE + "ORDER BY order_id DESC LIMIT $5"

_FIRST_SINCE: Final = """
    -- Halves the range of order ids until the first order at or after the time is found: ids and times rise together.
    WITH RECURSIVE search (low, high) AS (
        SELECT min(order_id), max(order_id) + 1 FROM orders WHERE account_id = $1 AND market_id = $2
        UNION ALL
        SELECT CASE WHEN probe.created_at_us < $3 THEN probe.order_id + 1 ELSE search.low END,
            CASE WHEN probe.created_at_us < $3 THEN search.high ELSE (search.low + search.high) / 2 END
        FROM search CROSS JOIN LATERAL (
            SELECT order_id, created_at_us FROM orders
            WHERE account_id = $1 AND market_id = $2 AND order_id >= (search.low + search.high) / 2
            ORDER BY order_id LIMIT 1
        ) AS probe
        WHERE search.low < search.high
    )
    SELECT low FROM search WHERE low >= high
"""

_BEYOND_ALL: Final = 2**63 - 1


async def by_id(database: Database, account_id: int, market_id: int, order_id: int) -> Order | None:
    """Return one order of the account, or None."""
    row = await database.fetchrow(_BY_ID, account_id, market_id, order_id)
    return None if row is None else Order(*row)


async def by_client_order_id(database: Database, account_id: int, market_id: int, client_order_id: str) -> Order | None:
    """Return the newest order of the account that has this client order id now, or None."""
    row = await database.fetchrow(_BY_CLIENT_ORDER_ID, account_id, market_id, client_order_id)
    return None if row is None else Order(*row)


async def find_open(database: Database, account_id: int, market_id: int | None = None) -> list[Order]:
    """Return the account's open orders by market and order id, in one market or (None) in all."""
    if market_id is None:
        rows = await database.fetch(_OPEN, account_id)
    else:
        rows = await database.fetch(_OPEN_IN_MARKET, account_id, market_id)
    return [Order(*row) for row in rows]


async def find_all(
    database: Database,
    account_id: int,
    market_id: int,
    *,
    from_order_id: int | None = None,
    start_time_us: int | None = None,
    end_time_us: int | None = None,
    limit: int = 500,
) -> list[Order]:
    """Return orders of any status by rising order id.

    With ``from_order_id`` or ``start_time_us`` (both inclusive) the first ``limit`` from there, else the newest. A
    time is that of the order's arrival; ``end_time_us`` is inclusive.
    """
    first, end = from_order_id or 0, _BEYOND_ALL
    if start_time_us is not None:
        first = max(first, await _first_since(database, account_id, market_id, start_time_us))
    if end_time_us is not None:
        end = await _first_since(database, account_id, market_id, end_time_us + 1)
    if from_order_id is None and start_time_us is None:
        rows = await database.fetch(_NEWEST, account_id, market_id, first, end, limit)
        rows.reverse()
    else:
        rows = await database.fetch(_OLDEST, account_id, market_id, first, end, limit)
    return [Order(*row) for row in rows]


async def _first_since(database: Database, account_id: int, market_id: int, time_us: int) -> int:
    """Return an id below which all orders are older than ``time_us``, and at or above which none is."""
    order_id: int | None = await database.fetchval(_FIRST_SINCE, account_id, market_id, time_us)
    return 0 if order_id is None else order_id
