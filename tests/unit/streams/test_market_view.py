"""What a worker's copy of a market takes and what it does not."""

from __future__ import annotations

from tests.unit.streams.simulated_exchange import MARKET

from rtx.api.streams.market_view import MarketView
from rtx.api.streams.recent_touches import TouchedPrices
from rtx.link.market_data import MarketUpdate, PublicTrade
from rtx.link.messages import BookAnswer


def update(previous: int, sequence: int, quantity: int, trade_ids: tuple[int, ...] = ()) -> MarketUpdate:
    trades = [PublicTrade(trade_id, 100, 1, 100, 0, False) for trade_id in trade_ids]
    return MarketUpdate(MARKET.market_id, previous, sequence, 0, trades, [(100, quantity)], [])


def synchronised_view(sequence: int = 10) -> MarketView:
    view = MarketView(MARKET)
    answer = BookAnswer(MARKET.market_id, [(100, 1)], [], 0)
    view.replace(sequence, answer, TouchedPrices(), touched_since=0, now_us=0)
    view.last_trade_id = 5
    return view


def test_updates_that_follow_each_other_are_applied() -> None:
    view = synchronised_view()
    assert view.accept(update(8, 12, 2, (6, 7)))
    assert view.accept(update(12, 13, 3, (8,)))
    assert (view.sequence, view.book.bids.best(), view.last_trade_id) == (13, (100, 3), 8)


def test_what_is_known_already_changes_nothing() -> None:
    view = synchronised_view()
    assert view.accept(update(8, 9, 7))
    assert view.accept(update(0, 10, 7))
    assert view.accept(MarketUpdate(MARKET.market_id, 10, 10, 0, [], [], []))
    assert (view.sequence, view.book.bids.best()) == (10, (100, 1))


def test_a_missing_update_is_noticed_and_nothing_behind_it_is_applied() -> None:
    for late in (update(11, 12, 7), update(0, 12, 7), update(12, 12, 7)):
        view = synchronised_view()
        assert not view.accept(late)
        assert (view.sequence, view.book.bids.best()) == (10, (100, 1))


def test_a_missing_trade_is_noticed() -> None:
    assert not synchronised_view().accept(update(10, 12, 7, (7,)))


def test_what_arrives_during_a_synchronisation_is_applied_after_it() -> None:
    view = synchronised_view()
    view.is_synchronising = True
    assert view.accept(update(12, 14, 2))
    assert view.accept(update(14, 15, 3))
    view.replace(13, BookAnswer(MARKET.market_id, [(100, 9)], [], 0), TouchedPrices(), touched_since=10, now_us=0)
    assert view.release_held()
    assert (view.sequence, view.book.bids.best()) == (15, (100, 3))


def test_a_book_from_before_the_gap_does_not_end_the_synchronisation() -> None:
    view = synchronised_view()
    view.is_synchronising = True
    assert view.accept(update(12, 14, 2))
    view.replace(11, BookAnswer(MARKET.market_id, [(100, 9)], [], 0), TouchedPrices(), touched_since=10, now_us=0)
    assert not view.release_held()
    view.replace(12, BookAnswer(MARKET.market_id, [(100, 9)], [], 0), TouchedPrices(), touched_since=11, now_us=0)
    assert view.release_held()
    assert view.sequence == 14
