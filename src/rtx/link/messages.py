"""What API workers and the engine say to each other.

A frame is a 4-byte big-endian length and a MessagePack array of messages of one kind: an API worker sends what its
requests of one turn of the event loop wanted in one frame, the engine answers a whole batch in one frame.
"""

from __future__ import annotations

from typing import Final

import msgspec

PROTOCOL_VERSION: Final = 1

MAXIMUM_FRAME_BYTES: Final = 16 * 1024 * 1024

COMMAND_ID_BYTES: Final = 16

SUBMIT: Final = 0
"""A command; the payload is :func:`rtx.core.commands.encode_command`."""

QUERY_BOOK: Final = 1
"""The book of a market as of the last command before the query; the payload is :class:`BookQuery`."""

QUERY_STATE_HASH: Final = 2
"""The hash of the whole state as of the last command before the query; no payload."""

QUERY_POSITION: Final = 3
"""The journal position, which only an engine that leads can tell; no payload, and none in the answer."""

APPLIED: Final = 0
"""The command is in the journal and committed; the payload is its encoded events."""

REJECTED: Final = 1
"""The exchange refused; the payload is encoded :class:`rtx.core.events.Rejected` events. Nothing was changed."""

ANSWERED: Final = 2
"""A query's answer is in the payload."""

OVERLOADED: Final = 3
"""The queue is full; the command was not taken, try again."""

UNAVAILABLE: Final = 4
"""The engine cannot take commands now (it reloads or stops); the command was not applied under this answer."""

CONFLICT: Final = 5
"""The command id is in the journal with another request hash: an idempotency key used for a different request."""

FAULTED: Final = 6
"""The command met a fault in the engine, which stopped before anything was journaled; it is not to be sent again."""


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request of an API worker.

    ``number`` pairs the answer with it on this connection. ``command_id`` (16 bytes) is unique in the journal.
    ``may_be_known`` asks the engine to look for the id in the journal first (a re-sent command, or one that carries an
    idempotency key). ``request_hash`` (32 bytes or empty) is compared when the id is known already.
    """

    number: int
    kind: int
    payload: msgspec.Raw
    command_id: bytes = b""
    request_id: str = ""
    may_be_known: bool = False
    request_hash: bytes = b""


class Response(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One answer. ``sequence`` is the journal position it holds at, ``time_us`` the journaled time of the command."""

    number: int
    status: int
    sequence: int
    time_us: int
    payload: msgspec.Raw


class BookQuery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ask for the best ``limit`` levels of each side."""

    market_id: int
    limit: int


class BookAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Levels best first as (price in ticks, quantity in lots); ``last_price`` 0 before the first trade."""

    market_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    last_price: int
