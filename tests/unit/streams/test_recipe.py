"""Whoever follows Binance's recipe holds the engine's book, whatever gets lost on the way and whenever it looks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.streams.recipe_client import RecipeClient
from tests.unit.streams.simulated_exchange import MARKET, SimulatedExchange

from rtx.api.streams.feed import MarketFeed
from rtx.api.streams.market_streams import DepthStream, TradeStream

Step = tuple[Any, ...]

_PRICES = st.integers(min_value=95, max_value=105)

STEPS = st.one_of(
    st.tuples(st.just("level"), st.booleans(), _PRICES, st.integers(min_value=0, max_value=3)),
    st.tuples(st.just("level"), st.booleans(), _PRICES, st.integers(min_value=0, max_value=3)),
    st.tuples(st.just("trade"), _PRICES, st.integers(min_value=1, max_value=3)),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("commit"), st.just(False)),
    st.tuples(st.just("deliver"), st.integers(min_value=1, max_value=5)),
    st.tuples(st.just("tick")),
    st.tuples(st.just("client")),
    st.tuples(st.just("client")),
    st.tuples(st.just("turns"), st.integers(min_value=1, max_value=6)),
    st.tuples(st.just("losing"), st.booleans()),
    st.tuples(st.just("redis"), st.booleans()),
    st.tuples(st.just("announce")),
)


class TradeWatcher:
    is_combined = False

    def __init__(self) -> None:
        self.trade_ids: list[int] = []

    def offer(self, text: str) -> None:
        self.trade_ids.append(msgspec.json.decode(text)["t"])


class World:
    """The simulated exchange, one API worker's feed, and clients."""

    def __init__(self) -> None:
        self.exchange = SimulatedExchange()
        self.feed = MarketFeed(
            self.exchange.read_book,
            self.exchange,
            lambda: self.exchange.sequence * 1000,
            sleep=lambda _s: asyncio.sleep(0),
        )
        self.view = self.feed.track(MARKET)
        self.depth = DepthStream("btcusdt@depth@100ms", 1000, self.view, 100)
        self.trades = TradeStream("btcusdt@trade", 1000, self.view)
        self.watcher = TradeWatcher()
        self.clients: list[RecipeClient] = []
        self._asking: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.feed.settled()
        self.trades.attach()
        self.trades.join(self.watcher)

    async def do(self, step: Step) -> None:
        exchange = self.exchange
        match step:
            case ("level", is_bid, price, quantity):
                exchange.level(is_bid, price, quantity)
            case ("trade", price, quantity):
                exchange.trade(price, quantity)
            case ("commit", new_leader):
                exchange.commit(new_leader=new_leader)
            case ("deliver", count):
                exchange.deliver(self.feed.receive, count)
            case ("tick",):
                self.depth.tick(0)
            case ("client",):
                self.connect()
            case ("turns", count):
                for _ in range(count):
                    await asyncio.sleep(0)
            case ("losing", is_losing):
                exchange.losing_messages = is_losing
            case ("redis", is_up):
                self.switch_redis(is_up)
            case ("announce",):
                exchange.announce()
        self.ask_for_snapshots()

    def switch_redis(self, is_up: bool) -> None:
        was_up, self.exchange.redis_is_up = self.exchange.redis_is_up, is_up
        if not is_up:
            self.exchange.redis.clear()
        elif not was_up:
            self.feed.resynchronise()

    def connect(self) -> None:
        client = RecipeClient()
        self.clients.append(client)
        if not self.depth.has_subscribers:
            self.depth.attach()
        self.depth.join(client)

    def ask_for_snapshots(self) -> None:
        for client in self.clients:
            if client.wants_snapshot:
                client.wants_snapshot = False
                self._asking.append(asyncio.create_task(self._snapshot(client)))

    async def _snapshot(self, client: RecipeClient) -> None:
        sequence, answer = await self.exchange.read_book(MARKET.market_id, 0)
        client.take_snapshot(
            sequence,
            {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in answer.bids},
            {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in answer.asks},
        )

    async def come_to_rest(self) -> None:
        """Everything works again; what is under way arrives. The last thing that happens is one more order."""
        exchange = self.exchange
        exchange.losing_messages = False
        self.switch_redis(True)
        exchange.commit()
        for _ in range(3):
            exchange.announce()
            exchange.deliver(self.feed.receive, len(exchange.redis))
            await self.feed.settled()
            self.depth.tick(0)
            self.ask_for_snapshots()
            await asyncio.gather(*self._asking)
        await self.feed.close()

    def check(self) -> None:
        exchange = self.exchange
        bids = {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in exchange.bids.items()}
        asks = {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in exchange.asks.items()}
        for client in self.clients:
            assert client.bids == bids
            assert client.asks == asks
        assert self.watcher.trade_ids == list(range(1, len(exchange.trades) + 1))


async def run(steps: list[Step], *, gap_rows_max: int = 10**9) -> World:
    world = World()
    world.exchange.gap_rows_max = gap_rows_max
    await world.start()
    for step in steps:
        await world.do(step)
    await world.come_to_rest()
    world.check()
    return world


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=120))
def test_every_client_ends_at_the_engines_book_and_sees_no_gap(steps: list[Step]) -> None:
    world = asyncio.run(run(steps))
    for client in world.clients:
        assert client.gaps == 0
        assert client.broken_chains == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=120))
def test_behind_a_gap_too_long_to_look_up_clients_begin_again_and_hold_the_book(steps: list[Step]) -> None:
    asyncio.run(run(steps, gap_rows_max=2))


@pytest.mark.parametrize("seed", range(3))
async def test_a_long_life_with_many_interruptions(seed: int) -> None:
    chance = random.Random(seed)
    weights = {"level": 60, "trade": 8, "commit": 20, "deliver": 15, "tick": 8, "turns": 12}
    rare = {"client": 0.3, "losing": 0.6, "redis": 0.4, "announce": 1.0}
    kinds = list(weights) + list(rare)
    chosen = chance.choices(kinds, [*weights.values(), *rare.values()], k=8000)
    steps = [_random_step(kind, chance) for kind in chosen]
    world = await run(steps)
    assert len(world.clients) > 5
    assert all(client.gaps == 0 for client in world.clients)


def _random_step(kind: str, chance: random.Random) -> Step:
    match kind:
        case "level":
            return kind, chance.random() < 0.5, chance.randint(80, 120), chance.randint(0, 4)
        case "trade":
            return kind, chance.randint(80, 120), chance.randint(1, 4)
        case "commit":
            return kind, chance.random() < 0.02
        case "deliver" | "turns":
            return kind, chance.randint(1, 6)
        case "losing":
            return kind, chance.random() < 0.3
        case "redis":
            return kind, chance.random() < 0.6
        case _:
            return (kind,)
