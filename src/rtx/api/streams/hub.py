"""All streams of a worker: finds the one that a name means, keeps the pace, and knows who is connected."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from rtx.api.errors import ApiError
from rtx.api.markets import MarketDirectory
from rtx.api.streams.feed import MarketFeed
from rtx.api.streams.market_streams import (
    AggregateTradeStream,
    BookTickerStream,
    DepthStream,
    PartialDepthStream,
    TradesStream,
    TradeStream,
)
from rtx.api.streams.market_view import MarketView
from rtx.api.streams.polled_streams import (
    AllMiniTickersStream,
    AveragePriceStream,
    KlineStream,
    MiniTickerStream,
    Polling,
    TickerStream,
)
from rtx.api.streams.resumption import ResumeRefusedError, Resumption, Subscription, is_ready
from rtx.api.streams.stream import TICK_MS, QueuedSubscriber, Stream, Subscriber
from rtx.api.streams.stream_names import StreamKind, StreamName, parse_stream_name

READY_TIMEOUT_S: Final = 5.0
"""How long a subscription waits for a market that has no book yet."""

_log = structlog.get_logger("rtx.api.streams.hub")


class UnknownStreamError(Exception):
    """There is no stream of this name."""


class Closable(Protocol):
    """A connection as the end of the worker sees it."""

    async def announce_shutdown(self) -> None:
        """Tell the client, then close."""
        ...


class StreamHub:
    """The streams and the connections."""

    def __init__(
        self,
        feed: MarketFeed,
        markets: MarketDirectory,
        polling: Polling,
        resumption: Resumption,
        clock_us: Callable[[], int],
    ) -> None:
        """Start without streams."""
        self._feed = feed
        self._markets = markets
        self._polling = polling
        self._resumption = resumption
        self._clock_us = clock_us
        self._streams: dict[tuple[str, int], Stream] = {}
        self._paced: dict[Stream, None] = {}
        self.connections: set[Closable] = set()

    async def find(self, name: str, time_divisor: int) -> Stream:
        """Give the stream; raises :class:`UnknownStreamError`.

        Waits for the market's book, so that whoever takes a snapshot after subscribing finds that the stream begins
        before it.
        """
        stream = self._streams.get((name, time_divisor))
        if stream is not None:
            return stream
        parsed = parse_stream_name(name)
        if parsed is None:
            raise UnknownStreamError(name)
        if not parsed.symbol:
            return AllMiniTickersStream(name, time_divisor, self.track_markets, self._polling)
        try:
            market = await self._markets.find(parsed.symbol)
        except ApiError:
            raise UnknownStreamError(name) from None
        view = self._feed.track(market)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._feed.ready(view)
        return self._streams.get((name, time_divisor)) or self._make(parsed, time_divisor, view)

    async def prepare(self, subscriptions: Sequence[Subscription]) -> None:
        """Make sure that those that resume can; raises :class:`ResumeRefusedError`."""
        await self._resumption.prepare(subscriptions)

    def join(self, stream: Stream, subscriber: Subscriber) -> Stream:
        """Subscribe; gives the stream that was joined, which is the one of that name that others joined before."""
        stream = self._shared(stream)
        stream.join(subscriber)
        return stream

    async def resume(self, stream: Stream, after: int, subscriber: QueuedSubscriber) -> Stream:
        """Subscribe from where the subscriber was, as prepared; where there is nothing to read this does not wait.

        Raises :class:`ResumeRefusedError`.
        """
        if not is_ready(stream, after):
            raise ResumeRefusedError(f"Cannot resume {stream.name} after {after} any more")
        if isinstance(stream, DepthStream):
            joined = self._shared(stream)
            assert isinstance(joined, DepthStream)
            joined.resume(subscriber, after)
            return joined
        assert isinstance(stream, TradesStream)
        async for trades in self._resumption.missed_trades(stream, after):
            stream.tell(subscriber, trades)
            await subscriber.drained()
        return self.join(stream, subscriber)

    def leave(self, stream: Stream, subscriber: Subscriber) -> None:
        """End a subscription."""
        stream.leave(subscriber)
        if not stream.has_subscribers:
            stream.detach()
            self._paced.pop(stream, None)
            self._streams.pop((stream.name, stream.time_divisor), None)

    def track_markets(self) -> list[MarketView]:
        """Follow every market there is; gives their views."""
        return [self._feed.track(market) for market in self._markets.by_id.values()]

    def tick(self, number: int) -> None:
        """Let the streams with a pace speak; ``number`` counts ticks of ``TICK_MS``."""
        now_us = self._clock_us()
        for stream in list(self._paced):
            if number % stream.period_ticks == 0:
                try:
                    stream.tick(now_us)
                except Exception:  # noqa: BLE001 - one broken stream must not stop the others
                    _log.exception("stream.tick_failed", stream=stream.name)

    async def keep_pace(self) -> None:
        """Tick until cancelled; a late tick is not made up for."""
        loop = asyncio.get_running_loop()
        number = 0
        next_s = loop.time()
        while True:
            next_s = max(next_s + TICK_MS / 1000, loop.time())
            await asyncio.sleep(next_s - loop.time())
            number += 1
            self.tick(number)

    async def announce_shutdown(self) -> None:
        """Tell every client that the server ends, and close the connections."""
        await asyncio.gather(*(connection.announce_shutdown() for connection in self.connections))

    def _shared(self, stream: Stream) -> Stream:
        """The stream of that name that others joined before, or else this one, which begins now."""
        stream = self._streams.setdefault((stream.name, stream.time_divisor), stream)
        if not stream.has_subscribers:
            stream.attach()
            if stream.period_ticks:
                self._paced[stream] = None
        return stream

    def _make(self, name: StreamName, time_divisor: int, view: MarketView) -> Stream:
        text, kind = name.text, name.kind
        if kind is StreamKind.DEPTH_DIFFERENCE:
            return DepthStream(text, time_divisor, view, name.interval_ms)
        if kind is StreamKind.PARTIAL_DEPTH:
            return PartialDepthStream(text, time_divisor, view, name.interval_ms, name.levels)
        if kind is StreamKind.KLINE:
            return KlineStream(text, time_divisor, view, self._polling, name.kline_interval, name.kline_offset_s)
        if kind in _POLLED:
            return _POLLED[kind](text, time_divisor, view, self._polling)
        return _SIMPLE[kind](text, time_divisor, view)


_SIMPLE: Final[dict[StreamKind, Callable[[str, int, MarketView], Stream]]] = {
    StreamKind.TRADE: TradeStream,
    StreamKind.AGGREGATE_TRADE: AggregateTradeStream,
    StreamKind.BOOK_TICKER: BookTickerStream,
}

_POLLED: Final[dict[StreamKind, Callable[[str, int, MarketView, Polling], Stream]]] = {
    StreamKind.MINI_TICKER: MiniTickerStream,
    StreamKind.TICKER: TickerStream,
    StreamKind.AVERAGE_PRICE: AveragePriceStream,
}
