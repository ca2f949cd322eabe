"""The processes of one exchange in the simulation: replicas with their engines, and API workers with their links.

All that runs in them is the product's own: :class:`~rtx.engine.service.EngineService` with everything below it, and
:class:`~rtx.link.client.EngineClient` with the API's own way to find the leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

from tests.simulation.database import READ_TIMEOUT_S, Database, Session, SimulatedLease, open_stores
from tests.simulation.loop import Node, SimulatedLoop
from tests.simulation.network import Network

from rtx.api import worker as api_worker
from rtx.core import snapshot
from rtx.core.events import RulesActivated
from rtx.core.exchange import Exchange
from rtx.core.rules import FIRST_RULES, LATEST_RULES
from rtx.engine import reports
from rtx.engine.halting import HALTING_ERRORS
from rtx.engine.leader import Leader
from rtx.engine.recovery import recover
from rtx.engine.service import EngineService
from rtx.engine.snapshotter import save_snapshot
from rtx.engine.standby import Standby
from rtx.engine.surroundings import Surroundings
from rtx.link import connection, handshake, server
from rtx.link.client import EngineClient
from rtx.link.handshake import derive_key
from rtx.link.market_data import MarketUpdate
from rtx.link.messages import PROTOCOL_VERSION
from rtx.settings import Settings
from rtx.store.connection import DATABASE_ERRORS
from rtx.store.errors import StoreError

ENGINE_PORT: Final = 7070
SECRET: Final = "the simulated cluster's one secret, long enough"
DRIFT_PPM_MAX: Final = 200
WALL_OFFSET_US_MAX: Final = 50_000


_REPORTS: Final = vars(reports)
_LINK: Final = [vars(module) for module in (handshake, connection, server)]
"""Where the modules keep what differs between versions of the program."""


@dataclass(frozen=True)
class Program:
    """A version of the program: the newest rules of matching and the newest version of the link that it knows."""

    version: str
    rules: int
    link: int

    def enter(self) -> None:
        """Have what the node runs next be of this version."""
        Exchange.__init__.__defaults__ = snapshot.load.__defaults__ = (self.rules,)
        _REPORTS["LATEST_RULES"] = self.rules
        for module in _LINK:
            module["PROTOCOL_VERSION"] = self.link


NEW: Final = Program("2.0", LATEST_RULES, PROTOCOL_VERSION)
OLD: Final = Program("1.0", LATEST_RULES - 1, PROTOCOL_VERSION - 1)


class Violations(list[str]):
    """What must not happen and did."""


class RecordingPublisher:
    """Market data on its way out; nothing may be told that is not committed."""

    def __init__(self, node: Node, database: Database, violations: Violations) -> None:
        self._node = node
        self._database = database
        self._violations = violations

    def start(self) -> None:
        """Publish from now on."""

    def announce(self, market_id: int, sequence: int, time_us: int, unchanged_since: int | None = None) -> None:
        """Say where a market stands."""
        if sequence > self._database.last_sequence:
            self._violations.append(f"{self._node.name} announced row {sequence}, which is not committed")

    def offer(self, update: MarketUpdate) -> None:
        """Take what a commit changed."""
        if update.sequence > self._database.last_sequence:
            self._violations.append(f"{self._node.name} published row {update.sequence}, which is not committed")
        if update.previous_sequence >= update.sequence:
            self._violations.append(f"{self._node.name} published {update.sequence} after {update.previous_sequence}")

    def retire(self) -> None:
        """Say nothing more."""

    async def stop(self) -> None:
        """End."""


class Snapshots:
    """Snapshots by a process beside the engine, which replays the journal for itself."""

    def __init__(self, cluster: Cluster, node: Node, program: Program, interval_commands: int) -> None:
        self._cluster = cluster
        self._node = node
        self._program = program
        self._interval_commands = interval_commands
        self.sequence = 0

    def start_from(self, sequence: int) -> None:
        self.sequence = sequence

    def start_when_due(self, sequence: int, halt: Callable[[Exception], None]) -> None:
        if sequence - self.sequence < self._interval_commands:
            return
        self.sequence = sequence
        loop = self._cluster.loop
        process = loop.add_node(f"{self._node.name}-snapshotter", self._node.host)
        process.enter = self._program.enter
        loop.on_node(process, self._run(process))

    async def _run(self, process: Node) -> None:
        with contextlib.suppress(*DATABASE_ERRORS, StoreError):
            async with open_stores(self._cluster.database, process) as stores:
                recovered = await recover(stores.reads)
                await save_snapshot(stores.reads, recovered.exchange, recovered.sequence, recovered.journal_hash)

    async def stop(self) -> None:
        """It ends by itself."""


class Replica:
    """A place that runs one engine at a time."""

    def __init__(self, cluster: Cluster, number: int, colour: str, program: Program) -> None:
        self.cluster = cluster
        self.host = f"host-{number}"
        self.colour = colour
        self.program = program
        self.holder = f"engine-{number}"
        self.node: Node | None = None
        self.service: EngineService | None = None
        self.diverged: str = ""
        self.starts = self.kills = self.halts = 0

    @property
    def settings(self) -> Settings:
        return replace(
            self.cluster.settings,
            colour=self.colour,
            engine_host=self.host,
            engine_port=ENGINE_PORT,
            engine_holder=self.holder,
        )

    @property
    def is_running(self) -> bool:
        return self.node is not None and self.node.is_alive

    @property
    def leader(self) -> Leader | None:
        """The term that the engine leads, as far as it knows."""
        return self.service._leader if self.is_running and self.service is not None else None

    @property
    def exchange(self) -> tuple[int, Exchange] | None:
        """What the engine has in memory, with its journal row."""
        if self.leader is not None:
            return self.leader.sequencer.sequence, self.leader.sequencer.exchange
        held = self.node.memory if self.node is not None and self.is_running else None
        return (held.sequence, held.exchange) if isinstance(held, Standby) else None

    def start(self) -> None:
        """Start the engine process, unless one runs here."""
        if self.is_running:
            return
        cluster = self.cluster
        self.starts += 1
        self.diverged = ""
        draw = cluster.random
        node = self.node = cluster.loop.add_node(
            f"{self.holder}.{self.starts}",
            self.host,
            rate=1 + draw.uniform(-DRIFT_PPM_MAX, DRIFT_PPM_MAX) / 1e6,
            wall_offset_us=draw.randint(-WALL_OFFSET_US_MAX, WALL_OFFSET_US_MAX),
        )
        if cluster.has_old_programs:
            node.enter = self.program.enter
        cluster.loop.trace("starts", node.name, self.colour, self.program.version)
        cluster.loop.on_node(node, self._run(node))

    async def _run(self, node: Node) -> None:
        cluster = self.cluster
        service = self.service = EngineService(
            self.settings,
            self.program.version,
            Surroundings(
                open_stores=cast("Any", partial(open_stores, cluster.database, node)),
                publisher=RecordingPublisher(node, cluster.database, cluster.violations),
                snapshots=Snapshots(cluster, node, self.program, cluster.settings.snapshot_commands),
                clock_us=lambda: cluster.loop.wall_us(node),
                monotonic_s=lambda: node.monotonic_s(cluster.loop.now_s),
                settle_memory=_leave_memory,
            ),
        )
        outcome = "ended"
        try:
            await service.run()
        except HALTING_ERRORS as error:
            outcome = f"halted: {error}"
            self.diverged = str(error)
            self.halts += 1
            cluster.note_halt(self, error)
        except asyncio.CancelledError:
            return
        except BaseException as error:  # noqa: BLE001 - whatever it is, no engine may end so
            outcome = f"died of {type(error).__name__}: {error}"
            cluster.violations.append(f"{node.name} {outcome}")
        cluster.loop.trace(node.name, outcome)
        cluster.loop.after(cluster.loop.world, 0.0, self._end, node)

    def _end(self, node: Node) -> None:
        """The process has exited."""
        if self.node is node:
            self.crash()

    def stop(self) -> None:
        """Send SIGTERM."""
        if self.is_running and self.service is not None:
            self.cluster.loop.trace("SIGTERM", self.holder)
            assert self.node is not None
            self.cluster.loop.after(self.node, 0.0, self.service.stop)

    def crash(self, *, told: bool = True) -> None:
        """End the process now. ``told``: the other ends of its connections hear of it."""
        node = self.node
        if node is not None and node.is_alive:
            self.cluster.loop.kill(node)
            self.cluster.network.lose_node(node, told=told)
            self.service = None


class Worker:
    """An API worker."""

    def __init__(self, cluster: Cluster, number: int, program: Program) -> None:
        self.cluster = cluster
        self.program = program
        self.host = f"worker-{number}"
        self.starts = 0
        self.node: Node
        self.client: EngineClient
        self.start()

    def start(self) -> None:
        """Start the process, in place of the one that was."""
        cluster = self.cluster
        self.starts += 1
        self.node = cluster.loop.add_node(f"{self.host}.{self.starts}", self.host)
        if cluster.has_old_programs:
            self.node.enter = self.program.enter
        session = Session(cluster.database, self.node, timeout_s=READ_TIMEOUT_S, heals=True)
        self.client = EngineClient(cluster.key, _locator(session))
        cluster.loop.on_node(self.node, self._run(self.client))

    async def _run(self, client: EngineClient) -> None:
        client.start()

    def crash(self, *, told: bool = True) -> None:
        """End the process now, and start another."""
        self.cluster.loop.kill(self.node)
        self.cluster.network.lose_node(self.node, told=told)
        self.start()

    def call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Have the process do something."""
        self.cluster.loop.on_node(self.node, coroutine)


class Cluster:
    """Everything that runs."""

    def __init__(
        self,
        loop: SimulatedLoop,
        network: Network,
        database: Database,
        settings: Settings,
        seed: int | str,
        *,
        colours: list[str],
        programs: dict[str, Program],
        worker_count: int,
    ) -> None:
        self.loop = loop
        self.network = network
        self.database = database
        self.settings = settings
        self.random = random.Random(f"cluster {seed}")
        self.violations = Violations()
        self.key = derive_key(settings.jwt_secret)
        self.has_old_programs = OLD in programs.values()
        self.newest_program = max(programs.values(), key=lambda program: program.rules)
        self.replicas = [Replica(self, n + 1, colour, programs[colour]) for n, colour in enumerate(colours)]
        self.workers = [Worker(self, n + 1, self._some_program()) for n in range(worker_count)]

    def add_worker(self) -> Worker:
        """One more, which no command goes through."""
        return Worker(self, len(self.workers) + 1, self._some_program())

    def _some_program(self) -> Program:
        """One of those that the replicas run: each replica has workers too."""
        return self.random.choice(self.replicas).program

    def note_halt(self, replica: Replica, error: Exception) -> None:
        """An engine says that it must not go on: right only where the rules are newer than its program."""
        if self.rules_activated <= replica.program.rules:
            self.violations.append(f"{replica.holder} halted: {type(error).__name__}: {error}")

    @property
    def rules_activated(self) -> int:
        """The rules of matching that the journal says are in force."""
        return max(
            (
                event.version
                for committed in self.database.commits
                for events in committed.batch.events
                for event in events
                if type(event) is RulesActivated
            ),
            default=FIRST_RULES,
        )


def _leave_memory() -> None:
    """Nothing to settle: the simulation's memory is everybody's."""


def _locator(session: Session) -> Callable[[], Coroutine[Any, Any, tuple[str, int] | None]]:
    """The API's own way to find the leader, on a simulated lease."""
    return cast(
        "Callable[[], Coroutine[Any, Any, tuple[str, int] | None]]", api_worker._locator(SimulatedLease(session).read)
    )
