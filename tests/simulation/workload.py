"""Clients of the simulated exchange, and a record of what each of them was told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.simulation.cluster import Cluster, Worker

from rtx.core.commands import (
    ActivateRules,
    AnyCommand,
    CancelAllAfter,
    CancelAllOrders,
    CancelOrder,
    CreateAsset,
    CreateMarket,
    Deposit,
    MarketFilters,
    NewOrder,
    Withdraw,
    encode_command,
)
from rtx.core.rules import LATEST_RULES
from rtx.core.vocabulary import (
    BUY,
    FIRST_USER_ACCOUNT_ID,
    GTC,
    IOC,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    SELL,
    STOP_LOSS,
    TAKE_PROFIT,
)
from rtx.link import client as link_client
from rtx.link.client import (
    Applied,
    CommandRejectedError,
    EngineError,
    EngineFaultError,
    EngineOverloadedError,
    EngineTimeoutError,
    IdempotencyConflictError,
)

BASE, QUOTE, MARKET_ID = 1, 2, 1
ATTEMPTS_MAX: Final = 12
PROBE_PAUSE_S: Final = 0.2
WANTED: Final = {"order": 60, "cancel": 14, "cancel all": 3, "deposit": 8, "withdraw": 15, "switch": 3}
"""What the clients want, and how often."""

GIVING_UP_S: Final = 15.0
"""After this a client takes a worker for gone that said nothing; more than any command's own time."""


class Outcome(Enum):
    """What a client was told."""

    APPLIED = "applied"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    OVERLOADED = "overloaded"
    UNKNOWN = "unknown"
    FAULTED = "faulted"


@dataclass
class Attempt:
    """One request, and its answer. Times are the simulation's; ``known_sequence`` is what was acknowledged before."""

    sent_s: float
    known_sequence: int
    outcome: Outcome = Outcome.UNKNOWN
    applied: Applied | None = None
    answered_s: float = 0.0


@dataclass
class Operation:
    """Something that a client wants done once. ``command_id`` and ``request_hash`` are set under an idempotency key."""

    number: int
    command: AnyCommand
    is_keyed: bool
    request_id: str = ""
    command_id: bytes = b""
    request_hash: bytes = b""
    attempts: list[Attempt] = field(default_factory=list)
    is_rival: bool = False
    """It uses the key of another operation."""

    rivals: list[Operation] = field(default_factory=list)

    @property
    def outcomes(self) -> set[Outcome]:
        return {attempt.outcome for attempt in self.attempts}


@dataclass
class Query:
    """A question and its answer: the journal row at which it holds, and the hash of the whole state where asked for."""

    known_sequence: int
    sequence: int | None = None
    state_hash: bytes = b""


@dataclass(frozen=True)
class Habits:
    """How the clients behave."""

    users: int = 8
    operations_each: int = 12
    pause_mean_s: float = 0.05
    query_probability: float = 0.1
    query_interval_s: float = 0.0
    """How often one more client only asks questions; 0: there is none."""

    keyed_probability: float = 0.4
    repeat_probability: float = 0.15
    twin_probability: float = 0.1
    rival_probability: float = 0.05
    timeout_min_s: float = 1.0
    timeout_max_s: float = 10.0


class Workload:
    """The clients of one run."""

    def __init__(self, cluster: Cluster, seed: int | str, habits: Habits) -> None:
        self.cluster = cluster
        self.habits = habits
        self.operations: list[Operation] = []
        self.queries: list[Query] = []
        self.acknowledged_sequence = 0
        self.random = random.Random(f"workload {seed}")

    # -- what the clients do -------------------------------------------------------------------------------------

    async def open_market(self) -> None:
        """Make the assets and the market, and give everybody something to trade with."""
        commands: list[AnyCommand] = [
            CreateAsset("BASE", 3),
            CreateAsset("QUOTE", 2),
            CreateMarket("BASEQUOTE", BASE, QUOTE, tick_size=100, lot_size=10, filters=MarketFilters()),
        ]
        for number in range(self.habits.users):
            account_id = FIRST_USER_ACCOUNT_ID + number
            commands += [Deposit(account_id, BASE, 400, "opening"), Deposit(account_id, QUOTE, 6_000, "opening")]
        for command in commands[:3]:
            await self.do(self.operation(command, is_keyed=True), self.random)
        await asyncio.gather(*(self.do(self.operation(one, is_keyed=True), self.random) for one in commands[3:]))

    async def trade(self, number: int) -> None:
        """One client's life."""
        habits = self.habits
        draw = random.Random(f"{self.random.random()} user {number}")
        account_id = FIRST_USER_ACCOUNT_ID + number
        for _ in range(habits.operations_each):
            await asyncio.sleep(draw.expovariate(1 / habits.pause_mean_s))
            if draw.random() < habits.query_probability:
                self._ask(draw)
            operation = self.operation(
                self._draw_command(draw, account_id), is_keyed=draw.random() < habits.keyed_probability
            )
            work = [self.do(operation, draw)]
            if operation.is_keyed and draw.random() < habits.twin_probability:
                work.append(self.do(operation, draw))
            if operation.is_keyed and draw.random() < habits.rival_probability:
                rival = self._rival(operation, draw, account_id)
                work.append(self.do(rival, draw))
            await asyncio.gather(*work)
            if operation.is_keyed and draw.random() < habits.repeat_probability:
                await asyncio.sleep(draw.uniform(0, 0.5))
                await self.do(operation, draw)

    async def watch(self) -> None:
        """The life of a client that only asks questions, through a worker of its own."""
        draw = random.Random(f"{self.random.random()} watcher")
        worker = self.cluster.add_worker()
        while True:
            await asyncio.sleep(draw.uniform(0, 2 * self.habits.query_interval_s))
            self._ask_through(worker, draw, 1.0)

    async def activate_rules(self) -> None:
        """Change the rules of matching, where the leader knows the newer ones."""
        await self.do(self.operation(ActivateRules(LATEST_RULES), is_keyed=False), self.random)

    async def probe(self, worker: Worker, within_s: float) -> Outcome:
        """One more command, which must go through now, if only when it is asked for again because of the load."""
        until_s = self.cluster.loop.now_s + within_s
        outcome = Outcome.OVERLOADED
        while outcome is Outcome.OVERLOADED and self.cluster.loop.now_s < until_s:
            await asyncio.sleep(PROBE_PAUSE_S)
            operation = self.operation(Deposit(FIRST_USER_ACCOUNT_ID, QUOTE, 1, "probe"), is_keyed=False)
            outcome = await self._attempt(operation, worker, within_s)
        return outcome

    def _ask(self, draw: random.Random) -> None:
        """Ask where the journal stands, or for the hash of the state, and go on."""
        self._ask_through(draw.choice(self.cluster.workers), draw, draw.uniform(0.5, self.habits.timeout_max_s))

    def _ask_through(self, worker: Worker, draw: random.Random, timeout_s: float) -> None:
        query = Query(self.acknowledged_sequence)
        self.queries.append(query)
        worker.call(_look_up(worker, query, draw.random() < 0.3, timeout_s))

    def operation(self, command: AnyCommand, *, is_keyed: bool) -> Operation:
        """Write down what is going to be asked for."""
        number = len(self.operations) + 1
        operation = Operation(number, command, is_keyed, request_id=f"operation-{number}")
        if is_keyed:
            operation.command_id = hashlib.sha256(f"key {number}".encode()).digest()[:16]
            operation.request_hash = hashlib.sha256(encode_command(command)).digest()
        self.operations.append(operation)
        return operation

    def _rival(self, operation: Operation, draw: random.Random, account_id: int) -> Operation:
        """Another command under the key of the first: one of the two is refused."""
        rival = self.operation(Deposit(account_id, BASE, draw.randint(1, 9), "rival"), is_keyed=True)
        rival.command_id = operation.command_id
        rival.is_rival = True
        rival.rivals.append(operation)
        operation.rivals.append(rival)
        return rival

    async def do(self, operation: Operation, draw: random.Random) -> None:
        """Ask until there is an answer where asking again is safe, once otherwise."""
        for attempt in range(ATTEMPTS_MAX):
            worker = draw.choice(self.cluster.workers)
            timeout_s = draw.uniform(self.habits.timeout_min_s, self.habits.timeout_max_s)
            outcome = await self._attempt(operation, worker, timeout_s)
            if not operation.is_keyed or outcome not in {Outcome.UNKNOWN, Outcome.OVERLOADED}:
                return
            await asyncio.sleep(draw.uniform(0, 0.1 * 2 ** min(attempt, 5)))

    async def _attempt(self, operation: Operation, worker: Worker, timeout_s: float) -> Outcome:
        loop = self.cluster.loop
        attempt = Attempt(loop.now_s, self.acknowledged_sequence)
        operation.attempts.append(attempt)
        done: asyncio.Future[None] = loop.create_future()
        node = worker.node

        def tell() -> None:
            if not done.done():
                done.set_result(None)

        def told(outcome: Outcome, applied: Applied | None = None) -> None:
            """The answer leaves the worker: from here on it counts."""
            attempt.outcome, attempt.applied, attempt.answered_s = outcome, applied, loop.now_s
            if applied is not None:
                self.acknowledged_sequence = max(self.acknowledged_sequence, applied.sequence)
            loop.trace("told", operation.number, outcome.value, applied.sequence if applied else "")
            loop.after(loop.world, 0.0002, tell)

        node.on_end.append(tell)
        worker.call(_serve(worker, operation, timeout_s, told))
        try:
            async with asyncio.timeout(timeout_s + GIVING_UP_S):
                await done
        except TimeoutError:
            pass
        finally:
            if tell in node.on_end:
                node.on_end.remove(tell)
        return attempt.outcome

    # -- what they want ------------------------------------------------------------------------------------------

    def _draw_command(self, draw: random.Random, account_id: int) -> AnyCommand:
        (kind,) = draw.choices(tuple(WANTED), tuple(WANTED.values()))
        if kind == "order":
            return self._draw_order(draw, account_id)
        if kind == "cancel":
            return CancelOrder(account_id, MARKET_ID, 0, str(draw.randrange(8)))
        if kind == "cancel all":
            return CancelAllOrders(account_id, MARKET_ID)
        if kind == "switch":
            return CancelAllAfter(account_id, draw.choice((0, 300_000, 2_000_000)))
        asset_id = draw.choice((BASE, QUOTE))
        if kind == "deposit":
            return Deposit(account_id, asset_id, draw.randint(1, 3_000), "more")
        return Withdraw(account_id, asset_id, draw.randint(1, 4_000), "out")

    def _draw_order(self, draw: random.Random, account_id: int) -> NewOrder:
        side = draw.choice((BUY, SELL))
        order_type = draw.choices((LIMIT, MARKET, LIMIT_MAKER, STOP_LOSS, TAKE_PROFIT), (50, 15, 10, 14, 11))[0]
        price = draw.randint(8, 13) if order_type in {LIMIT, LIMIT_MAKER} else 0
        stop_price = draw.randint(7, 14) if order_type in {STOP_LOSS, TAKE_PROFIT} else 0
        time_in_force = draw.choice((GTC, GTC, IOC)) if order_type == LIMIT else GTC
        return NewOrder(
            account_id,
            MARKET_ID,
            side,
            order_type,
            time_in_force,
            price,
            draw.randint(1, 6),
            str(draw.randrange(8)),
            0,
            stop_price,
            draw.randrange(3),
        )


Told = Callable[..., None]


async def _serve(worker: Worker, operation: Operation, timeout_s: float, told: Told) -> None:
    """What the worker does with a request."""
    try:
        future = worker.client.begin(
            operation.command,
            request_id=operation.request_id,
            command_id=operation.command_id if operation.is_keyed else None,
            request_hash=operation.request_hash,
            timeout_s=timeout_s,
        )
        applied = worker.client.conclude(await future)
    except CommandRejectedError:
        told(Outcome.REJECTED)
    except IdempotencyConflictError:
        told(Outcome.CONFLICT)
    except EngineOverloadedError:
        told(Outcome.OVERLOADED)
    except EngineTimeoutError:
        told(Outcome.UNKNOWN)
    except EngineFaultError:
        told(Outcome.FAULTED)
    else:
        told(Outcome.APPLIED, applied)


async def _look_up(worker: Worker, query: Query, asks_for_hash: bool, timeout_s: float) -> None:
    with contextlib.suppress(EngineError):
        if asks_for_hash:
            query.sequence, query.state_hash = await worker.client.state_hash(timeout_s=timeout_s)
        else:
            query.sequence = await worker.client.position(timeout_s=timeout_s)


class CommandIds:
    """Ids that the seed decides, in place of those of the clock and the system's randomness."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(f"command ids {seed}")
        self._namespace = link_client.new_command_id.__globals__
        self._before: dict[str, object] = {}

    def urandom(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def __enter__(self) -> None:
        self._before = {name: self._namespace[name] for name in ("os", "time")}
        self._namespace.update(os=self, time=self)

    def __exit__(self, *_error: object) -> None:
        self._namespace.update(self._before)
