"""Files are read whole and exactly, and what is wrong with one is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.lobster.recorded_files import write_messages, write_opening

from rtx.lobster.errors import RecordError
from rtx.lobster.output import book_row
from rtx.lobster.record import EventType, Level, Message, Side, read_messages, read_opening


def test_messages_are_read(tmp_path: Path) -> None:
    path = write_messages(tmp_path / "messages.csv", [(1, 7, 18, 5_853_300, 1), (5, 0, 3, 5_859_000, -1)])
    assert read_messages(path) == [
        Message(1, EventType.SUBMISSION, 7, 18, 5_853_300, Side.BUY),
        Message(2, EventType.HIDDEN_EXECUTION, 0, 3, 5_859_000, Side.SELL),
    ]


def test_a_trading_halt_has_no_size_and_no_price(tmp_path: Path) -> None:
    path = write_messages(tmp_path / "messages.csv", [(7, 0, 0, -1, -1)])
    assert read_messages(path)[0].event_type is EventType.TRADING_HALT


def test_the_opening_is_the_first_line_without_dummies(tmp_path: Path) -> None:
    path = write_opening(tmp_path / "book.csv", asks=[(110, 5), (120, 6)], bids=[(100, 1)], depth=3)
    path.write_text(path.read_text() + "1,1,1,1\n")
    opening = read_opening(path)
    assert opening.asks == (Level(110, 5), Level(120, 6))
    assert opening.bids == (Level(100, 1),)
    assert opening.depth == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("34200.1,1,7,18,5853300", "6 columns"),
        ("34200.1,9,7,18,5853300,1", "no event type 9"),
        ("34200.1,1,7,18,5853300,0", "direction is 0"),
        ("34200.1,1,7,0,5853300,1", "size 0"),
        ("34200.1,1,7,18,58.53,1", "'58.53', not a whole number"),
        ("34200.1,1,seven,18,5853300,1", "'seven', not a number"),
        ("34200.1,1,7,18,5853300,ä", "no CSV file"),
    ],
)
def test_a_wrong_message_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "messages.csv"
    path.write_text(f"34200.0,1,6,18,5853300,1\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=words):
        read_messages(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("110,5,100", "four columns"),
        ("110,5,100,1,105,5,99,1", "best first"),
        ("110,5,110,1", "not above the best bid"),
        ("110,0,100,1", "size 0"),
    ],
)
def test_a_wrong_opening_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "book.csv"
    path.write_text(line)
    with pytest.raises(RecordError, match=words):
        read_opening(path)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    for read in (read_messages, read_opening):
        with pytest.raises(RecordError, match="cannot be read"):
            read(tmp_path / "absent.csv")
        with pytest.raises(RecordError, match="holds no"):
            read(tmp_path / "empty.csv")


def test_missing_levels_are_written_as_dummies() -> None:
    row = book_row([Level(110, 5)], [Level(100, 1), Level(90, 2)], 3)
    assert row == "110,5,100,1,9999999999,0,90,2,9999999999,0,-9999999999,0"
