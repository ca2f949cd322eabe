"""A database that was only traded on verifies; whatever is changed in it is found and named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec
import psycopg
import pytest
from tests.integration.store.trading import Trading
from tests.integration.verification.rechaining import rechain

from rtx.core import snapshot
from rtx.core.commands import Deposit, decode_command, encode_command
from rtx.core.events import AnyEvent, Deposited, OrderState, Trade, decode_events, encode_events
from rtx.core.exchange import Exchange
from rtx.store.entries import JournalEntry
from rtx.store.migrate import upgrade
from rtx.verification.database import verify_database
from rtx.verification.report import Difference

Execute = Callable[[str], None]
BEGINNINGS = pytest.mark.parametrize("from_snapshot", [False, True], ids=["from the first row", "from a snapshot"])


async def difference_in(database_url: str, *, from_snapshot: bool = False) -> Difference:
    report = await verify_database(database_url, from_snapshot=from_snapshot)
    assert not report.is_clean
    assert report.state_hash is None
    assert report.difference is not None
    return report.difference


async def difference_either_way(database_url: str) -> Difference:
    """What executing the journal from its first row finds, and executing it from a snapshot as well."""
    found = await difference_in(database_url)
    assert await difference_in(database_url, from_snapshot=True) == found
    return found


@BEGINNINGS
async def test_a_traded_database_verifies(traded: tuple[str, Trading], from_snapshot: bool) -> None:
    url, trading = traded
    told: list[tuple[int, int]] = []
    report = await verify_database(url, from_snapshot=from_snapshot, progress=lambda done, of: told.append((done, of)))
    assert report.difference is None
    assert report.is_clean
    assert (report.sequence, report.journal_hash) == (trading.sequence, trading.hash)
    assert report.state_hash == snapshot.state_hash(trading.exchange)
    assert (report.executed_from > 1) == from_snapshot
    with psycopg.connect(url) as connection:
        for table, checked in report.checked.items():
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (checked,), table
    assert set(report.checked) == {
        "journal",
        "snapshots",
        "orders",
        "trades",
        "postings",
        "candles",
        "balances",
        "assets",
        "markets",
        "fee_tiers",
        "account_fee_tiers",
    }
    assert all(report.checked.values()), "something of everything is in the database"
    assert told[-1] == (trading.sequence, trading.sequence)
    assert report.rows_per_s > 0


@BEGINNINGS
async def test_an_empty_exchange_verifies(database_url: str, from_snapshot: bool) -> None:
    upgrade(database_url)
    report = await verify_database(database_url, from_snapshot=from_snapshot)
    assert report.is_clean
    assert report.sequence == 0


async def test_a_database_verifies_while_its_journal_grows(copied_url: str) -> None:
    """What is written after the beginning is not of the moment that is verified."""

    def trade_on(done: int, _: int) -> None:
        with psycopg.connect(copied_url, autocommit=True) as connection:
            connection.execute("DELETE FROM trades")
            connection.execute("DELETE FROM journal WHERE sequence > 3")

    report = await verify_database(copied_url, progress=trade_on)
    assert report.is_clean
    assert report.checked["trades"] > 0


# -- tables -----------------------------------------------------------------------------------------------------------

OPEN = "(SELECT min(order_id) FROM orders WHERE status <= 1)"
ENDED = "(SELECT min(order_id) FROM orders WHERE status > 1)"


@pytest.mark.parametrize(
    ("tampering", "table", "problem", "words"),
    [
        (f"DELETE FROM orders WHERE order_id = {ENDED}", "orders", "missing", ["order_id=", "status="]),
        (f"DELETE FROM orders WHERE order_id = {OPEN}", "orders", "missing", ["status=0"]),
        (
            f"UPDATE orders SET executed_quantity = executed_quantity + 1 WHERE order_id = {ENDED}",
            "orders",
            "different",
            ["executed_quantity="],
        ),
        (f"UPDATE orders SET price = price + 1 WHERE order_id = {OPEN}", "orders", "different", ["price="]),
        (
            f"UPDATE orders SET client_order_id = 'another' WHERE order_id = {ENDED}",
            "orders",
            "different",
            ["client_order_id='another'"],
        ),
        (
            "CREATE TABLE c AS TABLE orders LIMIT 1; UPDATE c SET order_id = 99999; INSERT INTO orders TABLE c",
            "orders",
            "unexpected",
            ["order_id=99999"],
        ),
        (
            "CREATE TABLE c AS TABLE orders LIMIT 1; UPDATE c SET account_id = 7777; INSERT INTO orders TABLE c",
            "orders",
            "unexpected",
            ["account_id=7777"],
        ),
        ("DELETE FROM trades WHERE trade_id = 5 AND market_id = 1", "trades", "missing", ["trade_id=5", "price="]),
        ("UPDATE trades SET maker_fee = maker_fee + 1 WHERE trade_id = 3", "trades", "different", ["maker_fee="]),
        ("UPDATE trades SET trade_id = 0 WHERE trade_id = 4 AND market_id = 1", "trades", "missing", ["trade_id=4"]),
        (
            "CREATE TABLE c AS TABLE trades LIMIT 1; UPDATE c SET trade_id = 99999; INSERT INTO trades TABLE c",
            "trades",
            "unexpected",
            ["trade_id=99999"],
        ),
        (
            "CREATE TABLE c AS TABLE trades LIMIT 1; UPDATE c SET market_id = 99; INSERT INTO trades TABLE c",
            "trades",
            "unexpected",
            ["market_id=99"],
        ),
        ("DELETE FROM postings WHERE sequence = 9 AND line = 1", "postings", "missing", ["sequence=9 line=1"]),
        ("UPDATE postings SET amount = amount + 1 WHERE sequence = 9", "postings", "different", ["amount="]),
        ("UPDATE postings SET line = 7 WHERE sequence = 9 AND line = 1", "postings", "missing", ["line=1"]),
        ("INSERT INTO postings VALUES (9, 1001, 5, 2, 1)", "postings", "unexpected", ["line=2", "amount=5"]),
        ("INSERT INTO postings VALUES (-1, 1001, 5, 2, 1)", "postings", "unexpected", ["sequence=-1"]),
        ("INSERT INTO postings VALUES (99999, 1001, 5, 2, 1)", "postings", "unexpected", ["sequence=99999"]),
        (
            "UPDATE balances SET available = available + 1 WHERE account_id = 1001",
            "balances",
            "different",
            ["available="],
        ),
        ("UPDATE balances SET held = held + 1 WHERE account_id = 1002", "balances", "different", ["held="]),
        ("UPDATE balances SET updated_sequence = 99999 WHERE account_id = 1002", "balances", "different", ["99999"]),
        ("DELETE FROM balances WHERE account_id = 1003 AND asset_id = 1", "balances", "missing", ["account_id=1003"]),
        ("INSERT INTO balances VALUES (7777, 1, 0, 1, 1)", "balances", "unexpected", ["account_id=7777"]),
        ("DELETE FROM candles WHERE interval_s = 3600", "candles", "missing", ["interval_s=3600"]),
        ("UPDATE candles SET high = high + 1 WHERE interval_s = 86400", "candles", "different", ["high="]),
        ("UPDATE candles SET volume = volume - 0.5 WHERE interval_s = 60", "candles", "different", ["volume="]),
        (
            "INSERT INTO candles SELECT 60, 1, 1, 1, 1, 1, 1, 1, 1, 60, 1, 1, 1, 1",
            "candles",
            "unexpected",
            ["open_time_s=60", "interval_s=60"],
        ),
        (
            "INSERT INTO candles SELECT 60, 1, 1, 1, 1, 1, 1, 1, 1, 5, 1, 1, 1, 1",
            "candles",
            "unexpected",
            ["interval_s=5"],
        ),
        ("UPDATE assets SET scale = scale + 1 WHERE asset_id = 1", "assets", "different", ["scale="]),
        ("UPDATE markets SET status = 1 - status WHERE market_id = 1", "markets", "different", ["status="]),
        (
            """UPDATE markets SET filters = filters || '{"minimum_price": 12345}' WHERE market_id = 2""",
            "markets",
            "different",
            ["12345"],
        ),
        ("UPDATE fee_tiers SET maker_rate_ppm = 7 WHERE tier = 0", "fee_tiers", "different", ["maker_rate_ppm=7"]),
        ("DELETE FROM fee_tiers WHERE tier = 1", "fee_tiers", "missing", ["tier=1"]),
        ("INSERT INTO account_fee_tiers VALUES (7777, 1)", "account_fee_tiers", "unexpected", ["account_id=7777"]),
        ("UPDATE engine_lease SET epoch = 1", "engine_lease", "different", ["epoch=1"]),
    ],
)
async def test_a_changed_table_is_found(
    copied_url: str,
    tamper: Execute,
    tampering: str,
    table: str,
    problem: str,
    words: Sequence[str],
) -> None:
    tamper(tampering)
    found = await difference_either_way(copied_url)
    assert (found.table, found.problem) == (table, problem)
    for word in words:
        assert word in f"{found.key}: {found.expected} / {found.actual}"
    assert (found.expected is None) == (problem == "unexpected")
    assert (found.actual is None) == (problem == "missing")


async def test_of_several_differences_the_first_is_named(copied_url: str, tamper: Execute) -> None:
    tamper("UPDATE postings SET amount = 0 WHERE sequence >= 11")
    tamper("UPDATE trades SET price = 0")
    found = await difference_in(copied_url)
    assert (found.table, found.key, found.sequence) == ("postings", "sequence=11 line=0", 11)
    assert found.actual == "amount=0"
    assert "journal row 11" in str(found)


POSITIVE = "journal_sequence_check"


# -- the journal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tampering", "key", "problem", "words"),
    [
        ("DELETE FROM journal WHERE sequence = 1", "sequence=1", "missing", "row 2 comes next"),
        ("DELETE FROM journal WHERE sequence = 300", "sequence=300", "missing", "row 301 comes next"),
        ("UPDATE journal SET events = events || '\\x00' WHERE sequence = 200", "sequence=200", "different", "hash="),
        ("UPDATE journal SET request_id = 'x' WHERE sequence = 200", "sequence=200", "different", "hash="),
        ("UPDATE journal SET time_us = time_us + 1 WHERE sequence = 5", "sequence=5", "different", "hash="),
        ("UPDATE journal SET hash = sha256(hash) WHERE sequence = 5", "sequence=5", "different", "hash="),
        ("UPDATE journal SET previous_hash = '\\x00' WHERE sequence = 5", "sequence=5", "different", "previous_hash="),
        (
            f"ALTER TABLE journal DROP CONSTRAINT {POSITIVE}; UPDATE journal SET sequence = -5 WHERE sequence = 5",
            "sequence=-5",
            "unexpected",
            "row -5 comes next",
        ),
    ],
)
async def test_a_changed_journal_row_is_found(
    copied_url: str, tamper: Execute, tampering: str, key: str, problem: str, words: str
) -> None:
    tamper(tampering)
    found = await difference_either_way(copied_url)
    assert (found.table, found.key, found.problem) == ("journal", key, problem)
    assert words in f"{found.expected} / {found.actual}"


async def test_rows_that_went_from_the_end_of_the_journal_are_missed(copied_url: str, tamper: Execute) -> None:
    tamper("DELETE FROM journal WHERE sequence > (SELECT max(sequence) FROM snapshots)")
    found = await difference_in(copied_url)
    assert found.table != "journal", "nothing in the journal itself tells"


def first_with(database_url: str, kind: type[AnyEvent]) -> int:
    """The first journal row that has an event of this kind."""
    with psycopg.connect(database_url) as connection:
        for sequence, events in connection.execute("SELECT sequence, events FROM journal ORDER BY sequence"):
            if any(isinstance(event, kind) for event in decode_events(events)):
                found: int = sequence
                return found
    raise AssertionError(f"nothing of {kind}")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (Trade, {"price": 3}, ["event 1 Trade(", "price=3,"]),
        (OrderState, {"client_order_id": "forged"}, ["OrderState(", "client_order_id='forged'"]),
        (Deposited, {"amount": 1}, ["Deposited(", "amount=1,"]),
    ],
)
async def test_events_forged_with_all_their_hashes_are_found(
    copied_url: str, kind: type[AnyEvent], changes: dict[str, object], words: Sequence[str]
) -> None:
    sequence = first_with(copied_url, kind)

    def forge(entry: JournalEntry) -> JournalEntry:
        events = decode_events(entry.events)
        forged = [msgspec.structs.replace(each, **changes) if isinstance(each, kind) else each for each in events]
        return msgspec.structs.replace(entry, events=encode_events(forged))

    rechain(copied_url, sequence, forge)
    found = await difference_in(copied_url)
    assert (found.table, found.key, found.problem) == ("journal", f"sequence={sequence}", "different")
    for word in words:
        assert word in (found.actual or "")


@pytest.mark.parametrize(("field", "value"), [("events", b"\x91\x91\x63"), ("command", b"\x91\x63")])
async def test_rows_that_this_version_cannot_read_are_named(copied_url: str, field: str, value: bytes) -> None:
    with psycopg.connect(copied_url) as connection:
        row = connection.execute("SELECT max(sequence) FROM journal").fetchone()
        assert row is not None
    rechain(copied_url, row[0], lambda entry: msgspec.structs.replace(entry, **{field: value}))
    found = await difference_either_way(copied_url)
    assert (found.table, found.sequence) == ("journal", row[0])
    assert "cannot" in (found.actual or "")


async def test_a_command_forged_with_all_its_hashes_is_found(copied_url: str) -> None:
    def forge(entry: JournalEntry) -> JournalEntry:
        command = decode_command(entry.command)
        assert isinstance(command, Deposit)
        return msgspec.structs.replace(entry, command=encode_command(msgspec.structs.replace(command, amount=5)))

    sequence = first_with(copied_url, Deposited)
    rechain(copied_url, sequence, forge)
    found = await difference_in(copied_url)
    assert (found.table, found.sequence) == ("journal", sequence)
    assert "amount=5," in (found.expected or ""), "which the forged command would have deposited"


async def test_a_leader_that_wrote_after_a_newer_one_is_found(copied_url: str) -> None:
    rechain(copied_url, 400, lambda entry: msgspec.structs.replace(entry, epoch=1))
    found = await difference_in(copied_url)
    assert (found.table, found.key) == ("journal", "sequence=400")
    assert (found.expected, found.actual) == ("epoch>=2", "epoch=1")


# -- snapshots --------------------------------------------------------------------------------------------------------

NEWEST = "(SELECT max(sequence) FROM snapshots)"


@pytest.mark.parametrize(
    ("tampering", "words"),
    [
        (f"UPDATE snapshots SET state_hash = sha256(state_hash) WHERE sequence = {NEWEST}", "state_hash="),
        (f"UPDATE snapshots SET state = state || '\\x00' WHERE sequence = {NEWEST}", "state_hash="),
        (f"UPDATE snapshots SET journal_hash = sha256(journal_hash) WHERE sequence = {NEWEST}", "journal_hash="),
        (f"UPDATE snapshots SET state = '', state_hash = sha256('') WHERE sequence = {NEWEST}", "version can load"),
    ],
)
async def test_a_changed_snapshot_is_found(copied_url: str, tamper: Execute, tampering: str, words: str) -> None:
    tamper(tampering)
    found = await difference_either_way(copied_url)
    assert found.table == "snapshots"
    assert words in (found.expected or "")


def forge_newest_snapshot(database_url: str, change: Callable[[Exchange], None]) -> None:
    """Change the state of the newest snapshot, and its hash with it."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT sequence, state FROM snapshots ORDER BY sequence DESC LIMIT 1", binary=True
        ).fetchone()
        assert row is not None
        exchange = snapshot.load(row[1])
        change(exchange)
        state = snapshot.dump(exchange)
        connection.execute(
            "UPDATE snapshots SET state = %s, state_hash = %s WHERE sequence = %s",
            (state, hashlib.sha256(state).digest(), row[0]),
        )


@BEGINNINGS
async def test_money_forged_in_a_snapshot_is_found(copied_url: str, from_snapshot: bool) -> None:
    def forge(exchange: Exchange) -> None:
        exchange.accounts[1001].balances[1].available += 1

    forge_newest_snapshot(copied_url, forge)
    found = await difference_in(copied_url, from_snapshot=from_snapshot)
    assert found.table in {"snapshots", "journal", "balances"}


@BEGINNINGS
async def test_an_order_forged_in_a_snapshot_is_found(copied_url: str, from_snapshot: bool) -> None:
    def forge(exchange: Exchange) -> None:
        order_id = min(exchange.orders)
        exchange.orders[order_id].client_order_id = "forged"

    forge_newest_snapshot(copied_url, forge)
    found = await difference_in(copied_url, from_snapshot=from_snapshot)
    assert found.table == "snapshots"


async def test_a_snapshot_of_a_row_that_is_not_there_is_found(copied_url: str, tamper: Execute) -> None:
    tamper(f"UPDATE snapshots SET sequence = 99999 WHERE sequence = {NEWEST}")
    found = await difference_in(copied_url)
    assert (found.table, found.key, found.problem) == ("snapshots", "sequence=99999", "unexpected")


# -- journal and tables apart -----------------------------------------------------------------------------------------


async def test_a_journal_row_without_its_table_rows_is_found(copied_url: str, tamper: Execute) -> None:
    """The newest row is in order in itself; what it did is not in the tables."""
    tamper("DELETE FROM postings WHERE sequence = (SELECT max(sequence) FROM postings)")
    with psycopg.connect(copied_url) as connection:
        row = connection.execute("SELECT max(sequence) FROM postings").fetchone()
        assert row is not None
    found = await difference_in(copied_url)
    assert (found.table, found.problem) == ("postings", "missing")
    assert found.sequence is not None
    assert found.sequence > row[0]
