"""`rtx replay-lobster`: finds a backend or starts one, plays a recorded morning on it, and prints the books."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from rtx.cli.instances import find_instance, instances_directory, read_instance
from rtx.cli.messages import fail, say
from rtx.cli.temporary_instance import InstanceFailedError, temporary_instance
from rtx.demo.client import AccountClient, AnsweredError, HttpConnection, UnreachableError
from rtx.demo.crowd import Login
from rtx.lobster.errors import LobsterError, ReplayError
from rtx.lobster.output import book_row
from rtx.lobster.plan import LEVELS_SHOWN, Plan, make_plan
from rtx.lobster.record import read_messages, read_opening
from rtx.lobster.replay import replay
from rtx.lobster.venue import check_empty

EMAIL_VARIABLE: Final = "RTX_OPERATOR_EMAIL"
PASSWORD_VARIABLE: Final = "RTX_OPERATOR_PASSWORD"  # noqa: S105 - the name of a variable
READY_FILE: Final = Path(".rtx/ready.json")
"""Where `rtx dev` says in its data directory that it runs."""

PROGRESS_MESSAGES: Final = 250
"""So often a line of progress where standard error is no terminal."""


@dataclass(frozen=True)
class ReplayOptions:
    """What the user typed; see the command's help."""

    messages: Path
    opening: Path
    symbol: str
    api: str | None
    ready_file: Path | None
    output: Path | None
    keep: bool


@dataclass(frozen=True)
class Target:
    """A backend and somebody who may open markets and book deposits there."""

    api: str
    operator: Login


def run_replay_lobster(options: ReplayOptions) -> int:
    """Print the books; returns the exit code."""
    try:
        plan = make_plan(read_opening(options.opening), read_messages(options.messages))
        target = _named_target(options, os.environ)
        with _opened(options.output) as output, asyncio.Runner() as runner:
            runner.run(_play(plan, options, target, output))
    except LobsterError as error:
        fail(str(error), *error.next_steps)
    except InstanceFailedError as error:
        fail(str(error), "or name a running backend with --api")
    except BrokenPipeError:
        # Whoever read the rows has seen enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail("the output was closed before the last row")
    except KeyboardInterrupt:
        fail("interrupted", code=128 + signal.SIGINT)
    except asyncio.CancelledError:
        fail("ended by a signal", code=128 + signal.SIGTERM)
    return 0


def _named_target(options: ReplayOptions, environment: Mapping[str, str]) -> Target | None:
    """The backend that the user named, or None when any will do."""
    if options.ready_file is not None:
        instance = read_instance(options.ready_file)
        if instance is None:
            fail(f"{options.ready_file} is not the ready file of a running backend", "is `rtx dev` still starting?")
        return Target(options.api or instance.api, instance.operator)
    if options.api is None:
        return None
    email, password = environment.get(EMAIL_VARIABLE), environment.get(PASSWORD_VARIABLE)
    if email and password:
        return Target(options.api, Login(email, password))
    known = find_instance(options.api)
    if known is None and (here := read_instance(READY_FILE)) is not None and here.api == options.api.rstrip("/"):
        known = here
    if known is None:
        fail(
            f"no operator's login for {options.api} is known, and one is needed to open the market and book deposits",
            f"set {EMAIL_VARIABLE} and {PASSWORD_VARIABLE} (rtx operator create makes an operator),",
            "or name the ready file of `rtx dev` with --ready-file",
        )
    return Target(options.api, known.operator)


async def _play(plan: Plan, options: ReplayOptions, target: Target | None, output: TextIO) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for line in plan.summary():
        say(line)
    async with contextlib.AsyncExitStack() as stack:
        if target is None:
            target = await _running_target(options.symbol)
        if target is None:
            if options.keep:
                fail("there is no running backend in which the orders could stay", "start one: rtx dev --no-demo")
            say("starting a backend of its own, with data that is thrown away afterwards")
            instance = await stack.enter_async_context(temporary_instance())
            target = Target(instance.api, instance.operator)
        say(f"playing on {options.symbol} at {target.api}")
        connection = await stack.enter_async_context(HttpConnection(target.api))
        operator = AccountClient(connection, target.operator.email, target.operator.password)
        books = replay(plan, connection, operator, options.symbol, keep=options.keep)
        await stack.enter_async_context(contextlib.aclosing(books))
        started_s = time.monotonic()
        with _progress(len(plan.steps), output) as advance:
            async for book in books:
                output.write(book_row(book.asks, book.bids, LEVELS_SHOWN) + "\n")
                output.flush()
                advance()
        say(f"played {len(plan.steps)} messages in {time.monotonic() - started_s:.1f} s")


async def _running_target(symbol: str) -> Target | None:
    """A backend of `rtx dev` on this machine whose book of the symbol is empty, or None."""
    files = [*sorted(instances_directory().glob("*.json")), READY_FILE]
    for api, operator in {known.api: known.operator for known in map(read_instance, files) if known}.items():
        async with HttpConnection(api) as connection:
            try:
                await check_empty(connection, symbol)
            except (AnsweredError, UnreachableError):
                continue
            except ReplayError as error:
                say(str(error))
                continue
        return Target(api, operator)
    return None


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="ascii", newline="")
    except OSError as error:
        fail(f"{path} cannot be written ({error.strerror})", "name another file with --output")
    with file:
        yield file


@contextlib.contextmanager
def _progress(total: int, output: TextIO) -> Iterator[Callable[[], None]]:
    """Show how far it is: a bar on a terminal that shows no rows, else a line now and then."""
    if sys.stderr.isatty() and not output.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("messages", total=total)
            yield lambda: progress.advance(task)
        return
    played = 0

    def advance() -> None:
        nonlocal played
        played += 1
        if played % PROGRESS_MESSAGES == 0:
            say(f"{played} of {total} messages")

    yield advance
