"""What a worker remembers of touched prices is never less than what was touched."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rtx.api.streams.recent_touches import RecentTouches, TouchedPrices

_PRICES = st.sets(st.integers(min_value=1, max_value=12), max_size=4)

ACTIONS = st.one_of(
    st.tuples(st.just("note"), _PRICES, _PRICES),
    st.tuples(st.just("note"), _PRICES, _PRICES),
    st.tuples(st.just("reach back"), st.integers(min_value=1, max_value=5)),
    st.tuples(st.just("restart")),
)


def happened(log: list[tuple[int, bool, int]], after: int, up_to: int) -> TouchedPrices:
    touched = TouchedPrices()
    for sequence, is_bid, price in log:
        if after < sequence <= up_to:
            (touched.bids if is_bid else touched.asks).add(price)
    return touched


@given(st.lists(ACTIONS, max_size=40), st.integers(min_value=2, max_value=12))
def test_no_touched_price_is_missing_from_any_position_that_is_covered(
    actions: list[tuple[Any, ...]], prices_max: int
) -> None:
    touches = RecentTouches(prices_max=prices_max)
    log: list[tuple[int, bool, int]] = []
    sequence = 0
    for action in actions:
        match action:
            case ("note", bids, asks):
                sequence += 3
                log += [(sequence, True, price) for price in bids] + [(sequence, False, price) for price in asks]
                touches.note(sequence, bids, asks)
            case ("reach back", rows):
                since = touches.since
                position = max(0, since - rows)
                touches.reach_back(position, happened(log, position, since))
            case _:
                touches.restart(sequence)
        for position in range(touches.since, sequence + 1):
            assert touches.covers(position)
            told, true = touches.after(position), happened(log, position, sequence)
            assert told.bids >= true.bids
            assert told.asks >= true.asks
        assert not touches.covers(touches.since - 1)


def test_what_is_remembered_has_an_end() -> None:
    touches = RecentTouches(prices_max=10)
    for sequence in range(1, 1000):
        touches.note(sequence, [sequence], [1])
    assert touches.since > 900
    assert len(touches.after(touches.since).bids) >= 10
    assert touches.after(998).bids == {999}


def test_prices_that_nothing_happened_at_are_not_told() -> None:
    touches = RecentTouches()
    touches.note(1, [100], [101])
    touches.note(2, [99], [])
    touched = touches.after(1)
    assert (touched.bids, touched.asks) == ({99}, set())
    assert not touches.after(2)
