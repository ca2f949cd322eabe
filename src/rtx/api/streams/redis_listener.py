"""Brings the engine's updates from Redis to the feed, and says when the way was interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from redis.exceptions import RedisError

from rtx.link.market_data import MarketUpdate, channel, decode_market_update

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

_PATTERN: Final = channel(0).removesuffix("0") + "*"
_SILENCE_S_MAX: Final = 5.0
"""The engine says every market's position once a second; after so long a silence the connection is tried."""

_FIRST_RETRY_DELAY_S: Final = 0.05
_RETRY_DELAY_MAX_S: Final = 2.0

_log = structlog.get_logger("rtx.api.streams.redis_listener")


class RedisListener:
    """One subscription to all markets."""

    def __init__(
        self, client: Redis, *, on_update: Callable[[MarketUpdate], None], on_subscribed: Callable[[], None]
    ) -> None:
        """``on_subscribed`` is called whenever a subscription begins: what was published before it is lost."""
        self._client = client
        self._on_update = on_update
        self._on_subscribed = on_subscribed

    async def run(self) -> None:
        """Listen until cancelled."""
        delay_s = _FIRST_RETRY_DELAY_S
        was_listening = True
        while True:
            try:
                async with self._subscription() as subscription:
                    async for message in _messages(subscription):
                        if not was_listening:
                            _log.info("streams.redis_is_back")
                        was_listening, delay_s = True, _FIRST_RETRY_DELAY_S
                        self._take(message)
            except Exception as error:  # noqa: BLE001 - whatever went wrong once must not silence the streams for good
                if was_listening:
                    _log.warning("streams.redis_is_away", error=repr(error))
                was_listening = False
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the workers
            delay_s = min(delay_s * 2, _RETRY_DELAY_MAX_S)

    @contextlib.asynccontextmanager
    async def _subscription(self) -> AsyncIterator[PubSub]:
        subscription = self._client.pubsub()
        try:
            await subscription.psubscribe(_PATTERN)
            yield subscription
        finally:
            with contextlib.suppress(RedisError, OSError):
                await subscription.aclose()  # type: ignore[no-untyped-call]

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "pmessage":
            try:
                update = decode_market_update(message["data"])
            except msgspec.MsgspecError as error:
                # whatever it was, the sequence of the next update shows what is missing
                _log.error("streams.undecodable_update", error=str(error))
                return
            self._on_update(update)
        elif message["type"] == "psubscribe":
            # also after a reconnection that the client library made on its own
            self._on_subscribed()


async def _messages(subscription: PubSub) -> AsyncIterator[dict[str, Any]]:
    """Yield what arrives; raises ``ConnectionError`` when nothing does and the server does not answer either."""
    is_tried = False
    while True:
        message = await subscription.get_message(timeout=_SILENCE_S_MAX)
        if message is not None:
            is_tried = False
            yield message
        elif is_tried:
            raise ConnectionError("Redis does not answer")
        else:
            is_tried = True
            await subscription.ping()
