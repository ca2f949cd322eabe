"""What endpoints need from the process they run in, handed to them instead of imported by them."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec
from starlette.requests import HTTPConnection

from rtx.api.secrets_at_rest import SecretBox
from rtx.core.commands import AnyCommand
from rtx.link.messages import BookAnswer, Response
from rtx.store.connection import Pool

if TYPE_CHECKING:
    import redis.asyncio

    from rtx.api.api_key_cache import ApiKeyCache
    from rtx.api.auth.service import Authentication
    from rtx.api.book_reader import BookReader
    from rtx.api.history_reads import HistoryReads
    from rtx.api.markets import MarketDirectory
    from rtx.link.client import Applied

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONTEXT_KEY: Final = "rtx.context"
"""Where the ASGI scope carries the context."""

REQUEST_ID_KEY: Final = "rtx.request_id"
"""Where the ASGI scope carries the request id (a ``str``)."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an API worker is told; durations carry their unit.

    ``jwt_secrets``: valid values of ``JWT_SECRET``, the current one first. ``trusted_proxies``: networks whose
    ``X-Forwarded-For`` is believed. ``engine_holder``: the name of the engine of the same replica.
    """

    jwt_secrets: tuple[str, ...]
    trusted_proxies: tuple[Network, ...] = ()
    request_body_bytes_max: int = 64 * 1024
    engine_timeout_s: float = 10.0
    receive_window_default_ms: int = 5000
    receive_window_max_ms: int = 60_000
    api_key_cache_ttl_s: float = 60.0
    engine_holder: str = ""


class Engine(Protocol):
    """The engine as the API sees it; :class:`rtx.link.client.EngineClient` in production, the core itself in tests."""

    async def submit(
        self,
        command: AnyCommand,
        *,
        request_id: str,
        command_id: bytes | None = None,
        request_hash: bytes = b"",
        timeout_s: float = 10.0,
    ) -> Applied:
        """Have a command executed and committed; the exceptions are those of :mod:`rtx.link.client`."""
        ...

    def begin(
        self,
        command: AnyCommand,
        *,
        request_id: str,
        command_id: bytes | None = None,
        request_hash: bytes = b"",
        timeout_s: float = 10.0,
    ) -> asyncio.Future[Response]:
        """Send a command and give what :meth:`conclude` wants: the first half of :meth:`submit`."""
        ...

    def conclude(self, response: Response) -> Applied:
        """Read the engine's answer: the second half of :meth:`submit`."""
        ...

    async def book(self, market_id: int, limit: int) -> tuple[int, BookAnswer]:
        """Read the best ``limit`` levels a side (0: all) and the journal position they hold at."""
        ...

    async def deadlines(self, account_id: int) -> list[tuple[str, int]]:
        """Read an account's armed dead-man's switches: session and deadline in Unix microseconds."""
        ...

    async def state_hash(self) -> tuple[int, bytes]:
        """Read the hash of the whole state and the journal position it holds at."""
        ...

    async def position(self, *, timeout_s: float = 10.0) -> int:
        """Read the journal position, which an engine tells only while it leads."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether the engine can be reached at this moment."""
        ...


@dataclass(slots=True, kw_only=True)
class ApiContext:
    """One API worker's connections and caches."""

    settings: ApiSettings
    pool: Pool
    history: HistoryReads
    engine: Engine
    redis: redis.asyncio.Redis
    secrets: SecretBox
    markets: MarketDirectory
    api_keys: ApiKeyCache
    books: BookReader
    auth: Authentication
    clock_us: Callable[[], int]
    """Microseconds since the Unix epoch."""


def context_of(connection: HTTPConnection) -> ApiContext:
    """Give the context in a Starlette endpoint (request or WebSocket)."""
    return cast("ApiContext", connection.scope[CONTEXT_KEY])


def request_id_of(connection: HTTPConnection) -> str:
    """Give the request id in a Starlette endpoint; it belongs in log lines and in ``Engine.submit``."""
    return cast("str", connection.scope[REQUEST_ID_KEY])


def client_address(peer: tuple[str, int] | None, forwarded_for: str, trusted_proxies: tuple[Network, ...]) -> str:
    """Find the address a request comes from; ``peer`` is the other end of its connection.

    ``forwarded_for`` (``X-Forwarded-For``) is read from its right end, and only as far as the hops are trusted proxies:
    what stands further left anybody may have written. Returns "" where the transport has no addresses.
    """
    address = peer[0] if peer else ""
    if not forwarded_for or not trusted_proxies:
        return address
    hops = [hop.strip() for hop in forwarded_for.split(",")]
    while hops and _is_within(address, trusted_proxies):
        address = hops.pop()
    return address


def _is_within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
