"""Hears when something happened that engines wait for: a lease released or taken, a handover ordered.

PostgreSQL's notifications get lost with their connection, so whoever waits looks again after a while in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import asyncpg

CHANNEL: Final = "rtx_engine"


class EngineWatch:
    """Listens on one connection of its own (see :class:`rtx.store.protocols.Watch`)."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._happened = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen."""
        await self._connection.add_listener(CHANNEL, self._hear)

    async def wait(self, timeout_s: float) -> bool:
        """Return True as soon as something happened since the last call, False after ``timeout_s`` seconds."""
        if not self._happened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._happened.wait()
        happened = self._happened.is_set()
        self._happened.clear()
        return happened

    def _hear(self, *_details: Any) -> None:
        self._happened.set()
