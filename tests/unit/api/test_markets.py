"""The directory of markets is read again before anything is called unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rtx.api.errors import ApiError
from rtx.api.markets import Asset, Market, MarketDirectory
from rtx.core.commands import MarketFilters


class Store:
    """Markets by symbol, and how often they were read."""

    def __init__(self) -> None:
        self.assets = [Asset(1, "BTC", 8), Asset(2, "USDT", 2)]
        self.markets: list[Market] = []
        self.reads = 0
        self.directory = MarketDirectory(self.load)

    async def load(self) -> tuple[Sequence[Asset], Sequence[Market]]:
        self.reads += 1
        found = list(self.markets)
        await asyncio.sleep(0)
        return self.assets, found

    def create(self, symbol: str) -> None:
        base, quote = self.assets
        self.markets.append(
            Market(
                len(self.markets) + 1,
                symbol,
                base,
                quote,
                tick_size=5,
                lot_size=1000,
                status=0,
                filters=MarketFilters(),
            )
        )


async def test_a_market_that_another_worker_created_is_found() -> None:
    store = Store()
    await store.directory.read()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        store.create(symbol)
        assert (await store.directory.find(symbol)).symbol == symbol
    assert (await store.directory.find_by_id(2)).symbol == "ETHUSDT"
    assert store.reads == 3


async def test_an_unknown_symbol_is_refused_after_a_reading_that_all_share() -> None:
    store = Store()
    refusals = await asyncio.gather(*(store.directory.find("NONE") for _ in range(50)), return_exceptions=True)
    assert {refusal.code for refusal in refusals if isinstance(refusal, ApiError)} == {-1121}
    assert store.reads == 1


async def test_a_reading_under_way_is_too_old_for_who_asks_now() -> None:
    store = Store()
    first = asyncio.create_task(store.directory.read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.reads == 1
    store.create("BTCUSDT")
    second = asyncio.create_task(store.directory.read())
    third = asyncio.create_task(store.directory.read())
    await asyncio.gather(first, second, third)
    assert store.reads == 2
    assert list(store.directory.by_symbol) == ["BTCUSDT"]


def market() -> Market:
    store = Store()
    store.create("BTCUSDT")
    return store.markets[0]


def test_prices_and_quantities_have_the_precision_of_their_asset() -> None:
    assert market().price_text(3) == "0.15"
    assert market().quantity_text(3) == "0.00003000"
    assert market().price_ticks("0.15", "price") == 3
    assert market().quantity_lots("0.00003", "quantity") == 3


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("0.16", -1013, "Filter failure: PRICE_FILTER"),
        ("0.155", -1111, "Parameter 'price' has too much precision."),
        ("99999999999999999999", -1108, "Parameter 'price' overflowed."),
    ],
)
def test_prices_off_the_grid(text: str, code: int, message: str) -> None:
    with pytest.raises(ApiError) as refusal:
        market().price_ticks(text, "price")
    assert (refusal.value.code, refusal.value.message) == (code, message)
