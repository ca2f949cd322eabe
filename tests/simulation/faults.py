"""What goes wrong in a run: which kinds, how often, and when, all from the seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from tests.simulation.cluster import Cluster, Replica
from tests.simulation.database import HOST, NO_LOCK, READ_TIMEOUT_S, Session, SimulatedHandovers, Troubles
from tests.simulation.loop import Node
from tests.simulation.workload import Workload

from rtx.store.connection import DATABASE_ERRORS
from rtx.store.handovers import HandoverPendingError

CALLBACKS_BEFORE_CRASH_MAX: Final = 60
ORDER_VALID_S: Final = 5.0

KINDS: Final = (
    "crash engine",
    "crash at commit",
    "pause engine",
    "terminate engine",
    "crash worker",
    "pause worker",
    "break connections",
    "cut engine from database",
    "cut engine from workers",
    "cut worker from database",
    "stop database",
    "wall clock",
    "database clock",
    "hand over",
    "statements fail",
    "statements hang",
    "slow network",
)


class Faults:
    """Makes things go wrong until it is cancelled; :meth:`heal` makes all of them right again."""

    def __init__(
        self, cluster: Cluster, workload: Workload, seed: int | str, kinds: list[str], interval_s: float
    ) -> None:
        self.cluster = cluster
        self.workload = workload
        self.kinds = kinds
        self.interval_s = interval_s
        self.random = random.Random(f"faults {seed}")
        self.is_over = False
        self._choices: dict[str, Callable[[], None]] = {
            "crash engine": self._crash_engine,
            "pause engine": self._pause_engine,
            "terminate engine": self._terminate_engine,
            "crash worker": self._crash_worker,
            "pause worker": self._pause_worker,
            "break connections": self._break_connections,
            "cut engine from database": self._cut_engine_from_database,
            "cut engine from workers": self._cut_engine_from_workers,
            "cut worker from database": self._cut_worker_from_database,
            "stop database": self._stop_database,
            "wall clock": self._set_wall_clock,
            "database clock": self._set_database_clock,
            "hand over": self._hand_over,
        }

    def begin(self) -> None:
        """Set what is wrong all the time."""
        draw, database, weather = self.random, self.cluster.database, self.cluster.network.weather
        troubles = Troubles(latency_max_s=draw.choice((0.0005, 0.002, 0.02)))
        if not {"statements fail", "statements hang", "crash at commit"}.isdisjoint(self.kinds):
            troubles.commit_max_s = draw.choice((0.004, 0.3))
        if "statements fail" in self.kinds:
            troubles.refuse_probability = draw.choice((0.0, 0.002, 0.02))
            troubles.lose_statement_probability = draw.choice((0.0, 0.002, 0.01))
            troubles.lose_answer_probability = draw.choice((0.0, 0.002, 0.02))
            troubles.lose_notification_probability = draw.choice((0.0, 0.3))
        if "statements hang" in self.kinds:
            troubles.hang_probability = draw.choice((0.002, 0.01))
            troubles.slow_probability = draw.choice((0.0, 0.05))
        database.troubles = troubles
        if "slow network" in self.kinds:
            weather.slow_probability = draw.choice((0.05, 0.3))
            weather.slow_max_s = draw.choice((0.05, 0.4))
            weather.split_probability = 0.2
        if "crash at commit" in self.kinds:
            database.on_statement = self._crash_at_statement

    async def run(self) -> None:
        """Do one thing after another."""
        kinds = [kind for kind in self.kinds if kind in self._choices]
        if not kinds:
            return
        while True:
            await asyncio.sleep(self.random.expovariate(1 / self.interval_s))
            kind = self.random.choice(kinds)
            self.cluster.loop.trace("fault", kind)
            self._choices[kind]()

    def heal(self) -> None:
        """Make everything right."""
        cluster = self.cluster
        self.is_over = True
        cluster.loop.trace("heal")
        cluster.database.on_statement = None
        cluster.database.troubles = Troubles()
        cluster.network.weather.slow_probability = 0.0
        cluster.network.heal()
        cluster.database.start()
        for node in cluster.loop.nodes:
            node.kill_after = None
            cluster.loop.resume(node)
        for replica in cluster.replicas:
            self.start(replica)

    # -- processes -----------------------------------------------------------------------------------------------

    def start(self, replica: Replica) -> None:
        """Start what died; what diverged is replaced by the newer program."""
        if not replica.is_running:
            if replica.diverged:
                replica.program = self.cluster.newest_program
            replica.start()

    def _start_later(self, replica: Replica) -> None:
        delay_s = self.random.choice((0.05, self.random.uniform(0.05, 4.0)))
        self._later(delay_s, replica.start)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.is_over:
                action()

        self.cluster.loop.after(self.cluster.loop.world, delay_s, act)

    def _some_engine(self) -> Replica | None:
        """One that runs; mostly the one that leads."""
        running = [replica for replica in self.cluster.replicas if replica.is_running]
        leading = [replica for replica in running if replica.leader is not None]
        if leading and self.random.random() < 0.7:
            return self.random.choice(leading)
        return self.random.choice(running) if running else None

    def _crash_engine(self) -> None:
        replica = self._some_engine()
        if replica is not None and replica.node is not None and replica.node.kill_after is None:
            callbacks = self.random.randint(0, CALLBACKS_BEFORE_CRASH_MAX)
            self._kill_after(replica, replica.node, callbacks, told=self.random.random() < 0.6)

    def _after_crash(self, replica: Replica, node: Node, told: bool) -> None:
        self.cluster.network.lose_node(node, told=told)
        replica.service = None
        replica.kills += 1
        self._start_later(replica)

    def _crash_at_statement(self, node: Node, lock: str) -> None:
        if lock == NO_LOCK or node.kill_after is not None or self.random.random() > 0.01:
            return
        replica = next((replica for replica in self.cluster.replicas if replica.node is node), None)
        if replica is not None:
            self._kill_after(replica, node, self.random.choice((0, 1, 2, 3, 5, 8, 13, 21, 34)), told=True)

    def _kill_after(self, replica: Replica, node: Node, callbacks: int, *, told: bool) -> None:
        node.on_end.append(lambda: self._after_crash(replica, node, told))
        node.kill_after = callbacks

    def _pause_engine(self) -> None:
        replica = self._some_engine()
        if replica is not None and replica.node is not None:
            self._pause(replica.node, self.cluster.settings.lease_ttl_s)

    def _pause(self, node: Node, about_s: float) -> None:
        loop = self.cluster.loop
        loop.pause(node)
        self._later(self.random.choice((0.02, 0.5 * about_s, 1.05 * about_s, 2 * about_s)), lambda: loop.resume(node))

    def _terminate_engine(self) -> None:
        replica = self._some_engine()
        if replica is not None:
            replica.stop()
            self._later(self.random.uniform(0.1, 8.0), replica.start)

    def _crash_worker(self) -> None:
        self.random.choice(self.cluster.workers).crash(told=self.random.random() < 0.7)

    def _pause_worker(self) -> None:
        self._pause(self.random.choice(self.cluster.workers).node, 1.0)

    # -- network -------------------------------------------------------------------------------------------------

    def _break_connections(self) -> None:
        network = self.cluster.network
        share = self.random.choice((0.3, 1.0))
        for number in sorted(number for number in network.transports if number > 0):
            transport = network.transports.get(number)
            if transport is not None and self.random.random() < share:
                network.break_connection(transport)

    def _cut(self, one: str, other: str) -> None:
        network = self.cluster.network
        pairs = self.random.choice((((one, other),), ((other, one),), ((one, other), (other, one))))
        for pair in pairs:
            network.cut(*pair)
        breaks = self.random.random() < 0.5

        def mend() -> None:
            for pair in pairs:
                network.mend(*pair)
            if breaks:
                for number in sorted(number for number in network.transports if number > 0):
                    transport = network.transports.get(number)
                    if transport is not None and {transport.node.host, transport.peer.node.host} == {one, other}:
                        network.break_connection(transport)

        self._later(self.random.choice((0.1, 1.0, self.random.uniform(0.1, 6.0))), mend)

    def _cut_engine_from_database(self) -> None:
        replica = self._some_engine()
        if replica is not None:
            self._cut(replica.host, HOST)

    def _cut_engine_from_workers(self) -> None:
        replica = self._some_engine()
        if replica is None:
            return
        for worker in self.cluster.workers:
            if self.random.random() < 0.7:
                self._cut(replica.host, worker.host)

    def _cut_worker_from_database(self) -> None:
        self._cut(self.random.choice(self.cluster.workers).host, HOST)

    # -- database and clocks -------------------------------------------------------------------------------------

    def _stop_database(self) -> None:
        database = self.cluster.database
        database.stop()
        self._later(self.random.choice((0.05, self.random.uniform(0.05, 3.0))), database.start)

    def _set_wall_clock(self) -> None:
        replica = self._some_engine()
        if replica is not None and replica.node is not None:
            jump_us = self.random.choice((-3_600_000_000, -2_000_000, 2_000_000, 3_600_000_000))
            replica.node.wall_offset_us += jump_us
            self.cluster.loop.trace("wall clock", replica.holder, jump_us)

    def _set_database_clock(self) -> None:
        self.cluster.database.set_clock(self.random.choice((-1.0, -0.2, 0.2, 1.0, 4.0)))

    # -- orders --------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        cluster = self.cluster
        replica = self.random.choice(cluster.replicas)
        target = self.random.choice((replica.holder, replica.colour))
        session = Session(cluster.database, cluster.loop.world, timeout_s=READ_TIMEOUT_S, heals=True)

        async def order() -> None:
            try:
                await SimulatedHandovers(session).request(target, ORDER_VALID_S)
            except (*DATABASE_ERRORS, HandoverPendingError):
                return

        cluster.loop.on_node(cluster.loop.world, order())
