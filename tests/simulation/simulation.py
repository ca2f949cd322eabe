"""One run: a cluster, its clients and what goes wrong, all drawn from one seed, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import structlog
from tests.simulation.cluster import NEW, OLD, SECRET, Cluster
from tests.simulation.database import Database, Troubles
from tests.simulation.faults import KINDS, Faults
from tests.simulation.loop import SimulatedLoop, SimulationStuckError
from tests.simulation.network import Network
from tests.simulation.verdict import violations
from tests.simulation.workload import CommandIds, Habits, Outcome, Workload

from rtx.engine import leader, recovery, service, standby
from rtx.engine.recovery import dismantle
from rtx.settings import Settings

HEALED_WITHIN_S: Final = 30.0
"""A leader answers, and everybody has the whole journal, so long after all was made right."""

RUN_S_MAX: Final = 240.0
SETTLE_POLL_S: Final = 0.05

Sabotage = Callable[[Cluster], contextlib.AbstractContextManager[object]]
"""Plants a bug for the time of a run."""


@dataclass
class Result:
    """What a run showed."""

    seed: int
    violations: list[str]
    fingerprint: str
    simulated_s: float
    steps: int
    operations: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    epochs: int = 0
    rows: int = 0
    kills: int = 0
    handovers: int = 0
    divergences: int = 0
    kinds: tuple[str, ...] = ()


def run(seed: int, *, sink: Callable[[str], None] | None = None, sabotage: Sabotage | None = None) -> Result:
    """Run one seed. The same seed gives the same run, to the last callback."""
    draw = random.Random(f"run {seed}")
    random.seed(seed)
    loop = SimulatedLoop(seed, sink)  # type: ignore[abstract] # what it lacks, nothing asks for
    network = Network(loop, seed)
    database = Database(loop, network, seed, Troubles())
    settings = _draw_settings(draw)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet_logs(loop, sink))
        stack.enter_context(CommandIds(seed))
        stack.enter_context(_constants(draw, settings.engine_batch_commands_max))
        stack.enter_context(_observed_standbys(loop))
        simulation = _Simulation(loop, network, database, settings, seed, draw)
        if sabotage is not None:
            stack.enter_context(sabotage(simulation.cluster))
        problems: list[str] = []
        try:
            problems += loop.run(simulation.live(), until_s=RUN_S_MAX)
            problems += violations(simulation.cluster, simulation.workload)
        except SimulationStuckError as error:
            problems.append(f"the simulation is stuck: {error}")
        result = simulation.result(problems)
        left = loop.dispose()
        if left:
            result.violations.append(f"{left} tasks cannot be ended")
        simulation.dismantle()
    return result


def _draw_settings(draw: random.Random) -> Settings:
    """Settings under which everything happens within seconds and a hundred commands."""
    ttl_s = draw.choice((1.0, 3.0))
    return Settings(
        database_url="postgresql://simulated/rtx",
        redis_url="redis://simulated",
        jwt_secret=SECRET,
        lease_ttl_s=ttl_s,
        lease_renewal_s=ttl_s / 3,
        engine_queue_commands_max=draw.choice((4, 8_192, 8_192)),
        engine_batch_commands_max=draw.choice((1, 4, 512, 512)),
        checkpoint_commands=draw.choice((7, 30, 10_000)),
        snapshot_commands=draw.choice((25, 60, 100_000)),
    )


class _Simulation:
    """What is drawn for a run, and its course."""

    def __init__(
        self,
        loop: SimulatedLoop,
        network: Network,
        database: Database,
        settings: Settings,
        seed: int,
        draw: random.Random,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.draw = draw
        colours = draw.choice((["blue"], ["blue", "blue"], ["blue", "green"], ["blue", "blue", "green"], ["blue"] * 3))
        programs = {"blue": draw.choice((NEW, NEW, OLD)), "green": draw.choice((NEW, NEW, OLD))}
        self.habits = Habits(
            users=draw.choice((4, 8)),
            pause_mean_s=draw.choice((0.03, 0.1, 0.3)),
            timeout_min_s=draw.choice((0.5, 4.0)),
            query_interval_s=draw.choice((0.0, 0.0, 0.03)),
        )
        self.cluster = Cluster(
            loop,
            network,
            database,
            settings,
            seed,
            colours=colours,
            programs=programs,
            worker_count=draw.choice((1, 2, 3)),
        )
        self.workload = Workload(self.cluster, seed, self.habits)
        self.kinds = draw.sample(KINDS, draw.randint(0, 6))
        interval_s = draw.choice((0.15, 0.4, 1.2))
        self.faults = Faults(self.cluster, self.workload, seed, self.kinds, interval_s)

    async def live(self) -> list[str]:
        """Open the market, trade while things go wrong, heal, and wait until all is quiet."""
        for replica in self.cluster.replicas:
            replica.start()
        await self.workload.open_market()
        self.faults.begin()
        faults = asyncio.create_task(self.faults.run())
        watch = asyncio.create_task(self.workload.watch()) if self.habits.query_interval_s else None
        supervision = asyncio.create_task(self._supervise())
        users = [asyncio.create_task(self.workload.trade(number)) for number in range(self.habits.users)]
        if self.draw.random() < 0.4:
            users.append(asyncio.create_task(self._activate_rules()))
        await asyncio.wait(users, timeout=self.draw.uniform(2.0, 8.0))
        faults.cancel()
        if watch is not None:
            watch.cancel()
        self.faults.heal()
        await asyncio.gather(*users)
        problems = await self._settle()
        supervision.cancel()
        return problems

    async def _activate_rules(self) -> None:
        await asyncio.sleep(self.draw.uniform(0, 2.0))
        await self.workload.activate_rules()

    async def _supervise(self) -> None:
        """Start again what ended by itself; once all is healed, what diverged is replaced by the newer program."""
        while True:
            await asyncio.sleep(0.5)
            for replica in self.cluster.replicas:
                if self.faults.is_over:
                    self.faults.start(replica)
                elif replica.diverged:
                    replica.start()

    async def _settle(self) -> list[str]:
        """Show that the exchange is alive, and wait until everybody has everything."""
        cluster, loop = self.cluster, self.loop
        until_s = loop.now_s + HEALED_WITHIN_S
        probes = [self.workload.probe(worker, HEALED_WITHIN_S) for worker in cluster.workers]
        problems = [
            f"no leader answers through worker {number + 1} after all was healed: {outcome.value}"
            for number, outcome in enumerate(await asyncio.gather(*probes))
            if outcome is not Outcome.APPLIED
        ]
        while loop.now_s < until_s and not self._is_quiet():  # noqa: ASYNC110 - an event would be one more callback
            await asyncio.sleep(SETTLE_POLL_S)
        return problems

    def _is_quiet(self) -> bool:
        held = [replica.exchange for replica in self.cluster.replicas]
        leaders = [replica for replica in self.cluster.replicas if replica.leader is not None]
        return len(leaders) == 1 and all(one and one[0] == self.cluster.database.last_sequence for one in held)

    def result(self, problems: list[str]) -> Result:
        """What the run showed."""
        outcomes: dict[str, int] = {}
        for operation in self.workload.operations:
            for attempt in operation.attempts:
                outcomes[attempt.outcome.value] = outcomes.get(attempt.outcome.value, 0) + 1
        return Result(
            seed=self.seed,
            violations=problems,
            fingerprint=self.loop.fingerprint(),
            simulated_s=self.loop.now_s,
            steps=self.loop.steps,
            operations=len(self.workload.operations),
            outcomes=outcomes,
            epochs=len(self.cluster.database.terms),
            rows=self.cluster.database.last_sequence,
            kills=sum(replica.kills for replica in self.cluster.replicas),
            handovers=sum(
                order.target != "" and order.state == "taken" for order in self.cluster.database.lease.orders
            ),
            divergences=sum(replica.halts for replica in self.cluster.replicas),
            kinds=tuple(self.kinds),
        )

    def dismantle(self) -> None:
        """Free what goes in circles."""
        for node in self.loop.nodes:
            if isinstance(node.memory, standby.Standby):
                dismantle(node.memory.exchange)


# -- the process's own state, for the time of a run -----------------------------------------------------------


@contextlib.contextmanager
def _constants(draw: random.Random, batch_commands_max: int) -> Iterator[None]:
    """Sizes that are met only after hours in production, drawn small; and the rules as every program knows them.

    What two batches hold is always remembered, as it is in production.
    """
    with (
        mock.patch.object(service, "REMEMBERED_COMMANDS", draw.choice((2 * batch_commands_max, 20_000))),
        mock.patch.object(standby, "ROWS_PER_READ", draw.choice((3, 500))),
        mock.patch.object(recovery, "READ_ROWS", draw.choice((5, 2_000))),
    ):
        try:
            yield
        finally:
            NEW.enter()


@contextlib.contextmanager
def _observed_standbys(loop: SimulatedLoop) -> Iterator[None]:
    """Have each node remember the newest standby that was made on it."""

    class ObservedStandby(standby.Standby):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            loop.current.memory = self

        def dismantle(self) -> None:
            super().dismantle()
            if loop.current.memory is self:
                loop.current.memory = None

    with mock.patch.object(service, "Standby", ObservedStandby), mock.patch.object(leader, "Standby", ObservedStandby):
        yield


@contextlib.contextmanager
def _quiet_logs(loop: SimulatedLoop, sink: Callable[[str], None] | None) -> Iterator[None]:
    """Put the product's logs into the trace when somebody reads that, and away otherwise."""
    before = structlog.get_config()

    def write(_logger: object, method: str, event: structlog.typing.EventDict) -> str:
        if sink is not None:
            details = " ".join(f"{name}={value}" for name, value in event.items() if name not in {"event", "exc_info"})
            sink(f"{loop.now_s:.6f}   {loop.current.name}: {method}: {event['event']} {details}")
        raise structlog.DropEvent

    level = logging.CRITICAL if sink is None else logging.DEBUG
    structlog.configure(
        processors=[write], wrapper_class=structlog.make_filtering_bound_logger(level), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**before)
