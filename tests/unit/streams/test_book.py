"""A worker's copy of a book."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.streams.simulated_exchange import MARKET

from rtx.api.streams.book import Book, BookSide, checksum

LEVELS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)))


@given(st.booleans(), LEVELS, LEVELS)
def test_a_side_shows_what_was_set_best_first(
    highest_is_best: bool, first: list[tuple[int, int]], then: list[tuple[int, int]]
) -> None:
    side = BookSide(highest_is_best=highest_is_best)
    side.apply(first)
    side.apply(then)
    expected = dict(first + then)
    levels = sorted(((p, q) for p, q in expected.items() if q), reverse=highest_is_best)
    assert side.top(100) == levels
    assert side.top(2) == levels[:2]
    assert side.best() == (levels[0] if levels else (0, 0))
    assert side.current(expected) == sorted(expected.items(), reverse=highest_is_best)


@given(LEVELS, LEVELS)
def test_replacing_a_side_names_the_prices_that_changed(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    side = BookSide(highest_is_best=True)
    side.apply(before)
    old = dict(side.top(100))
    new = {price: quantity for price, quantity in after if quantity}
    changed = side.replace(new.items())
    assert set(changed) == {price for price in old | new if old.get(price) != new.get(price)}
    assert side.top(100) == sorted(new.items(), reverse=True)


def test_the_checksum_is_that_of_ten_asks_then_ten_bids_without_points_and_leading_zeros() -> None:
    book = Book()
    assert checksum(book, MARKET) == 0
    book.asks.apply([(100 + number, number) for number in range(1, 13)])
    book.bids.apply([(99, 5), (98, 1234567)])
    asks = [(f"{(100 + number) / 100:.6f}", f"{number / 100_000:.8f}") for number in range(1, 11)]
    bids = [("0.990000", "0.00005000"), ("0.980000", "12.34567000")]
    text = "".join(part.replace(".", "").lstrip("0") for level in asks + bids for part in level)
    assert checksum(book, MARKET) == zlib.crc32(text.encode())
