"""Which engine an API worker talks to: it stays with the one that leads, and is at the next one as soon as that leads.

While answers come, nothing here runs. When the engine sends requests back, breaks off or falls silent, the lease is
looked at at once and then every few milliseconds. An engine that is named (by the lease, or by the one that sent
requests back) is connected to beforehand, next to the connection in use, and taken into use when it says itself that it
leads: what the lease names may have died, and what was named as successor may not lead yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from rtx.link.connection import Address, EngineConnection
from rtx.link.handshake import HandshakeError
from rtx.link.messages import POSITION_NUMBER, QUERY_POSITION, Request

INTERVAL_MIN_S: Final = 0.01
INTERVAL_MAX_S: Final = 0.1
INTERVAL_GROWTH: Final = 1.2
LOCATE_TIMEOUT_S: Final = 2.0
"""After this a look at the lease is given up for a new one: it may hang with a connection that the network cut."""

_REFUSED_FIRST_S: Final = 0.05
_REFUSED_MAX_S: Final = 1.0
"""Between attempts at an engine that does not accept the proof: somebody has to change a setting first."""

Locate = Callable[[], Awaitable[Address | None]]
"""Finds host and port of the engine that leads; None when there is none at the moment."""

_log = structlog.get_logger(__name__)


def position_query(term: msgspec.Raw) -> bytes:
    """Ask an engine whether it leads, and give back what it said of its ``term``, if it did."""
    return msgspec.msgpack.encode([Request(POSITION_NUMBER, QUERY_POSITION, term)])


class Following:
    """Keeps a connection to the engine that leads.

    ``connect`` opens a connection; ``on_leader`` is called with every one that is taken into use, and again when its
    engine leads after it had sent requests back. All other methods are called by who uses the connection.
    """

    def __init__(
        self,
        locate: Locate,
        connect: Callable[[Address], Awaitable[EngineConnection]],
        on_leader: Callable[[EngineConnection], None],
    ) -> None:
        self._locate = locate
        self._connect = connect
        self._on_leader = on_leader
        self.connection: EngineConnection | None = None
        """The connection in use."""
        self._is_unavailable = False
        self._is_silent = False
        self._candidate: EngineConnection | None = None
        self._candidate_address: Address | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._locating: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._interval_s = INTERVAL_MIN_S
        self._looked_at_s = float("-inf")
        self._refusals = 0
        self._ended: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    @property
    def is_leading(self) -> bool:
        """Whether requests should be sent now: there is a connection, and nothing was sent back over it."""
        return self.connection is not None and not self._is_unavailable

    @property
    def _is_looking(self) -> bool:
        return self.connection is None or self._is_unavailable or self._is_silent

    def start(self) -> None:
        """Look for the leader."""
        self._look()

    async def stop(self) -> None:
        """Close everything; nothing is called any more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._connecting, self._locating, *self._ended) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in (self.connection, self._candidate):
            if connection is not None:
                connection.close()
        self.connection = self._candidate = None

    # -- what the user of the connection noticed -----------------------------------------------------------------

    def sent_back(self, connection: EngineConnection, address: Address | None) -> None:
        """A request came back unanswered; the engine says that the leader is, or will be, at ``address``."""
        if connection is self.connection:
            self._is_unavailable, self._is_silent = True, False
            self._look()
        # The lease knows better than an engine that does not lead: its word is taken when there is no other.
        if address is not None and self._is_looking and self._candidate_address is None:
            self._try(address)

    def leads(self, connection: EngineConnection) -> None:
        """The engine at the other end says that it leads."""
        if connection is self._candidate:
            self._use(connection)
        elif connection is self.connection and self._is_unavailable:
            self._is_unavailable = False
            self._rest()
            self._on_leader(connection)

    def answered(self, connection: EngineConnection) -> None:
        """Something came over a connection."""
        self._interval_s = INTERVAL_MIN_S
        if self._is_silent and connection is self.connection:
            self._is_silent = False
            self._rest()

    def fell_silent(self) -> None:
        """Nothing has come for a while over the connection in use, although something should have."""
        self._is_silent = True
        self._look()

    def look_again(self) -> None:
        """The lease may have changed."""
        if self._timer is not None and self._is_looking:
            self._timer.cancel()
            self._look_now()

    def lost(self, connection: EngineConnection) -> None:
        """A connection ended."""
        if connection is self._candidate:
            self._candidate = self._candidate_address = None
        elif connection is self.connection:
            self.connection = None
            if self._candidate is not None:
                self._use(self._candidate)
            else:
                self._look()

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look now, or when it is time after the last look."""
        if self._timer is None and not self._is_stopped:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._looked_at_s + self._interval_s), self._look_now)

    def _look_now(self) -> None:
        self._timer = None
        if not self._is_looking:
            return
        self._looked_at_s = asyncio.get_running_loop().time()
        self._interval_s = min(self._interval_s * INTERVAL_GROWTH, INTERVAL_MAX_S)
        if self._locating is None:
            self._locating = asyncio.create_task(self._find_leader())
        for connection in (self.connection, self._candidate):
            if connection is not None and (self._is_unavailable or connection is self._candidate):
                connection.send(position_query(connection.term))
        self._look()

    async def _find_leader(self) -> None:
        address = None
        try:
            async with asyncio.timeout(LOCATE_TIMEOUT_S):
                address = await self._locate()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            _log.warning("leader_not_found", error=repr(error))
        self._locating = None
        if not self._is_looking:
            return
        if address is not None and (self.connection is None or address != self.connection.address):
            self._try(address)
        elif self.connection is not None and not self._is_unavailable:
            # It is silent, and leads as far as is known: it is looked at again when it is still silent in a while.
            self._is_silent = False
            self._rest()

    def _rest(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_candidate()

    # -- connecting ----------------------------------------------------------------------------------------------

    def _try(self, address: Address) -> None:
        """Connect to an engine that may lead, unless that is done or under way."""
        if address == self._candidate_address or (self.connection is not None and address == self.connection.address):
            return
        self._drop_candidate()
        self._candidate_address = address
        self._connecting = asyncio.create_task(self._prepare(address))

    async def _prepare(self, address: Address) -> None:
        try:
            connection = await self._connect(address)
        except (OSError, TimeoutError):
            self._end_connecting()
            return
        except Exception as error:  # noqa: BLE001 - a worker that gave up would never answer again
            _log.error("link_refused", reason=f"{type(error).__name__}: {error}")
            pause_s = min(_REFUSED_FIRST_S * 2**self._refusals, _REFUSED_MAX_S)
            self._refusals += isinstance(error, HandshakeError)
            await asyncio.sleep(pause_s)
            self._end_connecting()
            return
        self._connecting = None
        self._candidate = connection
        if connection.is_closing:
            self.lost(connection)
        elif self.connection is None:
            self._use(connection)
        else:
            connection.send(position_query(connection.term))

    def _end_connecting(self) -> None:
        self._connecting = self._candidate_address = None

    def _drop_candidate(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._ended.add(self._connecting)
            self._connecting.add_done_callback(self._ended.discard)
            self._connecting = None
        if self._candidate is not None:
            self._candidate.close()
            self._candidate = None
        self._candidate_address = None

    def _use(self, connection: EngineConnection) -> None:
        """Take the candidate's connection into use in place of the one that was."""
        previous, self.connection = self.connection, connection
        self._candidate = self._candidate_address = None
        self._is_unavailable = self._is_silent = False
        self._refusals = 0
        self._rest()
        if previous is not None:
            _log.info("link_moves", reason="another engine leads")
            previous.close()
        self._on_leader(connection)
