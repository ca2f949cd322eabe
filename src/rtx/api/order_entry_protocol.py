"""HTTP for orders without a task, a scope and a dozen calls for each: the way in that decides how many fit through.

Placing and cancelling an order waits for nothing but the engine. Requests for those endpoints are therefore answered
from callbacks: read off the wire, handed to :meth:`rtx.api.application.Application.begin`, and written in one piece
when the engine has answered. Everything else, and every order that has to wait for something more (a key or a market
that is not at hand yet, a body that is too large), takes uvicorn's way through ASGI; the same code judges it there.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Mapping
from typing import Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from rtx.api.application import Application
from rtx.api.errors import head_too_large
from rtx.api.requests import BinanceRoute

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
    for status in http.HTTPStatus
}

HEAD_BYTES_MAX: Final = 65_536
"""How much of a head is kept, beyond what came with its first bytes; the parser itself would take any amount."""

LINGER_S: Final = 0.5
"""How long a connection without a request stays open when the worker ends: a request may be on its way."""


class _OrderCycle:
    """One request on its way; it has what uvicorn's protocol looks at in its own ``RequestResponseCycle``."""

    __slots__ = (
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "protocol",
        "query",
        "response_complete",
        "route",
    )

    def __init__(self, protocol: OrderEntryProtocol, route: BinanceRoute, query: bytes, *, keep_alive: bool) -> None:
        self.protocol = protocol
        self.route = route
        self.query = query
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NO_EVENT

    def respond(self, status: int, content: bytes, request_id: str, headers: Mapping[str, str]) -> None:
        """Write the answer; see :data:`rtx.api.application.Respond`."""
        self.response_complete = True
        transport = self.protocol.transport
        if self.disconnected or transport.is_closing():
            return
        head = f"{_STATUS_LINES[status]}content-length: {len(content)}\r\nx-request-id: {request_id}\r\n"
        for name, value in headers.items():
            head += f"{name.lower()}: {value}\r\n"
        if not self.keep_alive:
            head += "connection: close\r\n"
        transport.write(f"{head}\r\n".encode("latin-1") + content)
        if not self.keep_alive:
            transport.close()
        self.protocol.on_response_complete()


class _NoEvent:
    """What stands in for the event that ASGI's ``receive`` waits for: nobody waits."""

    def set(self) -> None:
        """Tell nobody."""


_NO_EVENT: Final = _NoEvent()


class OrderEntryProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with a short way for the endpoints that have two halves.

    Use it with ``uvicorn.Config(application, http=OrderEntryProtocol)``; the application has to be an
    :class:`~rtx.api.application.Application`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        application = cast("Application", config.app)
        self._begin = application.begin
        self._routes = application.routes_in_halves
        self._body_bytes_max = application.body_bytes_max
        self._is_ending = False
        self._messages_begun = 0
        self._is_in_head = False
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take what was read, unless the head that it goes on with becomes too large."""
        message = self._messages_begun if self._is_in_head else None
        super().data_received(data)
        if self._is_in_head and message == self._messages_begun:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._messages_begun += 1
        self._is_in_head = True
        self._head_bytes = 0

    def shutdown(self) -> None:
        """Close after the next answer, or after a while without a request.

        A client whose request crosses with the end would otherwise never know what became of it.
        """
        self._is_ending = True
        if self._is_idle():
            self.loop.call_later(LINGER_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def on_headers_complete(self) -> None:
        """Choose the way for a request whose head has arrived."""
        self._is_in_head = False
        if self._is_idle():
            path, _, query = self.url.partition(b"?")
            route = self._routes.get((self.parser.get_method(), path))
            if route is not None and self._is_plain():
                keep_alive = self.parser.should_keep_alive() and not self._is_ending
                self.cycle = cast("RequestResponseCycle", _OrderCycle(self, route, query, keep_alive=keep_alive))
                return
        self._begin_the_long_way()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        cycle = cast("object", self.cycle)
        if type(cycle) is not _OrderCycle:
            super().on_body(body)
            return
        cycle.body += body
        if len(cycle.body) > self._body_bytes_max:
            self._take_the_long_way(cycle)

    def on_message_complete(self) -> None:
        """Run a request that has arrived whole."""
        cycle = cast("object", self.cycle)
        if type(cycle) is not _OrderCycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        if not self._begin(cycle.route, dict(self.headers), cycle.query, cycle.body, self.client, cycle.respond):
            self._take_the_long_way(cycle)

    def _is_plain(self) -> bool:
        """Whether nothing about the request needs more of HTTP than most do."""
        return (
            not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
            and self.limit_concurrency is None
        )

    def _refuse_head(self) -> None:
        error = head_too_large(HEAD_BYTES_MAX)
        content = error.body()
        if not self.transport.is_closing():
            head = f"{_STATUS_LINES[error.http_status]}content-length: {len(content)}\r\nconnection: close\r\n\r\n"
            self.transport.write(head.encode("latin-1") + content)
            self.transport.close()

    def _begin_the_long_way(self) -> None:
        super().on_headers_complete()
        if self._is_ending and not self._is_idle():
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        cycle = cast("RequestResponseCycle | _OrderCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()

    def _take_the_long_way(self, cycle: _OrderCycle) -> None:
        """Hand a request over to ASGI, with as much of its body as there is."""
        self.cycle = cast("RequestResponseCycle", None)
        self._begin_the_long_way()
        self.cycle.body += cycle.body
        self.cycle.more_body = cycle.more_body
        self.cycle.message_event.set()
