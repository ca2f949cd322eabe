"""`rtx handover`: has the leader hand the book to another engine, and tells how it went.

The order is a row in the database; the leader judges it, proves its successor and lets go. This command only writes the
row, follows what becomes of it, and takes it back when it is told to end or its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from typing import Final, NoReturn

from rtx.cli.database import database_url, first_line
from rtx.cli.engines import Engines, is_alive, next_step, on_database, read_engines
from rtx.cli.messages import fail, say
from rtx.engine.succession import NoSuccessorError, choose_successor
from rtx.settings import COLOURS
from rtx.store.connection import DATABASE_ERRORS, Pool
from rtx.store.handovers import Handover, HandoverPendingError, HandoverStore
from rtx.store.lease import Lease
from rtx.store.replicas import LEADING, ReplicaReport, ReplicaStore

EXIT_INTERRUPTED: Final = 128 + signal.SIGINT
APPLICATION_NAME: Final = "rtx-handover"
POLL_INTERVAL_S: Final = 0.05
TAKEOVER_TIMEOUT_S: Final = 10.0
"""How long to look on once the leader has let go; the order cannot be withdrawn any more then."""

SERVING_TIMEOUT_S: Final = 3.0
"""How long the new leader has for its first report, which comes after the whole pause was written down."""

LOOK_AGAIN: Final = "`rtx status --watch` shows who takes over"


def run_handover(wanted: str, timeout_s: float) -> int:
    """Order it and wait until it was taken; returns 0 then, and ends the command with a reason else."""
    return on_database(database_url(), APPLICATION_NAME, lambda pool: _hand_over(pool, wanted, timeout_s))


async def _hand_over(pool: Pool, wanted: str, timeout_s: float) -> int:
    engines = await read_engines(pool)
    target = _resolve(wanted, engines)
    leader = engines.leader
    if leader is not None and target in (leader.holder, leader.colour):
        print(f"{target} leads already: {leader.holder}, epoch {leader.epoch}")
        return 0
    _judge(target, engines)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    try:
        handover_id = await HandoverStore(pool).request(target, timeout_s)
    except HandoverPendingError:
        _fail_pending(await read_engines(pool))
    wish = (
        f"nobody leads, {target} is to take over" if leader is None else f"{leader.holder} is to hand over to {target}"
    )
    say(f"ordered: {wish} (order {handover_id}; Ctrl-C withdraws it)")
    proved_before = max((report.checkpoint_sequence for report in engines.recent), default=0)
    order = _Order(pool, handover_id, target, leader=leader, proved_before=proved_before, stopping=stopping)
    return await order.follow(timeout_s)


def _resolve(wanted: str, engines: Engines) -> str:
    """The colour or the holder that is meant: a holder may be shortened as long as one engine alone begins so."""
    if wanted in COLOURS or wanted in (report.holder for report in engines.replicas):
        return wanted
    meant = [report for report in engines.replicas if wanted and report.holder.startswith(wanted)]
    # Every start of a backend gives its engine another name: those that ended are seldom meant.
    meant = [report for report in meant if is_alive(report)] or meant
    if not meant:
        fail(
            f"there is no engine {wanted!r}",
            f"name a colour ({' or '.join(COLOURS)}) or an engine: {_names(engines.recent)}",
        )
    if len(meant) > 1:
        fail(f"{wanted!r} begins the names of several engines: {_names(meant)}", "name one of them")
    return meant[0].holder


def _names(reports: Sequence[ReplicaReport]) -> str:
    return ", ".join(report.holder for report in reports) or "none has reported itself yet"


def _judge(target: str, engines: Engines) -> None:
    """End the command when the leader would refuse, for the reason that it would give."""
    leader = engines.leader
    try:
        choose_successor(
            target,
            engines.recent,
            leader="" if leader is None else leader.holder,
            leader_colour="" if leader is None else leader.colour,
            rules=engines.rules,
        )
    except NoSuccessorError as error:
        goes_on = next_step(engines) if leader is None else f"{leader.holder} goes on leading"
        fail(f"{error}", goes_on, "`rtx status` shows every engine")


def _fail_pending(engines: Engines) -> NoReturn:
    waiting = engines.waiting
    if waiting is None:
        fail("another order was given at the same time", LOOK_AGAIN)
    fail(
        f"an order to hand over to {waiting.target} waits already; it is void in {waiting.expires_in_s:.0f} s",
        "let it be carried out or run out, then give the next",
    )


class _Order:
    """An order that was given, until something has become of it."""

    def __init__(
        self,
        pool: Pool,
        handover_id: int,
        target: str,
        *,
        leader: Lease | None,
        proved_before: int,
        stopping: asyncio.Event,
    ) -> None:
        """``proved_before``: the newest journal row at which states were compared before it was given."""
        self._handovers = HandoverStore(pool)
        self._replicas = ReplicaStore(pool)
        self._handover_id = handover_id
        self._target = target
        self._leader = leader
        self._stopping = stopping
        self._proved_before = proved_before
        self._said: set[str] = set()

    async def follow(self, timeout_s: float) -> int:
        """Tell what happens; returns 0 when it was taken, 130 when it was withdrawn by Ctrl-C."""
        deadline_s = time.monotonic() + timeout_s
        has_begun = False
        while True:
            handover = await self._look()
            if handover is not None and handover.state == "refused":
                self._fail(f"refused: {handover.reason}")
            if handover is not None and handover.state == "taken":
                return await self._conclude(handover)
            if handover is not None and handover.state == "released" and not has_begun:
                has_begun = True
                deadline_s = time.monotonic() + TAKEOVER_TIMEOUT_S
                self._say(f"{handover.from_holder} has let go")
            if time.monotonic() >= deadline_s and has_begun:
                fail(f"{self._from} has let go and nobody has taken over yet", LOOK_AGAIN)
            if (self._stopping.is_set() or time.monotonic() >= deadline_s) and await self._withdraw():
                return EXIT_INTERRUPTED
            await self._pause()

    async def _look(self) -> Handover | None:
        """The order as it stands, telling of the proof while it is not carried out; None while the database is away."""
        try:
            handover = await self._handovers.read(self._handover_id)
            if handover is not None and handover.state == "requested" and self._leader is not None:
                await self._tell_proof(self._leader)
        except DATABASE_ERRORS as error:
            self._say(f"the database does not answer ({first_line(error)}); looking again")
            return None
        return handover

    async def _tell_proof(self, leader: Lease) -> None:
        """Say that the states are compared, and who has shown that its own is the same."""
        self._say(f"proving: {self._target} compares its state with that of {leader.holder}")
        for report in await self._replicas.all():
            is_meant = self._target in (report.holder, report.colour)
            if is_meant and report.checkpoint_sequence > self._proved_before:
                self._say(f"{report.holder} has the same state at journal row {report.checkpoint_sequence}")

    async def _withdraw(self) -> bool:
        """Take the order back; False when the leader had let go before. Ends the command when it was not Ctrl-C."""
        is_interrupted = self._stopping.is_set()
        self._stopping.clear()
        reason = "withdrawn" if is_interrupted else "nobody carried it out in time"
        try:
            is_withdrawn = await self._handovers.refuse(self._handover_id, reason)
        except DATABASE_ERRORS as error:
            fail(
                f"the database does not answer ({first_line(error)}), so what became of the order is not known",
                "`rtx status` shows it once the database is back; an order that was not begun runs out by itself",
            )
        if not is_withdrawn:
            self._say("too late to withdraw: it is being carried out")
            return False
        if not is_interrupted:
            self._fail("not carried out in time, and withdrawn")
        say(f"withdrawn: {self._from} goes on" if self._leader is not None else "withdrawn")
        return True

    async def _conclude(self, handover: Handover) -> int:
        """Say who leads; the pause is complete with the first report of the new leader."""
        deadline_s = time.monotonic() + SERVING_TIMEOUT_S
        colour = ""
        while time.monotonic() < deadline_s:
            with contextlib.suppress(*DATABASE_ERRORS):
                reports = {report.holder: report for report in await self._replicas.all()}
                report = reports.get(handover.to_holder)
                colour = colour if report is None else report.colour
                if report is not None and report.state == LEADING and report.epoch == handover.to_epoch:
                    handover = await self._handovers.read(self._handover_id) or handover
                    break
            await asyncio.sleep(POLL_INTERVAL_S)
        pause = "" if handover.pause_ms is None else f", pause {handover.pause_ms:.0f} ms"
        outcome = f"{handover.to_holder} leads: epoch {handover.to_epoch}{pause}"
        if self._target not in (handover.to_holder, colour):
            fail(f"{self._target} did not take over in its time, so another did: {outcome}", "`rtx status` shows why")
        print(outcome)
        return 0

    @property
    def _from(self) -> str:
        return "nobody" if self._leader is None else self._leader.holder

    def _fail(self, what: str) -> NoReturn:
        steps = ["`rtx status` shows every engine"]
        if self._leader is not None:
            steps.insert(0, f"{self._leader.holder} goes on leading")
        fail(what, *steps)

    def _say(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self._said:
            self._said.add(sentence)
            say(sentence)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_INTERVAL_S):
                await self._stopping.wait()
