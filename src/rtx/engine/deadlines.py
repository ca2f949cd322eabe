"""Dead-man's switches: notices when the time of one is over, and has the account's orders cancelled.

Only time counts in which the leader was there for its clients. It is counted by the monotonic clock, tick by tick: what
a paused process, a blocked event loop or a commit that hangs takes of a tick is left out.

Deadlines stand in the journal in the exchange's own time, which follows the wall clock. Where the wall clock has gone
further than the time that counted, because of a standstill or because it was set, all deadlines are extended by a
command, and the exchange's time goes on from there only behind that in the journal. At whatever row a leader ends, its
successor finds at least the time in the deadlines that was left. A deadline may be noticed somewhat late, never early.

A renewal that arrived before its deadline is never overtaken: it is before the expiry in the sequencer's queue, and an
expiry names the deadline that it is about.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol

from rtx.cancellation import end_tasks
from rtx.core.commands import AnyCommand, ExpireCancelAllAfter, ExtendDeadlines
from rtx.core.events import CancelAllAfterSet, DeadlinesExtended
from rtx.core.exchange import Exchange
from rtx.engine.own_commands import OwnCommandFailedError
from rtx.observability import metrics
from rtx.observability.logging import get_logger

TICK_S: Final = 0.05

COUNTED_S_MAX: Final = 0.25
"""How much of one tick, and of one commit, counts; what takes longer is a standstill of the exchange."""

DRIFT_US_MAX: Final = 100_000
"""So far the exchange's time may be ahead of the time that counted while switches are armed."""

Key = tuple[int, str]
"""Account and session."""

_log = get_logger(__name__)


class Commits(Protocol):
    """Who knows whether commits get through."""

    @property
    def commit_began_s(self) -> float | None:
        """When the commit began that is on its way, by the monotonic clock; None: there is none."""
        ...


class Submitter(Protocol):
    """Who has a command done and committed; raises :class:`OwnCommandFailedError`."""

    async def submit(self, command: AnyCommand) -> int: ...


def served_until_us(time_us: int, *, idle_s: float, away_s: float) -> int:
    """Until when the leader before was surely there, in the exchange's time and by no other wall clock than its own.

    ``time_us`` is the time of the newest journal row, which was done here ``idle_s`` ago; for the last ``away_s`` of
    that nobody led.
    """
    return time_us + int(max(0.0, idle_s - away_s) * 1_000_000) - DRIFT_US_MAX


class DeadlineWatch:
    """Watches the deadlines of one exchange for one term of leadership. Belongs to one event loop."""

    def __init__(
        self,
        exchange: Exchange,
        clock_us: Callable[[], int],
        monotonic_s: Callable[[], float],
        served_until_us: int,
    ) -> None:
        """What is armed already has the time left that lies between ``served_until_us`` and its deadline."""
        self._exchange = exchange
        self._clock_us = clock_us
        self._monotonic_s = monotonic_s
        self._counted_s = 0.0
        self._counted_until_s = monotonic_s()
        self._served_from_us = served_until_us
        self._due_s = {
            key: max(0, deadline_us - served_until_us) / 1_000_000 for key, deadline_us in exchange.deadlines.items()
        }
        self._earliest_s = min(self._due_s.values(), default=math.inf)
        self._is_armed = asyncio.Event()
        self._under_way: dict[Key | None, asyncio.Task[None]] = {}

    def exchange_clock_us(self) -> int:
        """The wall clock, but while switches are armed no further than the deadlines have been extended for."""
        wall_us = self._clock_us()
        if not self._due_s:
            return wall_us
        return min(wall_us, self._served_us() + DRIFT_US_MAX)

    def note(self, event: CancelAllAfterSet | DeadlinesExtended) -> None:
        """A switch was armed, renewed, disarmed or went off just now, at the exchange's time, or all were extended.

        What is matched after an extension is committed after it, so the exchange's time goes on at once: a switch that
        is armed before the extension is committed has its whole time, too.
        """
        if isinstance(event, DeadlinesExtended):
            self._served_from_us += event.away_us
            return
        key = (event.account_id, event.session)
        if not event.deadline_us:
            self._due_s.pop(key, None)
            return
        if not self._due_s:
            self._begin_counting()
        uncounted_s = min(self._monotonic_s() - self._counted_until_s, COUNTED_S_MAX)
        due_s = self._counted_s + uncounted_s + (event.deadline_us - self._exchange.time_us) / 1_000_000
        self._due_s[key] = due_s
        self._earliest_s = min(self._earliest_s, due_s)
        self._is_armed.set()

    async def run(self, commits: Commits, own_commands: Submitter) -> None:
        """Watch until cancelled."""
        try:
            while True:
                if not self._due_s:
                    self._is_armed.clear()
                    await self._is_armed.wait()
                self._tick(commits, own_commands)
                await asyncio.sleep(TICK_S)
        finally:
            await end_tasks(*self._under_way.values())

    def _begin_counting(self) -> None:
        """There was nothing to watch until now: what passed meanwhile concerns nobody."""
        self._counted_until_s = self._monotonic_s()
        self._served_from_us = self._exchange.time_us - int(self._counted_s * 1_000_000)
        self._earliest_s = math.inf

    def _served_us(self) -> int:
        """The exchange's time as of the last tick, by what counted."""
        return self._served_from_us + int(self._counted_s * 1_000_000)

    def _tick(self, commits: Commits, own_commands: Submitter) -> None:
        now_s = self._monotonic_s()
        elapsed_s = now_s - self._counted_until_s
        self._counted_until_s = now_s
        began_s = commits.commit_began_s
        if began_s is not None and now_s - began_s > COUNTED_S_MAX:
            return
        self._counted_s += min(elapsed_s, COUNTED_S_MAX)
        if elapsed_s > COUNTED_S_MAX:
            # What arrived during the standstill goes first.
            return
        if not self._extend(own_commands):
            self._expire(own_commands)

    def _extend(self, own_commands: Submitter) -> bool:
        """Extend the deadlines by what passed and did not count; True while that is under way."""
        if None in self._under_way:
            return True
        away_us = max(self._clock_us(), self._exchange.time_us) - self._served_us()
        if away_us < 0:
            # The wall clock was set back: deadlines from now on stand in this time.
            self._served_from_us += away_us
        if away_us <= DRIFT_US_MAX:
            return False
        self._under_way[None] = asyncio.create_task(self._submit_extension(own_commands, away_us))
        return True

    async def _submit_extension(self, own_commands: Submitter, away_us: int) -> None:
        try:
            await own_commands.submit(ExtendDeadlines(away_us))
            _log.info("deadlines extended", away_ms=away_us // 1_000)
        except OwnCommandFailedError as error:
            _log.warning("deadlines were not extended", reason=str(error))
        finally:
            del self._under_way[None]

    def _expire(self, own_commands: Submitter) -> None:
        if self._counted_s < self._earliest_s:
            return
        deadlines = self._exchange.deadlines
        for key, due_s in self._due_s.items():
            if due_s <= self._counted_s and key not in self._under_way:
                expiry = ExpireCancelAllAfter(*key, deadlines[key])
                self._under_way[key] = asyncio.create_task(self._submit_expiry(own_commands, expiry))
        self._earliest_s = min(self._due_s.values())

    async def _submit_expiry(self, own_commands: Submitter, expiry: ExpireCancelAllAfter) -> None:
        """Where this fails, the deadline was moved, or else it stays due and the next tick tries again."""
        try:
            sequence = await own_commands.submit(expiry)
            metrics.SWITCHES_EXPIRED.inc()
            _log.info(
                "dead-man's switch went off", account_id=expiry.account_id, session=expiry.session, sequence=sequence
            )
        except OwnCommandFailedError as error:
            _log.info("dead-man's switch did not go off", account_id=expiry.account_id, reason=str(error))
        finally:
            del self._under_way[expiry.account_id, expiry.session]
