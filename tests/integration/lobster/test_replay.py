"""The API, told what a recorded exchange's members did, shows the book that the exchange showed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lobster.recorded_files import (
    MESSAGES_FILE,
    OPENING_FILE,
    UNANNOUNCED_BIDS,
    needs_record,
    reconstruct,
    write_messages,
    write_opening,
)

from rtx.demo.client import AccountClient, HttpConnection
from rtx.lobster import venue
from rtx.lobster.errors import ReplayError
from rtx.lobster.output import book_row
from rtx.lobster.plan import Plan, make_plan
from rtx.lobster.record import read_messages, read_opening
from rtx.lobster.replay import replay

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASKS = [(1_001_000, 10), (1_002_000, 20)]
BIDS = [(1_000_000, 30), (999_900, 40)]

EVERY_KIND = [
    (1, 1000, 12, 1_000_000, 1),
    (1, 1001, 9, 1_000_500, -1),  # a better ask
    (2, 1001, 4, 1_000_500, -1),  # less of it
    (4, 1001, 2, 1_000_500, -1),  # some of it is bought
    (2, 1001, 1, 1_000_500, -1),  # less again, now that it was traded with
    (4, 1001, 2, 1_000_500, -1),  # the rest is bought
    (5, 0, 70, 1_000_500, -1),  # hidden
    (4, 500, 18, 1_000_000, 1),  # what rested before is sold to
    (4, 1000, 5, 1_000_000, 1),
    (3, 1000, 7, 1_000_000, 1),
    (3, 501, 15, 999_900, 1),  # of what rested before
    (2, 502, 5, 1_002_000, -1),
    (1, 1002, 8, 999_900, 1),
    (1, 1003, 1, 999_700, 1),
]


def planned(tmp_path: Path, rows: Sequence[tuple[int, int, int, int, int]]) -> tuple[Plan, Path, Path]:
    """The plan of handmade files, and the files."""
    messages = write_messages(tmp_path / "messages.csv", rows)
    opening = write_opening(tmp_path / "opening.csv", ASKS, BIDS)
    return make_plan(read_opening(opening), read_messages(messages)), messages, opening


async def played(
    plan: Plan, connection: HttpConnection, operator: AccountClient, symbol: str, **options: Any
) -> list[str]:
    """Play to the end; the rows."""
    return [book_row(book.asks, book.bids, 10) async for book in replay(plan, connection, operator, symbol, **options)]


async def resting(connection: HttpConnection, symbol: str) -> int:
    """How many levels the book has."""
    book = await connection.request("GET", f"/api/v3/depth?symbol={symbol}")
    return len(book["asks"]) + len(book["bids"])


async def test_every_kind_of_message(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, messages, opening = planned(tmp_path, EVERY_KIND)
    rows = await played(plan, connection, operator, symbol)
    assert rows == reconstruct(messages, opening)
    assert rows[0] == opening.read_text().strip()


async def test_executions_are_trades(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    await played(plan, connection, operator, symbol)
    trades = await connection.request("GET", f"/api/v3/trades?symbol={symbol}")
    told = [(Decimal(trade["price"]), int(Decimal(trade["qty"])), trade["isBuyerMaker"]) for trade in trades]
    assert told == [
        (Decimal("100.05"), 2, False),
        (Decimal("100.05"), 2, False),
        (Decimal(100), 18, True),
        (Decimal(100), 5, True),
    ]


async def test_messages_that_contradict_the_book_leave_the_book_of_the_exchange(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, messages, opening = planned(
        tmp_path,
        [
            (1, 1000, 12, 1_000_000, 1),
            (4, 1000, 12, 1_000_000, 1),  # before those that came earlier
            (4, 500, 18, 1_000_000, 1),
            (1, 1001, 5, 1_001_000, 1),  # where an ask stood
            (3, 600, 9, 1_000_700, -1),  # unknown
        ],
    )
    rows = await played(plan, connection, operator, symbol)
    assert rows[:3] == reconstruct(messages, opening)[:3]
    assert rows[3].startswith("1002000,20,1001000,5,9999999999,0,999900,40,")
    assert rows[4] == rows[3]


async def test_nothing_is_left_behind(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    first = await played(plan, connection, operator, symbol)
    assert await resting(connection, symbol) == 0
    assert await played(plan, connection, operator, symbol) == first


async def test_an_interrupted_replay_leaves_nothing_behind(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    async with contextlib.aclosing(replay(plan, connection, operator, symbol)) as books:
        await anext(books)
        assert await resting(connection, symbol) == 4
    assert await resting(connection, symbol) == 0


async def test_orders_stay_when_asked_to_and_then_the_book_is_not_fit(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    await played(plan, connection, operator, symbol, keep=True)
    assert await resting(connection, symbol) == 4
    with pytest.raises(ReplayError, match="not empty") as refusal:
        await played(plan, connection, operator, symbol)
    assert any("--symbol" in step for step in refusal.value.next_steps)


async def open_market(operator: AccountClient, symbol: str, **limits: object) -> None:
    """Open a market with other limits than the replay would give it."""
    base = symbol.removesuffix("USD")
    definition = {"symbol": symbol, "baseAsset": base, "quoteAsset": "USD", "tickSize": "0.01", "stepSize": "1"}
    await operator.call("POST", "/api/v1/admin/markets", definition | limits)


async def test_several_accounts_share_what_one_may_not_have_open(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    await open_market(operator, symbol, maxNumOrders=2)
    plan, messages, opening = planned(tmp_path, EVERY_KIND)
    assert plan.needs.orders_max == 6
    assert await played(plan, connection, operator, symbol) == reconstruct(messages, opening)


async def test_ticks_that_are_too_coarse_are_told_before_anything_is_placed(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    await open_market(operator, symbol, tickSize="0.1")
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    with pytest.raises(ReplayError, match=r"message 1 needs 40 at 99\.99, but .* ticks of 0\.1"):
        await played(plan, connection, operator, symbol)


async def test_a_refused_order_is_told_with_its_message(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    await open_market(operator, symbol, minNotional="250")
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    with pytest.raises(ReplayError, match=r"message 4 cannot be played: .*NOTIONAL") as refusal:
        await played(plan, connection, operator, symbol)
    assert any("filters" in step for step in refusal.value.next_steps)
    assert await resting(connection, symbol) == 0


async def test_somebody_else_in_the_book_is_noticed(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    books = replay(plan, connection, operator, symbol)
    async with contextlib.aclosing(books):
        await anext(books)
        market = await venue.prepare_market(connection, operator, symbol)
        async with venue.traders(connection, operator, market, plan.needs, keep=False) as strangers:
            order = {"side": "BUY", "type": "LIMIT_MAKER", "quantity": "1", "price": "99.95"}
            await strangers.makers[0].client.signed("POST", "/api/v3/order", symbol=symbol, **order)
            with pytest.raises(ReplayError, match=r"after message 2 .* not what the orders"):
                await anext(books)


@pytest.mark.parametrize("symbol", ["ACMEEUR", "USD"])
async def test_a_market_whose_name_says_too_little_is_not_opened(
    connection: HttpConnection, operator: AccountClient, symbol: str, tmp_path: Path
) -> None:
    plan, _, _ = planned(tmp_path, EVERY_KIND)
    with pytest.raises(ReplayError, match=f"there is no market {symbol}"):
        await played(plan, connection, operator, symbol)


@needs_record
async def test_the_real_record_gives_the_exchanges_book(connection: HttpConnection, operator: AccountClient) -> None:
    plan = make_plan(read_opening(OPENING_FILE), read_messages(MESSAGES_FILE))
    rows = await played(plan, connection, operator, "AAPLUSD")
    assert rows == reconstruct(MESSAGES_FILE, OPENING_FILE, UNANNOUNCED_BIDS)
    report = await operator.call("GET", "/api/v1/admin/reconciliation")
    assert report["clean"] is True, report
