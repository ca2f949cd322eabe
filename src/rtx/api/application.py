"""The ASGI application of an API worker: finds the endpoint, runs it, and answers, counts and logs in one place.

Two kinds of endpoints live side by side. Those of Binance's API (:class:`~rtx.api.requests.BinanceRoute`) have exact
paths and are run here directly; everything else (JSON bodies, path parameters, WebSockets) are Starlette routes. Each
noun's ``endpoints`` module lists its own in ``ROUTES`` and may list async context managers in ``LIFESPANS``, which are
open while the worker runs.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match

from rtx.api import errors
from rtx.api.api_key_cache import ApiKey
from rtx.api.context import CONTEXT_KEY, REQUEST_ID_KEY, ApiContext, client_address
from rtx.api.errors import ApiError
from rtx.api.requests import Begun, BinanceRequest, BinanceRoute, parse_parameters
from rtx.api.signed_requests import api_key_name, check_key, check_signed, find_key
from rtx.api.telemetry import UNKNOWN_ROUTE, RequestLog, RequestMetrics
from rtx.link.messages import Response
from rtx.store.connection import CONNECTION_ERRORS, LOST_CONNECTION_ERRORS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Lifespan = Callable[[ApiContext], AbstractAsyncContextManager[None]]
"""What a noun needs open while the worker runs; entered before the first request, left after the last."""

_NO_HEADERS: Final[Mapping[str, str]] = {}
_JSON: Final = (b"content-type", b"application/json")
_QUERY_BYTES_MAX: Final = 16 * 1024
_DISCARDED_BYTES_MAX: Final = 64 * 1024 * 1024
_DISCARD_S_MAX: Final = 5.0

_is_request_id = re.compile(rb"[\x21-\x7e]{1,64}").fullmatch

_log = structlog.get_logger("rtx.api")


Respond = Callable[[int, bytes, str, Mapping[str, str]], None]
"""Takes an answer: status, JSON body, request id and further headers."""


def create_application(context: ApiContext) -> Application:
    """Make the ASGI application that serves every endpoint with this context."""
    from rtx.api import nouns

    return Application(context, nouns.routes(), nouns.lifespans(), RequestLog())


class _Incoming:
    """One request to an exact path, from its head to its line in the log."""

    __slots__ = ("account_id", "client", "headers", "method", "path", "request_id", "started_s")

    def __init__(self, method: str, path: str, headers: dict[bytes, bytes], client: str, request_id: str) -> None:
        self.started_s = time.perf_counter()
        self.method = method
        self.path = path
        self.headers = headers
        self.client = client
        self.request_id = request_id
        self.account_id = 0


class Application:
    """Endpoints over one context, as an ASGI application."""

    def __init__(
        self,
        context: ApiContext,
        routes: Sequence[BinanceRoute | BaseRoute],
        lifespans: Sequence[Lifespan],
        request_log: RequestLog,
    ) -> None:
        self._context = context
        self._lifespans = lifespans
        self._exact: dict[str, dict[str, BinanceRoute]] = {}
        self._routed: list[BaseRoute] = []
        self.routes_in_halves: dict[tuple[bytes, bytes], BinanceRoute] = {}
        """The endpoints that :meth:`begin` takes, by method and path."""
        for route in routes:
            if isinstance(route, BinanceRoute):
                if route.begin is not None:
                    self.routes_in_halves[route.method.encode(), route.path.encode()] = route
                self._exact.setdefault(route.path, {})[route.method] = route
            else:
                self._routed.append(route)
        self.metrics = RequestMetrics()
        self._request_log = request_log
        self._request_id_prefix = os.urandom(6).hex()
        self._request_numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            methods = self._exact.get(scope["path"])
            if methods is None:
                await self._serve_routed(scope, receive, send)
            else:
                await self._serve_exact(methods, scope, receive, send)
        elif kind == "websocket":
            await self._serve_websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._run_lifespan(receive, send)

    @property
    def body_bytes_max(self) -> int:
        """The largest body that is read."""
        return self._context.settings.request_body_bytes_max

    def begin(
        self,
        route: BinanceRoute,
        headers: dict[bytes, bytes],
        query: bytes,
        body: bytes,
        peer: tuple[str, int] | None,
        respond: Respond,
    ) -> bool:
        """Run an endpoint that has two halves without a task: ``respond`` is called now, or when the engine answered.

        Returns False, with nothing done, where the request has to wait for something else before the engine; it then
        has to come in through ``__call__``.
        """
        assert route.begin is not None
        assert route.permission is not None
        context = self._context
        incoming = _Incoming(route.method, route.path, headers, self._client(peer, headers), self._request_id(headers))
        try:
            if len(query) > _QUERY_BYTES_MAX:
                raise errors.query_too_large(_QUERY_BYTES_MAX)
            _refuse_json(body)
            key = context.api_keys.kept(api_key_name(headers.get(b"x-mbx-apikey")))
            if key is None:
                return False
            check_key(key, route.permission, incoming.client)
            request = self._admit(route, incoming, key, query, body)
            begun = route.begin(request)
            if begun is None:
                return False
        except Exception as raised:  # noqa: BLE001 - whatever it is, the client gets an answer
            self._refuse(incoming, raised, respond)
            return True
        begun.response.add_done_callback(partial(self._finish, incoming, begun, respond))
        return True

    def _finish(self, incoming: _Incoming, begun: Begun, respond: Respond, response: asyncio.Future[Response]) -> None:
        try:
            content = begun.finish(response)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the client gets an answer
            self._refuse(incoming, raised, respond)
            return
        respond(200, content, incoming.request_id, _NO_HEADERS)
        self._record(incoming, incoming.method, 200, 0)

    def _refuse(self, incoming: _Incoming, raised: Exception, respond: Respond) -> None:
        error = _as_api_error(raised, incoming.request_id)
        respond(error.http_status, error.body(), incoming.request_id, error.headers)
        self._record(incoming, incoming.method, error.http_status, error.code)

    async def _serve_exact(self, methods: dict[str, BinanceRoute], scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        incoming = _Incoming(
            scope["method"],
            scope["path"],
            headers,
            self._client(scope.get("client"), headers),
            self._request_id(headers),
        )
        status, code = 200, 0
        error: ApiError | None = None
        try:
            route = methods.get(incoming.method)
            if route is None:
                raise errors.method_not_allowed(", ".join(sorted(methods)))
            request = await self._receive_exact(route, incoming, scope["query_string"], receive)
            content = await _handle(route, request)
        except Exception as raised:  # noqa: BLE001 - whatever it is, the client gets an answer
            error = _as_api_error(raised, incoming.request_id)
            content, status, code = error.body(), error.http_status, error.code
        await _send_json(send, status, content, incoming.request_id, error)
        if error is not None and error.http_status == 413:
            await _discard_body(receive, send)
        self._record(incoming, incoming.method if incoming.method in methods else UNKNOWN_ROUTE, status, code)

    async def _receive_exact(
        self, route: BinanceRoute, incoming: _Incoming, query: bytes, receive: Receive
    ) -> BinanceRequest:
        """Read a request, and find out who sent it."""
        context = self._context
        if len(query) > _QUERY_BYTES_MAX:
            raise errors.query_too_large(_QUERY_BYTES_MAX)
        body = b""
        if route.method != "GET":
            body = await _read_body(incoming.headers, receive, context.settings.request_body_bytes_max)
            _refuse_json(body)
        key = None
        if route.permission is not None:
            key = await find_key(context, route.permission, incoming.headers.get(b"x-mbx-apikey"), incoming.client)
        return self._admit(route, incoming, key, query, body)

    def _admit(
        self, route: BinanceRoute, incoming: _Incoming, key: ApiKey | None, query: bytes, body: bytes
    ) -> BinanceRequest:
        """Read the parameters and check that they are signed, recent and known."""
        context = self._context
        parameters = parse_parameters(query, body)
        if key is not None:
            check_signed(context, key, query, body, parameters)
            incoming.account_id = key.account_id
        if not parameters.keys() <= route.parameters:
            raise errors.unread_parameters(len(parameters.keys() & route.parameters), len(parameters))
        headers = incoming.headers
        return BinanceRequest(
            context, route, parameters, headers, incoming.request_id, incoming.account_id, _time_divisor(headers)
        )

    def _record(self, incoming: _Incoming, method_label: str, status: int, code: int) -> None:
        seconds = time.perf_counter() - incoming.started_s
        self.metrics.count(method_label, incoming.path, status, code, seconds)
        self._request_log.write(
            request_id=incoming.request_id,
            method=incoming.method,
            path=incoming.path,
            status=status,
            seconds=seconds,
            client=incoming.client,
            account_id=incoming.account_id,
            code=code,
        )

    def _client(self, peer: tuple[str, int] | None, headers: dict[bytes, bytes]) -> str:
        return client_address(peer, _forwarded_for(headers), self._context.settings.trusted_proxies)

    async def _serve_routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_id(headers)
        scope[CONTEXT_KEY] = self._context
        scope[REQUEST_ID_KEY] = request_id
        status = 0

        async def send_with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode("ascii"))]
            await send(message)

        limit = self._context.settings.request_body_bytes_max
        template = UNKNOWN_ROUTE
        code = 0
        error: ApiError | None = None
        try:
            route = self._match(scope)
            template = getattr(route, "path", UNKNOWN_ROUTE)
            await route.handle(scope, _limited(headers, receive, limit), send_with_request_id)
        except ClientDisconnect:
            status = status or 499
        except Exception as raised:  # noqa: BLE001 - whatever it is, the client gets an answer
            error = _as_api_error(raised, request_id)
            code = error.code
            if status == 0:
                status = error.http_status
                await _send_json(send, status, error.body(), request_id, error)
                if status == 413:
                    await _discard_body(receive, send)
        seconds = time.perf_counter() - started_s
        method = scope["method"] if template != UNKNOWN_ROUTE else UNKNOWN_ROUTE
        self.metrics.count(method, template, status, code, seconds)
        self._request_log.write(
            request_id=request_id,
            method=scope["method"],
            path=scope["path"],
            status=status,
            seconds=seconds,
            client=self._client(scope.get("client"), headers),
            account_id=0,
            code=code,
        )

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CONTEXT_KEY] = self._context
        scope[REQUEST_ID_KEY] = self._request_id(dict(scope["headers"]))
        for route in self._routed:
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                await route.handle(scope, receive, send)
                return
        await send({"type": "websocket.close", "code": 1000})

    def _match(self, scope: Scope) -> BaseRoute:
        """Find the Starlette route of a request and put its path parameters into the scope; raises 404 and 405."""
        allowed: set[str] = set()
        for route in self._routed:
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                return route
            if match is Match.PARTIAL:
                allowed |= getattr(route, "methods", None) or set()
        if allowed:
            raise errors.method_not_allowed(", ".join(sorted(allowed)))
        raise errors.not_found()

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _is_request_id(given):
            return given.decode("ascii")
        return f"{self._request_id_prefix}-{next(self._request_numbers):x}"

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                for lifespan in self._lifespans:
                    await stack.enter_async_context(lifespan(self._context))
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self._request_log.flush()
        self.metrics.flush()
        await send({"type": "lifespan.shutdown.complete"})


async def _send_json(send: Send, status: int, content: bytes, request_id: str, error: ApiError | None) -> None:
    headers = [
        _JSON,
        (b"content-length", str(len(content)).encode("ascii")),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    if error is not None:
        headers.extend((name.lower().encode("ascii"), value.encode("ascii")) for name, value in error.headers.items())
    await send({"type": "http.response.start", "status": status, "headers": headers})
    # The answer to a body that is too large stays open until the rest of the body was let pass (see _discard_body).
    more_body = error is not None and error.http_status == 413
    await send({"type": "http.response.body", "body": content, "more_body": more_body})


async def _read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    _check_declared_length(headers, limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > limit:
            raise errors.body_too_large(limit)
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise errors.cut_short()
    if len(body) > limit:
        raise errors.body_too_large(limit)
    return body


def _refuse_json(body: bytes) -> None:
    if body[:1] in (b"{", b"["):
        raise ApiError(
            errors.INVALID_JSON,
            "Invalid JSON Request; parameters are taken from the query string or an"
            " application/x-www-form-urlencoded body.",
            415,
        )


def _limited(headers: dict[bytes, bytes], receive: Receive, limit: int) -> Receive:
    """Make ``receive`` refuse a body beyond ``limit`` bytes as soon as that is known."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        if received == 0:
            _check_declared_length(headers, limit)
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise errors.body_too_large(limit)
        return message

    return receive_limited


def _check_declared_length(headers: dict[bytes, bytes], limit: int) -> None:
    declared = headers.get(b"content-length")
    if declared is not None and (len(declared) > 18 or int(declared) > limit):
        raise errors.body_too_large(limit)


async def _discard_body(receive: Receive, send: Send) -> None:
    """Let the rest of a refused body pass without keeping it, within bounds, and close.

    Closing while the client still sends would make its kernel throw away the answer that says why.
    """
    discarded = 0
    try:
        async with asyncio.timeout(_DISCARD_S_MAX):
            while discarded < _DISCARDED_BYTES_MAX:
                message = await receive()
                discarded += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _forwarded_for(headers: dict[bytes, bytes]) -> str:
    value = headers.get(b"x-forwarded-for")
    return value.decode("latin-1") if value else ""


def _time_divisor(headers: dict[bytes, bytes]) -> int:
    unit = headers.get(b"x-mbx-time-unit")
    if unit is None:
        return 1000
    name = unit.upper()
    if name == b"MICROSECOND":
        return 1
    if name == b"MILLISECOND":
        return 1000
    raise ApiError(errors.INVALID_TIME_UNIT, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")


async def _handle(route: BinanceRoute, request: BinanceRequest) -> bytes:
    """Have a request answered; what only reads is tried again when the connection that it got turns out to be gone.

    After the network was cut, a pool holds connections that the server has closed and that look alive here.
    """
    try:
        return await route.handler(request)
    except LOST_CONNECTION_ERRORS:
        if route.method != "GET":
            raise
    return await route.handler(request)


def _as_api_error(raised: Exception, request_id: str) -> ApiError:
    if isinstance(raised, ApiError):
        return raised
    if isinstance(raised, HTTPException):
        return ApiError(errors.UNKNOWN, raised.detail, raised.status_code, headers=raised.headers)
    if isinstance(raised, CONNECTION_ERRORS):
        _log.warning("request.unavailable", request_id=request_id, error=f"{type(raised).__name__}: {raised}")
        return errors.unavailable()
    _log.error("request.failed", request_id=request_id, exc_info=raised)
    return errors.unknown_error()
