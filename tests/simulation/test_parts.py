"""The simulated clock, network and database do what the real ones do, where somebody relies on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.integration.store.trading import Trading
from tests.simulation.database import (
    COMMIT_TIMEOUT_S,
    HOST,
    Database,
    Session,
    SimulatedJournal,
    SimulatedLease,
    SimulatedWatch,
    Troubles,
)
from tests.simulation.loop import Node, SimulatedLoop, SimulationStuckError
from tests.simulation.network import Network, Transport, Weather

from rtx.store.errors import StaleEpochError
from rtx.store.lease import Candidate

BLUE = Candidate("engine-1", "host-1:7070", "blue", "1")
OTHER = Candidate("engine-2", "host-2:7070", "blue", "1")
TTL_S = 3.0


class World:
    """A loop with two hosts and a database."""

    def __init__(self, troubles: Troubles | None = None, weather: Weather | None = None) -> None:
        self.loop = SimulatedLoop("test")  # type: ignore[abstract] # what it lacks, nothing asks for
        self.network = Network(self.loop, "test", weather)
        self.database = Database(self.loop, self.network, "test", troubles or Troubles())
        self.one = self.loop.add_node("one", "host-1")
        self.other = self.loop.add_node("other", "host-2")

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        """Run a story that must come to an end, and unwind what is left."""

        async def told() -> None:
            await story()

        try:
            self.loop.run(told(), until_s=100.0)
            assert not self.loop.errors
        finally:
            assert self.loop.dispose() == 0

    def session(self, node: Node) -> Session:
        return Session(self.database, node, timeout_s=COMMIT_TIMEOUT_S, heals=False)


@pytest.fixture
def world() -> World:
    return World()


# -- the loop ---------------------------------------------------------------------------------------------------


def test_time_passes_only_by_waiting(world: World) -> None:
    async def story() -> None:
        await asyncio.sleep(50)
        assert world.loop.now_s == pytest.approx(50, abs=0.01)

    world.run(story)


def test_each_node_has_clocks_of_its_own(world: World) -> None:
    fast = world.loop.add_node("fast", "host-3", rate=1.25, wall_offset_us=7_000_000)
    slept_s: list[float] = []

    async def sleep() -> None:
        await asyncio.sleep(5)
        slept_s.append(world.loop.now_s)
        assert world.loop.wall_us() - world.loop.wall_us(world.one) == 7_000_000

    async def story() -> None:
        await world.loop.on_node(fast, sleep())
        assert slept_s == [pytest.approx(4, abs=0.01)]

    world.run(story)


def test_a_killed_node_runs_nothing_more_not_even_what_ends_it(world: World) -> None:
    happened: list[str] = []

    async def live() -> None:
        try:
            await asyncio.sleep(1)
            happened.append("lived")
        finally:
            if world.one.is_connected:
                happened.append("unwound")

    async def story() -> None:
        world.loop.on_node(world.one, live())
        await asyncio.sleep(0.5)
        world.loop.kill(world.one)
        await asyncio.sleep(5)

    world.run(story)
    assert happened == []


def test_a_node_is_killed_between_any_two_of_its_callbacks(world: World) -> None:
    steps: list[int] = []

    async def live() -> None:
        for number in range(10):
            steps.append(number)
            await asyncio.sleep(0)

    async def story() -> None:
        world.one.kill_after = 4
        world.loop.on_node(world.one, live())
        await asyncio.sleep(1)

    world.run(story)
    assert steps == [0, 1, 2, 3, 4]


def test_a_stopped_node_goes_on_where_it_was_and_finds_its_clock_ahead(world: World) -> None:
    woke_s: list[float] = []

    async def live() -> None:
        before_s = world.loop.time()
        await asyncio.sleep(1)
        woke_s.append(world.loop.time() - before_s)

    async def story() -> None:
        world.loop.on_node(world.one, live())
        await asyncio.sleep(0.5)
        world.loop.pause(world.one)
        await asyncio.sleep(5)
        assert woke_s == []
        world.loop.resume(world.one)
        await asyncio.sleep(0.1)

    world.run(story)
    assert woke_s == [pytest.approx(5.5, abs=0.01)]


def test_callbacks_of_one_node_keep_their_order_and_those_of_two_mix(world: World) -> None:
    order: list[tuple[str, int]] = []

    async def story() -> None:
        for number in range(50):
            for node in (world.one, world.other):
                world.loop.after(node, 0.0, order.append, (node.name, number))
        await asyncio.sleep(1)

    world.run(story)
    for name in ("one", "other"):
        assert [number for owner, number in order if owner == name] == list(range(50))
    assert order != sorted(order, key=lambda entry: entry[1])


def test_a_run_that_waits_for_nothing_is_stuck(world: World) -> None:
    async def story() -> None:
        await world.loop.create_future()

    with pytest.raises(SimulationStuckError):
        world.run(story)


# -- the network --------------------------------------------------------------------------------------------------


class Peer(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Exception | None] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.append(error)

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)


async def connect(world: World) -> tuple[Peer, Peer]:
    """A connection from one host to the other."""
    servers: list[Peer] = []

    def accept() -> Peer:
        servers.append(Peer())
        return servers[-1]

    async def listen() -> None:
        await world.loop.create_server(accept, "host-2", 70)

    async def reach() -> Any:
        return await world.loop.create_connection(Peer, "host-2", 70)

    await world.loop.on_node(world.other, listen())
    _, client = await world.loop.on_node(world.one, reach())
    await asyncio.sleep(0.01)
    (server,) = servers
    return client, server


def test_bytes_arrive_in_order_each_once_in_other_pieces() -> None:
    world = World(weather=Weather(slow_probability=0.3, split_probability=0.5))
    sent = [bytes([number]) * (number + 1) for number in range(100)]

    async def story() -> None:
        client, server = await connect(world)
        for piece in sent:
            client.transport.write(piece)
        await asyncio.sleep(5)
        assert server.received == b"".join(sent)
        assert server.pieces != sent

    world.run(story)


def test_silence_holds_bytes_up_until_it_ends(world: World) -> None:
    async def story() -> None:
        client, server = await connect(world)
        world.network.cut("host-1", "host-2")
        client.transport.write(b"late")
        server.transport.write(b"now")
        await asyncio.sleep(1)
        assert (server.received, client.received) == (b"", b"now")
        world.network.mend("host-1", "host-2")
        await asyncio.sleep(1)
        assert server.received == b"late"
        assert client.ends == server.ends == []

    world.run(story)


def test_the_ends_of_a_broken_connection_learn_of_it_in_their_own_time() -> None:
    """Also that what was sent before may arrive after the sender has given the connection up."""
    late_count = 0
    for number in range(40):
        world = World()
        world.network.random.seed(number)

        async def story(world: World = world) -> None:
            nonlocal late_count
            client, server = await connect(world)
            client.transport.write(b"on its way")
            assert isinstance(client.transport, Transport)
            world.network.break_connection(client.transport)
            while not client.ends:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            before = server.received
            await asyncio.sleep(5)
            assert [type(error) for error in client.ends + server.ends] == [ConnectionResetError] * 2
            assert server.received in {b"", b"on its way"}
            late_count += server.received != before

        world.run(story)
    assert 0 < late_count < 40


def test_nobody_answers_where_nobody_listens(world: World) -> None:
    async def story() -> None:
        with pytest.raises(ConnectionRefusedError):
            await world.loop.create_connection(Peer, "host-2", 70)

    world.run(story)


def test_a_process_that_died_closes_its_connections_and_a_host_that_went_dark_does_not(world: World) -> None:
    async def story() -> None:
        client, _ = await connect(world)
        client.transport.write(b"x")
        world.loop.kill(world.other)
        world.network.lose_node(world.other, told=False)
        await asyncio.sleep(0.1)
        assert client.ends == []
        await asyncio.sleep(10)
        assert len(client.ends) == 1

    world.run(story)


# -- the database ---------------------------------------------------------------------------------------------------


def _batch(trading: Trading) -> Any:
    trading.open_market()
    return trading.take_batch()


def test_a_takeover_waits_for_the_commit_that_is_on_its_way() -> None:
    world = World(Troubles(commit_min_s=4.0, commit_max_s=4.0))

    async def story() -> None:
        blue = world.session(world.one)
        acquired = await SimulatedLease(blue).acquire(BLUE, TTL_S)
        assert acquired is not None
        commit = asyncio.create_task(SimulatedJournal(blue).commit(_batch(Trading(acquired.epoch))))
        await asyncio.sleep(TTL_S + 0.1)
        taken = await SimulatedLease(world.session(world.other)).acquire(OTHER, TTL_S)
        assert taken is not None
        assert world.loop.now_s >= 4.0
        assert world.database.last_sequence > 0
        await commit

    world.run(story)


def test_a_commit_under_an_older_epoch_is_refused(world: World) -> None:
    async def story() -> None:
        blue = world.session(world.one)
        acquired = await SimulatedLease(blue).acquire(BLUE, 0.0)
        assert acquired is not None
        assert await SimulatedLease(world.session(world.other)).acquire(OTHER, TTL_S) is not None
        with pytest.raises(StaleEpochError):
            await SimulatedJournal(blue).commit(_batch(Trading(acquired.epoch)))
        assert world.database.last_sequence == 0

    world.run(story)


def test_a_commit_goes_on_when_the_process_that_asked_for_it_is_dead() -> None:
    world = World(Troubles(commit_min_s=1.0, commit_max_s=1.0))

    async def commit() -> None:
        blue = world.session(world.one)
        acquired = await SimulatedLease(blue).acquire(BLUE, TTL_S)
        assert acquired is not None
        await SimulatedJournal(blue).commit(_batch(Trading(acquired.epoch)))

    async def story() -> None:
        world.loop.on_node(world.one, commit())
        await asyncio.sleep(0.5)
        world.loop.kill(world.one)
        assert world.database.last_sequence == 0
        await asyncio.sleep(1)
        assert world.database.last_sequence > 0

    world.run(story)


@pytest.mark.parametrize(
    ("troubles", "may_be_written"),
    [(Troubles(lose_answer_probability=1.0), {True}), (Troubles(refuse_probability=1.0), {False})],
)
def test_a_lost_session_leaves_open_whether_the_commit_was_written(
    troubles: Troubles, may_be_written: set[bool]
) -> None:
    world = World()

    async def story() -> None:
        blue = world.session(world.one)
        acquired = await SimulatedLease(blue).acquire(BLUE, TTL_S)
        assert acquired is not None
        world.database.troubles = troubles
        with pytest.raises(OSError, match="lost"):
            await SimulatedJournal(blue).commit(_batch(Trading(acquired.epoch)))
        assert (world.database.last_sequence > 0) in may_be_written
        with pytest.raises(OSError, match="closed"):
            await SimulatedJournal(blue).last_entry()

    world.run(story)


def test_a_statement_that_nothing_is_heard_of_ends_by_its_time(world: World) -> None:
    async def story() -> None:
        session = world.session(world.one)
        world.network.cut(HOST, "host-1")
        with pytest.raises((TimeoutError, OSError)):
            await SimulatedLease(session).read()

    world.run(story)


def test_a_server_that_restarts_ends_all_sessions(world: World) -> None:
    async def story() -> None:
        session = world.session(world.one)
        assert await SimulatedLease(session).read() is None
        world.database.stop()
        with pytest.raises(OSError, match="closed"):
            await SimulatedLease(session).read()
        with pytest.raises(ConnectionRefusedError):
            await world.session(world.one).connect()
        world.database.start()
        again = world.session(world.one)
        await again.connect()
        assert await SimulatedLease(again).read() is None

    world.run(story)


def test_a_released_lease_is_told_to_those_who_listen(world: World) -> None:
    heard: list[bool] = []

    async def listen() -> None:
        heard.append(await SimulatedWatch(world.session(world.other)).wait(10.0))

    async def story() -> None:
        session = world.session(world.one)
        acquired = await SimulatedLease(session).acquire(BLUE, TTL_S)
        assert acquired is not None
        listening = world.loop.on_node(world.other, listen())
        await asyncio.sleep(0.1)
        await SimulatedLease(session).release(acquired.epoch)
        await listening
        assert world.loop.now_s < 1.0

    world.run(story)
    assert heard == [True]
