"""One API worker's streams over the simulated exchange, and clients that are connected to it."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.streams.fake_websocket import FakeWebSocket
from tests.unit.streams.keyed_exchange import KeyedExchange
from tests.unit.streams.simulated_exchange import BITCOIN, DOLLAR, MARKET, SimulatedExchange

from rtx.api.markets import MarketDirectory
from rtx.api.streams.cancel_on_disconnect import DisconnectSwitches
from rtx.api.streams.connection import StreamConnection, StreamLimits
from rtx.api.streams.feed import MarketFeed
from rtx.api.streams.hub import StreamHub
from rtx.api.streams.polled_streams import Polling
from rtx.api.streams.resumption import Resumption
from rtx.api.streams.stream import MILLISECONDS

LIMITS = StreamLimits(
    streams_max=3,
    requests_per_s=1000,
    request_bytes_max=1000,
    queue_messages_max=20,
    queue_bytes_max=4000,
    close_timeout_s=0.01,
    shutdown_timeout_s=0.05,
)


class Worker:
    """A hub over the simulated exchange, and connections to it."""

    def __init__(self, hub: StreamHub, feed: MarketFeed, exchange: SimulatedExchange) -> None:
        self.hub = hub
        self.feed = feed
        self.exchange = exchange
        self.orders = KeyedExchange()
        self.switches = DisconnectSwitches(self.orders.context())
        self._inbox = exchange.inbox()
        self._ticks = 0
        self._running: dict[FakeWebSocket, asyncio.Task[None]] = {}

    def connect(self, *, is_combined: bool = False, limits: StreamLimits = LIMITS) -> FakeWebSocket:
        socket = FakeWebSocket()
        connection = StreamConnection(
            self.hub,
            socket.receive,
            socket.send,
            is_combined=is_combined,
            time_divisor=MILLISECONDS,
            now_us=lambda: 5_000_000,
            limits=limits,
            abort=socket.abort,
            switch=self.switches.of_connection("192.0.2.1", "request"),
        )
        self._running[socket] = asyncio.create_task(connection.run([]))
        return socket

    async def subscribed(self, *names: str, is_combined: bool = False) -> FakeWebSocket:
        socket = self.connect(is_combined=is_combined)
        socket.request("SUBSCRIBE", list(names))
        assert await socket.hear() == {"result": None, "id": 1}
        return socket

    def change(self, price: int = 100, quantity: int = 1) -> None:
        """Commit one order and let its update arrive."""
        self.exchange.level(True, price, quantity)
        self.commit()

    def commit(self) -> None:
        """Commit what the exchange was told, and let it arrive."""
        self.exchange.commit()
        self.exchange.publish()
        self._inbox.deliver(self.feed.receive)

    def tick_a_second(self) -> None:
        for _ in range(10):
            self._ticks += 1
            self.hub.tick(self._ticks)

    async def ended(self, socket: FakeWebSocket) -> None:
        await self._running[socket]

    def cancel(self, socket: FakeWebSocket) -> None:
        """Cancel what serves a connection."""
        self._running[socket].cancel()

    async def all_ended(self) -> None:
        await asyncio.gather(*self._running.values())


async def make_worker(exchange: SimulatedExchange | None = None) -> Worker:
    """A worker of an exchange, or of a new one with one level a side, that shows its book."""
    if exchange is None:
        exchange = SimulatedExchange()
        exchange.level(True, 99, 5)
        exchange.level(False, 101, 5)
        exchange.commit()
        exchange.publish()
    feed = MarketFeed(exchange.read_book, exchange, lambda: 1_000_000)
    directory = MarketDirectory(_load)
    await directory.read()
    resumption = Resumption(feed, exchange)
    hub = StreamHub(feed, directory, Polling(None), resumption, lambda: 1_000_000)  # type: ignore[arg-type]
    hub.track_markets()
    await feed.settled()
    return Worker(hub, feed, exchange)


async def _load() -> Any:
    return [BITCOIN, DOLLAR], [MARKET]
