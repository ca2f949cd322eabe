"""What a verification found, in words that name the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Problem = Literal["missing", "different", "unexpected"]


class Difference(msgspec.Struct, frozen=True):
    """The first thing that is not as the journal says.

    ``key`` names the row of ``table``. ``expected`` and ``actual`` are the columns that differ, or the whole row where
    the table lacks it ("missing") or has it without reason ("unexpected"). ``sequence`` is the journal row that the
    table's row comes from, where that can be told.
    """

    table: str
    key: str
    problem: Problem
    expected: str | None
    actual: str | None
    sequence: int | None = None

    def __str__(self) -> str:
        place = "" if self.sequence is None else f" (journal row {self.sequence})"
        return (
            f"{self.table}, {self.key}, is {self.problem}{place}: "
            f"expected {self.expected or 'nothing'}, found {self.actual or 'nothing'}"
        )


class DifferenceFoundError(Exception):
    """Ends a verification at its first difference."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(str(difference))
        self.difference = difference


class Report(msgspec.Struct, frozen=True):
    """What was looked at, and what was found.

    ``sequence`` and ``journal_hash`` are those of the last journal row that was verified; ``state_hash`` is that of the
    exchange after the journal's end (None: there is a difference, and so no such state). ``executed_from`` is the first
    journal row that was executed again; the rows before it were taken at their word, which the hash chain and the
    snapshot vouch for. ``checked`` counts the rows compared by table. ``elapsed_s`` is the time that it took.
    """

    sequence: int
    journal_hash: bytes
    state_hash: bytes | None
    executed_from: int
    checked: Mapping[str, int]
    elapsed_s: float
    difference: Difference | None = None

    @property
    def is_clean(self) -> bool:
        """Whether the database is what its journal says."""
        return self.difference is None

    @property
    def rows_per_s(self) -> float:
        """Journal rows verified a second, with everything that hangs on them."""
        return self.sequence / self.elapsed_s if self.elapsed_s else 0.0
