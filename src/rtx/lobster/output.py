"""Writes books in the form of LOBSTER's order book files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rtx.lobster.record import NO_ASK, NO_BID, Level

_MISSING_ASK: Final = Level(NO_ASK, 0)
_MISSING_BID: Final = Level(NO_BID, 0)


def book_row(asks: Sequence[Level], bids: Sequence[Level], levels: int) -> str:
    """One line, without its end: ask price, ask size, bid price, bid size, level by level."""
    cells: list[int] = []
    for index in range(levels):
        cells += asks[index] if index < len(asks) else _MISSING_ASK
        cells += bids[index] if index < len(bids) else _MISSING_BID
    return ",".join(map(str, cells))
