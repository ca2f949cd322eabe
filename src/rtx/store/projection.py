"""Turn a batch into the parameters of the one statement that commits it.

This runs on the engine's only thread, so it is made of few steps a row. Whole numbers travel as one matrix a table, in
PostgreSQL's text form of a two-dimensional array: encoding a list of tuples as JSON and turning brackets into braces
takes a sixth of the time that asyncpg needs for the same numbers as arrays, one a column. Text and bytes travel as
ordinary arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import astuple

from rtx.core.events import (
    AccountFeeTierSet,
    AssetCreated,
    FeeTierSet,
    MarketCreated,
    MarketFiltersChanged,
    MarketStatusChanged,
    OrderState,
    Trade,
)
from rtx.core.vocabulary import BUY
from rtx.store.entries import Batch, JournalEntry

DirectoryEvent: TypeAlias = (
    AssetCreated | MarketCreated | MarketStatusChanged | MarketFiltersChanged | FeeTierSet | AccountFeeTierSet
)

CANDLE_INTERVALS_S: Final = (60, 3600, 86400)
"""The intervals that are written; all others are made from these."""

_BRACES: Final = bytes.maketrans(b"[]", b"{}")
_encode_numbers: Final = msgspec.json.Encoder().encode


class Projection(msgspec.Struct, frozen=True, gc=False):
    """The rows of a batch by table, each as the parameters of its part of the statement; empty: the table is untouched.

    ``directory`` are the events that change assets, markets and fees, with the time of their command.
    """

    journal: tuple[Any, ...]
    placed: tuple[Any, ...]
    changed: tuple[Any, ...]
    trades: tuple[Any, ...]
    postings: tuple[Any, ...]
    balances: tuple[Any, ...]
    candles: tuple[Any, ...]
    directory: Sequence[tuple[int, DirectoryEvent]]


def project(batch: Batch) -> Projection:
    """Return the rows that a batch writes.

    Of several states of one order in the batch the last one counts; an order is inserted when the batch placed it and
    updated when it existed before.
    """
    placed: dict[int, tuple[OrderState, int, int, int]] = {}
    changed: dict[int, tuple[OrderState, int, int]] = {}
    trades: list[Trade] = []
    trade_moments: list[tuple[int, int]] = []
    directory: list[tuple[int, DirectoryEvent]] = []
    for entry, events in zip(batch.entries, batch.events, strict=True):
        sequence = entry.sequence
        time_us = entry.time_us
        for event in events:
            if isinstance(event, OrderState):
                order_id = event.order_id
                if event.is_new:
                    placed[order_id] = (event, sequence, sequence, time_us)
                elif order_id in placed:
                    placed[order_id] = (event, placed[order_id][1], sequence, time_us)
                else:
                    changed[order_id] = (event, sequence, time_us)
            elif isinstance(event, Trade):
                trades.append(event)
                trade_moments.append((sequence, time_us))
            elif isinstance(event, DirectoryEvent):
                directory.append((time_us, event))
    return Projection(
        journal=_journal_columns(batch.entries),
        placed=_placed_columns(placed.values()),
        changed=_changed_columns(changed.values()),
        trades=(_matrix(trades), _matrix(trade_moments)) if trades else (),
        postings=(_matrix(batch.postings),) if batch.postings else (),
        balances=(_matrix(batch.balances), batch.entries[-1].sequence) if batch.balances else (),
        candles=(_matrix(_candle_rows(trades, trade_moments)),) if trades else (),
        directory=directory,
    )


def _matrix(rows: Sequence[Any]) -> str:
    """Write rows of whole numbers as PostgreSQL writes a two-dimensional array."""
    return _encode_numbers(rows).translate(_BRACES).decode()


def _journal_columns(entries: Sequence[JournalEntry]) -> tuple[Any, ...]:
    columns = zip(*map(astuple, entries), strict=True)
    sequences, _, times_us, *rest = columns
    return (_encode_array(sequences), _encode_array(times_us), *rest)


def _encode_array(numbers: Sequence[int]) -> str:
    return _encode_numbers(numbers).translate(_BRACES).decode()


def _placed_columns(placed: Iterable[tuple[OrderState, int, int, int]]) -> tuple[Any, ...]:
    rows = []
    client_order_ids = []
    for event, created_sequence, updated_sequence, updated_at_us in placed:
        fields = astuple(event)
        client_order_ids.append(fields[11])
        rows.append((*fields[:11], *fields[12:18], created_sequence, updated_sequence, updated_at_us))
    return (_matrix(rows), client_order_ids) if rows else ()


def _changed_columns(changed: Iterable[tuple[OrderState, int, int]]) -> tuple[Any, ...]:
    rows = []
    client_order_ids = []
    for event, updated_sequence, updated_at_us in changed:
        client_order_ids.append(event.client_order_id)
        rows.append(
            (
                event.account_id,
                event.market_id,
                event.order_id,
                event.status,
                event.quantity,
                event.executed_quantity,
                event.executed_quote_quantity,
                event.working_at_us,
                event.prevented_quantity,
                updated_sequence,
                updated_at_us,
            )
        )
    return (_matrix(rows), client_order_ids) if rows else ()


def _candle_rows(trades: Sequence[Trade], moments: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Sum up the trades of a batch by market, interval and open time (see the columns of ``candles``)."""
    minutes: dict[tuple[int, int, int], list[int]] = {}
    for trade, (_, time_us) in zip(trades, moments, strict=True):
        price = trade.price
        is_buy = trade.taker_side == BUY
        summary = [
            price,
            price,
            price,
            price,
            1,
            trade.trade_id,
            trade.trade_id,
            trade.quantity,
            trade.quote_quantity,
            trade.quantity if is_buy else 0,
            trade.quote_quantity if is_buy else 0,
        ]
        _add_summary(minutes, (trade.market_id, 60, time_us // 60_000_000 * 60), summary)
    candles = dict(minutes)
    for (market_id, _, open_time_s), summary in minutes.items():
        for interval_s in CANDLE_INTERVALS_S[1:]:
            _add_summary(candles, (market_id, interval_s, open_time_s // interval_s * interval_s), list(summary))
    return [(*key, *summary) for key, summary in candles.items()]


def _add_summary(summaries: dict[tuple[int, int, int], list[int]], key: tuple[int, int, int], later: list[int]) -> None:
    """Add what happened later to the summary under ``key``: open, high, low, close, count, first, last and volumes."""
    summary = summaries.get(key)
    if summary is None:
        summaries[key] = later
        return
    summary[1] = max(summary[1], later[1])
    summary[2] = min(summary[2], later[2])
    summary[3] = later[3]
    summary[4] += later[4]
    summary[6] = later[6]
    summary[7] += later[7]
    summary[8] += later[8]
    summary[9] += later[9]
    summary[10] += later[10]
