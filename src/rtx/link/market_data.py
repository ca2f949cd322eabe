"""What the engine publishes about a market after each commit, through Redis, to every API worker.

Delivery is at most once: ``previous_sequence`` lets a receiver see that it missed something, and take the book afresh
from the engine (:data:`rtx.link.messages.QUERY_BOOK`). Updates of several engines may come mixed and late: each stays
true, and a receiver takes those that continue its own position.
"""

from __future__ import annotations

import msgspec


class PublicTrade(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A trade as everybody may see it; price in ticks, quantity in lots, quote quantity in smallest quote units."""

    trade_id: int
    price: int
    quantity: int
    quote_quantity: int
    time_us: int
    buyer_is_maker: bool


class MarketUpdate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that happened in one market behind one journal position up to another; often nothing.

    ``bids`` and ``asks`` are (price in ticks, new total quantity in lots; 0: the level is gone). ``sequence`` is the
    journal position after the batch, ``previous_sequence`` one behind which nothing else happened in this market (0:
    the publisher knows none).
    """

    market_id: int
    previous_sequence: int
    sequence: int
    time_us: int
    trades: list[PublicTrade]
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


def channel(market_id: int) -> str:
    """Name of the Redis channel of a market."""
    return f"rtx:market:{market_id}"


encode_market_update = msgspec.msgpack.Encoder().encode
decode_market_update = msgspec.msgpack.Decoder(MarketUpdate).decode
