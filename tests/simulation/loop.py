"""An event loop without input and output, in which time is a number and processes are simulated.

Everything that the engine and its clients do with :mod:`asyncio` runs on it unchanged. Each callback belongs to a node,
a simulated process with clocks of its own. The seed decides which node's callback comes next, so any two nodes meet in
any order, while the callbacks of one node keep theirs, as asyncio promises. Between any two callbacks, that is between
any two awaits, a node can be killed or stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final, Protocol, TypeVar, cast

T = TypeVar("T")

STEP_S: Final = 10e-6
"""What each callback takes."""

STEPS_MAX: Final = 100_000
"""A run of more callbacks is one that will not end."""

EPOCH_US: Final = 1_700_000_000_000_000
"""Wall-clock time at which every simulation begins."""

DISPOSAL_ROUNDS: Final = 20
DISPOSAL_STEPS: Final = 20_000
DISPOSAL_HORIZON_S: Final = 120.0

_FOREVER: Final = 1e9


class SimulationStuckError(Exception):
    """Nothing is left to happen, or too much happened, and the run has not ended."""


class CallbackError(Exception):
    """A callback of the code under test raised what nobody caught."""


class Node:
    """A simulated process: its callbacks, its tasks and its clocks.

    ``rate`` is how fast its monotonic clock runs; ``wall_offset_us`` what its wall clock is ahead. ``enter`` is called
    before each of its callbacks, ``on_end`` when it was killed. ``memory`` is for whoever observes it.
    """

    __slots__ = (
        "calls",
        "enter",
        "host",
        "is_alive",
        "is_connected",
        "is_paused",
        "kill_after",
        "memory",
        "monotonic_start_s",
        "name",
        "on_end",
        "rate",
        "ready",
        "started_s",
        "tasks",
        "tasks_max",
        "wall_offset_us",
    )

    def __init__(self, name: str, host: str, started_s: float, rate: float, wall_offset_us: int) -> None:
        self.name = name
        self.host = host
        self.started_s = started_s
        self.rate = rate
        self.wall_offset_us = wall_offset_us
        self.monotonic_start_s = 1_000.0
        self.ready: deque[SimulatedHandle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.tasks_max = 64
        self.is_alive = True
        self.is_connected = True
        self.is_paused = False
        self.calls = 0
        self.memory: object = None
        self.kill_after: int | None = None
        self.enter: Callable[[], None] | None = None
        self.on_end: list[Callable[[], None]] = []

    def monotonic_s(self, now_s: float) -> float:
        """The node's monotonic clock at a time of the simulation."""
        return self.monotonic_start_s + (now_s - self.started_s) * self.rate

    def simulated_s(self, monotonic_s: float) -> float:
        """The time of the simulation at which the node's monotonic clock shows this."""
        return self.started_s + (monotonic_s - self.monotonic_start_s) / self.rate


class SimulatedHandle(asyncio.TimerHandle):
    """A callback that waits for its turn. It shares only the interface with asyncio's own."""

    __slots__ = ("arguments", "at_s", "callback", "context", "is_cancelled", "node", "number")

    def __init__(
        self,
        node: Node,
        at_s: float,
        number: int,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self.node = node
        self.at_s = at_s
        self.number = number
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.context = copy_context() if context is None else context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.callback = None
        self.arguments = ()

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.node.monotonic_s(self.at_s)

    def __repr__(self) -> str:
        return f"<callback {self.number} of {self.node.name}: {self.callback!r}>"

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedTask(asyncio.Task[T]):
    """A task that sets order by its number instead of by its address, which no seed decides."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], number: int, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedFuture(asyncio.Future[Any]):
    """A future that sets order by its number."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class Connector(Protocol):
    """What the loop asks for connections."""

    async def create_server(self, node: Node, factory: Callable[[], Any], host: str, port: int) -> Any: ...

    async def create_connection(self, node: Node, factory: Callable[[], Any], host: str, port: int) -> Any: ...


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The clock and the order of everything. ``trace`` says what happened; its digest tells two runs apart."""

    def __init__(self, seed: int | str, sink: Callable[[str], None] | None = None) -> None:
        self.random = random.Random(f"loop {seed}")
        self.now_s = 0.0
        self.steps = 0
        self.network: Connector | None = None
        self.errors: list[str] = []
        self.nodes: list[Node] = []
        self._sink = sink
        self._digest = hashlib.blake2b(digest_size=16)
        self._numbers = itertools.count(1)
        self._timers: list[tuple[float, int, SimulatedHandle]] = []
        self._runnable: list[Node] = []
        self._is_disposing = False
        self.world = self.add_node("world", "world")
        self._current = self.world

    # -- nodes ---------------------------------------------------------------------------------------------------

    def add_node(self, name: str, host: str, *, rate: float = 1.0, wall_offset_us: int = 0) -> Node:
        """Start a process."""
        node = Node(name, host, self.now_s, rate, wall_offset_us)
        self.nodes.append(node)
        return node

    @property
    def current(self) -> Node:
        """The node whose callback runs."""
        return self._current

    def kill(self, node: Node) -> None:
        """End a process now: nothing of it runs any more, no ``finally`` and no ``except`` either."""
        if not node.is_alive:
            return
        # What was ready stays where it is, for the unwinding at the end of the run.
        node.is_alive = node.is_connected = False
        node.kill_after = None
        if node in self._runnable:
            self._runnable.remove(node)
        self.trace("killed", node.name)
        for callback in node.on_end:
            callback()

    def pause(self, node: Node) -> None:
        """Stop a process as SIGSTOP does: its clocks go on."""
        if node.is_alive and not node.is_paused:
            node.is_paused = True
            if node in self._runnable:
                self._runnable.remove(node)
            self.trace("paused", node.name)

    def resume(self, node: Node) -> None:
        """Let a stopped process go on."""
        if node.is_alive and node.is_paused:
            node.is_paused = False
            if node.ready:
                self._runnable.append(node)
            self.trace("resumed", node.name)

    def wall_us(self, node: Node | None = None) -> int:
        """What the wall clock of a node shows (of the one that runs when None)."""
        return EPOCH_US + int(self.now_s * 1_000_000) + (node or self._current).wall_offset_us

    # -- scheduling ----------------------------------------------------------------------------------------------

    def schedule(self, node: Node, at_s: float, callback: Callable[..., object], *arguments: object) -> SimulatedHandle:
        """Call back on a node at a time of the simulation."""
        handle = SimulatedHandle(node, at_s, next(self._numbers), callback, arguments, None)
        if at_s <= self.now_s:
            self._make_ready(handle)
        else:
            heapq.heappush(self._timers, (at_s, handle.number, handle))
        return handle

    def after(self, node: Node, delay_s: float, callback: Callable[..., object], *arguments: object) -> SimulatedHandle:
        """Call back on a node when so much time of the simulation has passed."""
        return self.schedule(node, self.now_s + delay_s, callback, *arguments)

    def _make_ready(self, handle: SimulatedHandle) -> None:
        node = handle.node
        if not node.is_alive and not self._is_disposing:
            return
        if not node.ready and not node.is_paused:
            self._runnable.append(node)
        node.ready.append(handle)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> SimulatedHandle:
        node = self._current
        handle = SimulatedHandle(node, self.now_s, next(self._numbers), callback, args, context)
        if not node.ready and not node.is_paused and (node.is_alive or self._is_disposing):
            self._runnable.append(node)
        node.ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> SimulatedHandle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> SimulatedHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> SimulatedHandle:
        node = self._current
        at_s = max(self.now_s, node.simulated_s(when))
        handle = SimulatedHandle(node, at_s, next(self._numbers), callback, args, context)
        heapq.heappush(self._timers, (at_s, handle.number, handle))
        return handle

    def time(self) -> float:
        """The monotonic clock of the node that runs."""
        return self._current.monotonic_s(self.now_s)

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, T], *, until_s: float = _FOREVER) -> T:
        """Run until the coroutine, which belongs to no node, has ended; ``until_s`` is when that must be."""
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(coroutine)
            while not task.done():
                if not self._step():
                    raise SimulationStuckError("nothing is left to happen")
                if self.steps > STEPS_MAX or self.now_s > until_s:
                    raise SimulationStuckError(f"no end after {self.steps} callbacks and {self.now_s:.1f} s")
            return task.result()
        finally:
            asyncio._set_running_loop(None)

    def _step(self) -> bool:
        """Run one callback; False when there is none and none to wait for."""
        timers, runnable = self._timers, self._runnable
        if not runnable:
            while timers and timers[0][2].is_cancelled:
                heapq.heappop(timers)
            if not timers:
                return False
            self.now_s = max(self.now_s, timers[0][0])
        now_s = self.now_s
        while timers and timers[0][0] <= now_s:
            handle = heapq.heappop(timers)[2]
            if not handle.is_cancelled:
                self._make_ready(handle)
        count = len(runnable)
        if count == 0:
            return True
        index = int(self.random.random() * count) if count > 1 else 0
        node = runnable[index]
        handle = node.ready.popleft()
        if not node.ready:
            runnable[index] = runnable[-1]
            runnable.pop()
        if handle.is_cancelled:
            return True
        self.steps += 1
        node.calls += 1
        self.now_s = now_s + STEP_S
        self._call(node, handle)
        if node.kill_after is not None:
            node.kill_after -= 1
            if node.kill_after < 0:
                self.kill(node)
        return True

    def _call(self, node: Node, handle: SimulatedHandle) -> None:
        self._current = node
        if node.enter is not None:
            node.enter()
        assert handle.callback is not None
        try:
            handle.context.run(handle.callback, *handle.arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does: told, and the loop goes on
            if not self._is_disposing:
                self.errors.append(f"{node.name}: {type(error).__name__}: {error} in {handle!r}")
        finally:
            self._current = self.world

    # -- what asyncio asks of a loop -----------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return SimulatedFuture(next(self._numbers), self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: object = None, context: Context | None = None, **_options: Any
    ) -> asyncio.Task[T]:
        number = next(self._numbers)
        task: SimulatedTask[T] = SimulatedTask(
            coro, number, loop=self, name=str(name) if name is not None else f"task-{number}", context=context
        )
        node = self._current
        # Referenced from here so that no collection of garbage ends a coroutine at a time of its own.
        node.tasks.append(task)
        if len(node.tasks) > node.tasks_max:
            node.tasks = [one for one in node.tasks if not one.done()]
            node.tasks_max = 2 * len(node.tasks) + 64
        return task

    def on_node(self, node: Node, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task as a part of a node."""
        before, self._current = self._current, node
        try:
            return self.create_task(coroutine)
        finally:
            self._current = before

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Do the work a moment later, as a thread would have by then."""
        future = self.create_future()
        self.after(self._current, 0.0005 + 0.002 * self.random.random(), _work, future, func, args)
        return future

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_options: Any) -> Any:
        assert self.network is not None
        return await self.network.create_server(self._current, protocol_factory, host, port)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_options: Any
    ) -> Any:
        assert self.network is not None
        return await self.network.create_connection(self._current, protocol_factory, host, port)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Told of tasks that nobody asked for their errors, when they are collected: no event of the simulation."""

    # -- what happened -------------------------------------------------------------------------------------------

    def trace(self, what: str, *details: object) -> None:
        """Write down that something happened."""
        line = f"{self.now_s:.6f} {what} {' '.join(map(str, details))}"
        self._digest.update(line.encode())
        if self._sink is not None:
            self._sink(line)

    def fingerprint(self) -> str:
        """A digest of all that was traced, with the number of callbacks."""
        digest = self._digest.copy()
        digest.update(f"{self.steps} {self.now_s:.6f}".encode())
        return digest.hexdigest()

    # -- the end -------------------------------------------------------------------------------------------------

    def dispose(self) -> int:
        """Unwind every task that is left, those of killed nodes too, in a world in which nothing can be reached.

        A coroutine that is collected half-way would run its ``finally`` whenever the collector comes by. Returns how
        many tasks would not end.
        """
        self._is_disposing = True
        self._runnable = [node for node in self.nodes if node.ready]
        for node in self.nodes:
            node.is_connected = False
            node.is_paused = False
            node.kill_after = None
            node.enter = None
        self._timers.clear()
        asyncio._set_running_loop(self)
        left: list[tuple[Node, asyncio.Task[Any]]] = []
        try:
            for _ in range(DISPOSAL_ROUNDS):
                left = [(node, task) for node in self.nodes for task in node.tasks if not task.done()]
                if not left:
                    break
                for node, task in left:
                    self._current = node
                    task.cancel()
                self._current = self.world
                self._run_for(DISPOSAL_HORIZON_S)
        finally:
            asyncio._set_running_loop(None)
        for node in self.nodes:
            for task in node.tasks:
                if task.done() and not task.cancelled():
                    task.exception()
            node.tasks.clear()
            node.on_end.clear()
        self._timers.clear()
        _undisposable.extend(task for _, task in left if not task.done())
        return sum(not task.done() for _, task in left)

    def _run_for(self, horizon_s: float) -> None:
        until_s, steps_max = self.now_s + horizon_s, self.steps + DISPOSAL_STEPS
        while self.steps < steps_max and self.now_s < until_s and self._step():
            pass


_undisposable: list[asyncio.Task[Any]] = []
"""Tasks that no cancellation ended; kept, because collecting them would be noticed in some later run."""


def _work(future: asyncio.Future[T], function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
    if future.done():
        return
    try:
        future.set_result(function(*arguments))
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        future.set_exception(error)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        cast("Generator[Any, Any, T]", coroutine).send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it waits for something")
