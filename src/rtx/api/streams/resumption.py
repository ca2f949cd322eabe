"""Lets a client that lost its connection go on where it was, at any worker, without taking a snapshot again.

It names the last number it holds: the update id of a book (``u`` of the last ``depthUpdate``, or ``lastUpdateId`` of a
snapshot), or the last trade id. These numbers come from the journal and are the same at every worker. What happened
since comes from memory where it is recent, else from PostgreSQL; where it is too much, the client is told to begin as
everybody begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import structlog

from rtx.api.streams.feed import MarketFeed
from rtx.api.streams.history import History, NotCommittedError, whole_commands_after
from rtx.api.streams.market_streams import DepthStream, TradesStream
from rtx.api.streams.market_view import MarketView
from rtx.api.streams.stream import Stream
from rtx.link.market_data import PublicTrade

ID_MAX: Final = 2**63 - 1

JOURNAL_ROWS_MAX: Final = 100_000
"""How many journal positions that are not in memory any more are looked up."""

PRICES_MAX: Final = 10_000
"""How many levels are told; a snapshot has no more."""

TRADES_MAX: Final = 10_000

_TRADES_PAGE: Final = 500
TIMEOUT_S: Final = 10.0
_ATTEMPTS: Final = 3

_log = structlog.get_logger("rtx.api.streams.resumption")


class ResumeRefusedError(Exception):
    """A stream cannot go on from there; the message says why, and what to do instead."""


class Subscription(NamedTuple):
    """What a client wants: a stream, and the last number of it that it holds (None: from now on)."""

    stream: Stream
    after: int | None = None


class Resumption:
    """Finds what clients missed."""

    def __init__(self, feed: MarketFeed, history: History) -> None:
        """``history`` is also the feed's."""
        self._feed = feed
        self._history = history
        self._looking_up = asyncio.Lock()

    async def prepare(self, subscriptions: Sequence[Subscription]) -> None:
        """Make sure that all of them can go on; raises :class:`ResumeRefusedError`, and then none does."""
        resumed = [(one.stream, one.after) for one in subscriptions if one.after is not None]
        for _ in range(_ATTEMPTS):
            for stream, after in resumed:
                await self._prepare(stream, after)
            # what was ready first may be forgotten when the last one is ready
            if all(is_ready(stream, after) for stream, after in resumed):
                return
        raise _not_now(resumed[0][0])

    async def missed_trades(self, stream: TradesStream, after: int) -> AsyncIterator[list[PublicTrade]]:
        """The trades after one, up to where the stream is when this ends: join it in the same turn of the loop."""
        view = stream.view
        while view.last_trade_id is not None and after < view.last_trade_id:
            trades, _ = await whole_commands_after(self._history, view.market.market_id, after, _TRADES_PAGE)
            trades = [trade for trade in trades if trade.trade_id <= view.last_trade_id]
            if not trades:
                raise NotCommittedError
            after = trades[-1].trade_id
            yield trades

    async def _prepare(self, stream: Stream, after: int) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if isinstance(stream, DepthStream):
                    await self._prepare_depth(stream, after)
                elif isinstance(stream, TradesStream):
                    await self._prepare_trades(stream, after)
                else:
                    raise ResumeRefusedError(
                        f"Stream {stream.name} cannot be resumed, it begins with what it shows now; "
                        "@depth can by update id, @trade and @aggTrade by trade id"
                    )
        except ResumeRefusedError:
            raise
        except Exception as error:
            _log.warning("stream.not_resumed", stream=stream.name, error=repr(error))
            raise _not_now(stream) from error

    async def _prepare_depth(self, stream: DepthStream, after: int) -> None:
        view = stream.view
        if after > view.sequence or not view.is_ready:
            newest = await self._feed.newest_position(view)
            if after > newest:
                raise ResumeRefusedError(
                    f"Cannot resume {stream.name} after update {after}: the newest is {newest}; take a snapshot"
                )
            while after > view.sequence or not view.is_ready:
                await self._feed.refresh(view)
        if not view.touches.covers(after):
            async with self._looking_up:
                await self._look_up(view, stream, after)
        touched = view.touches.after(after)
        if len(touched.bids) + len(touched.asks) > PRICES_MAX:
            raise _too_long(stream, after)

    async def _look_up(self, view: MarketView, stream: DepthStream, after: int) -> None:
        """Let the view's touches reach back; whoever asks for the same or less afterwards finds them in memory."""
        while not view.touches.covers(after):
            since = view.touches.since
            if since - after > JOURNAL_ROWS_MAX:
                raise _too_long(stream, after)
            touched = await self._history.touched_prices(view.market.market_id, after, since)
            if view.touches.since == since:
                view.touches.reach_back(after, touched)

    async def _prepare_trades(self, stream: TradesStream, after: int) -> None:
        view = stream.view
        if view.last_trade_id is None or after > view.last_trade_id:
            newest = await self._history.last_trade_id(view.market.market_id)
            if after > newest:
                raise ResumeRefusedError(f"Cannot resume {stream.name} after trade {after}: the newest is {newest}")
            while view.last_trade_id is None or after > view.last_trade_id:
                await self._feed.refresh(view)
        if view.last_trade_id - after > TRADES_MAX:
            raise ResumeRefusedError(
                f"Cannot resume {stream.name} after trade {after}: {view.last_trade_id - after} trades were missed, "
                f"at most {TRADES_MAX} are told; subscribe without resume and take them from /api/v3/historicalTrades"
            )


def is_ready(stream: Stream, after: int) -> bool:
    """Whether a stream can go on from there without waiting for anything but its trades."""
    if isinstance(stream, DepthStream):
        view = stream.view
        return view.is_ready and after <= view.sequence and view.touches.covers(after)
    if isinstance(stream, TradesStream):
        return stream.view.last_trade_id is not None and after <= stream.view.last_trade_id
    return False


def _too_long(stream: Stream, after: int) -> ResumeRefusedError:
    return ResumeRefusedError(
        f"Cannot resume {stream.name} after update {after}: too much happened since; "
        "subscribe without resume and take a snapshot"
    )


def _not_now(stream: Stream) -> ResumeRefusedError:
    return ResumeRefusedError(
        f"Cannot resume {stream.name} at this moment; try again, or subscribe without resume and take a snapshot"
    )
