"""Three replicas on one machine: what a handover and a death cost their clients, and what standbys cost the leader.

The clients of handovers and deaths are those of the fault tests: each knows all replicas, keeps a connection to one,
and asks again under the same idempotency key when that breaks. What they were told is compared afterwards with what the
database holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import msgspec
import psutil
from tests.faults.backend import ServeProcess, Servers
from tests.faults.exchange import ReachablePostgresql, empty_exchange
from tests.faults.load import Load, Persistence, trading
from tests.faults.replicas import Replicas, make_members, running_replicas, signal_engine
from tests.faults.venue import MARKETS, open_venue
from tests.faults.verification import verify

from benchmarks.backend import Operator, ReadyFile
from benchmarks.http.session import open_session
from benchmarks.replay import Replay
from rtx.embedded import EmbeddedValkey
from rtx.store.replicas import FOLLOWING
from rtx.verification.database import verify_database

CLIENTS = 24
STRETCH = 300
KILL_INTERVAL_S = 6.0
"""Between deaths, so that each engine lives long enough to be started again without a pause."""

MIDDLE = Decimal(1000)
SAMPLE_INTERVAL_S = 0.25


class ReplicasError(Exception):
    """Something that the clients were told is not in the database."""


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    handovers: int
    kills: int
    replica_kills: int
    turns: int
    seconds: int
    connections: int
    accounts: int


@dataclass
class Events:
    """Something that was done again and again: the clients' longest wait for an answer each time, and their errors."""

    name: str
    gaps_ms: list[float] = field(default_factory=list)
    pauses_ms: list[float] = field(default_factory=list)
    errors: int = 0
    errors_at_the_dead: int = 0


def measure_replicas(extent: Extent, tree: Path | None) -> None:
    """Print the tables; ``tree`` is the folder of the compiled core, None for plain Python."""
    asyncio.run(_measure(extent, tree))


async def _measure(extent: Extent, tree: Path | None) -> None:
    settings = {} if tree is None else {"PYTHONPATH": str(tree)}
    async with _replicas(settings) as replicas:
        await _measure_events(replicas, extent)
    # On an exchange of its own: how fast orders go depends on how much there is already.
    async with _replicas(settings) as replicas:
        await open_venue(replicas.addresses, replicas.operator)
        await _measure_standbys(replicas, extent)
        await _measure_replay(replicas, settings)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rtx-bench-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)  # the embedded servers run as another user when this runs as root
        yield directory


@contextlib.asynccontextmanager
async def _replicas(settings: dict[str, str]) -> AsyncIterator[Replicas]:
    with (
        _scratch() as directory,
        ReachablePostgresql(directory / "postgresql") as postgresql,
        EmbeddedValkey(directory / "valkey") as valkey,
    ):
        async with empty_exchange(postgresql) as exchange:
            servers = Servers(exchange.database_url, valkey.redis_url)
            members = make_members(directory, servers, exchange.operator, settings=settings)
            async with running_replicas(members) as replicas:
                yield replicas


# -- handovers and deaths ---------------------------------------------------------------------------------------------


async def _measure_events(replicas: Replicas, extent: Extent) -> None:
    venue = await open_venue(replicas.addresses, replicas.operator)
    undisturbed = Events("nothing")
    handovers = Events("planned handover")
    kills = Events("kill -9 of the leading engine")
    replica_kills = Events("kill -9 of the leader's whole replica")
    async with trading(venue, clients=CLIENTS, persistences=(Persistence.REPEAT,)) as load:
        await load.more(STRETCH)
        for _ in range(extent.handovers):
            await _observe(undisturbed, load, _nothing)
        for _ in range(extent.handovers):
            await _observe(handovers, load, lambda: _hand_over(replicas))
            handovers.pauses_ms.append((await replicas.last_handover()).pause_ms or 0.0)
        for _ in range(extent.kills):
            await _observe(kills, load, lambda: _kill_engine(replicas))
            await asyncio.sleep(KILL_INTERVAL_S)
        for _ in range(extent.replica_kills):
            await _observe_a_dead_replica(replicas, replica_kills, load)
    verdict = await verify(venue, load, replicas.database_url)
    problems = verdict.lost + verdict.doubled + verdict.wrong
    if problems:
        raise ReplicasError(f"{len(problems)} things are not as clients were told; the first: {problems[0]}")
    _print_events((undisturbed, handovers, kills, replica_kills), load)


async def _observe(events: Events, load: Load, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something once, and note how long no client had an answer round it."""
    errors_before = len(load.failures)
    load.forget_gap()
    await action()
    await load.more(STRETCH)
    events.gaps_ms.append(load.longest_gap_s * 1000)
    events.errors += len(load.failures) - errors_before


async def _observe_a_dead_replica(replicas: Replicas, events: Events, load: Load) -> None:
    killed = await replicas.leader()
    before = len(load.failures)
    await _observe(events, load, lambda: _kill_replica(replicas, killed))
    events.errors_at_the_dead += sum(failure.address == killed.address for failure in load.failures[before:])
    killed.start()
    await replicas.all_ready()


async def _nothing() -> None:
    """What everything else is compared with."""


async def _hand_over(replicas: Replicas) -> None:
    leader = (await replicas.lease()).holder
    following = [report.holder for report in await replicas.reports() if report.holder != leader]
    await replicas.hand_over(min(following))


async def _kill_engine(replicas: Replicas) -> None:
    lease = await replicas.lease()
    signal_engine(replicas.holding(lease), signal.SIGKILL)
    await replicas.led_after(lease.epoch)


async def _kill_replica(replicas: Replicas, killed: ServeProcess) -> None:
    lease = await replicas.lease()
    await asyncio.to_thread(killed.kill_everything)
    await replicas.led_after(lease.epoch)


def _print_events(measured: Sequence[Events], load: Load) -> None:
    print(f"{CLIENTS} clients on three replicas; {load.acknowledged:,} requests acknowledged, 0 lost, 0 doubled.\n")
    print(
        "| what happens | times | longest wait for any answer, ms: p50 | p99 | most | engine's pause, ms: p50 | p99 |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for events in measured:
        pauses = (
            [f"{_quantile(events.pauses_ms, share):.0f}" for share in (0.5, 0.99)] if events.pauses_ms else ["", ""]
        )
        gaps = [f"{_quantile(events.gaps_ms, share):.0f}" for share in (0.5, 0.99, 1.0)]
        print(f"| {events.name} | {len(events.gaps_ms)} | {' | '.join(gaps)} | {' | '.join(pauses)} |")
    print()
    for events in measured:
        at_the_dead = f", {events.errors_at_the_dead} of them on connections to the dead" if events.errors else ""
        print(f"{events.name}: {events.errors} errors at clients{at_the_dead}.")


# -- standbys ---------------------------------------------------------------------------------------------------------


@dataclass
class Lag:
    """How far standbys were behind, each time that they were looked at."""

    rows: list[float] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)


async def _measure_standbys(replicas: Replicas, extent: Extent) -> None:
    """Orders a second with none, one and two standbys, in turns, and how far they are behind meanwhile."""
    leader = await replicas.leader()
    standbys = replicas.others(leader)
    host, port = leader.address
    ready = ReadyFile(f"http://{host}:{port}", replicas.database_url, Operator(**vars(replicas.operator)))
    session = await asyncio.to_thread(
        open_session, ready, symbol=next(iter(MARKETS)), accounts=extent.accounts, middle=MIDDLE, seed=1
    )
    await asyncio.to_thread(session.warm_up, extent.connections)
    rates: dict[int, list[float]] = {count: [] for count in range(len(standbys) + 1)}
    lag = Lag()
    leader_us: list[float] = []
    standby_us: list[float] = []
    for turn in range(extent.turns):
        # Up and down in turn, so that a machine that becomes slower or faster meanwhile favours nobody.
        for count in sorted(rates, reverse=turn % 2 == 0):
            await _have_standbys(replicas, standbys, count)
            running = [leader, *standbys[:count]]
            before = [await _processor_seconds(replica) for replica in running]
            sampling = asyncio.create_task(_sample_lag(replicas, lag))
            result = await asyncio.to_thread(session.measure, extent.connections, extent.seconds)
            sampling.cancel()
            rates[count].append(result.accepted_per_second)
            for replica, seconds in zip(running, before, strict=True):
                cost_us = (await _processor_seconds(replica) - seconds) / result.accepted * 1e6
                (leader_us if replica is leader else standby_us).append(cost_us)
    _print_standbys(rates, lag, extent)
    print(
        "Processor time an order, of the engine with its database sessions: "
        f"{median(leader_us):.0f} us of the leader's, {median(standby_us):.0f} us of a standby's.\n",
        flush=True,
    )


async def _have_standbys(replicas: Replicas, standbys: Sequence[ServeProcess], count: int) -> None:
    """Start or stop replicas until this many run beside the leader's, and follow."""
    for number, standby in enumerate(standbys):
        if number >= count and standby.is_running:
            await standby.stop()
        elif number < count and not standby.is_running:
            standby.start()
            await standby.ready()
    while [report.state for report in await replicas.reports()].count(FOLLOWING) < count:  # noqa: ASYNC110
        await asyncio.sleep(SAMPLE_INTERVAL_S)


async def _processor_seconds(replica: ServeProcess) -> float:
    """Processor time that the engine of a replica and PostgreSQL's processes for its connections have taken."""
    engine = psutil.Process(replica.process_id("engine"))
    ports = [connection.laddr.port for connection in engine.net_connections("tcp")]
    connection = await asyncpg.connect(replica.database_url)
    try:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE client_port = ANY($1::int[])", ports)
    finally:
        await connection.close()
    times = [process.cpu_times() for process in (engine, *(psutil.Process(row[0]) for row in rows))]
    return sum(time.user + time.system for time in times)


async def _sample_lag(replicas: Replicas, lag: Lag) -> None:
    seen: dict[str, tuple[int, float]] = {}
    while True:
        await asyncio.sleep(SAMPLE_INTERVAL_S)
        for report in await replicas.reports():
            if report.state == FOLLOWING and seen.get(report.holder) != (report.sequence, report.lag_ms):
                seen[report.holder] = (report.sequence, report.lag_ms)
                lag.rows.append(report.lag_rows)
                lag.times_ms.append(report.lag_ms)


def _print_standbys(rates: dict[int, list[float]], lag: Lag, extent: Extent) -> None:
    print(f"\n{extent.connections} connections to the leader's replica, {extent.seconds} s each turn.\n")
    columns = [
        "turn",
        *(f"orders/s, {count} standbys" for count in rates),
        *(f"ratio, {count}" for count in rates if count),
    ]
    print(f"| {' | '.join(columns)} |\n|{'--:|' * len(columns)}")
    ratios: dict[int, list[float]] = {count: [] for count in rates if count}
    for turn in range(extent.turns):
        cells = [str(turn + 1), *(f"{rate[turn]:,.0f}" for rate in rates.values())]
        for count, found in ratios.items():
            found.append(rates[count][turn] / rates[0][turn])
            cells.append(f"{found[-1]:.2f}")
        print(f"| {' | '.join(cells)} |")
    medians = ", ".join(f"{median(found):.2f} with {count}" for count, found in ratios.items())
    print(f"\nMedian ratio to none: {medians}.")
    print(
        f"Standby lag under this load, {len(lag.rows)} samples: {_quantile(lag.rows, 0.5):.0f} rows (p50), "
        f"{_quantile(lag.rows, 0.99):.0f} (p99); {_quantile(lag.times_ms, 0.5):.1f} ms (p50), "
        f"{_quantile(lag.times_ms, 0.99):.1f} ms (p99).",
        flush=True,
    )


# -- the journal ------------------------------------------------------------------------------------------------------


async def _measure_replay(replicas: Replicas, settings: dict[str, str]) -> None:
    await asyncio.gather(*(member.stop() for member in replicas.members))
    command = [sys.executable, "-m", "benchmarks.replay"]
    environment = {**os.environ, **settings, "DATABASE_URL": replicas.database_url}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
    )
    replay = msgspec.json.decode(done.stdout, type=Replay)
    print(f"Replay of the whole journal: {replay.rows:,} rows, {replay.rows_per_second:,.0f} rows/s.")
    report = await verify_database(replicas.database_url)
    if report.difference is not None:
        raise ReplicasError(f"rtx verify: {report.difference}")
    print(f"`rtx verify`, with every table: {report.rows_per_s:,.0f} rows/s.", flush=True)


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
