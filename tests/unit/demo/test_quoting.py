"""How the crowd's market maker keeps a book."""

import random

import pytest

from rtx.demo.market_profile import MARKETS, MarketProfile
from rtx.demo.quoting import BUY, SELL, Ladder, PriceWalk, Quote, taker_quantity


@pytest.fixture(params=MARKETS, ids=lambda profile: profile.symbol)
def profile(request: pytest.FixtureRequest) -> MarketProfile:
    found: MarketProfile = request.param
    return found


def let_run(ladder: Ladder, walk: PriceWalk, steps: int) -> None:
    """Carry out what the maker wants, for so many steps; nobody trades with it."""
    next_id = max(ladder.orders, default=0) + 1
    for _ in range(steps):
        fair = walk.step(0.4)
        for order_id in ladder.cancellations(fair):
            del ladder.orders[order_id]
        for quote in ladder.placements(fair):
            ladder.orders[next_id] = quote
            next_id += 1


def test_the_book_has_ten_to_twenty_levels_and_never_crosses(profile: MarketProfile) -> None:
    chance = random.Random(1)
    ladder = Ladder(profile, chance)
    walk = PriceWalk(profile, profile.first_price_ticks, chance)
    for _ in range(200):
        let_run(ladder, walk, 5)
        bids = [quote.price for quote in ladder.orders.values() if quote.side == BUY]
        asks = [quote.price for quote in ladder.orders.values() if quote.side == SELL]
        assert max(bids) < min(asks)
        assert 8 <= len(set(bids)) <= 20
        assert 8 <= len(set(asks)) <= 20


def test_orders_that_the_price_ran_past_are_cancelled_first(profile: MarketProfile) -> None:
    ladder = Ladder(profile, random.Random(2))
    fair = profile.first_price_ticks
    ladder.orders = {1: Quote(SELL, fair - 10 * profile.spread, 1), 2: Quote(BUY, fair - profile.spread, 1)}
    assert ladder.cancellations(fair) == [1]


def test_the_price_stays_within_reach_of_where_it_began(profile: MarketProfile) -> None:
    walk = PriceWalk(profile, profile.first_price_ticks, random.Random(3))
    day = [walk.step(1.0) for _ in range(86_400)]
    assert min(day) > profile.first_price_ticks * 0.8
    assert max(day) < profile.first_price_ticks * 1.25


def test_prices_and_quantities_are_what_the_market_takes(profile: MarketProfile) -> None:
    chance = random.Random(4)
    for quote in Ladder(profile, chance).placements(profile.first_price_ticks):
        assert profile.price_ticks(profile.price_text(quote.price)) == quote.price
        assert quote.quantity >= 1
    assert min(taker_quantity(profile, chance) for _ in range(1000)) >= 1
