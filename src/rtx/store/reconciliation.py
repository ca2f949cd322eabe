"""Prove from the tables alone that nothing was lost, made up or left half done.

Each check is one query that returns only what is wrong. All run in one repeatable-read snapshot, so that they speak of
the same moment; the engine goes on meanwhile.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import asyncpg
import msgspec

from rtx.store.connection import Connection, Database

FINDINGS_PER_CHECK: Final = 100

TIMEOUT_S: Final = 600.0
"""A check reads whole tables."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: what ``check`` ``expected`` of ``subject`` and what is there (None: nothing)."""

    check: str
    subject: str
    expected: int | None
    actual: int | None


class Report(msgspec.Struct, frozen=True):
    """What was found as of journal row ``sequence``; ``checked`` counts the rows looked at by table."""

    sequence: int
    findings: tuple[Finding, ...]
    checked: dict[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether everything agrees."""
        return not self.findings


_COUNTS: Final = """
    SELECT (SELECT coalesce(max(sequence), 0) FROM journal) AS sequence, (SELECT count(*) FROM journal) AS journal,
        (SELECT count(*) FROM postings) AS postings, (SELECT count(*) FROM balances) AS balances,
        (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM trades) AS trades
"""

# Every query returns (subject, expected, actual); $1 limits them.
_CHECKS: Final[dict[str, str]] = {
    "journal_contiguous": """
        SELECT 'journal rows 1 to ' || max(sequence), max(sequence), count(*) FROM journal
        HAVING count(*) <> coalesce(max(sequence), 0) OR min(sequence) <> 1
        LIMIT $1
    """,
    "postings_sum_to_zero": """
        SELECT 'asset ' || asset_id, 0, sum(amount) FROM postings
        GROUP BY asset_id HAVING sum(amount) <> 0 ORDER BY asset_id LIMIT $1
    """,
    "commands_sum_to_zero": """
        SELECT 'sequence ' || sequence || ' asset ' || asset_id, 0, sum(amount) FROM postings
        GROUP BY sequence, asset_id HAVING sum(amount) <> 0 ORDER BY sequence, asset_id LIMIT $1
    """,
    "balances_match_postings": """
        SELECT 'account ' || account_id || ' asset ' || asset_id, coalesce(posted.amount, 0),
            balance.available::numeric + balance.held
        FROM balances AS balance FULL JOIN (
            SELECT account_id, asset_id, sum(amount) AS amount FROM postings GROUP BY account_id, asset_id
        ) AS posted USING (account_id, asset_id)
        WHERE coalesce(posted.amount, 0) <> coalesce(balance.available::numeric + balance.held, 0)
        ORDER BY account_id, asset_id LIMIT $1
    """,
    "held_matches_open_orders": """
        WITH reserved AS (
            SELECT account_id, asset_id, sum(amount) AS amount FROM (
                SELECT account_id,
                    CASE WHEN side = 1 THEN base_asset_id ELSE quote_asset_id END AS asset_id,
                    (quantity - executed_quantity - prevented_quantity)::numeric * CASE
                        WHEN side = 1 THEN lot_size
                        -- Orders that become market orders (types 3 and 5) reserve at their stop price.
                        ELSE CASE WHEN type IN (3, 5) THEN stop_price ELSE price END
                            * div(tick_size::numeric * lot_size, power(10::numeric, scale))
                    END AS amount
                FROM orders JOIN markets USING (market_id) JOIN assets ON asset_id = base_asset_id
                WHERE orders.status <= 1
            ) AS reservation GROUP BY account_id, asset_id
        )
        SELECT 'account ' || account_id || ' asset ' || asset_id, coalesce(reserved.amount, 0), balance.held
        FROM balances AS balance FULL JOIN reserved USING (account_id, asset_id)
        WHERE coalesce(reserved.amount, 0) <> coalesce(balance.held, 0)
        ORDER BY account_id, asset_id LIMIT $1
    """,
    "balances_not_negative": """
        SELECT 'account ' || account_id || ' asset ' || asset_id, 0, least(available, held) FROM balances
        WHERE held < 0 OR (available < 0 AND account_id <> 1) ORDER BY account_id, asset_id LIMIT $1
    """,
    "trades_match_postings": """
        WITH fill AS (
            SELECT sequence, base_asset_id, quote_asset_id, quantity::numeric * lot_size AS base,
                quote_quantity AS quote,
                CASE WHEN taker_side = 0 THEN taker_account_id ELSE maker_account_id END AS buyer,
                CASE WHEN taker_side = 0 THEN maker_account_id ELSE taker_account_id END AS seller,
                CASE WHEN taker_side = 0 THEN taker_fee ELSE maker_fee END AS buyer_fee,
                CASE WHEN taker_side = 0 THEN maker_fee ELSE taker_fee END AS seller_fee
            FROM trades JOIN markets USING (market_id)
        ), expected AS (
            SELECT sequence, account_id, asset_id, sum(amount) AS amount
            FROM fill CROSS JOIN LATERAL (VALUES
                (buyer, base_asset_id, base - buyer_fee), (seller, base_asset_id, -base),
                (2, base_asset_id, buyer_fee), (buyer, quote_asset_id, -quote),
                (seller, quote_asset_id, quote - seller_fee), (2, quote_asset_id, seller_fee)
            ) AS line (account_id, asset_id, amount)
            GROUP BY sequence, account_id, asset_id
        ), actual AS (
            SELECT sequence, account_id, asset_id, sum(amount) AS amount FROM postings
            WHERE sequence IN (SELECT sequence FROM trades) GROUP BY sequence, account_id, asset_id
        )
        SELECT 'sequence ' || sequence || ' account ' || account_id || ' asset ' || asset_id, expected.amount,
            actual.amount
        FROM expected FULL JOIN actual USING (sequence, account_id, asset_id)
        WHERE coalesce(expected.amount, 0) <> coalesce(actual.amount, 0)
        ORDER BY sequence, account_id, asset_id LIMIT $1
    """,
    "trades_quote_is_exact": """
        SELECT 'market ' || market_id || ' trade ' || trade_id, exact, quote_quantity
        FROM trades JOIN markets USING (market_id) JOIN assets ON asset_id = base_asset_id CROSS JOIN LATERAL (
            SELECT price::numeric * quantity * div(tick_size::numeric * lot_size, power(10::numeric, scale)) AS exact
        ) AS product
        WHERE quote_quantity <> exact ORDER BY market_id, trade_id LIMIT $1
    """,
    "orders_match_trades": """
        WITH traded AS (
            SELECT account_id, market_id, order_id, sum(quantity) AS quantity, sum(quote_quantity) AS quote_quantity
            FROM trades CROSS JOIN LATERAL (
                VALUES (maker_account_id, maker_order_id), (taker_account_id, taker_order_id)
            ) AS side (account_id, order_id)
            GROUP BY account_id, market_id, order_id
        )
        SELECT 'order ' || order_id || ' account ' || account_id || ' market ' || market_id,
            coalesce(traded.quantity, 0), ordered.executed_quantity
        FROM orders AS ordered FULL JOIN traded USING (account_id, market_id, order_id)
        WHERE ordered.executed_quantity IS DISTINCT FROM coalesce(traded.quantity, 0)
            OR ordered.executed_quote_quantity IS DISTINCT FROM coalesce(traded.quote_quantity, 0)
        ORDER BY order_id LIMIT $1
    """,
    "trade_ids_contiguous": """
        SELECT 'market ' || market_id || ' trades 1 to ' || max(trade_id), max(trade_id), count(*) FROM trades
        GROUP BY market_id HAVING count(*) <> max(trade_id) OR min(trade_id) <> 1 ORDER BY market_id LIMIT $1
    """,
    "rows_have_a_journal_row": """
        SELECT written.kind || ' of sequence ' || written.sequence, 1, 0 FROM (
            SELECT 'trade' AS kind, sequence FROM trades
            UNION SELECT 'posting', sequence FROM postings
            UNION SELECT 'order', updated_sequence FROM orders
            UNION SELECT 'order', created_sequence FROM orders
        ) AS written LEFT JOIN journal USING (sequence)
        WHERE journal.sequence IS NULL ORDER BY written.sequence LIMIT $1
    """,
}

CHECKS: Final = tuple(_CHECKS)
"""The names of the checks, in the order in which they run."""


async def check(database: Database) -> Report:
    """Run every check and return what is wrong, at most :data:`FINDINGS_PER_CHECK` findings each."""
    if isinstance(database, asyncpg.Pool):
        async with database.acquire() as connection:
            return await _check(connection)
    return await _check(database)


async def _check(connection: Connection) -> Report:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counts = await connection.fetchrow(_COUNTS, timeout=TIMEOUT_S)
        assert counts is not None
        findings: list[Finding] = []
        for name, query in _CHECKS.items():
            rows = await connection.fetch(query, FINDINGS_PER_CHECK, timeout=TIMEOUT_S)
            findings.extend(Finding(name, row[0], _whole(row[1]), _whole(row[2])) for row in rows)
    sequence, *_ = counts
    return Report(sequence, tuple(findings), {name: count for name, count in counts.items() if name != "sequence"})


def _whole(amount: Decimal | int | None) -> int | None:
    """Turn PostgreSQL's numeric, which sums are, into a whole number."""
    return None if amount is None else int(amount)
