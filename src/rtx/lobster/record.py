"""Reads the two recorded files: the messages, and the book just after the first of them.

Prices are whole numbers of 1/10,000 dollar and sizes are shares, in the files and everywhere in this package.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from rtx.lobster.errors import RecordError

PRICE_UNITS_PER_DOLLAR: Final = 10_000

NO_ASK: Final = 9_999_999_999
NO_BID: Final = -9_999_999_999
"""Prices of levels that do not exist; their size is 0."""

_MESSAGE_COLUMNS: Final = 6
_LEVEL_COLUMNS: Final = 4


class Side(StrEnum):
    """Side of a resting order, named as the API names it."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The side of whoever trades with it."""
        return Side.SELL if self is Side.BUY else Side.BUY

    def is_better(self, price: int, than: int) -> bool:
        """Whether an order of this side at ``price`` stands before one at ``than``."""
        return price > than if self is Side.BUY else price < than


class EventType(IntEnum):
    """What a message tells of."""

    SUBMISSION = 1
    PARTIAL_CANCELLATION = 2
    DELETION = 3
    EXECUTION = 4
    HIDDEN_EXECUTION = 5
    CROSS_TRADE = 6
    TRADING_HALT = 7


ORDER_EVENTS: Final = frozenset(
    {EventType.SUBMISSION, EventType.PARTIAL_CANCELLATION, EventType.DELETION, EventType.EXECUTION}
)
"""Those that change the visible book."""


class Message(NamedTuple):
    """One line of the messages file; ``number`` counts from 1, ``side`` is that of the resting order."""

    number: int
    event_type: EventType
    order_id: int
    size: int
    price: int
    side: Side


class Level(NamedTuple):
    """Price and total size of the visible orders there."""

    price: int
    size: int


@dataclass(frozen=True)
class Opening:
    """The best levels just after the first message, best first; the record shows ``depth`` levels of each side."""

    asks: tuple[Level, ...]
    bids: tuple[Level, ...]
    depth: int


def read_messages(path: Path) -> list[Message]:
    """Read the messages file; raises :class:`RecordError`."""
    messages = [_message(path, line, columns) for line, columns in _lines(path)]
    if not messages:
        raise RecordError(
            f"{path} holds no messages", "name LOBSTER's messages file first, its order book by --opening"
        )
    return messages


def read_opening(path: Path) -> Opening:
    """Read the first line of an order book file; raises :class:`RecordError`."""
    for line, columns in _lines(path):
        return _opening(path, line, columns)
    raise RecordError(f"{path} holds no book", "its first line should be the book just after the first message")


def _lines(path: Path) -> Iterator[tuple[int, list[int]]]:
    """Line number and columns of each line that is not empty; the time of a message comes as 0."""
    try:
        with path.open(encoding="ascii", newline="") as file:
            for line, columns in enumerate(csv.reader(file), start=1):
                if columns:
                    yield line, [_number(path, line, position, text) for position, text in enumerate(columns)]
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror})", "check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path} is no CSV file of numbers", "unpack it first if it is an archive") from error


def _number(path: Path, line: int, position: int, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        float(text)
    except ValueError:
        raise RecordError.at(path, line, f"column {position + 1} is {text[:40]!r}, not a number") from None
    if position:
        raise RecordError.at(path, line, f"column {position + 1} is {text[:40]!r}, not a whole number")
    return 0


def _message(path: Path, line: int, columns: list[int]) -> Message:
    if len(columns) != _MESSAGE_COLUMNS:
        raise RecordError.at(path, line, f"a message has {_MESSAGE_COLUMNS} columns, this one has {len(columns)}")
    _, event_type, order_id, size, price, direction = columns
    if event_type not in EventType.__members__.values():
        raise RecordError.at(path, line, f"there is no event type {event_type}")
    if direction not in (1, -1):
        raise RecordError.at(path, line, f"the direction is {direction}, not 1 (buy) or -1 (sell)")
    if event_type in ORDER_EVENTS and (size < 1 or price < 1):
        raise RecordError.at(path, line, f"an order has size {size} and price {price}; both should be above 0")
    return Message(line, EventType(event_type), order_id, size, price, Side.BUY if direction == 1 else Side.SELL)


def _opening(path: Path, line: int, columns: list[int]) -> Opening:
    if len(columns) % _LEVEL_COLUMNS:
        raise RecordError.at(path, line, f"a book has four columns a level, this one has {len(columns)} columns")
    asks = tuple(Level(*pair) for pair in zip(columns[0::4], columns[1::4], strict=True) if pair != (NO_ASK, 0))
    bids = tuple(Level(*pair) for pair in zip(columns[2::4], columns[3::4], strict=True) if pair != (NO_BID, 0))
    for side, levels in ((Side.SELL, asks), (Side.BUY, bids)):
        for level in levels:
            if level.price < 1 or level.size < 1:
                raise RecordError.at(path, line, f"a level has price {level.price} and size {level.size}")
        for better, worse in itertools.pairwise(levels):
            if not side.is_better(better.price, worse.price):
                raise RecordError.at(path, line, f"{worse.price} stands behind {better.price}: levels come best first")
    if asks and bids and asks[0].price <= bids[0].price:
        raise RecordError.at(path, line, f"the best ask {asks[0].price} is not above the best bid {bids[0].price}")
    return Opening(asks, bids, len(columns) // _LEVEL_COLUMNS)
