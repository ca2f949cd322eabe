"""Hears when something happened that engines wait for: a lease released or taken, a handover ordered.

PostgreSQL's notifications get lost with their connection, so whoever waits looks again after a while in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import asyncpg

from rtx.store.connection import DATABASE_ERRORS

CHANNEL: Final = "rtx_engine"

RETRY_INTERVAL_S: Final = 1.0

Connect: TypeAlias = "Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]]"


class EngineWatch:
    """Listens on a connection of its own, and opens another when that is lost (see rtx.store.protocols.Watch)."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._happened = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen; raises what connecting raises."""
        lost = await self._listen()
        self._keeping = asyncio.create_task(self._keep(lost), name="engine-watch")

    def stop(self) -> None:
        """Close the connection."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._connection is not None:
            self._connection.terminate()

    async def wait(self, timeout_s: float) -> bool:
        """Return True as soon as something happened since the last call, False after ``timeout_s`` seconds."""
        if not self._happened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._happened.wait()
        happened = self._happened.is_set()
        self._happened.clear()
        return happened

    async def _listen(self) -> asyncio.Event:
        """Open a connection; gives the event that its end sets."""
        lost = asyncio.Event()
        self._connection = connection = await self._connect()
        connection.add_termination_listener(lambda _connection: lost.set())
        await connection.add_listener(CHANNEL, self._hear)
        return lost

    async def _keep(self, lost: asyncio.Event) -> None:
        while True:
            await lost.wait()
            try:
                lost = await self._listen()
            except DATABASE_ERRORS:
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            # What was said meanwhile is lost.
            self._happened.set()

    def _hear(self, *_details: Any) -> None:
        self._happened.set()
