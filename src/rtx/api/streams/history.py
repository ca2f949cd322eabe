"""What the feed asks PostgreSQL for when it missed something: nothing that was committed is ever only in Redis.

It must be the database that the engine commits to: a replica that lags behind would leave trades out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from rtx.api.streams.recent_touches import TouchedPrices
from rtx.core.events import OrderState, decode_events
from rtx.core.vocabulary import BUY, SELL
from rtx.link.market_data import PublicTrade
from rtx.store import trades as stored_trades
from rtx.store.connection import Pool
from rtx.store.journal import JournalStore

JOURNAL_ROWS_MAX: Final = 200_000
"""How long a gap may be for the prices touched in it to be looked up."""

_JOURNAL_PAGE_ROWS: Final = 1000


class GapTooLongError(Exception):
    """More was committed in the gap than is worth reading."""


class NotCommittedError(Exception):
    """The journal does not reach that far (yet)."""


class History(Protocol):
    """What was committed."""

    async def last_trade_id(self, market_id: int) -> int:
        """Number of the newest trade, 0 before the first."""
        ...

    async def trades_after(self, market_id: int, trade_id: int, limit: int) -> list[PublicTrade]:
        """The first ``limit`` trades after one, ascending."""
        ...

    async def touched_prices(self, market_id: int, after: int, up_to: int) -> TouchedPrices:
        """Where orders came, changed or went in the journal positions behind ``after`` up to and with ``up_to``.

        Raises :class:`GapTooLongError` and :class:`NotCommittedError`.
        """
        ...


async def whole_commands_after(
    history: History, market_id: int, trade_id: int, limit: int
) -> tuple[list[PublicTrade], bool]:
    """The first trades after one, about ``limit``, and whether there may be more.

    They end with the last trade of a command: what one order took at one price is told as one.
    """
    trades = await history.trades_after(market_id, trade_id, limit)
    while len(trades) == limit:
        # what has the time of the last one may go on behind it
        whole = [trade for trade in trades if trade.time_us < trades[-1].time_us]
        if whole:
            return whole, True
        limit *= 2
        trades = await history.trades_after(market_id, trade_id, limit)
    return trades, False


class PostgresHistory:
    """The history in PostgreSQL."""

    def __init__(self, pool: Pool) -> None:
        """``pool`` stays the caller's."""
        self._pool = pool
        self._journal = JournalStore(pool)

    async def last_trade_id(self, market_id: int) -> int:
        """See :class:`History`."""
        newest = await stored_trades.recent(self._pool, market_id, limit=1)
        return newest[-1].trade_id if newest else 0

    async def trades_after(self, market_id: int, trade_id: int, limit: int) -> list[PublicTrade]:
        """See :class:`History`."""
        return [
            PublicTrade(
                trade_id=trade.trade_id,
                price=trade.price,
                quantity=trade.quantity,
                quote_quantity=trade.quote_quantity,
                time_us=trade.time_us,
                buyer_is_maker=trade.taker_side == SELL,
            )
            for trade in await stored_trades.from_id(self._pool, market_id, trade_id + 1, limit=limit)
        ]

    async def touched_prices(self, market_id: int, after: int, up_to: int) -> TouchedPrices:
        """See :class:`History`. Every change of a level is some order's change, and the journal has every order's."""
        if up_to - after > JOURNAL_ROWS_MAX:
            raise GapTooLongError
        touched = TouchedPrices()
        sides: Mapping[bool, set[int]] = {True: touched.bids, False: touched.asks}
        while after < up_to:
            entries = await self._journal.read_after(after, min(_JOURNAL_PAGE_ROWS, up_to - after))
            if not entries:
                raise NotCommittedError
            for entry in entries:
                for event in decode_events(entry.events):
                    if isinstance(event, OrderState) and event.market_id == market_id and event.price:
                        sides[event.side == BUY].add(event.price)
            after = entries[-1].sequence
            await asyncio.sleep(0)  # a long gap must not hold up the requests of this worker
        return touched
