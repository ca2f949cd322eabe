"""One PostgreSQL connection per worker that hears of changes (``LISTEN``) and says when it might have missed some."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from rtx.store.connection import DATABASE_ERRORS, Pool

_RETRY_S: Final = 0.5

_log = structlog.get_logger("rtx.api.notifications")


class NotificationListener:
    """Keeps a connection that listens, and makes a new one whenever it breaks."""

    def __init__(
        self,
        pool: Pool,
        handlers: Mapping[str, Callable[[str], None]],
        *,
        on_listening: Callable[[], None],
        on_deaf: Callable[[], None],
    ) -> None:
        """``handlers`` by channel get the payload; ``on_deaf`` is called once the connection is known to be gone."""
        self._pool = pool
        self._handlers = handlers
        self._on_listening = on_listening
        self._on_deaf = on_deaf

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except DATABASE_ERRORS as error:
                _log.warning("notifications.unavailable", error=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        lost = asyncio.Event()

        def on_lost(_connection: Any) -> None:
            self._on_deaf()
            lost.set()

        def on_notification(_connection: Any, _process_id: int, channel: str, payload: object) -> None:
            self._handlers[channel](str(payload))

        async with self._pool.acquire() as connection:
            connection.add_termination_listener(on_lost)
            try:
                for channel in self._handlers:
                    await connection.add_listener(channel, on_notification)
                self._on_listening()
                await lost.wait()
                raise ConnectionResetError("the connection was lost")
            finally:
                self._on_deaf()
                # A lost connection has left the pool already, and takes no call any more.
                if not lost.is_set():
                    connection.remove_termination_listener(on_lost)
                    for channel in self._handlers:
                        await connection.remove_listener(channel, on_notification)
