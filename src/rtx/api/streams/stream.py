"""A stream: who subscribed to it, and how one message reaches them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from rtx.observability.metrics import STREAM_MESSAGES

MILLISECONDS: Final = 1000
"""Divisor of microseconds on connections that want milliseconds (the default)."""

MICROSECONDS: Final = 1

TICK_MS: Final = 100
"""How often streams with a fixed pace are looked at."""

_encode: Final = msgspec.json.Encoder().encode


class Subscriber(Protocol):
    """A connection as a stream sees it."""

    @property
    def is_combined(self) -> bool:
        """Whether it wants messages wrapped with the stream's name."""
        ...

    def offer(self, text: str) -> None:
        """Queue a message; never waits, never raises."""
        ...


class QueuedSubscriber(Subscriber, Protocol):
    """A subscriber that can be told much at once, part by part."""

    async def drained(self) -> None:
        """Wait until there is room for many messages."""
        ...


class Stream(ABC):
    """Base of all streams; one object serves every connection of the same name and time unit.

    ``period_ticks``: after how many ticks of :data:`TICK_MS` :meth:`tick` is called; 0 for never.
    """

    period_ticks = 0

    def __init__(self, name: str, time_divisor: int) -> None:
        """``time_divisor`` turns microseconds into the unit that the subscribers asked for."""
        self.name = name
        self.time_divisor = time_divisor
        self._prefix = f'{{"stream":{_encode(name).decode()},"data":'
        # a dict keeps the order of joining, which a set does not
        self._subscribers: dict[Subscriber, None] = {}

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody listens."""
        return bool(self._subscribers)

    @property
    def subscribers(self) -> Iterator[Subscriber]:
        """Everybody who listens."""
        return iter(self._subscribers)

    def join(self, subscriber: Subscriber) -> None:
        """Send to ``subscriber`` from now on, and what it needs to begin with."""
        self._subscribers[subscriber] = None
        message = self.first_message()
        if message is not None:
            self._send([subscriber], message)

    def leave(self, subscriber: Subscriber) -> None:
        """Stop sending to ``subscriber``."""
        self._subscribers.pop(subscriber, None)

    def first_message(self) -> msgspec.Struct | None:
        """What a new subscriber gets at once: where there is a present state, it does not wait for the next change."""
        return None

    @abstractmethod
    def attach(self) -> None:
        """The first subscriber joins: begin to follow the market."""

    @abstractmethod
    def detach(self) -> None:
        """The last subscriber left."""

    def tick(self, now_us: int) -> None:  # noqa: B027 - most streams have no pace of their own
        """Called every ``period_ticks``."""

    def _publish(self, message: msgspec.Struct | list[msgspec.Struct]) -> None:
        self._send(self._subscribers, message)

    def _send(
        self, subscribers: dict[Subscriber, None] | list[Subscriber], message: msgspec.Struct | list[msgspec.Struct]
    ) -> None:
        raw = _encode(message).decode()
        combined = ""
        for subscriber in subscribers:
            if subscriber.is_combined:
                combined = combined or f"{self._prefix}{raw}}}"
                subscriber.offer(combined)
            else:
                subscriber.offer(raw)
        STREAM_MESSAGES.inc(len(subscribers))
