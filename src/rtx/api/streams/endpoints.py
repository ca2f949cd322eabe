"""The addresses of the streams: ``/ws``, ``/ws/<stream>/<stream>`` and ``/stream?streams=<stream>/<stream>``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from rtx.api import errors
from rtx.api.context import CONTEXT_KEY, REQUEST_ID_KEY, ApiContext, client_address
from rtx.api.errors import ApiError
from rtx.api.streams.cancel_on_disconnect import DisconnectSwitches
from rtx.api.streams.connection import StreamConnection, StreamLimits
from rtx.api.streams.feed import MarketFeed
from rtx.api.streams.history import PostgresHistory
from rtx.api.streams.hub import StreamHub, UnknownStreamError
from rtx.api.streams.polled_streams import Polling
from rtx.api.streams.redis_listener import RedisListener
from rtx.api.streams.resumption import ID_MAX, ResumeRefusedError, Resumption, Subscription
from rtx.api.streams.statistics import PostgresStatistics
from rtx.api.streams.stream import MICROSECONDS, MILLISECONDS
from rtx.api.streams.websocket_protocol import EXTENSION, ConnectionControl
from rtx.cancellation import end_tasks

LIMITS: Final = StreamLimits()

_TIME_UNITS: Final = {
    "MILLISECOND": MILLISECONDS,
    "millisecond": MILLISECONDS,
    "MICROSECOND": MICROSECONDS,
    "microsecond": MICROSECONDS,
}

_is_number: Final = re.compile(r"[0-9]{1,19}", re.ASCII).fullmatch

_hubs: dict[int, StreamHub] = {}
"""The hub of each running application, by the identity of its context."""

_switches: dict[int, DisconnectSwitches] = {}
"""What cancels on disconnect in each running application."""


@asynccontextmanager
async def lifespan(context: ApiContext) -> AsyncIterator[None]:
    """Follow every market while the worker runs."""
    history = PostgresHistory(context.pool)
    feed = MarketFeed(context.books.book, history, context.clock_us)
    polling = Polling(PostgresStatistics(context.history))
    hub = StreamHub(feed, context.markets, polling, Resumption(feed, history), context.clock_us)

    def on_subscribed() -> None:
        hub.track_markets()
        feed.resynchronise()

    listener = RedisListener(context.redis, on_update=feed.receive, on_subscribed=on_subscribed)
    hub.track_markets()
    tasks = [asyncio.create_task(listener.run()), asyncio.create_task(hub.keep_pace())]
    _hubs[id(context)] = hub
    switches = _switches[id(context)] = DisconnectSwitches(context)
    try:
        yield
    finally:
        await hub.announce_shutdown()
        await switches.close()
        del _hubs[id(context)], _switches[id(context)]
        await end_tasks(*tasks)
        await feed.close()


class StreamEndpoint:
    """An ASGI application for one of the addresses."""

    def __init__(self, *, is_combined: bool) -> None:
        """``is_combined``: whether messages are wrapped with their stream's name, until the client asks otherwise."""
        self._is_combined = is_combined

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        context: ApiContext = scope[CONTEXT_KEY]
        hub = _hubs[id(context)]
        await receive()  # websocket.connect
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            time_divisor = _time_divisor(query)
            subscriptions = await _find_streams(hub, self._names(scope, query), _positions(query), time_divisor)
        except ApiError as error:
            await _refuse(scope, send, error)
            return
        control = _control(scope)
        connection = StreamConnection(
            hub,
            receive,
            send,
            is_combined=self._is_combined,
            time_divisor=time_divisor,
            now_us=context.clock_us,
            limits=LIMITS,
            abort=control.abort,
            switch=_switches[id(context)].of_connection(_client_address(context, scope), scope[REQUEST_ID_KEY]),
        )
        closing: set[asyncio.Task[None]] = set()
        control.on_shutdown = lambda: closing.add(asyncio.create_task(connection.announce_shutdown()))
        await send({"type": "websocket.accept"})
        await connection.run(subscriptions)

    def _names(self, scope: Scope, query: dict[str, list[str]]) -> list[str]:
        if self._is_combined:
            return [name for names in query.get("streams", ()) for name in names.split("/") if name]
        path = scope["path_params"].get("streams", "")
        # ccxt numbers its connections (/ws/0): what cannot be a stream's name names none
        return [name for name in path.split("/") if "@" in name or "!" in name]


ROUTES: Final = [
    WebSocketRoute("/ws", StreamEndpoint(is_combined=False)),
    WebSocketRoute("/ws/{streams:path}", StreamEndpoint(is_combined=False)),
    WebSocketRoute("/stream", StreamEndpoint(is_combined=True)),
]

LIFESPANS: Final = [lifespan]


def _time_divisor(query: dict[str, list[str]]) -> int:
    unit = query.get("timeUnit", ["MILLISECOND"])[-1]
    if unit not in _TIME_UNITS:
        raise ApiError(
            errors.INVALID_TIME_UNIT, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
        )
    return _TIME_UNITS[unit]


def _positions(query: dict[str, list[str]]) -> dict[str, int]:
    """What ``resume=<stream>:<id>/<stream>:<id>`` says."""
    positions = {}
    for part in "/".join(query.get("resume", ())).split("/"):
        if not part:
            continue
        name, _, number = part.rpartition(":")
        if not name or not _is_number(number) or int(number) > ID_MAX:
            raise ApiError(
                errors.INVALID_PARAMETER,
                "Parameter 'resume' must be <stream>:<last update or trade id>, joined by '/'.",
            )
        positions[name] = int(number)
    return positions


async def _find_streams(
    hub: StreamHub, names: list[str], positions: dict[str, int], time_divisor: int
) -> list[Subscription]:
    distinct = list(dict.fromkeys(names))
    if len(distinct) > LIMITS.streams_max:
        raise ApiError(errors.INVALID_PARAMETER, f"A connection can listen to {LIMITS.streams_max} streams.")
    for name in positions:
        if name not in distinct:
            raise ApiError(errors.INVALID_PARAMETER, f"Parameter 'resume' names {name}, which is not subscribed to.")
    try:
        streams = [await hub.find(name, time_divisor) for name in distinct]
    except UnknownStreamError as error:
        raise ApiError(errors.INVALID_PARAMETER, f"Invalid stream {error}.") from None
    subscriptions = [Subscription(stream, positions.get(stream.name)) for stream in streams]
    try:
        await hub.prepare(subscriptions)
    except ResumeRefusedError as error:
        raise ApiError(errors.CANNOT_RESUME, f"{error}.") from None
    return subscriptions


def _client_address(context: ApiContext, scope: Scope) -> str:
    forwarded_for = dict(scope["headers"]).get(b"x-forwarded-for", b"").decode("latin-1")
    return client_address(scope.get("client"), forwarded_for, context.settings.trusted_proxies)


def _control(scope: Scope) -> ConnectionControl:
    extension: dict[str, Any] = scope.get("extensions", {}).get(EXTENSION, {})
    control: ConnectionControl = extension.get("control") or ConnectionControl(lambda: None)
    return control


async def _refuse(scope: Scope, send: Send, error: ApiError) -> None:
    """Answer the handshake with an error, or at least not with a connection that would stay silent."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error.body()})
