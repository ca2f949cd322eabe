"""The engine's way out: what is offered arrives in order while Redis is there, and never disturbs while it is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from rtx.engine.publisher import MarketDataPublisher, Message, Transport
from rtx.link.market_data import MarketUpdate, channel, decode_market_update
from rtx.observability.metrics import PUBLISH_FAILURES


class FakeRedis:
    """Takes messages, or refuses them, or holds them up."""

    def __init__(self) -> None:
        self.is_up = True
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_asked = asyncio.Event()
        self._arrived: asyncio.Queue[tuple[str, MarketUpdate]] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Transport]:
        if not self.is_up:
            raise RedisConnectionError
        yield self

    async def publish(self, messages: Sequence[Message]) -> None:
        self.is_asked.set()
        await self.answers.wait()
        if not self.is_up:
            raise RedisConnectionError
        for name, message in messages:
            self._arrived.put_nowait((name, decode_market_update(message)))

    async def changes(self, count: int) -> list[MarketUpdate]:
        """The next updates that are no announcements."""
        updates: list[MarketUpdate] = []
        while len(updates) < count:
            name, update = await self._arrived.get()
            assert name == channel(update.market_id)
            if not is_announcement(update):
                updates.append(update)
        return updates

    async def announcement(self) -> MarketUpdate:
        """The next announcement."""
        while True:
            _name, update = await self._arrived.get()
            if is_announcement(update):
                return update

    async def announced(self, market_id: int, sequence: int) -> MarketUpdate:
        """The next announcement of a market that says where it stands at a journal position."""
        while True:
            update = await self.announcement()
            if (update.market_id, update.sequence) == (market_id, sequence):
                return update


def is_announcement(update: MarketUpdate) -> bool:
    return not (update.bids or update.asks or update.trades)


def update(sequence: int, market_id: int = 7) -> MarketUpdate:
    return MarketUpdate(market_id, sequence - 1, sequence, sequence, [], [(1, sequence)], [])


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
async def publisher(redis: FakeRedis) -> AsyncIterator[MarketDataPublisher]:
    publisher = MarketDataPublisher(redis.connect, queue_length_max=10)
    yield publisher
    await publisher.stop()


def failures() -> float:
    return float(next(iter(PUBLISH_FAILURES.collect())).samples[0].value)


async def test_updates_arrive_whole_and_in_order(publisher: MarketDataPublisher, redis: FakeRedis) -> None:
    publisher.start()
    offered = [update(number, market_id=number % 2) for number in range(1, 8)]
    for one in offered:
        publisher.offer(one)
    assert await redis.changes(7) == offered


async def test_while_redis_hangs_the_oldest_go_and_are_counted(
    publisher: MarketDataPublisher, redis: FakeRedis
) -> None:
    publisher.start()
    redis.answers.clear()
    publisher.offer(update(1))
    await redis.is_asked.wait()
    before = failures()
    for number in range(2, 27):
        publisher.offer(update(number))
    redis.answers.set()
    assert [one.sequence for one in await redis.changes(11)] == [1, *range(17, 27)]
    assert failures() - before == 15


async def test_it_goes_on_by_itself_when_redis_is_back(publisher: MarketDataPublisher, redis: FakeRedis) -> None:
    redis.is_up = False
    publisher.start()
    await asyncio.sleep(0)
    for number in range(1, 31):
        publisher.offer(update(number))
    redis.is_up = True
    assert [one.sequence for one in await redis.changes(10)] == list(range(21, 31))


async def test_a_loss_shows_without_another_update(publisher: MarketDataPublisher, redis: FakeRedis) -> None:
    publisher.start()
    publisher.offer(update(1))
    await redis.changes(1)
    redis.is_up = False
    publisher.offer(update(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    redis.is_up = True
    announced = await redis.announcement()
    while announced.sequence != 2:
        announced = await redis.announcement()
    assert (announced.market_id, announced.previous_sequence, announced.bids) == (7, 2, [])


async def test_a_new_leader_says_where_markets_stand(publisher: MarketDataPublisher, redis: FakeRedis) -> None:
    publisher.start()
    publisher.announce(7, 40, 5)
    assert await redis.announcement() == MarketUpdate(7, 40, 40, 5, [], [], [])


async def test_a_new_leader_says_since_when_nothing_happened(publisher: MarketDataPublisher, redis: FakeRedis) -> None:
    publisher.start()
    publisher.announce(7, 40, 5, unchanged_since=33)
    assert await redis.announcement() == MarketUpdate(7, 33, 40, 5, [], [], [])
    assert await redis.announcement() == MarketUpdate(7, 33, 40, 5, [], [], [])


async def test_a_quiet_market_is_told_to_stand_still_up_to_the_newest_position(
    publisher: MarketDataPublisher, redis: FakeRedis
) -> None:
    publisher.start()
    publisher.offer(update(10, market_id=1))
    publisher.offer(update(20, market_id=2))
    assert await redis.announced(1, 20) == MarketUpdate(1, 10, 20, 20, [], [], [])


async def test_who_leads_no_more_announces_nothing_and_sends_what_was_committed(
    publisher: MarketDataPublisher, redis: FakeRedis
) -> None:
    publisher.start()
    redis.answers.clear()
    publisher.offer(update(1))
    await redis.is_asked.wait()
    publisher.offer(update(2))
    publisher.retire()
    redis.answers.set()
    assert [one.sequence for one in await redis.changes(2)] == [1, 2]
    publisher.announce(8, 40, 5)
    assert (await redis.announcement()).market_id == 8
    assert (await redis.announcement()).market_id == 8
