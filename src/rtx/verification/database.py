"""The verification of a whole database: every row of the journal, and every row that came from it.

The journal is read in blocks. Its rows are chained and executed again; what their events make of the tables is compared
block by block while the next block is executed, so that the memory needed is that of the open orders and balances,
however long the history is.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from rtx.cancellation import end_tasks
from rtx.core import snapshot
from rtx.core.events import OrderState
from rtx.core.exchange import Exchange
from rtx.engine.recovery import dismantle
from rtx.store.entries import JournalEntry
from rtx.store.verification import (
    ACCOUNT_FEE_TIERS,
    ASSETS,
    BALANCES,
    CANDLES,
    FEE_TIERS,
    MARKETS,
    ORDERS,
    POSTINGS,
    TRADES,
    DatabaseMoment,
    Row,
    SnapshotHead,
    Table,
    open_moment,
)
from rtx.verification.comparison import first_difference, unexpected_row
from rtx.verification.expectations import CANDLE_INTERVALS_S, Expectations, FinishedRows, order_row
from rtx.verification.journal import Chain, execute, read_events, row_difference
from rtx.verification.report import Difference, DifferenceFoundError, Problem, Report

BLOCK_ROWS: Final = 2_000

Progress = Callable[[int, int], None]
"""Told how many journal rows were verified, of how many."""


async def verify_database(
    database_url: str, *, from_snapshot: bool = False, progress: Progress | None = None
) -> Report:
    """Compare a database, as it is at one moment, with what its journal says, up to the first difference.

    The journal is executed again from its first row, or with ``from_snapshot`` from the newest snapshot; then the rows
    before it are chained and compared with the tables, but not executed. Raises what ``asyncpg`` raises when the
    database cannot be reached or is lost, or has no tables.
    """
    async with open_moment(database_url) as moment:
        verification = _Verification(moment, progress)
        return await verification.run(from_snapshot=from_snapshot)


class _Verification:
    """One run."""

    def __init__(self, moment: DatabaseMoment, progress: Progress | None) -> None:
        self._moment = moment
        self._progress = progress
        self._chain = Chain()
        self._exchange = Exchange()
        self._expectations = Expectations()
        self._snapshots: dict[int, SnapshotHead] = {}
        self._base_sequence = 0
        self._balance_sequences: dict[tuple[int, int], int] = {}
        """By (account id, asset id): the journal row that changed the balance last, of those that were executed."""
        self._checked: Counter[str] = Counter()

    async def run(self, *, from_snapshot: bool) -> Report:
        started_s = time.perf_counter()
        difference = state_hash = None
        try:
            self._snapshots = {head.sequence: head for head in await self._moment.snapshots()}
            if from_snapshot and self._snapshots:
                await self._start_from(self._snapshots[max(self._snapshots)])
            await self._follow_journal()
            await self._compare_what_is_left()
            state_hash = snapshot.state_hash(self._exchange)
        except DifferenceFoundError as error:
            difference = error.difference
        finally:
            dismantle(self._exchange)
        return Report(
            self._chain.sequence,
            self._chain.hash,
            state_hash,
            self._base_sequence + 1,
            dict(self._checked),
            time.perf_counter() - started_s,
            difference,
        )

    # -- the journal ----------------------------------------------------------------------------------------------

    async def _follow_journal(self) -> None:
        """Read to the journal's end; a block's tables are compared while the next block is executed."""
        head_sequence = await self._moment.head_sequence()
        comparison: asyncio.Task[None] | None = None
        entries = await self._read_block(0)
        try:
            while entries:
                reading = asyncio.create_task(self._read_block(entries[-1].sequence))
                await asyncio.sleep(0)  # the statement leaves before the processor is taken
                after = self._chain.sequence
                broken = self._take_block(entries)
                try:
                    entries = await reading
                finally:
                    await end_tasks(reading)
                if comparison is not None:
                    await comparison
                finished = self._expectations.take_finished()
                comparison = asyncio.create_task(self._compare_block(after, self._chain.sequence, finished))
                if broken is not None:
                    await comparison
                    raise broken
                await self._check_snapshot_if_due()
                if self._progress is not None:
                    self._progress(self._chain.sequence, head_sequence)
            if comparison is not None:
                await comparison
        finally:
            if comparison is not None:
                await end_tasks(comparison)

    async def _read_block(self, after: int) -> list[JournalEntry]:
        """The next rows, at most up to the next snapshot: the state right after that row is needed."""
        limit = min((sequence - after for sequence in self._snapshots if sequence > after), default=BLOCK_ROWS)
        return await self._moment.journal_after(after or None, min(limit, BLOCK_ROWS))

    def _take_block(self, entries: Sequence[JournalEntry]) -> DifferenceFoundError | None:
        """Chain and execute the rows up to the first one that is wrong; says what is wrong with it."""
        try:
            for entry in entries:
                self._chain.check(entry)
                self._take(entry)
                self._chain.advance(entry)
                self._checked["journal"] += 1
        except DifferenceFoundError as error:
            return error
        self._exchange.take_changed_levels()
        return None

    def _take(self, entry: JournalEntry) -> None:
        sequence, exchange = entry.sequence, self._exchange
        if sequence > self._base_sequence:
            events = execute(exchange, entry)
            for account_id, asset_id, _, _ in exchange.take_changed_balances():
                self._balance_sequences[account_id, asset_id] = sequence
            self._expectations.add(sequence, entry.time_us, events, exchange.markets)
            return
        try:
            self._expectations.add(sequence, entry.time_us, read_events(entry), exchange.markets)
        except KeyError as error:
            raise row_difference(
                sequence, "different", "events of markets that exist", f"an event of market {error}"
            ) from error

    # -- snapshots ------------------------------------------------------------------------------------------------

    async def _start_from(self, head: SnapshotHead) -> None:
        """Take a snapshot's state as the state after its row."""
        state = await self._read_state(head)
        try:
            self._exchange = snapshot.load(state)
        except (ValueError, msgspec.DecodeError) as error:
            raise _snapshot_difference(
                head, "a state that this version can load", f"one that it cannot ({error})"
            ) from error
        self._base_sequence = head.sequence

    async def _read_state(self, head: SnapshotHead) -> bytes:
        state = await self._moment.snapshot_state(head.sequence)
        state_hash = hashlib.sha256(state).digest()
        if state_hash != head.state_hash:
            raise _snapshot_difference(
                head, f"state_hash={state_hash.hex()} of its content", f"state_hash={head.state_hash.hex()}"
            )
        return state

    async def _check_snapshot_if_due(self) -> None:
        """Hold the snapshot of this row, where there is one, against the journal and the state here."""
        head = self._snapshots.get(self._chain.sequence)
        if head is None:
            return
        if head.journal_hash != self._chain.hash:
            raise _snapshot_difference(
                head, f"journal_hash={self._chain.hash.hex()}", f"journal_hash={head.journal_hash.hex()}"
            )
        if head.sequence == self._base_sequence:
            self._check_open_orders(head)
        else:
            state = await self._read_state(head)
            if head.sequence > self._base_sequence:
                self._check_state(head, state)
        self._checked["snapshots"] += 1

    def _check_open_orders(self, head: SnapshotHead) -> None:
        """Hold the orders of the snapshot that was started from against what the events say of them."""
        expected = [order_row(*history) for _, history in sorted(self._expectations.open_orders.items())]
        histories = self._expectations.open_orders
        actual = [
            order_row(order.state(False), *histories[order_id][1:] if order_id in histories else (0, 0, 0))
            for order_id, order in sorted(self._exchange.orders.items())
        ]
        expected.sort()
        actual.sort()
        found = first_difference(ORDERS, expected, actual)
        if found is not None:
            raise _snapshot_difference(
                head, f"order {found.key}: {found.expected or 'nothing'}", found.actual or "nothing"
            )

    def _check_state(self, head: SnapshotHead, state: bytes) -> None:
        """Hold a snapshot's state against the one that executing the journal has led to."""
        if state == snapshot.dump(self._exchange):
            return
        try:
            # Another version may have written the same state in another form.
            loaded = snapshot.load(state)
        except (ValueError, msgspec.DecodeError) as error:
            raise _snapshot_difference(
                head, "a state that this version can load", f"one that it cannot ({error})"
            ) from error
        expected, actual = snapshot.state_hash(self._exchange), snapshot.state_hash(loaded)
        dismantle(loaded)
        if expected != actual:
            raise _snapshot_difference(head, f"state_hash={expected.hex()}", f"state_hash={actual.hex()}")

    # -- the tables, block by block -------------------------------------------------------------------------------

    async def _compare_block(self, after: int, last: int, finished: FinishedRows) -> None:
        """Compare the rows that the journal rows after ``after`` up to ``last`` finished."""
        postings = asyncio.create_task(self._moment.postings_between(after or None, last))
        try:
            found = [
                await self._compare_orders(finished.orders),
                await self._compare_trades(finished.trades),
                await self._compare_candles(finished.candles),
                self._compare(POSTINGS, finished.postings, await postings),
            ]
        finally:
            await end_tasks(postings)
        differences = [difference for difference in found if difference is not None]
        if differences:
            raise DifferenceFoundError(min(differences, key=lambda difference: difference.sequence or last))

    async def _compare_orders(self, expected: Sequence[Row]) -> Difference | None:
        for start in range(0, len(expected), BLOCK_ROWS):
            rows = expected[start : start + BLOCK_ROWS]
            found = self._compare(ORDERS, rows, await self._moment.orders([row[:3] for row in rows]))
            if found is not None:
                return found
        return None

    async def _compare_trades(self, expected: Sequence[Row]) -> Difference | None:
        if not expected:
            return None
        ranges: dict[int, tuple[int, int, int]] = {}
        for row in expected:
            market_id, trade_id = row[0], row[1]
            first = ranges[market_id][1] if market_id in ranges else trade_id
            ranges[market_id] = (market_id, first, trade_id)
        return self._compare(TRADES, expected, await self._moment.trades(list(ranges.values())))

    async def _compare_candles(self, expected: Sequence[Row]) -> Difference | None:
        if not expected:
            return None
        return self._compare(CANDLES, expected, await self._moment.candles([row[:3] for row in expected]))

    def _compare(self, table: Table, expected: Sequence[Row], actual: Sequence[Row]) -> Difference | None:
        self._checked[table.name] += len(actual)
        return first_difference(table, expected, actual)

    # -- what the journal's end decides ---------------------------------------------------------------------------

    async def _compare_what_is_left(self) -> None:
        """Compare what was open until the end, and look for rows that no event ever spoke of."""
        self._check_snapshots_beyond_the_end()
        await self._check_epoch()
        expectations = self._expectations
        expectations.finish()
        finished = expectations.take_finished()
        found = (
            await self._compare_orders(finished.orders)
            or await self._compare_candles(finished.candles)
            or await self._find_unexpected_row()
            or await self._compare_directory()
            or await self._compare_balances()
        )
        if found is not None:
            raise DifferenceFoundError(found)
        self._check_ledger()

    def _check_snapshots_beyond_the_end(self) -> None:
        for sequence, head in sorted(self._snapshots.items()):
            if not 0 < sequence <= self._chain.sequence:
                raise _snapshot_difference(head, None, f"a snapshot made after journal row {sequence}", "unexpected")

    async def _check_epoch(self) -> None:
        lease_epoch = await self._moment.lease_epoch()
        if self._chain.epoch > lease_epoch:
            raise DifferenceFoundError(
                Difference(
                    "engine_lease",
                    "epoch",
                    "different",
                    f"epoch>={self._chain.epoch}",
                    f"epoch={lease_epoch}",
                    self._chain.sequence,
                )
            )

    async def _find_unexpected_row(self) -> Difference | None:
        """All that is expected was found: a table with more rows than that has one that is not."""
        posting = await self._moment.posting_after(self._chain.sequence)
        if posting is not None:
            return unexpected_row(POSTINGS, posting)
        expectations = self._expectations
        for table, expected, find in (
            (TRADES, expectations.trade_count, self._unexpected_trade),
            (ORDERS, expectations.order_count, self._unexpected_order),
            (CANDLES, expectations.candle_count, self._unexpected_candle),
        ):
            actual = await self._moment.count(table)
            if actual != expected:
                row = await find()
                if row is not None:
                    return unexpected_row(table, row)
                return Difference(table.name, "all rows", "different", f"{expected} rows", f"{actual} rows")
        return None

    async def _unexpected_trade(self) -> Row | None:
        return await self._moment.extra_trade(self._expectations.last_trade_ids)

    async def _unexpected_candle(self) -> Row | None:
        return await self._moment.extra_candle(CANDLE_INTERVALS_S)

    async def _unexpected_order(self) -> Row | None:
        for row in await self._moment.extra_orders(self._expectations.order_count):
            created_sequence = row[ORDERS.columns.index("created_sequence")]
            entries = await self._moment.journal_after(created_sequence - 1, 1)
            placed = [
                order_row(event, created_sequence, 0, 0)[:3]
                for event in (read_events(entries[0]) if entries else [])
                if isinstance(event, OrderState) and event.is_new
            ]
            if tuple(row[:3]) not in placed:
                return row
        return None

    async def _compare_directory(self) -> Difference | None:
        expectations = self._expectations
        for table, expected in (
            (ASSETS, sorted(expectations.assets.values())),
            (MARKETS, expectations.market_rows()),
            (FEE_TIERS, sorted(expectations.fee_tiers.values())),
            (ACCOUNT_FEE_TIERS, sorted(expectations.account_fee_tiers.values())),
        ):
            found = self._compare(table, expected, await self._moment.all_rows(table))
            if found is not None:
                return found
        return None

    async def _compare_balances(self) -> Difference | None:
        actual = await self._moment.all_rows(BALANCES)
        stored = {(row[0], row[1]): row for row in actual}
        expected = []
        for account_id, account in sorted(self._exchange.accounts.items()):
            for asset_id, balance in sorted(account.balances.items()):
                key = (account_id, asset_id)
                row = self._balance_row(key, balance.available, balance.held, stored.get(key))
                if row is not None:
                    expected.append(row)
        return self._compare(BALANCES, expected, actual)

    def _balance_row(self, key: tuple[int, int], available: int, held: int, stored: Row | None) -> Row | None:
        """A balance as the table has to have it; None: it need not.

        The table names the last journal row of the batch that changed the balance. Where batches began and ended the
        journal does not say, so any row from the one that changed it on is right.
        """
        changed_sequence = self._balance_sequences.get(key)
        if changed_sequence is None:
            if not self._base_sequence or (stored is None and not available and not held):
                return None
            changed_sequence = 1
        updated_sequence = changed_sequence
        if stored is not None and changed_sequence <= stored[4] <= self._chain.sequence:
            updated_sequence = stored[4]
        return (*key, available, held, updated_sequence)

    def _check_ledger(self) -> None:
        """The postings, which were compared with the table, must add up to nothing an asset, and to each balance."""
        ledger = self._expectations.ledger
        sums: Counter[int] = Counter()
        for (_, asset_id), amount in sorted(ledger.items()):
            sums[asset_id] += amount
        for asset_id, total in sums.items():
            if total:
                raise DifferenceFoundError(
                    Difference(POSTINGS.name, f"asset_id={asset_id}", "different", "sum=0", f"sum={total}")
                )
        owned = {
            (account_id, asset_id): balance.available + balance.held
            for account_id, account in self._exchange.accounts.items()
            for asset_id, balance in account.balances.items()
        }
        for key in sorted(owned.keys() | ledger.keys()):
            posted, owns = ledger.get(key, 0), owned.get(key, 0)
            if posted != owns:
                raise DifferenceFoundError(
                    Difference(
                        BALANCES.name,
                        f"account_id={key[0]} asset_id={key[1]}",
                        "different",
                        f"available+held={posted}, the sum of its postings",
                        f"available+held={owns}",
                    )
                )


def _snapshot_difference(
    head: SnapshotHead, expected: str | None, actual: str | None, problem: Problem = "different"
) -> DifferenceFoundError:
    return DifferenceFoundError(
        Difference("snapshots", f"sequence={head.sequence}", problem, expected, actual, head.sequence)
    )
