"""Sends what each commit changed to Redis, from where every API worker takes it to its WebSockets.

Market data may get lost, trading may not be held up: :meth:`MarketDataPublisher.offer` only appends to a bounded queue,
and one task of its own does everything that can be slow or fail. What is lost shows: each update names the one before
it, and once a second the leader says of every market that nothing happened since its last update, so that a receiver
learns of a loss even when no further update follows. It then takes the book from the engine and the trades from
PostgreSQL.

Whatever is published is true for ever: "between these two journal positions this happened in this market, and nothing
else". So it does no harm when several engines publish, one of them late and one that leads no more: a receiver takes
what continues its own position and has no use for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rtx.cancellation import end_tasks
from rtx.link.market_data import MarketUpdate, channel, encode_market_update
from rtx.observability.logging import get_logger
from rtx.observability.metrics import PUBLISH_FAILURES

_QUEUE_LENGTH_MAX: Final = 4096
_UPDATES_PER_TURN_MAX: Final = 256
_ANNOUNCEMENT_INTERVAL_S: Final = 1.0
_REDIS_TIMEOUT_S: Final = 2.0
_FIRST_RETRY_DELAY_S: Final = 0.05
_RETRY_DELAY_MAX_S: Final = 2.0

_log = get_logger(__name__)

Message = tuple[str, bytes]
"""A channel and what to publish in it."""


class Transport(Protocol):
    """Something that publishes; raises ``RedisError`` or ``OSError`` when it cannot."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in this order."""
        ...


Connect = Callable[[], contextlib.AbstractAsyncContextManager[Transport]]


class MarketDataPublisher:
    """The engine's way out for market data. All methods belong to the engine's event loop."""

    def __init__(self, connect: Connect, *, queue_length_max: int = _QUEUE_LENGTH_MAX) -> None:
        """``connect`` opens a connection to Redis (see :func:`redis_connector`)."""
        self._connect = connect
        self._queue: deque[MarketUpdate] = deque()
        self._queue_length_max = queue_length_max
        self._positions: dict[int, int] = {}
        self._newest: MarketUpdate | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def offer(self, update: MarketUpdate) -> None:
        """Take the update of a committed batch; never waits, never raises.

        ``bids`` and ``asks`` hold every level that the batch touched, also one that has the quantity it had before: a
        receiver may hold a book from the middle of the batch.
        """
        if len(self._queue) >= self._queue_length_max:
            self._queue.popleft()
            PUBLISH_FAILURES.inc()
        self._queue.append(update)
        has_changes = bool(update.bids or update.asks or update.trades)
        self._positions[update.market_id] = update.sequence if has_changes else update.previous_sequence
        self._newest = update
        self._wake.set()

    def announce(self, market_id: int, sequence: int, time_us: int, unchanged_since: int | None = None) -> None:
        """Say where a market stands; for every market when the engine begins to lead.

        What the leader before committed and did not publish is found so. Nothing happened in the market after
        ``unchanged_since`` (see :class:`rtx.engine.book_positions.BookPositions`): receivers that are there already go
        on from ``sequence``, all others read the book. Where that is not known, all that are not at ``sequence`` do.
        """
        self.offer(
            _announcement(market_id, sequence if unchanged_since is None else unchanged_since, sequence, time_us)
        )

    def retire(self) -> None:
        """Announce nothing any more: another engine may lead. What is queued was committed, and still goes out."""
        self._positions.clear()
        self._newest = None

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._run(), name="market-data-publisher")

    async def stop(self) -> None:
        """End; what is still queued is not sent."""
        task, self._task = self._task, None
        if task is not None:
            await end_tasks(task)

    async def _run(self) -> None:
        delay_s = _FIRST_RETRY_DELAY_S
        was_connected = True
        while True:
            try:
                async with self._connect() as transport:
                    if not was_connected:
                        _log.info("market data is published again")
                    was_connected, delay_s = True, _FIRST_RETRY_DELAY_S
                    await self._publish_all(transport)
            except Exception as error:  # noqa: BLE001 - whatever went wrong once must not end publishing for good
                if was_connected:
                    _log.warning("market data cannot be published; trading goes on", error=type(error).__name__)
                was_connected = False
            # jitter, so that several engines do not knock at a returning server together
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311
            delay_s = min(delay_s * 2, _RETRY_DELAY_MAX_S)

    async def _publish_all(self, transport: Transport) -> None:
        loop = asyncio.get_running_loop()
        next_announcement = loop.time()
        while True:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _UPDATES_PER_TURN_MAX))]
            if not self._queue and loop.time() >= next_announcement:
                next_announcement = loop.time() + _ANNOUNCEMENT_INTERVAL_S
                batch += self._announcements()
            if batch:
                await self._publish_batch(transport, batch)
            if not self._queue:
                await self._wait_for_work(next_announcement - loop.time())

    def _announcements(self) -> list[MarketUpdate]:
        """What is true when all that was offered is on its way: up to the newest update each market is at its last."""
        newest = self._newest
        if newest is None:
            return []
        return [
            _announcement(market_id, sequence, newest.sequence, newest.time_us)
            for market_id, sequence in self._positions.items()
        ]

    async def _publish_batch(self, transport: Transport, batch: Sequence[MarketUpdate]) -> None:
        try:
            await transport.publish([(channel(update.market_id), encode_market_update(update)) for update in batch])
        except (RedisError, OSError):
            PUBLISH_FAILURES.inc(len(batch))
            raise

    async def _wait_for_work(self, timeout_s: float) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._wake.wait()


def redis_connector(redis_url: str) -> Connect:
    """Connections that fail at once and visibly: the publisher does the trying again."""

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Transport]:
        client = Redis.from_url(
            redis_url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            single_connection_client=True,
        )
        try:
            await client.ping()
            yield _RedisTransport(client)
        finally:
            await client.aclose()

    return connect


class _RedisTransport:
    """Publishes a turn's messages in one round trip."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def publish(self, messages: Sequence[Message]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for name, message in messages:
            pipeline.publish(name, message)
        await pipeline.execute()


def _announcement(market_id: int, unchanged_since: int, sequence: int, time_us: int) -> MarketUpdate:
    """An update without changes: who is not at ``unchanged_since`` has missed something."""
    return MarketUpdate(market_id, unchanged_since, sequence, time_us, [], [], [])
