"""The uvicorn protocol that streams run on: lets the application end a connection in its own way.

uvicorn closes every WebSocket with 1012 as soon as it is told to stop, before the application hears of it, and offers
no way to drop a client that no longer reads. Both are needed here, so the protocol puts a :class:`ConnectionControl`
into the scope. Use it with ``uvicorn.Config(ws=StreamWebSocketProtocol)``; without it streams work, and end less
politely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

EXTENSION: Final = "rtx.connection_control"
"""The key in ``scope["extensions"]``; the value is ``{"control": ConnectionControl}``."""


class ConnectionControl:
    """What an application may do to its connection, and what it wants to be told."""

    def __init__(self, abort: Callable[[], None]) -> None:
        """``abort`` closes the transport at once, whatever is unsent."""
        self.abort = abort
        self.on_shutdown: Callable[[], object] | None = None
        """Called instead of closing when the server stops; the application closes then."""


class StreamWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with a :class:`ConnectionControl`."""

    _control: ConnectionControl | None = None

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake; the application starts in the loop's next turn and finds the control."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self._control = ConnectionControl(self.transport.abort)
            extensions: dict[str, dict[str, Any]] = self.scope["extensions"]  # type: ignore[assignment]
            extensions[EXTENSION] = {"control": self._control}

    def shutdown(self) -> None:
        """Leave the ending to the application where it wants that."""
        if self._control is None or self._control.on_shutdown is None or self.close_sent:
            super().shutdown()
        else:
            self._control.on_shutdown()
