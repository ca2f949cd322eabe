"""Keeps every market's view equal to the engine's book, whatever happens to Redis, the engine or a message.

Updates come in through :meth:`MarketFeed.receive`. Where one is missing, and whenever some may have been missed
without a trace (:meth:`MarketFeed.resynchronise`), the book comes from the engine and what happened in between
from PostgreSQL. Streams then get one difference, so that a client's chain of ``U`` and ``u`` has no gap, and every
trade in its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from rtx.api.markets import Market
from rtx.api.streams.history import GapTooLongError, History, whole_commands_after
from rtx.api.streams.market_view import MarketView
from rtx.api.streams.recent_touches import TouchedPrices
from rtx.link.market_data import MarketUpdate
from rtx.link.messages import BookAnswer
from rtx.observability.metrics import STREAM_RESYNCHRONISATIONS

ReadBook = Callable[[int, int], Awaitable[tuple[int, BookAnswer]]]
"""``(market_id, limit)`` to the journal position and the book; limit 0 is the whole book."""

_SYNCHRONISATIONS_AT_ONCE: Final = 4
_FIRST_RETRY_DELAY_S: Final = 0.02
_RETRY_DELAY_MAX_S: Final = 2.0
_TRADES_PAGE: Final = 500
_TRADES_PAUSE_S: Final = 0.01

_log = structlog.get_logger("rtx.api.streams.feed")


class StaleBookError(Exception):
    """The engine's answer is older than what was seen already."""


class MarketFeed:
    """All views of one worker. Everything happens in one event loop."""

    def __init__(
        self,
        read_book: ReadBook,
        history: History,
        clock_us: Callable[[], int],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``sleep`` is what the simulation replaces."""
        self._read_book = read_book
        self._history = history
        self._clock_us = clock_us
        self._sleep = sleep
        self._views: dict[int, MarketView] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        self._places = asyncio.Semaphore(_SYNCHRONISATIONS_AT_ONCE)

    def track(self, market: Market) -> MarketView:
        """Follow a market from now on; gives its view."""
        view = self._views.get(market.market_id)
        if view is None:
            view = self._views[market.market_id] = MarketView(market)
            self._synchronise(view)
        return view

    def receive(self, update: MarketUpdate) -> None:
        """Take an update that Redis delivered."""
        view = self._views.get(update.market_id)
        if view is not None and not view.accept(update):
            self._synchronise(view)

    def resynchronise(self) -> None:
        """Something may have been missed in every market."""
        for view in self._views.values():
            self._synchronise(view)

    async def ready(self, view: MarketView) -> None:
        """Wait until the view has a book."""
        task = self._tasks.get(view.market.market_id)
        while not view.is_ready and task is not None:
            await asyncio.wait([task])
            task = self._tasks.get(view.market.market_id)

    async def refresh(self, view: MarketView) -> None:
        """Have the book read from the engine from now on, and wait until the view shows it."""
        self._synchronise(view)
        await asyncio.wait([self._tasks[view.market.market_id]])

    async def newest_position(self, view: MarketView) -> int:
        """The newest journal position there is; raises what the engine's client raises."""
        return (await self._read_book(view.market.market_id, 1))[0]

    async def settled(self) -> None:
        """Wait until no view is being synchronised."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def close(self) -> None:
        """Stop synchronising."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _synchronise(self, view: MarketView) -> None:
        market_id = view.market.market_id
        if market_id in self._tasks:
            self._again.add(market_id)
            return
        view.is_synchronising = True
        self._tasks[market_id] = asyncio.create_task(self._run(view), name=f"synchronise-{market_id}")

    async def _run(self, view: MarketView) -> None:
        try:
            await self._run_synchronisation(view)
        finally:
            # here and not in a callback: the next gap must find that nobody works on it any more
            view.is_synchronising = False
            del self._tasks[view.market.market_id]

    async def _run_synchronisation(self, view: MarketView) -> None:
        market_id = view.market.market_id
        delay_s = _FIRST_RETRY_DELAY_S
        while True:
            self._again.discard(market_id)
            try:
                async with self._places:
                    await self._take_book(view)
                if view.release_held() and market_id not in self._again:
                    return
            except Exception as error:  # noqa: BLE001 - engine and database come back; a view that gave up would stay wrong
                _log.warning("stream.not_synchronised", symbol=view.market.symbol, error=repr(error))
            await self._sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the workers
            delay_s = min(delay_s * 2, _RETRY_DELAY_MAX_S)

    async def _take_book(self, view: MarketView) -> None:
        market_id = view.market.market_id
        sequence, answer = await self._read_book(market_id, 0)
        if sequence < view.sequence:
            raise StaleBookError(sequence, view.sequence)
        await self._catch_up_trades(view)
        since: int = view.sequence
        touched: TouchedPrices | None = None
        if view.is_followed_closely:
            # who joins during this wait follows from the same position
            since, touched = await self._touched_prices(view, sequence)
        if view.is_ready:
            STREAM_RESYNCHRONISATIONS.inc()
        view.replace(sequence, answer, touched, touched_since=since, now_us=self._clock_us())

    async def _touched_prices(self, view: MarketView, sequence: int) -> tuple[int, TouchedPrices]:
        """Where something happened up to ``sequence``, and behind which position that is everything."""
        market_id, since = view.market.market_id, view.sequence
        if view.is_ready:
            try:
                return since, await self._history.touched_prices(market_id, since, sequence)
            except GapTooLongError:
                _log.warning("stream.gap_too_long", symbol=view.market.symbol, rows=sequence - since)
        return sequence - 1, await self._history.touched_prices(market_id, sequence - 1, sequence)

    async def _catch_up_trades(self, view: MarketView) -> None:
        market_id = view.market.market_id
        if view.last_trade_id is None or not view.trade_listeners:
            newest = await self._history.last_trade_id(market_id)
            # who joined during this wait wants every trade after the last one known until then
            if view.last_trade_id is None or not view.trade_listeners:
                view.last_trade_id = newest
                return
        has_more = True
        while has_more:
            trades, has_more = await whole_commands_after(self._history, market_id, view.last_trade_id, _TRADES_PAGE)
            view.tell_trades(trades)
            if has_more:
                await self._sleep(_TRADES_PAUSE_S)  # so that subscribers take them before they count as slow
