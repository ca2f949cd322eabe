"""Real engine processes on a real database, and clients that trade through them while the test breaks things."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg

from rtx.core.commands import (
    AnyCommand,
    CancelOrder,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    encode_command,
)
from rtx.core.events import encode_events
from rtx.core.snapshot import state_hash
from rtx.core.vocabulary import BUY, GTC, LIMIT, SELL
from rtx.engine.own_commands import REQUEST_ID
from rtx.engine.recovery import recover
from rtx.link.client import Applied, CommandRejectedError, EngineClient, Locate, new_command_id
from rtx.link.handshake import derive_key
from rtx.store import reconciliation
from rtx.store.connection import DATABASE_ERRORS, create_pool
from rtx.store.entries import Snapshot
from rtx.store.journal import JournalStore
from rtx.store.lease import Lease, LeaseStore

JWT_SECRET: Final = "the secret of the tests, which is long enough for everything"
TIMEOUT_S: Final = 40.0
"""How long a test waits for what must happen; a busy machine is slow."""

POLL_INTERVAL_S: Final = 0.02
BASE, QUOTE, MARKET = 1, 2, 1
ACCOUNTS: Final = tuple(range(1001, 1009))

_LAUNCH: Final = """
import runpy, sys
from rtx.supervisor.lifeline import end_with_parent
end_with_parent(int(sys.argv[1]))
runpy.run_module("rtx.engine", run_name="__main__")
"""
"""``python -m rtx.engine``, which ends when the process that is named by the argument does."""

Pool = asyncpg.Pool


async def eventually(holds: Callable[[], Awaitable[object]]) -> None:
    """Wait until ``holds`` gives something true; while the database is away, nothing is."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with contextlib.suppress(*DATABASE_ERRORS):
                if await holds():
                    return
            await asyncio.sleep(POLL_INTERVAL_S)


class EngineProcess:
    """One ``python -m rtx.engine``; its log goes into a file."""

    def __init__(self, environment: dict[str, str], log_path: Path) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as ``kill -9`` does; returns when it is gone."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    async def exit_code(self) -> int:
        """Wait until it has ended."""
        return await asyncio.to_thread(self.process.wait, TIMEOUT_S)

    async def terminate(self) -> int:
        """Ask it to end; returns its exit code."""
        self.process.terminate()
        return await self.exit_code()


class Cluster:
    """A migrated database with the engines that were started on it."""

    def __init__(self, database_url: str, redis_url: str, directory: Path, pool: Pool[asyncpg.Record]) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.pool = pool
        self.leases = LeaseStore(pool)
        self.engines: list[EngineProcess] = []
        self._directory = directory

    def start_engine(self, holder: str = "engine", **variables: str) -> EngineProcess:
        """Start one more engine; ``variables`` are settings without their ``RTX_``."""
        return self._start(holder, variables, {})

    def start_build(self, build: Path, holder: str, /, **variables: str) -> EngineProcess:
        """Start an engine of another build of the program (see :mod:`tests.integration.engine.builds`)."""
        return self._start(holder, variables, {"PYTHONPATH": str(build)})

    def _start(self, holder: str, variables: dict[str, str], more: dict[str, str]) -> EngineProcess:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RTX_")}
        environment |= {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "JWT_SECRET": JWT_SECRET,
            "RTX_ENGINE_HOLDER": holder,
        }
        environment |= {f"RTX_{name}": value for name, value in variables.items()} | more
        engine = EngineProcess(environment, self._directory / f"engine-{len(self.engines)}.log")
        self.engines.append(engine)
        return engine

    async def lease(self) -> Lease:
        lease = await self.leases.read()
        assert lease is not None
        return lease

    async def until_led(self, holder: str = "engine", after_epoch: int = 0) -> Lease:
        """Wait until this holder has the lease under an epoch after this one."""

        async def is_led() -> bool:
            lease = await self.leases.read()
            return lease is not None and lease.holder == holder and lease.epoch > after_epoch

        await eventually(is_led)
        return await self.lease()

    async def until_epoch(self, epoch: int) -> Lease:
        """Wait until somebody has the lease under this epoch or a later one."""

        async def is_reached() -> bool:
            lease = await self.leases.read()
            return lease is not None and lease.epoch >= epoch

        await eventually(is_reached)
        return await self.lease()

    async def locate(self) -> tuple[str, int] | None:
        """Where the leader listens, as API workers find it."""
        lease = await self.leases.read()
        return None if lease is None else address_of(lease)

    @contextlib.asynccontextmanager
    async def client(self, locate: Locate | None = None) -> AsyncIterator[EngineClient]:
        client = EngineClient(derive_key(JWT_SECRET), locate or self.locate)
        client.start()
        try:
            yield client
        finally:
            await client.stop()

    async def request_ids(self) -> list[str]:
        return [row[0] for row in await self.pool.fetch("SELECT request_id FROM journal ORDER BY sequence")]

    async def check(self, client: EngineClient, load: Load) -> None:
        """What must hold whatever happened: nothing lost, nothing twice, nothing half there."""
        await self._check_states(client)
        rows = await self.pool.fetch("SELECT request_id, sequence, time_us, command, events FROM journal")
        assert max(row["sequence"] for row in rows) == len(rows)
        by_request: dict[str, list[asyncpg.Record]] = {}
        for row in rows:
            by_request.setdefault(row["request_id"], []).append(row)
        by_request.pop(REQUEST_ID, None)
        assert [request_id for request_id, found in by_request.items() if len(found) > 1] == []
        for request_id, applied in load.acknowledged.items():
            (row,) = by_request[request_id]
            assert (row["sequence"], row["time_us"]) == (applied.sequence, applied.time_us)
            assert row["command"] == encode_command(load.commands[request_id])
            assert row["events"] == encode_events(applied.events)
        for request_id in load.refused - load.refused_under_key:
            assert request_id not in by_request
        report = await reconciliation.check(self.pool)
        assert report.findings == ()

    async def _check_states(self, client: EngineClient) -> None:
        """The leader's state is that of a replay; asked again when it wrote a checkpoint of its own meanwhile."""
        journal = JournalStore(self.pool)
        while True:
            sequence, engine_hash = await client.state_hash(timeout_s=TIMEOUT_S)
            replayed, from_first = await recover(journal), await recover(JournalFromFirstRow(self.pool))
            if replayed.sequence == from_first.sequence == sequence:
                break
        assert from_first.snapshot_sequence == 0
        assert state_hash(replayed.exchange) == state_hash(from_first.exchange) == engine_hash


class JournalFromFirstRow(JournalStore):
    """The journal without its snapshots."""

    async def load_snapshot(self, before_sequence: int | None = None) -> Snapshot | None:
        return None


def address_of(lease: Lease) -> tuple[str, int]:
    host, _, port = lease.address.rpartition(":")
    return host, int(port)


@contextlib.asynccontextmanager
async def running_cluster(database_url: str, redis_url: str, directory: Path) -> AsyncIterator[Cluster]:
    """Yield a cluster without engines; all that were started are gone afterwards."""
    pool = await create_pool(database_url, application_name="rtx-test", minimum_size=1)
    cluster = Cluster(database_url, redis_url, directory, pool)
    try:
        yield cluster
    finally:
        for engine in cluster.engines:
            with contextlib.suppress(ProcessLookupError):
                engine.kill()
        pool.terminate()


async def open_market(client: EngineClient) -> None:
    """One market and accounts with plenty of both assets."""
    opening: list[AnyCommand] = [
        CreateAsset("BASE", 0),
        CreateAsset("QUOTE", 0),
        CreateMarket("BASEQUOTE", BASE, QUOTE, 1, 1, MarketFilters(maximum_open_orders=0)),
    ]
    opening += [
        Deposit(account_id, asset_id, 1_000_000, f"opening-{account_id}-{asset_id}")
        for account_id in ACCOUNTS
        for asset_id in (BASE, QUOTE)
    ]
    for number, command in enumerate(opening):
        await client.submit(command, request_id=f"opening-{number}", timeout_s=TIMEOUT_S)


class Load:
    """Concurrent senders, each of which sends its next command when the last was answered."""

    def __init__(self, client: EngineClient, *, commands: int = 2_000, senders: int = 32, seed: int = 1) -> None:
        self.commands: dict[str, AnyCommand] = {}
        self.acknowledged: dict[str, Applied] = {}
        self.refused: set[str] = set()
        self.refused_under_key: set[str] = set()
        self.errors: list[Exception] = []
        self._client = client
        self._total = commands
        self._senders = senders
        self._chance = random.Random(seed)
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> int:
        """Commands that have their answer."""
        return len(self.acknowledged) + len(self.refused)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Trade during the block, and go on after it until all commands have their answer."""
        tasks = [asyncio.create_task(self._send(number)) for number in range(self._senders)]
        try:
            yield
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        assert self.done == self._total

    async def answered(self, count: int) -> None:
        """Wait until so many commands more have been answered."""
        wanted = self.done + count
        assert wanted < self._total, "the load would be over"
        async with asyncio.timeout(TIMEOUT_S):
            while self.done < wanted:
                self._progress.clear()
                await self._progress.wait()

    async def _send(self, sender: int) -> None:
        while len(self.commands) < self._total:
            request_id = f"load-{len(self.commands)}"
            command = self._next_command(ACCOUNTS[sender % len(ACCOUNTS)])
            self.commands[request_id] = command
            keyed: dict[str, Any] = {}
            if self._chance.random() < 0.1:
                keyed = {"command_id": new_command_id(), "request_hash": b"h" * 32}
            await self._submit(request_id, command, keyed)

    async def _submit(self, request_id: str, command: AnyCommand, keyed: dict[str, Any]) -> None:
        try:
            applied = await self._client.submit(command, request_id=request_id, timeout_s=TIMEOUT_S, **keyed)
            if keyed:
                again = await self._client.submit(command, request_id=request_id, timeout_s=TIMEOUT_S, **keyed)
                assert again == applied
            self.acknowledged[request_id] = applied
        except CommandRejectedError:
            self.refused.add(request_id)
            if keyed:
                self.refused_under_key.add(request_id)
        self._progress.set()

    def _next_command(self, account_id: int) -> AnyCommand:
        chance = self._chance
        kind = chance.random()
        number = len(self.commands)
        if kind < 0.05:
            return Deposit(account_id, QUOTE, chance.randint(1, 100), f"load-{number}")
        if kind < 0.25 and number > 100:
            return CancelOrder(account_id, MARKET, client_order_id=f"order-{chance.randrange(number - 100, number)}")
        side = chance.choice((BUY, SELL))
        return NewOrder(
            account_id, MARKET, side, LIMIT, GTC, chance.randint(95, 105), chance.randint(1, 9), f"order-{number}"
        )
