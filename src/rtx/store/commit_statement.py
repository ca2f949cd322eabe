"""The text of the one statement that commits a batch.

It has a part for each table that the batch touches, and the parts that it does not need are left out: even an empty
part costs the server its start and end. Each combination is one prepared statement.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple


class Part(NamedTuple):
    """One table's part: its ``statement`` with ``{0}``, ``{1}`` ... for its ``parameter_count`` parameters
    and ``{led}`` for the condition that the lease holds.

    A matrix is parsed once, behind ``OFFSET 0``, which keeps the planner from repeating it for every field.
    ``requirement`` is what must hold for the commit to stand.
    """

    name: str
    parameter_count: int
    statement: str
    requirement: str = ""


MISSING_ROWS_SQLSTATE: Final = "RTX01"
"""Raised by the schema's ``rtx_require``."""

_LED: Final = "EXISTS (SELECT FROM lease)"

_ANSWER: Final = """
    SELECT CASE WHEN NOT {led} THEN false WHEN {requirements} THEN true
        ELSE rtx_require(false, 'a row to write or to change is missing') END AS led
"""

PARTS: Final = (
    Part(
        "journal",
        9,
        """
        INSERT INTO journal (sequence, epoch, time_us, command_id, request_id, request_hash, command, events,
            previous_hash, hash)
        SELECT entry.sequence, $1, entry.time_us, entry.command_id, entry.request_id, entry.request_hash, entry.command,
            entry.events, entry.previous_hash, entry.hash
        FROM unnest({0}::text::bigint[], {1}::text::bigint[], {2}::bytea[], {3}::text[], {4}::bytea[],
            {5}::bytea[], {6}::bytea[], {7}::bytea[], {8}::bytea[]) AS entry (sequence, time_us, command_id,
            request_id, request_hash, command, events, previous_hash, hash)
        WHERE {led}
        RETURNING 1
        """,
        # Asked for first, so it is written first: a sequence or command that is there already is what fails then.
        "(SELECT count(*) FROM journal_rows) = cardinality({2}::bytea[])",
    ),
    Part(
        "placed",
        2,
        """
        INSERT INTO orders (order_id, account_id, market_id, side, type, time_in_force, status, price, quantity,
            executed_quantity, executed_quote_quantity, created_at_us, working_at_us, quote_quantity, stop_price,
            self_trade_prevention, prevented_quantity, created_sequence, updated_sequence, updated_at_us,
            client_order_id)
        SELECT v[i][1], v[i][2], v[i][3]::integer, v[i][4]::smallint, v[i][5]::smallint, v[i][6]::smallint,
            v[i][7]::smallint, v[i][8], v[i][9], v[i][10], v[i][11], v[i][12], v[i][13], v[i][14], v[i][15],
            v[i][16]::smallint, v[i][17], v[i][18], v[i][19], v[i][20], name.client_order_id
        FROM (SELECT {0}::text::bigint[] AS v OFFSET 0) AS matrix,
            unnest({1}::text[]) WITH ORDINALITY AS name (client_order_id, i)
        WHERE {led}
        """,
    ),
    Part(
        "changed",
        2,
        """
        UPDATE orders SET status = v[i][4]::smallint, quantity = v[i][5], executed_quantity = v[i][6],
            executed_quote_quantity = v[i][7], working_at_us = v[i][8], prevented_quantity = v[i][9],
            updated_sequence = v[i][10], updated_at_us = v[i][11], client_order_id = name.client_order_id
        FROM (SELECT {0}::text::bigint[] AS v OFFSET 0) AS matrix,
            unnest({1}::text[]) WITH ORDINALITY AS name (client_order_id, i)
        WHERE orders.account_id = v[i][1] AND orders.market_id = v[i][2]::integer AND orders.order_id = v[i][3]
            AND {led}
        RETURNING 1
        """,
        "(SELECT count(*) FROM changed_rows) = cardinality({1}::text[])",
    ),
    Part(
        "trades",
        2,
        """
        INSERT INTO trades (market_id, trade_id, price, quantity, quote_quantity, taker_side, maker_order_id,
            taker_order_id, maker_account_id, taker_account_id, maker_fee, taker_fee, sequence, time_us)
        SELECT v[i][2]::integer, v[i][3], v[i][4], v[i][5], v[i][6], v[i][7]::smallint, v[i][8], v[i][9], v[i][10],
            v[i][11], v[i][12], v[i][13], moment[i][1], moment[i][2]
        FROM (SELECT {0}::text::bigint[] AS v, {1}::text::bigint[] AS moment OFFSET 0) AS matrix,
            generate_series(1, array_length(v, 1)) AS i
        WHERE {led}
        """,
    ),
    Part(
        "postings",
        1,
        """
        INSERT INTO postings (sequence, line, account_id, asset_id, amount)
        SELECT v[i][1], v[i][2]::integer, v[i][3], v[i][4]::integer, v[i][5]
        FROM (SELECT {0}::text::bigint[] AS v OFFSET 0) AS matrix, generate_series(1, array_length(v, 1)) AS i
        WHERE {led}
        """,
    ),
    Part(
        "balances",
        2,
        """
        INSERT INTO balances (account_id, asset_id, available, held, updated_sequence)
        SELECT v[i][1], v[i][2]::integer, v[i][3], v[i][4], {1}::bigint
        FROM (SELECT {0}::text::bigint[] AS v OFFSET 0) AS matrix, generate_series(1, array_length(v, 1)) AS i
        WHERE {led}
        ON CONFLICT (account_id, asset_id) DO UPDATE SET available = excluded.available, held = excluded.held,
            updated_sequence = excluded.updated_sequence
        """,
    ),
    Part(
        "candles",
        1,
        """
        INSERT INTO candles AS candle (market_id, interval_s, open_time_s, open, high, low, close, trade_count,
            first_trade_id, last_trade_id, volume, quote_volume, taker_buy_volume, taker_buy_quote_volume)
        SELECT v[i][1]::integer, v[i][2]::integer, v[i][3]::bigint, v[i][4]::bigint, v[i][5]::bigint, v[i][6]::bigint,
            v[i][7]::bigint, v[i][8]::bigint, v[i][9]::bigint, v[i][10]::bigint, v[i][11], v[i][12], v[i][13], v[i][14]
        FROM (SELECT {0}::text::numeric[] AS v OFFSET 0) AS matrix, generate_series(1, array_length(v, 1)) AS i
        WHERE {led}
        ON CONFLICT (market_id, interval_s, open_time_s) DO UPDATE SET
            high = greatest(candle.high, excluded.high), low = least(candle.low, excluded.low), close = excluded.close,
            trade_count = candle.trade_count + excluded.trade_count, last_trade_id = excluded.last_trade_id,
            volume = candle.volume + excluded.volume, quote_volume = candle.quote_volume + excluded.quote_volume,
            taker_buy_volume = candle.taker_buy_volume + excluded.taker_buy_volume,
            taker_buy_quote_volume = candle.taker_buy_quote_volume + excluded.taker_buy_quote_volume
        """,
    ),
)


@cache
def commit_statement(names: tuple[str, ...]) -> str:
    """Return the statement for these parts, in the order of :data:`PARTS`.

    ``$1`` is the epoch, the parts' parameters follow. The statement returns one row, ``led``: whether the lease has
    that epoch. If not, nothing was written. It fails with :data:`MISSING_ROWS_SQLSTATE` when a row to write or to
    change is missing.
    """
    expressions = ["lease AS MATERIALIZED (SELECT epoch FROM engine_lease WHERE epoch = $1 FOR KEY SHARE)"]
    requirements = []
    number = 2
    for part in PARTS:
        if part.name in names:
            parameters = [f"${position}" for position in range(number, number + part.parameter_count)]
            number += part.parameter_count
            expressions.append(f"{part.name}_rows AS ({part.statement.format(*parameters, led=_LED)})")
            if part.requirement:
                requirements.append(part.requirement.format(*parameters))
    return "WITH " + ", ".join(expressions) + _ANSWER.format(led=_LED, requirements=" AND ".join(requirements))
