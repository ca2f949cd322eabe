"""One term of leadership: until when it holds by this process's own clock, and why it ended.

The database decides who may write; this is about stopping in time. Validity counts from before a renewal was asked for,
so it ends no later than the lease itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from rtx.store.protocols import LeaseBackend

RETRY_INTERVAL_S: Final = 0.1
LAST_ATTEMPT_S: Final = 0.05
"""How long a renewal may take that is only asked for when the lease has run out."""


class TermEndedError(Exception):
    """This term of leadership is over; the message says why."""


class Term:
    """The right to lead under ``epoch``, from an acquisition that was asked for at ``asked_s`` on."""

    def __init__(
        self,
        leases: LeaseBackend,
        epoch: int,
        asked_s: float,
        *,
        ttl_s: float,
        renewal_s: float,
        monotonic_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``sleep`` is what a simulation replaces, with ``monotonic_s``."""
        self.epoch = epoch
        self._leases = leases
        self._valid_until_s = asked_s + ttl_s
        self._ttl_s = ttl_s
        self._renewal_s = renewal_s
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def may_lead(self) -> bool:
        """Whether the lease still holds by this process's own clock."""
        return self._monotonic_s() < self._valid_until_s

    def end(self, reason: Exception | None) -> None:
        """Say that the term is over; the first reason counts (None: somebody asked to stop)."""
        if not self._ended.done():
            self._ended.set_result(reason)

    async def wait_for_end(self, timeout_s: float) -> bool:
        """Wait until the term is over; False when it still is not after ``timeout_s`` seconds."""
        await asyncio.wait({self._ended}, timeout=timeout_s)
        return self._ended.done()

    @property
    def reason(self) -> Exception | None:
        """Why the term, which must be over, ended."""
        return self._ended.result()

    async def keep(self) -> None:
        """Renew the lease until the term ends: when another engine has it, or when it ran out unrenewed."""
        pause_s = self._renewal_s
        while True:
            await self._sleep(min(pause_s, max(0.0, self._valid_until_s - self._monotonic_s())))
            asked_s = self._monotonic_s()
            try:
                # Not longer than to the next: it may be one connection that hangs, and not the database.
                left_s = min(self._renewal_s, self._valid_until_s - asked_s)
                is_held = await self._ask(max(LAST_ATTEMPT_S, left_s))
            except Exception as error:  # noqa: BLE001 - whatever it is, the lease was not renewed
                if not self.may_lead():
                    self.end(TermEndedError(f"the lease could not be renewed: {type(error).__name__}: {error}"))
                    return
                pause_s = RETRY_INTERVAL_S
                continue
            if not is_held:
                self.end(TermEndedError("another engine has the lease"))
                return
            self._valid_until_s = asked_s + self._ttl_s
            pause_s = self._renewal_s

    async def _ask(self, timeout_s: float) -> bool:
        """Ask for a renewal, and no longer than this: cancelling a statement may hang with the connection."""
        asking = asyncio.ensure_future(self._leases.renew(self.epoch, self._ttl_s))
        try:
            await asyncio.wait({asking}, timeout=timeout_s)
        finally:
            if not asking.done():
                asking.cancel()
        if not asking.done():
            raise TimeoutError("no answer")
        return asking.result()
