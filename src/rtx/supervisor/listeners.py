"""The listening sockets of a backend, opened by its supervisor so that no worker's crash loses a waiting connection."""

from __future__ import annotations

import os
import socket
import sys
from typing import Final, NamedTuple

API_SOCKET_VARIABLE: Final = "RTX_API_LISTEN_FD"
METRICS_SOCKET_VARIABLE: Final = "RTX_METRICS_LISTEN_FD"

BACKLOG: Final = 4096


class PortInUseError(Exception):
    """Somebody else listens on the port, or this user may not; the message says what to do."""


def open_listeners(host: str, port: int, count: int, variable: str) -> list[socket.socket]:
    """Open ``count`` sockets that share ``host`` and ``port`` (0: any free one), each with a queue of its own.

    The kernel spreads connections over the queues. Where it does not (macOS) all entries are one and the same socket.
    Raises :class:`PortInUseError`; ``variable`` names the setting that chose the port.
    """
    shares = count > 1 and sys.platform == "linux"
    if shares:
        # Sharing is by consent of all sockets of one user: another backend of theirs would join in unnoticed.
        _bind(host, port, variable, shares=False).close()
    first = _open(host, port, variable, shares=shares)
    if not shares:
        return [first] * count
    chosen = first.getsockname()[1]
    return [first, *(_open(host, chosen, variable, shares=True) for _ in range(count - 1))]


class ReservedPort(NamedTuple):
    """A port, and the socket that keeps it as long as it is open."""

    port: int
    keeper: socket.socket


def reserve_port(host: str, port: int, variable: str) -> ReservedPort:
    """Keep ``port`` (0: any free one) for a child that will listen on it: bound here, but not listening.

    Where the system lets nobody bind a second socket beside the keeper, the keeper is closed again.
    """
    keeper = _bind(host, port, variable, shares=False)
    reserved = ReservedPort(int(keeper.getsockname()[1]), keeper)
    if sys.platform != "linux":
        keeper.close()
    return reserved


def inherited_socket(variable: str) -> socket.socket | None:
    """The listening socket that the supervisor left under ``variable``, or None when there is no supervisor."""
    descriptor = os.environ.get(variable)
    return socket.socket(fileno=int(descriptor)) if descriptor else None


def _open(host: str, port: int, variable: str, *, shares: bool) -> socket.socket:
    listener = _bind(host, port, variable, shares=shares)
    listener.setblocking(False)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(host, port, variable, error) from error
    return listener


def _bind(host: str, port: int, variable: str, *, shares: bool) -> socket.socket:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise PortInUseError(f"{host} is no address of this machine ({error.strerror}): check RTX_HOST") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _refusal(host, port, variable, error) from error
    return listener


def _refusal(host: str, port: int, variable: str, error: OSError) -> PortInUseError:
    return PortInUseError(
        f"cannot listen on {host}:{port} ({error.strerror}): stop what uses it, or set {variable} to another port"
    )
