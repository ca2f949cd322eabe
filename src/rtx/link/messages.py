"""What API workers and the engine say to each other.

A frame is a 4-byte big-endian length and a MessagePack array of messages of one kind: an API worker sends what its
requests of one turn of the event loop wanted in one frame, the engine answers a whole batch in one frame.
"""

from __future__ import annotations

from typing import Final

import msgspec

PROTOCOL_VERSION: Final = 2
"""What this program speaks; with a peer of the version before it speaks that one.

2: an engine that does not lead says with :data:`UNAVAILABLE` where the leader is to be found, and an engine that begins
to lead says so unasked (:data:`POSITION_NUMBER`).
"""

POSITION_NUMBER: Final = 0
"""Number of the answers that tell nothing but that an engine leads, and its journal position (:data:`ANSWERED`).

A worker asks for one by :data:`QUERY_POSITION` under this number; since version 2 it also comes unasked when a term
begins, with the term's epoch as its payload. The worker gives that back as the payload of a :data:`QUERY_POSITION`
before it sends commands over that connection again: what the engine reads before it was on its way since an earlier
term, and may have been answered by another leader since.
"""

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

QUERY_DEADLINES: Final = 4
"""When the dead-man's switches of an account go off, after the last command before the query; the payload is its id.

The answer is a list of session and deadline (Unix microseconds), sorted. Engines from before there were any refuse it.
"""

APPLIED: Final = 0
"""The command is in the journal and committed; the payload is its encoded events."""

REJECTED: Final = 1
"""The exchange refused; the payload is encoded :class:`rtx.core.events.Rejected` events. Nothing was changed."""

ANSWERED: Final = 2
"""A query's answer is in the payload."""

OVERLOADED: Final = 3
"""The queue is full; the command was not taken, try again."""

UNAVAILABLE: Final = 4
"""The engine cannot take commands now (it reloads, stops or does not lead); nothing was applied under this answer.

The payload is nil, or since version 2 the address (``host:port``) of the engine that leads or is about to.
"""

CONFLICT: Final = 5
"""The command id is in the journal with another request hash: an idempotency key used for a different request."""

FAULTED: Final = 6
"""The command met a fault in the engine, which stopped before anything was journaled; it is not to be sent again."""


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request of an API worker.

    ``number`` pairs the answer with it on this connection, and is 1 or more but for :data:`POSITION_NUMBER`.
    ``command_id`` (16 bytes) is unique in the journal.
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
