"""A simulated network: byte streams that are slow, cut and glued, break, fall silent, and deliver late.

Within one connection it keeps what TCP promises: bytes arrive in order, each once, or the connection is lost. All else
that can happen to messages comes from connections that break: the two ends learn of it at different times, what was on
its way may arrive or not, and so a client can have asked again over its next connection while the server still reads
from the one before.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation.loop import Node, SimulatedHandle, SimulatedLoop

END: Final = b""
"""In a pipe: the other end has closed."""

RETRANSMISSION_S: Final = 0.2
RECONSIDER_S: Final = 0.05
FIRST_FREE_PORT: Final = 40_000


@dataclass
class Weather:
    """How the network behaves: latencies in seconds, the rest as probabilities."""

    latency_min_s: float = 0.000_1
    latency_max_s: float = 0.001
    slow_probability: float = 0.01
    slow_max_s: float = 0.05
    split_probability: float = 0.05
    merge_probability: float = 0.5
    late_after_break_s: float = 0.8


class Pipe:
    """One direction of a connection: what was sent and has not arrived."""

    def __init__(self, network: Network, source: Transport, target: Transport, seed: int) -> None:
        self.network = network
        self.source = source
        self.target = target
        self.random = random.Random(seed)
        self.on_its_way: deque[tuple[float, bytes]] = deque()
        self.last_s = 0.0
        self.is_closed = False
        self._timer: SimulatedHandle | None = None

    @property
    def is_blocked(self) -> bool:
        return (self.source.node.host, self.target.node.host) in self.network.blocked

    def send(self, data: bytes) -> None:
        """Take bytes; nothing tells whether they arrive."""
        if self.is_closed:
            return
        weather = self.network.weather
        while data and self.random.random() < weather.split_probability:
            cut = self.random.randint(1, len(data))
            self._put(data[:cut])
            data = data[cut:]
        if data:
            self._put(data)

    def end(self) -> None:
        """Say, after all that was sent, that nothing more comes."""
        if not self.is_closed:
            self._put(END)
            self.is_closed = True

    def _put(self, data: bytes) -> None:
        self.last_s = max(self.last_s, self.network.loop.now_s + self.network.latency_s(self.random))
        self.on_its_way.append((self.last_s, data))
        self.arm()

    def arm(self) -> None:
        """Have what is on its way delivered when its time has come."""
        if self._timer is None and self.on_its_way and not self.is_blocked:
            at_s = max(self.on_its_way[0][0], self.network.loop.now_s)
            self._timer = self.network.loop.schedule(self.target.node, at_s, self._deliver)

    def hold_up(self) -> None:
        """The link went silent; retransmissions bring what is on its way when it is back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def delay(self, delay_s: float) -> None:
        """Have all that is on its way arrive so much later."""
        self.on_its_way = deque((at_s + delay_s, data) for at_s, data in self.on_its_way)
        self.last_s += delay_s
        self.hold_up()
        self.arm()

    def lose(self, kept: int) -> None:
        """Lose all that is on its way except the first ``kept`` pieces, and all that is sent from now on."""
        while len(self.on_its_way) > kept:
            self.on_its_way.pop()
        self.is_closed = True

    def _deliver(self) -> None:
        self._timer = None
        if self.is_blocked or not self.on_its_way:
            return
        now_s = self.network.loop.now_s
        at_s, data = self.on_its_way[0]
        if at_s > now_s:
            self.arm()
            return
        self.on_its_way.popleft()
        while data and self.on_its_way and self.on_its_way[0][0] <= now_s and self.on_its_way[0][1]:
            if self.random.random() >= self.network.weather.merge_probability:
                break
            data += self.on_its_way.popleft()[1]
        self.arm()
        if data:
            self.target.receive(data)
        else:
            self.target.receive_end()


class Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, node: Node, number: int, address: tuple[str, int]) -> None:
        super().__init__()
        self.network = network
        self.node = node
        self.number = number
        self.address = address
        self.protocol: asyncio.Protocol | None = None
        self.outgoing: Pipe
        self.incoming: Pipe
        self.peer: Transport
        self._is_closing = False
        self._is_lost = False

    def __repr__(self) -> str:
        return f"{self.node.name}#{self.number}"

    # -- what the node does with it ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._is_closing and self.node.is_connected:
            self.outgoing.send(bytes(data))

    def close(self) -> None:
        """Close when what was written is sent; the kernel takes it all at once."""
        if not self._is_closing:
            self._is_closing = True
            if self.node.is_connected:
                self.outgoing.end()
            self.network.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.address if name == "peername" else default

    # -- what the network does with it ---------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        if self._is_closing or self.protocol is None:
            return
        self.network.loop.trace("received", self, len(data))
        self.protocol.data_received(data)

    def receive_end(self) -> None:
        if self._is_closing or self.protocol is None:
            return
        self.network.loop.trace("closed", self)
        if not self.protocol.eof_received():
            self.close()

    def reset(self) -> None:
        """The node learns that the connection is broken."""
        if not self._is_lost:
            self.network.loop.trace("reset", self)
            self._is_closing = True
            self._lose(ConnectionResetError("connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self.incoming.is_closed = self.outgoing.is_closed = True
        self.incoming.on_its_way.clear()
        self.network.forget(self)
        if self.protocol is not None:
            self.protocol.connection_lost(error)


class Socket:
    """What a server tells of where it listens."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return self._address


class Server:
    """A listening process."""

    def __init__(self, network: Network, node: Node, factory: Callable[[], Any], address: tuple[str, int]) -> None:
        self._network = network
        self.node = node
        self.factory = factory
        self.address = address
        self.sockets = [Socket(address)]

    def close(self) -> None:
        """Take no more connections."""
        if self._network.listeners.get(self.address) is self:
            del self._network.listeners[self.address]

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def is_serving(self) -> bool:
        return self._network.listeners.get(self.address) is self


class Network:
    """Hosts that reach each other by ``(host, port)``; a host is a name, and runs one node at a time that listens."""

    def __init__(self, loop: SimulatedLoop, seed: int | str, weather: Weather | None = None) -> None:
        self.loop = loop
        self.random = random.Random(f"network {seed}")
        self.weather = weather or Weather()
        self.listeners: dict[tuple[str, int], Server] = {}
        self.blocked: set[tuple[str, str]] = set()
        self.transports: dict[int, Transport] = {}
        self._numbers = itertools.count(1)
        self._ports = itertools.count(FIRST_FREE_PORT)
        loop.network = self

    def latency_s(self, draw: random.Random) -> float:
        """How long the next piece takes."""
        weather = self.weather
        if draw.random() < weather.slow_probability:
            return draw.uniform(weather.latency_max_s, weather.slow_max_s)
        return draw.uniform(weather.latency_min_s, weather.latency_max_s)

    # -- connections ---------------------------------------------------------------------------------------------

    async def create_server(self, node: Node, factory: Callable[[], Any], host: str, port: int) -> Server:
        address = (node.host, port or next(self._ports))
        if address in self.listeners and self.listeners[address].node.is_alive:
            raise OSError(f"address {address} already in use")
        server = self.listeners[address] = Server(self, node, factory, address)
        node.on_end.append(server.close)
        return server

    async def create_connection(
        self, node: Node, factory: Callable[[], Any], host: str, port: int
    ) -> tuple[Transport, Any]:
        while not self.can_reach(node.host, host) or not self.can_reach(host, node.host):  # noqa: ASYNC110
            await asyncio.sleep(RECONSIDER_S)
        await asyncio.sleep(2 * self.latency_s(self.random))
        server = self.listeners.get((host, port))
        if server is None or not node.is_connected or not server.node.is_connected:
            raise ConnectionRefusedError(f"{host}:{port} refuses")
        number = next(self._numbers)
        near = Transport(self, node, number, (host, port))
        far = Transport(self, server.node, -number, (node.host, 0))
        near.peer, far.peer = far, near
        near.outgoing = far.incoming = Pipe(self, near, far, self.random.getrandbits(48))
        far.outgoing = near.incoming = Pipe(self, far, near, self.random.getrandbits(48))
        self.transports[number], self.transports[-number] = near, far
        self.loop.schedule(server.node, self.loop.now_s, self._accept, server, far)
        protocol = near.protocol = factory()
        protocol.connection_made(near)
        return near, protocol

    def _accept(self, server: Server, transport: Transport) -> None:
        self.loop.trace("accepted", transport, "from", transport.peer)
        protocol = transport.protocol = server.factory()
        protocol.connection_made(transport)

    def forget(self, transport: Transport) -> None:
        """A connection is over at this end."""
        self.transports.pop(transport.number, None)

    def can_reach(self, source: str, target: str) -> bool:
        """Whether packets of one host arrive at another."""
        return (source, target) not in self.blocked

    # -- faults --------------------------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Let nothing of one host arrive at another: no error, only silence."""
        self.loop.trace("cut", source, target)
        self.blocked.add((source, target))
        for transport in list(self.transports.values()):
            if transport.incoming.is_blocked:
                transport.incoming.hold_up()

    def mend(self, source: str, target: str) -> None:
        """Let one host's packets arrive at another again, those that were sent meanwhile too."""
        if (source, target) not in self.blocked:
            return
        self.loop.trace("mended", source, target)
        self.blocked.discard((source, target))
        for transport in list(self.transports.values()):
            if transport.node.host == target and transport.peer.node.host == source:
                transport.incoming.delay(transport.incoming.random.uniform(0, RETRANSMISSION_S))

    def break_connection(self, transport: Transport) -> None:
        """Break one connection in the middle: each end learns of it in its own time."""
        self.loop.trace("broken", transport)
        for end in (transport, transport.peer):
            pipe = end.incoming
            draw = pipe.random
            late_s = draw.choice((0.0, draw.uniform(0, 0.01), draw.uniform(0, self.weather.late_after_break_s)))
            pipe.lose(draw.choice((0, len(pipe.on_its_way), draw.randint(0, len(pipe.on_its_way)))))
            if draw.random() < 0.5:
                pipe.delay(draw.uniform(0, late_s))
            self.loop.after(end.node, late_s, end.reset)

    def lose_node(self, node: Node, *, told: bool) -> None:
        """A node was killed. ``told``: its kernel lives and closes its connections; otherwise its host went dark."""
        for transport in [one for one in self.transports.values() if one.node is node]:
            peer = transport.peer
            pipe = transport.outgoing
            self.forget(transport)
            transport.incoming.is_closed = True
            if told:
                pipe.end()
            else:
                pipe.lose(0)
                self.loop.after(peer.node, pipe.random.uniform(0.2, 4.0), peer.reset)

    def heal(self) -> None:
        """Mend everything that is cut."""
        for source, target in sorted(self.blocked):
            self.mend(source, target)
