"""Several engines as processes, and API workers in the test's own event loop, on one database and one Valkey."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from redis.asyncio import Redis
from tests.integration.api.venue import Venue
from tests.integration.api_v1.backend import PASSWORD, Backend, Client, lifespan
from tests.integration.engine.cluster import JWT_SECRET, TIMEOUT_S, Cluster, EngineProcess, eventually
from tests.integration.streams.server import StreamClient, StreamServer, serving
from tests.unit.streams.recipe_client import RecipeClient
from websockets.exceptions import ConnectionClosed

from rtx.api.application import create_application
from rtx.api.auth.passwords import hash_password
from rtx.api.context import ApiSettings
from rtx.api.directories import make_context
from rtx.store import users
from rtx.store.connection import create_pool
from rtx.store.handovers import HandoverStore
from rtx.store.replicas import ReplicaStore

REPORT_AGE_S_MAX: Final = 1.5
"""Engines report themselves once a second."""

HOLDERS: Final = ("engine-a", "engine-b")


class Replicas:
    """The workers, and the engines by holder."""

    def __init__(self, cluster: Cluster, stack: contextlib.AsyncExitStack) -> None:
        self.cluster = cluster
        self.engines: dict[str, EngineProcess] = {}
        self.workers: list[StreamServer] = []
        self._stack = stack

    @property
    def venue(self) -> Venue:
        """The exchange, through the first worker."""
        return self.workers[0].venue

    async def start(self) -> None:
        """Two engines, one of which leads, and two workers."""
        self.engines[HOLDERS[0]] = self.cluster.start_engine(HOLDERS[0])
        await self.cluster.until_led(HOLDERS[0])
        self.engines[HOLDERS[1]] = self.cluster.start_engine(HOLDERS[1])
        await self._until_followed(HOLDERS[1])
        for _ in range(2):
            await self.add_worker()
        pool = self.venue.backend.pool
        await users.create(pool, "operator@example.com", hash_password(PASSWORD), role="operator")
        self.venue.backend.operator = await self.venue.backend.log_in("operator@example.com")

    async def add_worker(self) -> StreamServer:
        """One more API worker, with connections of its own."""
        stack, cluster = self._stack, self.cluster
        pool = await create_pool(cluster.database_url, application_name="rtx-test", minimum_size=2)
        stack.push_async_callback(pool.close)
        redis = Redis.from_url(cluster.redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)
        stack.push_async_callback(redis.aclose)
        link = await stack.enter_async_context(cluster.client())
        api_settings = ApiSettings(jwt_secrets=(JWT_SECRET,))
        context = make_context(api_settings, pool=pool, redis_client=redis, engine=link)
        application = create_application(context)
        await stack.enter_async_context(lifespan(application))
        client = Client(application)
        backend = Backend(application, context, pool, link, stop_engine=_not_ours, operator=client)
        server = await stack.enter_async_context(serving(Venue(backend)))
        self.workers.append(server)
        return server

    async def leader(self) -> str:
        return (await self.cluster.lease()).holder

    async def hand_over(self) -> None:
        """Have the other engine lead; returns when it does."""
        leader = await self.leader()
        successor = next(holder for holder in HOLDERS if holder != leader)
        await self._until_followed(successor)
        handovers = HandoverStore(self.cluster.pool)
        handover_id = await handovers.request(successor, TIMEOUT_S)

        async def is_taken() -> bool:
            handover = await handovers.read(handover_id)
            assert handover is not None
            assert handover.state != "refused", handover.reason
            return handover.state == "taken"

        await eventually(is_taken)

    async def kill_leader(self) -> None:
        """End the leader as ``kill -9`` does, and start it again; returns when the other one leads."""
        lease = await self.cluster.lease()
        successor = next(holder for holder in HOLDERS if holder != lease.holder)
        await self._until_followed(successor)
        self.engines[lease.holder].kill()
        await self.cluster.until_led(successor, lease.epoch)
        await self._until_forgotten(lease.holder)
        self.engines[lease.holder] = self.cluster.start_engine(lease.holder)

    async def _until_forgotten(self, holder: str) -> None:
        """Wait until what an engine said last is old."""

        async def is_old() -> bool:
            reports = await ReplicaStore(self.cluster.pool).all()
            return all(report.holder != holder or report.seen_s >= REPORT_AGE_S_MAX for report in reports)

        await eventually(is_old)

    async def _until_followed(self, holder: str) -> None:
        """Wait until an engine follows; not only did before it was killed."""

        async def is_following() -> bool:
            reports = await ReplicaStore(self.cluster.pool).all()
            return any(
                report.holder == holder and report.state == "following" and report.seen_s < REPORT_AGE_S_MAX
                for report in reports
            )

        await eventually(is_following)


class MovingClient:
    """A client of one stream that loses its connection and goes on at another worker, from where it was.

    It names where it was in the address and in a SUBSCRIBE request by turns.
    """

    def __init__(self, server: StreamServer, stream: str) -> None:
        self.refusals: list[str] = []
        self._stream = stream
        self._server: StreamServer | None = server
        self._has_server = asyncio.Event()
        self._has_server.set()
        self._socket: StreamClient | None = None
        self._moved = asyncio.Event()
        self._connections = 0

    def position(self) -> int | None:
        """The last number that the client holds."""
        raise NotImplementedError

    def begin(self) -> None:
        """A connection goes on from there."""

    def take(self, text: str) -> None:
        """A message of the stream."""
        raise NotImplementedError

    async def listening(self) -> None:
        """Called in a task of its own when a connection listens."""

    def cut(self) -> None:
        """Lose the connection; there is none until :meth:`move_to`."""
        self._server = None
        self._has_server.clear()
        if self._socket is not None:
            self._socket.socket.transport.abort()

    def move_to(self, server: StreamServer) -> None:
        """Connect to this server."""
        self._server = server
        self._has_server.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            await self._has_server.wait()
            assert self._server is not None
            self._connections += 1
            after = self.position()
            path = f"/ws/{self._stream}"
            if after is not None:
                path = f"{path}?resume={self._stream}:{after}" if self._connections % 2 else "/ws"
            with contextlib.suppress(ConnectionClosed):
                async with self._server.connected(path) as client:
                    self._socket = client
                    if path == "/ws":
                        answer = await client.ask("SUBSCRIBE", [self._stream], resume={self._stream: after})
                        assert answer == {"result": None, "id": 1}
                    self.begin()
                    await self._listen(client)

    async def until(self, position: int) -> None:
        """Wait until the client holds at least this number."""
        async with asyncio.timeout(TIMEOUT_S):
            while (self.position() or 0) < position:
                self._moved.clear()
                await self._moved.wait()

    async def _listen(self, client: StreamClient) -> None:
        asking = asyncio.create_task(self.listening())
        try:
            while True:
                self.take(await client.socket.recv(decode=True))
                self._moved.set()
        finally:
            asking.cancel()


class MovingBook(MovingClient):
    """Keeps a book; takes a snapshot at its first worker, and never again."""

    def __init__(self, server: StreamServer, symbol: str) -> None:
        super().__init__(server, f"{symbol.lower()}@depth@100ms")
        self.book = RecipeClient()
        self._symbol = symbol
        self.snapshots = 0

    def position(self) -> int | None:
        return self.book.update_id

    def begin(self) -> None:
        if self.book.move() is not None:
            self.book.resumed()

    def take(self, text: str) -> None:
        self.book.offer(text)
        assert self.book.gaps == 0

    async def listening(self) -> None:
        if self.book.update_id is not None or self._server is None:
            return
        self.snapshots += 1
        answer = await self._server.venue.public.get(f"/api/v3/depth?symbol={self._symbol}&limit=5000")
        content = answer.json
        self.book.take_snapshot(content["lastUpdateId"], dict(content["bids"]), dict(content["asks"]))
        self._moved.set()


class MovingTrades(MovingClient):
    """Hears the trades."""

    def __init__(self, server: StreamServer, symbol: str) -> None:
        super().__init__(server, f"{symbol.lower()}@trade")
        self.trade_ids: list[int] = []

    def position(self) -> int | None:
        return self.trade_ids[-1] if self.trade_ids else None

    def take(self, text: str) -> None:
        self.trade_ids.append(msgspec.json.decode(text)["t"])


async def _not_ours() -> None:
    raise NotImplementedError("the engines are processes of their own")


@contextlib.asynccontextmanager
async def running_replicas(cluster: Cluster) -> AsyncIterator[Replicas]:
    """Run two engines and two workers until the block ends."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = Replicas(cluster, stack)
        await replicas.start()
        yield replicas
