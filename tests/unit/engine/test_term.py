"""A leader stops leading before anybody else may begin, judged by its own clock alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.fakes.leadership import FakeLease, take_lease

from rtx.engine.term import LAST_ATTEMPT_S, Term, TermEndedError

TTL_S = 3.0
RENEWAL_S = 1.0


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.before_waking: Callable[[], None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.before_waking()
        await asyncio.sleep(0)


class Lease(FakeLease):
    """A lease whose database may refuse, be slow, or hang."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(lambda: clock.now_s)
        self.clock = clock
        self.asked_at_s: list[float] = []
        self.answer: Callable[[int], Awaitable[None]] | None = None

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        self.asked_at_s.append(self.clock.now_s)
        if self.answer is not None:
            await self.answer(len(self.asked_at_s))
        return await super().renew(epoch, ttl_s)


async def a_term(clock: Clock, lease: Lease, taken_s: float = 0.0, renewal_s: float = RENEWAL_S) -> Term:
    """A term whose acquisition took ``taken_s`` to be answered."""
    asked_s = clock.now_s
    epoch = await take_lease(lease, "one", ttl_s=TTL_S)
    assert epoch is not None
    clock.now_s += taken_s
    return Term(
        lease,
        epoch,
        asked_s,
        ttl_s=TTL_S,
        renewal_s=renewal_s,
        monotonic_s=lambda: clock.now_s,
        sleep=clock.sleep,
    )


async def test_it_is_renewed_in_time_until_another_has_it() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease)

    async def answer(count: int) -> None:
        assert term.may_lead()
        if count == 20:
            clock.now_s += 10
            assert await take_lease(lease, "other", ttl_s=TTL_S) is not None

    lease.answer = answer
    await term.keep()
    assert await term.wait_for_end(0)
    assert "another engine" in str(term.reason)
    assert lease.asked_at_s == [100.0 + number * RENEWAL_S for number in range(1, 21)]


async def test_it_counts_from_before_the_lease_was_asked_for() -> None:
    clock = Clock()
    term = await a_term(clock, Lease(clock), taken_s=TTL_S - 0.5)
    assert term.may_lead()
    clock.now_s += 0.5
    assert not term.may_lead()


async def test_a_slow_renewal_counts_from_before_it_was_asked_for() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease)
    ends: list[float] = []

    async def answer(count: int) -> None:
        if count == 1:
            clock.now_s += 1.5
        elif count == 2:
            while term.may_lead():
                clock.now_s += 0.25
            ends.append(clock.now_s)
            raise ConnectionError

    lease.answer = answer
    await term.keep()
    # asked at 101, answered at 102.5: good until 104
    assert ends == [104.0]


async def test_it_is_over_when_the_database_refuses_until_it_has_run_out() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease)

    async def answer(count: int) -> None:
        raise ConnectionError("connection refused")

    lease.answer = answer
    await term.keep()
    assert isinstance(term.reason, TermEndedError)
    assert "could not be renewed" in str(term.reason)
    assert not term.may_lead()
    # asked often, and not once after the end
    assert clock.now_s == pytest.approx(100.0 + TTL_S)
    assert len(lease.asked_at_s) > 10


async def test_it_goes_on_when_the_database_is_back_in_time() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease)

    async def answer(count: int) -> None:
        if count < 10:
            raise ConnectionError("connection refused")
        if count == 12:
            term.end(None)
            raise asyncio.CancelledError

    lease.answer = answer
    with pytest.raises(asyncio.CancelledError):
        await term.keep()
    assert term.reason is None
    assert term.may_lead()


async def test_one_connection_that_hangs_does_not_end_it() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease, renewal_s=LAST_ATTEMPT_S)

    async def answer(count: int) -> None:
        if count == 1:
            await asyncio.Event().wait()
        if count == 3:
            raise asyncio.CancelledError

    lease.answer = answer
    with pytest.raises(asyncio.CancelledError):
        # The clock of the term stands still meanwhile: the whole rest of the lease would be waited for.
        async with asyncio.timeout(TTL_S - 1):
            await term.keep()
    assert term.may_lead()


async def test_it_is_over_when_the_database_hangs() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease)
    never = asyncio.Event()

    async def answer(count: int) -> None:
        clock.now_s += TTL_S
        await never.wait()

    lease.answer = answer
    # the last moment before the lease runs out: hanging is all that the renewal does
    clock.before_waking = lambda: setattr(clock, "now_s", 100.0 + TTL_S - LAST_ATTEMPT_S)
    await term.keep()
    assert "no answer" in str(term.reason)


async def test_after_the_process_was_stopped_it_does_not_lead_before_it_has_asked() -> None:
    clock = Clock()
    lease = Lease(clock)
    term = await a_term(clock, lease)
    led: list[bool] = []

    async def answer(count: int) -> None:
        led.append(term.may_lead())
        if count == 2:
            clock.before_waking = lambda: None
            term.end(None)
            raise asyncio.CancelledError

    lease.answer = answer
    # as after SIGSTOP and SIGCONT: nobody took the lease meanwhile, so it is still there to be renewed
    clock.before_waking = lambda: setattr(clock, "now_s", clock.now_s + 60)
    with pytest.raises(asyncio.CancelledError):
        await term.keep()
    assert led == [False, False]
    assert lease.asked_at_s == [161.0, 222.0]


async def test_the_first_reason_counts() -> None:
    term = await a_term(Clock(), Lease(Clock()))
    assert not await term.wait_for_end(0)
    first = RuntimeError("first")
    term.end(first)
    term.end(None)
    assert await term.wait_for_end(0)
    assert term.reason is first
