"""Recorded files for tests: the real ones where they are at hand, and handmade ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from rtx.lobster.record import Level, Opening

DATA_DIRECTORY: Final = Path(
    os.environ.get("RTX_TEST_DATA") or Path(__file__).resolve().parents[3].parent / "shared" / "data"
)
MESSAGES_FILE: Final = DATA_DIRECTORY / "aapl-2012-06-21-messages.csv"
OPENING_FILE: Final = DATA_DIRECTORY / "aapl-2012-06-21-open10.csv"

needs_record = pytest.mark.skipif(
    not (MESSAGES_FILE.exists() and OPENING_FILE.exists()),
    reason=f"no recorded order flow in {DATA_DIRECTORY}; RTX_TEST_DATA names another directory",
)

UNANNOUNCED_BIDS: Final = {146: [(5_854_000, 50), (5_853_800, 22), (5_853_600, 5)]}
"""Bids of the real record that no message brings, by the message with which they entered.

Messages 124 to 146 are one release of held orders, inside out: bids at 5855900, 5855500, 5855000. By then there are ten
bids above 5854000. Messages 448, 449, 450 and 488 execute bids of old ids at these prices, each the best of its moment.
"""


def reconstruct(
    messages: Path, opening: Path, unannounced: Mapping[int, Sequence[tuple[int, int]]] | None = None
) -> list[str]:
    """The ten best levels after each message by nothing but addition and subtraction at prices.

    ``unannounced``: (price, size) of bids that are added after a message.
    """
    row = [int(cell) for cell in opening.read_text().splitlines()[0].split(",")]
    asks = dict(zip(row[0::4], row[1::4], strict=True))
    bids = dict(zip(row[2::4], row[3::4], strict=True))
    rows = []
    for number, line in enumerate(messages.read_text().splitlines(), start=1):
        _, kind, _, size, price, direction = line.split(",")
        if number > 1 and kind in "1234":
            side = bids if direction == "1" else asks
            side[int(price)] = side.get(int(price), 0) + (int(size) if kind == "1" else -int(size))
        for bid, bid_size in (unannounced or {}).get(number, ()):
            bids[bid] = bids.get(bid, 0) + bid_size
        best_asks = sorted((p, s) for p, s in asks.items() if s > 0)[:10]
        best_bids = sorted(((p, s) for p, s in bids.items() if s > 0), reverse=True)[:10]
        best_asks += [(9_999_999_999, 0)] * (10 - len(best_asks))
        best_bids += [(-9_999_999_999, 0)] * (10 - len(best_bids))
        rows.append(",".join(f"{a},{b},{c},{d}" for (a, b), (c, d) in zip(best_asks, best_bids, strict=True)))
    return rows


def write_messages(path: Path, rows: Iterable[tuple[int, int, int, int, int]]) -> Path:
    """Write (type, order id, size, price, direction) rows as a messages file."""
    path.write_text(
        "".join(f"34200.{n:09d}," + ",".join(map(str, row)) + "\n" for n, row in enumerate(rows)), encoding="ascii"
    )
    return path


def write_opening(
    path: Path, asks: Sequence[tuple[int, int]], bids: Sequence[tuple[int, int]], depth: int = 10
) -> Path:
    """Write an order book file of one line, with dummies where there are fewer levels."""
    cells: list[int] = []
    for index in range(depth):
        cells += asks[index] if index < len(asks) else (9_999_999_999, 0)
        cells += bids[index] if index < len(bids) else (-9_999_999_999, 0)
    path.write_text(",".join(map(str, cells)) + "\n", encoding="ascii")
    return path


def book(asks: Sequence[tuple[int, int]], bids: Sequence[tuple[int, int]], depth: int = 10) -> Opening:
    """An opening as it would be read."""
    return Opening(tuple(Level(*level) for level in asks), tuple(Level(*level) for level in bids), depth)
