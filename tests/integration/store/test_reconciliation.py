"""Reconciliation finds what was tampered with, and names it."""

from __future__ import annotations

import pytest
from tests.fakes.leadership import take_lease
from tests.integration.store.trading import ALICE, BASE, BOB, Trading

from rtx.core.commands import NewOrder, SetFeeTier
from rtx.core.vocabulary import BUY, GTC, SELL, STOP_LOSS, STOP_LOSS_LIMIT
from rtx.store import reconciliation
from rtx.store.connection import Connection, create_pool
from rtx.store.journal import JournalStore
from rtx.store.lease import LeaseStore


async def trade(connection: Connection) -> None:
    """Commit trades with fees, an order that is partly filled and waiting stop orders of every kind of hold."""
    epoch = await take_lease(LeaseStore(connection), "engine")
    assert epoch is not None
    trading = Trading(epoch)
    trading.open_market()
    trading.apply(SetFeeTier(0, 100_000, 200_000))
    trading.place(ALICE, SELL, 100, 50)
    trading.place(BOB, BUY, 100, 30)
    trading.place(BOB, BUY, 90, 1)
    for side, price in ((BUY, 120), (SELL, 80)):
        trading.apply(NewOrder(ALICE, 1, side, STOP_LOSS, GTC, 0, 7, f"market-{side}", 0, price))
        trading.apply(NewOrder(BOB, 1, side, STOP_LOSS_LIMIT, GTC, 100, 7, f"limit-{side}", 0, price))
    await JournalStore(connection).commit(trading.take_batch())


async def test_trading_reconciles(connection: Connection, migrated_url: str) -> None:
    assert (await reconciliation.check(connection)).is_clean
    await trade(connection)
    async with await create_pool(migrated_url, application_name="test") as pool:
        report = await reconciliation.check(pool)
    assert report.findings == ()
    assert report.is_clean
    assert report.checked == {"journal": 15, "postings": 14, "balances": 8, "orders": 7, "trades": 1}
    assert report.sequence == 15


def names(report: reconciliation.Report) -> set[str]:
    return {finding.check for finding in report.findings}


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        ("DELETE FROM journal WHERE sequence = 9", {"journal_contiguous", "rows_have_a_journal_row"}),
        ("DELETE FROM journal WHERE sequence = 1", {"journal_contiguous"}),
        (
            "UPDATE postings SET amount = amount + 1 WHERE sequence = 4 AND line = 1",
            {"postings_sum_to_zero", "commands_sum_to_zero", "balances_match_postings"},
        ),
        ("UPDATE balances SET available = available - 1 WHERE account_id = 1001", {"balances_match_postings"}),
        (
            "UPDATE balances SET available = available - 1, held = held + 1 WHERE account_id = 1001 AND asset_id = 1",
            {"held_matches_open_orders"},
        ),
        ("DELETE FROM orders WHERE client_order_id = 'limit-0'", {"held_matches_open_orders"}),
        (
            "DELETE FROM trades",
            {"orders_match_trades"},
        ),
        (
            "UPDATE trades SET taker_account_id = 1001, maker_account_id = 1002",
            {"trades_match_postings", "orders_match_trades"},
        ),
        (
            "UPDATE trades SET quote_quantity = quote_quantity + 1",
            {"trades_quote_is_exact", "trades_match_postings", "orders_match_trades"},
        ),
        ("UPDATE trades SET trade_id = 2", {"trade_ids_contiguous"}),
        (
            "UPDATE orders SET executed_quantity = executed_quantity - 1 WHERE side = 0 AND status = 2",
            {"orders_match_trades"},
        ),
    ],
)
async def test_what_was_tampered_with_is_found(connection: Connection, tampering: str, expected: set[str]) -> None:
    await trade(connection)
    await connection.execute(tampering)
    report = await reconciliation.check(connection)
    assert names(report) == expected
    assert not report.is_clean
    assert expected <= set(reconciliation.CHECKS)


async def test_a_finding_says_who_what_and_how_much(connection: Connection) -> None:
    await trade(connection)
    before = await connection.fetchval("SELECT available + held FROM balances WHERE account_id = $1", BOB)
    await connection.execute(
        "UPDATE balances SET available = available + 5 WHERE account_id = $1 AND asset_id = $2", BOB, BASE
    )
    report = await reconciliation.check(connection)
    assert report.findings == (
        reconciliation.Finding("balances_match_postings", "account 1002 asset 1", before, before + 5),
    )
