"""An API worker's life: connects to PostgreSQL, Redis and the engine, serves until told to stop, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import uvicorn
from redis.asyncio import Redis

from rtx.api.application import create_application
from rtx.api.context import ApiSettings
from rtx.api.directories import make_context
from rtx.api.history_reads import POSITION_TIMEOUT_S, HistoryReads
from rtx.api.order_entry_protocol import OrderEntryProtocol
from rtx.api.streams.websocket_protocol import StreamWebSocketProtocol
from rtx.link.client import EngineClient, Locate
from rtx.link.following import LOCATE_TIMEOUT_S
from rtx.link.handshake import derive_key
from rtx.observability.logging import get_logger
from rtx.settings import Settings
from rtx.store.connection import DATABASE_ERRORS, Pool, connect_engine, create_pool
from rtx.store.leader_lookup import LeaderLookup
from rtx.store.lease import Lease
from rtx.supervisor.listeners import API_SOCKET_VARIABLE, BACKLOG, inherited_socket, open_listeners

KEEP_ALIVE_S: Final = 75
"""Longer than the idle time of the usual proxies (60 s), so that it is never us who close under a request."""

REDIS_TIMEOUT_S: Final = 2.0
DATABASE_RETRY_INTERVAL_S: Final = 0.25
WEBSOCKET_MESSAGE_BYTES_MAX: Final = 65_536
WEBSOCKET_PING_INTERVAL_S: Final = 20.0
WEBSOCKET_PING_TIMEOUT_S: Final = 60.0

_GC_THRESHOLDS: Final = (50_000, 20, 50)

_log = get_logger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process by the signal instead of with code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; the sockets are the supervisor's where there is one."""
    async with contextlib.AsyncExitStack() as stack:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        pool = await _connect_database(settings, stopping)
        if pool is None:
            return
        stack.callback(pool.terminate)
        redis = Redis.from_url(
            settings.redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        stack.push_async_callback(redis.aclose)
        lookup = LeaderLookup(
            lambda: connect_engine(
                settings.database_url, application_name="rtx-api-leader", command_timeout_s=LOCATE_TIMEOUT_S
            )
        )
        stack.callback(lookup.close)
        engine = EngineClient(derive_key(settings.jwt_secret), _locator(lookup.read))
        lookup.on_change = engine.look_again
        engine.start()
        stack.push_async_callback(engine.stop)
        replica = await _replica(settings)
        if replica is not None:
            stack.callback(replica.terminate)
        context = make_context(
            _api_settings(settings),
            pool=pool,
            redis_client=redis,
            engine=engine,
            history=HistoryReads(pool, replica, lambda: engine.position(timeout_s=POSITION_TIMEOUT_S)),
        )
        server = _Server(_configuration(settings, create_application(context)))
        watch = asyncio.create_task(_stop_server(server, stopping))
        stack.callback(watch.cancel)
        # What lives now lives as long as the process; collections need not look at it, and need not come often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        _log.info("api worker serves")
        await server.serve(sockets=[_listener(settings)])
    _log.info("api worker stopped")


async def _connect_database(settings: Settings, stopping: asyncio.Event) -> Pool | None:
    """Open the pool, however long the database is away; None when asked to stop meanwhile."""
    while not stopping.is_set():
        try:
            return await create_pool(
                settings.database_url,
                application_name="rtx-api",
                minimum_size=min(2, settings.database_pool_connections_max),
                maximum_size=settings.database_pool_connections_max,
            )
        except DATABASE_ERRORS as error:
            _log.warning("waiting for the database", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(DATABASE_RETRY_INTERVAL_S)
    return None


async def _replica(settings: Settings) -> Pool | None:
    """The pool of the replica, if there is one; it connects when it is first needed, so that it may be away now."""
    if settings.database_replica_url is None:
        return None
    return await create_pool(
        settings.database_replica_url,
        application_name="rtx-api-history",
        minimum_size=0,
        maximum_size=settings.database_pool_connections_max,
    )


def _locator(read_lease: Callable[[], Awaitable[Lease | None]]) -> Locate:
    """Finds the engine that leads by the lease, also by one that ran out: its engine may be about to renew it."""

    async def locate() -> tuple[str, int] | None:
        try:
            lease = await read_lease()
        except DATABASE_ERRORS:
            return None
        if lease is None:
            return None
        host, _, port = lease.address.rpartition(":")
        return host.strip("[]"), int(port)

    return locate


def _api_settings(settings: Settings) -> ApiSettings:
    previous = () if settings.jwt_secret_previous is None else (settings.jwt_secret_previous,)
    return ApiSettings(
        jwt_secrets=(settings.jwt_secret, *previous),
        trusted_proxies=settings.trusted_proxies,
        request_body_bytes_max=settings.request_body_bytes_max,
        engine_timeout_s=settings.engine_timeout_s,
        engine_holder=settings.engine_holder,
    )


def _configuration(settings: Settings, application: Callable[..., object]) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        interface="asgi3",
        loop="none",
        http=OrderEntryProtocol,
        ws=StreamWebSocketProtocol,
        ws_max_size=WEBSOCKET_MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,  # costs half as much again for every message of every client
        ws_ping_interval=WEBSOCKET_PING_INTERVAL_S,
        ws_ping_timeout=WEBSOCKET_PING_TIMEOUT_S,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.shutdown_grace_s) or 1,
    )


def _listener(settings: Settings) -> socket.socket:
    return inherited_socket(API_SOCKET_VARIABLE) or open_listeners(settings.host, settings.port, 1, "RTX_PORT")[0]


async def _stop_server(server: uvicorn.Server, stopping: asyncio.Event) -> None:
    await stopping.wait()
    server.should_exit = True
