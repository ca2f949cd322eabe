"""Slows down whoever guesses passwords: bounds the failed logins of an e-mail address and of a network address.

The counters live in Redis, shared by all workers. No answer about money depends on them: when Redis is away each worker
counts for itself, which gives a guesser as many tries again as there are workers, and everybody else's logins go on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import redis.exceptions
import structlog
from redis.asyncio import Redis

WINDOW_S: Final = 300
"""A window begins with the first attempt and ends, with all that it counted, this much later."""

EMAIL_FAILURES_MAX: Final = 20
ADDRESS_FAILURES_MAX: Final = 100
EMAIL_AT_ADDRESS_FAILURES_MAX: Final = 10
"""Lowest, so that a stranger's guesses from elsewhere reach the owner's own attempts last."""

_REDIS_TIMEOUT_S: Final = 0.25
_LOCAL_COUNTERS_MAX: Final = 10_000

_log = structlog.get_logger(__name__)


class TooManyLoginsError(Exception):
    """Too many failed attempts; ``retry_after_s`` seconds from now the window is over."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Count:
    """What a counter stands at, and how long its window still lasts."""

    value: int
    remaining_s: int


class Counters(Protocol):
    """Counters that forget themselves at the end of their window."""

    async def add(self, names: Sequence[str]) -> list[Count]:
        """Add one to each counter and say what each stands at."""

    async def take_back(self, names: Sequence[str]) -> None:
        """Take one off each counter."""


class LocalCounters:
    """Counters of this process, at most ``counters_max``: then the oldest go. ``now_s`` is a monotonic clock."""

    def __init__(self, now_s: Callable[[], float], counters_max: int = _LOCAL_COUNTERS_MAX) -> None:
        self._now_s = now_s
        self._counters_max = counters_max
        self._windows: dict[str, tuple[float, int]] = {}

    async def add(self, names: Sequence[str]) -> list[Count]:
        """Add one to each counter and say what each stands at."""
        return [self._add(name) for name in names]

    async def take_back(self, names: Sequence[str]) -> None:
        """Take one off each counter."""
        for name in names:
            if name in self._windows:
                end_s, value = self._windows[name]
                self._windows[name] = (end_s, max(0, value - 1))

    def _add(self, name: str) -> Count:
        now_s = self._now_s()
        end_s, value = self._windows.get(name, (now_s, 0))
        if end_s <= now_s:
            self._windows.pop(name, None)
            end_s, value = now_s + WINDOW_S, 0
        self._windows[name] = (end_s, value + 1)
        if len(self._windows) > self._counters_max:
            del self._windows[next(iter(self._windows))]
        return Count(value + 1, max(1, round(end_s - now_s)))


class RedisCounters:
    """Counters shared by all workers; raises redis-py's errors and ``TimeoutError``."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def add(self, names: Sequence[str]) -> list[Count]:
        """Add one to each counter and say what each stands at."""
        async with asyncio.timeout(_REDIS_TIMEOUT_S), self._client.pipeline(transaction=True) as pipeline:
            for name in names:
                pipeline.set(name, 0, ex=WINDOW_S, nx=True)
                pipeline.incr(name)
                pipeline.ttl(name)
            answers: list[Any] = await pipeline.execute()
        return [Count(int(answers[index + 1]), max(1, int(answers[index + 2]))) for index in range(0, len(answers), 3)]

    async def take_back(self, names: Sequence[str]) -> None:
        """Take one off each counter."""
        async with asyncio.timeout(_REDIS_TIMEOUT_S), self._client.pipeline(transaction=True) as pipeline:
            for name in names:
                pipeline.set(name, 1, ex=WINDOW_S, nx=True)
                pipeline.decr(name)
            await pipeline.execute()


class LoginThrottle:
    """Counts attempts before they are made and takes back those that succeed: so many at the same time count too."""

    def __init__(self, client: Redis | None, now_s: Callable[[], float]) -> None:
        self._shared = RedisCounters(client) if client is not None else None
        self._local = LocalCounters(now_s)

    async def begin(self, email: str, address: str) -> None:
        """Count an attempt; raises :class:`TooManyLoginsError` when it must not be made."""
        limits = _limits(email, address)
        counts = await self._counted(lambda counters: counters.add(list(limits)))
        exceeded = [
            count.remaining_s for count, limit in zip(counts, limits.values(), strict=True) if count.value > limit
        ]
        if exceeded:
            # A refused attempt counts nowhere, or guesses from one place would use up what all places share.
            await self._counted(lambda counters: counters.take_back(list(limits)))
            raise TooManyLoginsError(max(exceeded))

    async def succeeded(self, email: str, address: str) -> None:
        """Take back an attempt that turned out to be the owner's."""
        limits = _limits(email, address)
        await self._counted(lambda counters: counters.take_back(list(limits)))

    async def _counted(self, use: Callable[[Counters], Awaitable[Any]]) -> Any:
        if self._shared is not None:
            try:
                return await use(self._shared)
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                _log.warning("login_throttle_without_redis", error=type(error).__name__)
        return await use(self._local)


def _limits(email: str, address: str) -> dict[str, int]:
    """Names of the counters of an attempt with their limits; e-mail addresses are not written to Redis as they are."""
    email_digest = hashlib.sha256(email.lower().encode()).hexdigest()[:32]
    return {
        f"rtx:login:email:{email_digest}": EMAIL_FAILURES_MAX,
        f"rtx:login:address:{address}": ADDRESS_FAILURES_MAX,
        f"rtx:login:pair:{email_digest}:{address}": EMAIL_AT_ADDRESS_FAILURES_MAX,
    }
