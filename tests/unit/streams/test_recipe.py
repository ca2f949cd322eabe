"""Whoever follows Binance's recipe holds the engine's book, whatever gets lost on the way and whoever leads.

Several workers; engines that hand over, crash in the middle of a commit, and publish late; clients that lose their
connection and go on at another worker.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.streams.recipe_client import RecipeClient
from tests.unit.streams.simulated_exchange import BITCOIN, DOLLAR, MARKET, SimulatedExchange

from rtx.api.markets import MarketDirectory
from rtx.api.streams.feed import MarketFeed
from rtx.api.streams.hub import StreamHub
from rtx.api.streams.polled_streams import Polling
from rtx.api.streams.resumption import ResumeRefusedError, Resumption, Subscription
from rtx.api.streams.stream import Stream

Step = tuple[Any, ...]

WORKERS = 3
DEPTH = "btcusdt@depth@100ms"
TRADES = "btcusdt@trade"

_PRICES = st.integers(min_value=95, max_value=105)
_WORKERS = st.integers(min_value=0, max_value=WORKERS - 1)
_TERMS = st.integers(min_value=-3, max_value=-1)

LEVEL = st.tuples(st.just("level"), st.booleans(), _PRICES, st.integers(min_value=0, max_value=3))
COMMIT = st.tuples(st.just("commit"))
PUBLISH = st.tuples(st.just("publish"), _TERMS, st.integers(min_value=1, max_value=5))
TURNS = st.tuples(st.just("turns"), st.integers(min_value=1, max_value=6))

STEPS = st.one_of(
    LEVEL,
    LEVEL,
    LEVEL,
    st.tuples(st.just("trade"), _PRICES, st.integers(min_value=1, max_value=3)),
    st.tuples(st.just("deposit")),
    COMMIT,
    COMMIT,
    PUBLISH,
    PUBLISH,
    st.tuples(st.just("deliver"), _WORKERS, st.integers(min_value=1, max_value=5)),
    st.tuples(st.just("deliver"), _WORKERS, st.integers(min_value=1, max_value=5)),
    st.tuples(st.just("tick"), _WORKERS),
    st.tuples(st.just("client"), _WORKERS),
    st.tuples(st.just("move"), st.integers(min_value=0, max_value=20), _WORKERS),
    st.tuples(st.just("move"), st.integers(min_value=0, max_value=20), _WORKERS),
    TURNS,
    TURNS,
    st.tuples(st.just("losing"), _WORKERS, st.booleans()),
    st.tuples(st.just("redis"), _WORKERS, st.booleans()),
    st.tuples(st.just("announce"), _TERMS),
    st.tuples(st.just("handover"), st.booleans()),
    st.tuples(st.just("crash"), st.booleans(), st.booleans()),
    st.tuples(st.just("elect"), st.booleans()),
)


class TradeWatcher:
    """Hears every trade from the first one it hears on, wherever it is connected."""

    is_combined = False

    def __init__(self) -> None:
        self.trade_ids: list[int] = []

    def offer(self, text: str) -> None:
        self.trade_ids.append(msgspec.json.decode(text)["t"])

    async def drained(self) -> None:
        await asyncio.sleep(0)

    def last_trade_id(self) -> int | None:
        """What to resume from."""
        return self.trade_ids[-1] if self.trade_ids else None


class BookWatcher(RecipeClient):
    """A client with the recipe."""

    async def drained(self) -> None:
        await asyncio.sleep(0)


class Worker:
    """One API worker: its feed, its streams, and its way to Redis."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        self.inbox = exchange.inbox()
        self.feed = MarketFeed(
            exchange.read_book, exchange, lambda: exchange.sequence * 1000, sleep=lambda _s: asyncio.sleep(0)
        )
        directory = MarketDirectory(_load)
        directory.by_symbol[MARKET.symbol] = MARKET
        directory.by_id[MARKET.market_id] = MARKET
        resumption = Resumption(self.feed, exchange)
        self.hub = StreamHub(self.feed, directory, Polling(None), resumption, lambda: 0)  # type: ignore[arg-type]
        self.hub.track_markets()

    def switch_redis(self, is_up: bool) -> None:
        was_up = self.inbox.is_up
        if not is_up:
            self.inbox.cut()
        elif not was_up:
            self.inbox.is_up = True
            self.feed.resynchronise()


async def _load() -> Any:
    return [BITCOIN, DOLLAR], [MARKET]


class Connection:
    """A client at a worker: one stream, which may still be on its way to being joined."""

    def __init__(self, client: BookWatcher | TradeWatcher, name: str) -> None:
        self.client = client
        self.worker: Worker | None = None
        self.stream: Stream | None = None
        self.joining: asyncio.Task[None] | None = None
        self._name = name

    def move(self, worker: Worker) -> None:
        """Leave, and go on at a worker; not while the last move is under way."""
        if self.joining is not None and not self.joining.done():
            return
        if self.worker is not None and self.stream is not None:
            self.worker.hub.leave(self.stream, self.client)
        self.worker, self.stream = worker, None
        self.joining = asyncio.create_task(self._join(worker))

    async def _join(self, worker: Worker) -> None:
        client, hub = self.client, worker.hub
        after = client.move() if isinstance(client, BookWatcher) else client.last_trade_id()
        stream = await hub.find(self._name, 1000)
        if after is not None:
            try:
                await hub.prepare([Subscription(stream, after)])
                if isinstance(client, BookWatcher):
                    client.resumed()
                self.stream = await hub.resume(stream, after, client)
                return
            except ResumeRefusedError:
                assert isinstance(client, BookWatcher)
                client.begin_again()
        self.stream = hub.join(stream, client)


class World:
    """The simulated exchange, the workers, and clients."""

    def __init__(self) -> None:
        self.exchange = SimulatedExchange()
        self.workers = [Worker(self.exchange) for _ in range(WORKERS)]
        self.connections: list[Connection] = []
        self._ticks = 0
        self._asking: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for worker in self.workers:
            await worker.feed.settled()
        for worker in self.workers[:2]:
            self.connect(TradeWatcher(), TRADES, worker)
        self.connections[0].client.offer('{"t": 0}')
        for _ in range(10):
            await asyncio.sleep(0)

    @property
    def clients(self) -> list[BookWatcher]:
        return [one.client for one in self.connections if isinstance(one.client, BookWatcher)]

    def connect(self, client: BookWatcher | TradeWatcher, name: str, worker: Worker) -> None:
        connection = Connection(client, name)
        self.connections.append(connection)
        connection.move(worker)

    async def do(self, step: Step) -> None:
        exchange, workers = self.exchange, self.workers
        match step:
            case ("level", is_bid, price, quantity):
                exchange.level(is_bid, price, quantity)
            case ("trade", price, quantity):
                exchange.trade(price, quantity)
            case ("deposit",):
                exchange.deposit()
            case ("commit",):
                exchange.commit()
            case ("publish", term, count):
                exchange.publish(term, count)
            case ("deliver", worker, count):
                workers[worker].inbox.deliver(workers[worker].feed.receive, count)
            case ("tick", worker):
                workers[worker].hub.tick(1)
            case ("client", worker):
                self.connect(BookWatcher(), DEPTH, workers[worker])
            case ("move", connection, worker):
                self.connections[connection % len(self.connections)].move(workers[worker])
            case ("turns", count):
                for _ in range(count):
                    await asyncio.sleep(0)
            case ("losing", worker, is_losing):
                workers[worker].inbox.is_losing = is_losing
            case ("redis", worker, is_up):
                workers[worker].switch_redis(is_up)
            case ("announce", term):
                exchange.announce(term)
            case _:
                self.change_leader(step)
        self.ask_for_snapshots()

    def change_leader(self, step: Step) -> None:
        match step:
            case ("handover", knows_changes):
                self.exchange.hand_over(knows_changes=knows_changes)
            case ("crash", is_committed, is_late):
                self.exchange.crash(is_committed=is_committed, is_late=is_late)
            case ("elect", knows_changes):
                self.exchange.elect(knows_changes=knows_changes)

    def ask_for_snapshots(self) -> None:
        for connection in self.connections:
            client = connection.client
            # the recipe: first listen, then ask
            if isinstance(client, BookWatcher) and client.wants_snapshot and connection.stream is not None:
                client.wants_snapshot = False
                self._asking.append(asyncio.create_task(self._snapshot(client, connection.joining)))

    async def _snapshot(self, client: BookWatcher, joining: asyncio.Task[None] | None) -> None:
        sequence, answer = await self.exchange.read_book(MARKET.market_id, 0)
        if any(one.client is client and one.joining is not joining for one in self.connections):
            return  # asked before the connection that it has now
        client.take_snapshot(
            sequence,
            {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in answer.bids},
            {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in answer.asks},
        )

    async def come_to_rest(self) -> None:
        """Everything works again; what is under way arrives. The last thing that happens is one more order."""
        exchange = self.exchange
        for worker in self.workers:
            worker.inbox.is_losing = False
            worker.switch_redis(True)
        exchange.elect()
        exchange.commit()
        for round_number in range(4):
            if round_number == 2:
                exchange.level(True, 90, 7)
                exchange.commit()
            await self._settle(exchange)
        for worker in self.workers:
            await worker.feed.close()

    async def _settle(self, exchange: SimulatedExchange) -> None:
        for connection in self.connections:
            if connection.joining is not None:
                await connection.joining
        exchange.announce()
        exchange.publish_everything()
        for worker in self.workers:
            worker.inbox.deliver(worker.feed.receive)
            await worker.feed.settled()
            worker.hub.tick(1)
        self.ask_for_snapshots()
        await asyncio.gather(*self._asking)

    def check(self) -> None:
        exchange = self.exchange
        bids = {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in exchange.bids.items()}
        asks = {MARKET.price_text(price): MARKET.quantity_text(quantity) for price, quantity in exchange.asks.items()}
        for client in self.clients:
            assert client.bids == bids
            assert client.asks == asks
        for connection in self.connections:
            if isinstance(connection.client, TradeWatcher):
                ids = connection.client.trade_ids
                # who has heard of no trade has nothing to resume from, and may have moved when the first one came
                assert not ids or ids == list(range(ids[0], len(exchange.trades) + 1))


async def run(steps: list[Step], *, gap_rows_max: int = 10**9) -> World:
    world = World()
    world.exchange.gap_rows_max = gap_rows_max
    await world.start()
    for step in steps:
        await world.do(step)
    await world.come_to_rest()
    world.check()
    return world


@settings(max_examples=500, deadline=None)
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
    weights = {
        "level": 60,
        "trade": 8,
        "deposit": 5,
        "commit": 20,
        "publish": 25,
        "deliver": 45,
        "tick": 20,
        "turns": 12,
    }
    rare = {
        "client": 0.4, "move": 8.0, "losing": 0.8, "redis": 0.6, "announce": 2.0, "handover": 1.0, "crash": 0.5,
        "elect": 3.0,
    }  # fmt: skip
    kinds = list(weights) + list(rare)
    chosen = chance.choices(kinds, [*weights.values(), *rare.values()], k=8000)
    steps = [_random_step(kind, chance) for kind in chosen]
    world = await run(steps)
    assert len(world.clients) > 3
    assert len(world.exchange.terms) > 30
    assert sum(client.resumes for client in world.clients) > 50
    assert all(client.gaps == client.broken_chains == 0 for client in world.clients)


def _random_step(kind: str, chance: random.Random) -> Step:
    worker = chance.randrange(WORKERS)
    match kind:
        case "level":
            return kind, chance.random() < 0.5, chance.randint(80, 120), chance.randint(0, 4)
        case "trade":
            return kind, chance.randint(80, 120), chance.randint(1, 4)
        case "publish":
            return kind, chance.choice((-1, -1, -2)), chance.randint(1, 6)
        case "deliver":
            return kind, worker, chance.randint(1, 6)
        case "turns":
            return kind, chance.randint(1, 6)
        case "losing":
            return kind, worker, chance.random() < 0.3
        case "redis":
            return kind, worker, chance.random() < 0.6
        case "tick" | "client":
            return kind, worker
        case "move":
            return kind, chance.randrange(1000), worker
        case "announce":
            return kind, chance.choice((-1, -2))
        case "handover" | "elect":
            return kind, chance.random() < 0.7
        case "crash":
            return kind, chance.random() < 0.5, chance.random() < 0.5
        case _:
            return (kind,)
