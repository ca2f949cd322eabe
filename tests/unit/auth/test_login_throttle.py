"""Guessing is bounded by e-mail address and by network address, with Redis and without."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rtx.api.auth.login_throttle import (
    ADDRESS_FAILURES_MAX,
    EMAIL_AT_ADDRESS_FAILURES_MAX,
    EMAIL_FAILURES_MAX,
    WINDOW_S,
    LocalCounters,
    LoginThrottle,
    TooManyLoginsError,
)


class Clock:
    """A clock that the test moves; seconds."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> LoginThrottle:
    return LoginThrottle(None, clock)


async def fail(throttle: LoginThrottle, email: str, address: str, times: int) -> None:
    for _ in range(times):
        await throttle.begin(email, address)


async def test_guesses_at_one_account_are_bounded_and_others_from_there_go_on(
    throttle: LoginThrottle, clock: Clock
) -> None:
    await fail(throttle, "a@example.com", "192.0.2.1", EMAIL_AT_ADDRESS_FAILURES_MAX)
    with pytest.raises(TooManyLoginsError) as refusal:
        await throttle.begin("A@Example.com", "192.0.2.1")

    assert refusal.value.retry_after_s == WINDOW_S
    await throttle.begin("b@example.com", "192.0.2.1")
    clock.now_s += WINDOW_S
    await throttle.begin("a@example.com", "192.0.2.1")


async def test_refused_guesses_from_one_place_do_not_lock_the_owner_out(throttle: LoginThrottle) -> None:
    await fail(throttle, "a@example.com", "192.0.2.1", EMAIL_AT_ADDRESS_FAILURES_MAX)
    for _ in range(EMAIL_FAILURES_MAX):
        with pytest.raises(TooManyLoginsError):
            await throttle.begin("a@example.com", "192.0.2.1")

    await throttle.begin("a@example.com", "192.0.2.99")


async def test_guesses_at_one_account_from_many_places_are_bounded(throttle: LoginThrottle) -> None:
    for index in range(EMAIL_FAILURES_MAX):
        await throttle.begin("a@example.com", f"192.0.2.{index}")
    with pytest.raises(TooManyLoginsError):
        await throttle.begin("a@example.com", "198.51.100.1")


async def test_guesses_at_many_accounts_from_one_place_are_bounded(throttle: LoginThrottle) -> None:
    for index in range(ADDRESS_FAILURES_MAX):
        await throttle.begin(f"user{index}@example.com", "192.0.2.1")
    with pytest.raises(TooManyLoginsError):
        await throttle.begin("another@example.com", "192.0.2.1")


async def test_logins_that_succeed_are_not_counted(throttle: LoginThrottle) -> None:
    for _ in range(3 * ADDRESS_FAILURES_MAX):
        await throttle.begin("a@example.com", "192.0.2.1")
        await throttle.succeeded("a@example.com", "192.0.2.1")


async def test_without_redis_each_worker_counts_for_itself(clock: Clock) -> None:
    unreachable = Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    throttle = LoginThrottle(unreachable, clock)
    try:
        await fail(throttle, "a@example.com", "192.0.2.1", EMAIL_AT_ADDRESS_FAILURES_MAX)
        with pytest.raises(TooManyLoginsError):
            await throttle.begin("a@example.com", "192.0.2.1")
    finally:
        await unreachable.aclose()


async def test_local_counters_keep_within_their_memory(clock: Clock) -> None:
    counters = LocalCounters(clock, counters_max=2)
    await counters.add(["first", "second", "third"])

    [first, third] = await counters.add(["first", "third"])
    assert (first.value, third.value) == (1, 2)
