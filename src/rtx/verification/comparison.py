"""Rows as they must be against rows as they are, both by key: the first that is missing, unexpected or different."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtx.store.verification import Row, Table
from rtx.verification.report import Difference


def first_difference(table: Table, expected: Sequence[Row], actual: Sequence[Row]) -> Difference | None:
    """Compare rows of a table, both by rising key; None: they are the same."""
    if actual == expected:
        return None
    length = table.key_length
    for expected_row, actual_row in zip(expected, actual, strict=False):
        if actual_row == expected_row:
            continue
        expected_key, actual_key = tuple(expected_row[:length]), tuple(actual_row[:length])
        if expected_key < actual_key:
            return missing_row(table, expected_row)
        if actual_key < expected_key:
            return unexpected_row(table, actual_row)
        return _different_row(table, expected_row, actual_row)
    if len(expected) > len(actual):
        return missing_row(table, expected[len(actual)])
    return unexpected_row(table, actual[len(expected)])


def missing_row(table: Table, expected: Row) -> Difference:
    """A row that the journal gives and the table lacks."""
    return Difference(
        table.name, _key(table, expected), "missing", _content(table, expected), None, _sequence(table, expected)
    )


def unexpected_row(table: Table, actual: Row) -> Difference:
    """A row that the table has and the journal does not give."""
    return Difference(
        table.name, _key(table, actual), "unexpected", None, _content(table, actual), _sequence(table, actual)
    )


def _different_row(table: Table, expected: Row, actual: Row) -> Difference:
    pairs = zip(table.columns, expected, actual, strict=True)
    columns = [(name, wanted, found) for name, wanted, found in pairs if wanted != found]
    return Difference(
        table.name,
        _key(table, expected),
        "different",
        _named((name, wanted) for name, wanted, _ in columns),
        _named((name, found) for name, _, found in columns),
        _sequence(table, expected),
    )


def _key(table: Table, row: Row) -> str:
    return _named(zip(table.columns[: table.key_length], row, strict=False))


def _content(table: Table, row: Row) -> str:
    return _named(list(zip(table.columns, row, strict=True))[table.key_length :])


def _named(columns: Any) -> str:
    return " ".join(f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}" for name, value in columns)


def _sequence(table: Table, row: Row) -> int | None:
    return None if table.sequence_column is None else row[table.sequence_column]
