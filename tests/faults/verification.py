"""Holds what the clients were told against everything that can be asked afterwards: the API, the tables, the journal.

Nothing may trade meanwhile. What is lost, what is doubled and what otherwise does not agree is told apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import asyncpg
from tests.faults.exchange_client import Credentials, HttpConnection
from tests.faults.load import Load, OrderRecord, Outcome
from tests.faults.venue import MARKETS, Venue, call, log_in, read_book

from rtx.core.commands import NewOrder, decode_command
from rtx.core.events import Rejected, decode_events
from rtx.store.connection import Pool, create_pool
from rtx.verification.database import verify_database

READERS: Final = 16
PAGE_ORDERS: Final = 1000
ASKED_EVERY: Final = 10
UNKNOWN_ORDER: Final = -2013
FINAL: Final = ("FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH")
DUPLICATE: Final = "Duplicate order sent."

_OPEN_LEVELS: Final = """
    SELECT markets.symbol, side, price * tick_size::numeric / power(10::numeric, quote.scale) AS price,
        sum(quantity - executed_quantity - prevented_quantity) * lot_size / power(10::numeric, base.scale) AS quantity
    FROM orders JOIN markets USING (market_id)
        JOIN assets AS base ON base.asset_id = base_asset_id JOIN assets AS quote ON quote.asset_id = quote_asset_id
    WHERE orders.status <= 1 AND working_at_us > 0
    GROUP BY markets.symbol, side, price, tick_size, lot_size, base.scale, quote.scale
"""

_TRADES: Final = """
    SELECT markets.symbol, trade_id, maker_order_id, taker_order_id,
        price * tick_size::numeric / power(10::numeric, quote.scale) AS price,
        quantity * lot_size::numeric / power(10::numeric, base.scale) AS quantity
    FROM trades JOIN markets USING (market_id)
        JOIN assets AS base ON base.asset_id = base_asset_id JOIN assets AS quote ON quote.asset_id = quote_asset_id
"""


@dataclass
class Verdict:
    """What was found; the first three are to be empty.

    ``untold``: done, although its client had no answer; that may be, unless the backend ended in order.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


async def verify(venue: Venue, load: Load, database_url: str) -> Verdict:
    """Look at everything once the load has ended."""
    verdict = Verdict()
    pool = await create_pool(database_url, application_name="rtx-test", maximum_size=2)
    try:
        await _reconcile(venue, verdict)
        await _check_orders(venue, load, verdict)
        await _check_fills(pool, load, verdict)
        await _check_journal(pool, load, verdict)
        await _check_books(venue, pool, verdict)
        await _check_whole_database(venue, database_url, verdict)
    finally:
        await pool.close()
    return verdict


async def _reconcile(venue: Venue, verdict: Verdict) -> tuple[int, str]:
    """Have the backend check its tables; gives the engine's position in the journal and the hash of its state."""
    with closing(HttpConnection(*venue.addresses, timeout_s=60.0)) as connection:
        token = await log_in(connection, venue.operator.email, venue.operator.password)
        report = await call(connection, "GET", "/api/v1/admin/reconciliation", token=token)
    verdict.wrong += [f"reconciliation: {finding}" for finding in report["findings"]]
    if not report["clean"] or report["engine"] is None:
        verdict.wrong.append(f"reconciliation: {report}")
        return 0, ""
    return report["engine"]["sequence"], report["engine"]["stateHash"]


# -- what the API says ------------------------------------------------------------------------------------------------


async def _check_orders(venue: Venue, load: Load, verdict: Verdict) -> None:
    """Look for every order in its account's lists; ask for some, and for all that are not listed, by their names."""
    listed = await _all_orders(venue)
    verdict.doubled += [f"{name} is listed {len(found)} times" for name, found in listed.items() if len(found) > 1]
    possible = {order.client_order_id for order in load.orders if order.outcome is not Outcome.REFUSED}
    verdict.wrong += [f"{name} is listed" for name in listed.keys() - possible]
    for order in load.orders:
        for found in listed.get(order.client_order_id, ()):
            _judge_found(order, found, verdict)
    unlisted = [order for order in load.orders if order.client_order_id not in listed]
    verdict.lost += [
        f"{order.client_order_id} is not listed: {order.answer}"
        for order in unlisted
        if order.outcome is Outcome.ACKNOWLEDGED
    ]
    await _ask_for_orders(venue, [*load.orders[::ASKED_EVERY], *unlisted], listed, verdict)


async def _ask_for_orders(
    venue: Venue, orders: Sequence[OrderRecord], listed: Mapping[str, Sequence[dict[str, Any]]], verdict: Verdict
) -> None:
    """Ask for orders by the names that their clients gave them: what is listed is there, and only that."""

    async def ask(orders: Iterable[OrderRecord]) -> None:
        with closing(HttpConnection(*venue.addresses)) as connection:
            for order in orders:
                answer = await connection.read(
                    "/api/v3/order", order.owner, symbol=order.symbol, origClientOrderId=order.client_order_id
                )
                found = [answer.json] if answer.status == 200 else []
                if answer.status != 200 and answer.json["code"] != UNKNOWN_ORDER:
                    verdict.wrong.append(f"{order.client_order_id}: asked for, {answer.body!r}")
                elif found != listed.get(order.client_order_id, []):
                    verdict.wrong.append(f"{order.client_order_id}: asked for, {found}, not as listed")

    await asyncio.gather(*(ask(orders[start::READERS]) for start in range(READERS)))


async def _all_orders(venue: Venue) -> dict[str, list[dict[str, Any]]]:
    """Every order that the accounts' lists have, by the name that its client gave it."""
    listed: dict[str, list[dict[str, Any]]] = {}
    with closing(HttpConnection(*venue.addresses)) as connection:
        for trader in venue.traders:
            for symbol in MARKETS:
                async for order in _orders_of(connection, trader, symbol):
                    listed.setdefault(order["clientOrderId"], []).append(order)
    return listed


async def _orders_of(connection: HttpConnection, trader: Credentials, symbol: str) -> AsyncIterator[dict[str, Any]]:
    following = 1
    while True:
        answer = await connection.read("/api/v3/allOrders", trader, symbol=symbol, orderId=following, limit=PAGE_ORDERS)
        assert answer.status == 200, answer.body
        page = answer.json
        for order in page:
            yield order
        if len(page) < PAGE_ORDERS:
            return
        following = page[-1]["orderId"] + 1


def _judge_found(order: OrderRecord, found: dict[str, Any], verdict: Verdict) -> None:
    """Compare an order that is there with what its client was told of it."""
    told = order.answer
    name = f"{order.client_order_id}: told {told}, {order.cancel_outcome} {order.cancel_answer}; found {found}"
    if order.outcome is Outcome.UNKNOWN:
        verdict.untold.append(f"the order: {name}")
    if order.cancel_outcome is Outcome.UNKNOWN and found["status"] == "CANCELED":
        verdict.untold.append(f"the cancellation: {name}")
    if order.outcome is Outcome.REFUSED:
        verdict.wrong.append(f"refused, but there: {name}")
    if order.outcome is Outcome.ACKNOWLEDGED:
        same = ("orderId", "clientOrderId", "symbol", "side", "type", "price", "origQty")
        if any(found[member] != told[member] for member in same):
            verdict.wrong.append(f"another order: {name}")
        if Decimal(found["executedQty"]) < Decimal(told["executedQty"]):
            verdict.lost.append(f"a fill: {name}")
        if told["status"] in FINAL and not _agree(told, found):
            verdict.wrong.append(f"changed after its end: {name}")
    if order.cancel_outcome is Outcome.ACKNOWLEDGED and not _agree(order.cancel_answer, found):
        verdict.lost.append(f"the cancellation: {name}")
    # Every client cancels an order once: a refusal has to mean that it was filled before.
    if order.cancel_outcome is Outcome.REFUSED and found["status"] != "FILLED":
        verdict.doubled.append(f"the cancellation: {name}")


def _agree(told: dict[str, Any], found: dict[str, Any]) -> bool:
    return all(found[member] == told[member] for member in ("status", "executedQty", "cummulativeQuoteQty"))


async def _check_books(venue: Venue, pool: Pool, verdict: Verdict) -> None:
    """Compare the books that are served with the open orders in the table, level by level."""
    expected: dict[tuple[str, int], dict[Decimal, Decimal]] = {}
    for symbol, side, price, quantity in await pool.fetch(_OPEN_LEVELS):
        expected.setdefault((symbol, side), {})[price] = quantity
    for symbol in MARKETS:
        book = await read_book(venue.addresses, symbol)
        for side, name in enumerate(("bids", "asks")):
            served = [(Decimal(price), Decimal(quantity)) for price, quantity in book[name]]
            wanted = sorted(expected.get((symbol, side), {}).items(), reverse=name == "bids")
            if served != wanted:
                verdict.wrong.append(f"{symbol} {name}: served {served}, open orders give {wanted}")


# -- what the tables and the journal say ------------------------------------------------------------------------------


async def _check_fills(pool: Pool, load: Load, verdict: Verdict) -> None:
    """Look for every fill that a client was told of."""
    trades = {(row["symbol"], row["trade_id"]): row for row in await pool.fetch(_TRADES)}
    for order in load.orders:
        for fill in order.answer.get("fills", ()):
            trade = trades.get((order.symbol, fill["tradeId"]))
            if trade is None:
                verdict.lost.append(f"{order.client_order_id}: {fill}")
            elif not _is_trade(order, fill, trade):
                verdict.wrong.append(f"{order.client_order_id}: {fill} is {dict(trade)}")


def _is_trade(order: OrderRecord, fill: dict[str, Any], trade: asyncpg.Record) -> bool:
    # An order is the maker in its own answer when it rested and triggered a stop order that met it.
    is_ours = order.answer["orderId"] in (trade["taker_order_id"], trade["maker_order_id"])
    return is_ours and (Decimal(fill["price"]), Decimal(fill["qty"])) == (trade["price"], trade["quantity"])


async def _check_journal(pool: Pool, load: Load, verdict: Verdict) -> None:
    """Look for commands that were journaled twice or by a leader of before, and for orders without one."""
    placed: Counter[str] = Counter()
    rows = await pool.fetch("SELECT sequence, epoch, command_id, command, events FROM journal ORDER BY sequence")
    for before, row in pairwise(rows):
        if row["epoch"] < before["epoch"]:
            verdict.wrong.append(
                f"row {row['sequence']} was written by epoch {row['epoch']} after one of {before['epoch']}"
            )
    for row in rows:
        command = decode_command(row["command"])
        if isinstance(command, NewOrder) and not isinstance(decode_events(row["events"])[0], Rejected):
            placed[command.client_order_id] += 1
    command_ids = Counter(row["command_id"] for row in rows)
    verdict.doubled += [f"command {name.hex()} is journaled" for name, count in command_ids.items() if count > 1]
    verdict.doubled += [f"{name} is journaled {count} times" for name, count in placed.items() if count > 1]
    in_table = Counter(row[0] for row in await pool.fetch("SELECT client_order_id FROM orders"))
    if in_table != placed:
        verdict.wrong.append(f"orders and journal differ in {(in_table - placed) + (placed - in_table)}")
    acknowledged = Counter(order.client_order_id for order in load.orders if order.outcome is Outcome.ACKNOWLEDGED)
    verdict.lost += [f"{name} is not in the journal" for name in acknowledged - placed]
    refused = [order for order in load.orders if order.answer.get("msg") == DUPLICATE]
    verdict.doubled += [f"{order.client_order_id} was refused as a duplicate" for order in refused]


async def _check_whole_database(venue: Venue, database_url: str, verdict: Verdict) -> None:
    """Do the journal again, from its beginning and from the newest snapshot; compare it with tables and engine."""
    for from_snapshot in (False, True):
        report = await verify_database(database_url, from_snapshot=from_snapshot)
        sequence, engine_hash = await _reconcile(venue, verdict)
        if sequence != report.sequence:
            # The leader wrote a checkpoint by itself just now, and the next one comes with new orders only.
            report = await verify_database(database_url, from_snapshot=from_snapshot)
        if report.difference is not None:
            verdict.wrong.append(f"rtx verify, rows executed from {report.executed_from}: {report.difference}")
        elif report.state_hash is None or (report.sequence, report.state_hash.hex()) != (sequence, engine_hash):
            verdict.wrong.append(
                f"rows {report.executed_from} to {report.sequence} give the state {report.state_hash!r}, "
                f"the engine has {engine_hash} at row {sequence}"
            )
