"""Processes and servers die under load: whatever was acknowledged is there once, and service comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final

import pytest
from tests.faults.backend import DevProcess, ServeProcess
from tests.faults.book_follower import BookFollower
from tests.faults.judgement import judge
from tests.faults.load import trading
from tests.faults.venue import MARKETS, open_venue, read_book

from rtx.embedded import EmbeddedPostgresql, EmbeddedValkey

pytestmark = pytest.mark.kill

STRETCH: Final = 400
"""So many acknowledged requests are more than can have been under way when something died."""

DATABASE_OUTAGES_S: Final = (1.0, 0.0, 0.0)
"""More than one, because what is answered too early is lost only when a commit is under way."""

FOLLOWING_TIMEOUT_S: Final = 30.0


async def test_engine_killed_three_times(backend: ServeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue([backend.address], backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        for _ in range(3):
            os.kill(backend.process_id("engine"), signal.SIGKILL)
            await load.more(2 * STRETCH)
    await judge("engine killed", load, backend.database_url, capsys)
    assert not load.failures


async def test_api_workers_killed(backend: ServeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue([backend.address], backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        for worker in ("api-1", "api-2"):
            os.kill(backend.process_id(worker), signal.SIGKILL)
            await load.more(STRETCH)
    await judge("API workers killed", load, backend.database_url, capsys)


async def test_everything_killed_at_once(dev_backend: DevProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue([dev_backend.address], dev_backend.operator)
    async with trading(venue) as load:
        await load.more(2 * STRETCH)
        await asyncio.to_thread(dev_backend.kill_everything)
        dev_backend.start()
        await dev_backend.ready()
        await load.more(STRETCH)
    await judge("everything killed", load, dev_backend.database_url, capsys)


async def test_database_stopped_and_started(
    backend: ServeProcess, mortal_postgresql: EmbeddedPostgresql, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = await open_venue([backend.address], backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        for outage_s in DATABASE_OUTAGES_S:
            await asyncio.to_thread(mortal_postgresql.stop, "immediate")
            await asyncio.sleep(outage_s)
            await asyncio.to_thread(mortal_postgresql.start)
            await load.more(STRETCH)
    await backend.ready()
    await judge("PostgreSQL stopped", load, backend.database_url, capsys)


async def test_a_book_is_followed_while_valkey_is_killed(
    backend: ServeProcess, mortal_valkey: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = await open_venue([backend.address], backend.operator)
    followers = {symbol: BookFollower(backend.address, symbol) for symbol in MARKETS}
    following = [asyncio.create_task(follower.run()) for follower in followers.values()]
    try:
        async with trading(venue) as load:
            await load.more(STRETCH)
            await asyncio.to_thread(mortal_valkey.kill)
            await load.more(2 * STRETCH)
            await asyncio.to_thread(mortal_valkey.start)
            await load.more(STRETCH)
        for symbol, follower in followers.items():
            book = await read_book(venue.addresses, symbol)
            async with asyncio.timeout(FOLLOWING_TIMEOUT_S):
                await follower.shows(dict(book["bids"]), dict(book["asks"]))
            assert (follower.gaps, follower.broken_chains) == (0, 0)
    finally:
        for task in following:
            task.cancel()
        for task in following:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    await judge("Valkey killed", load, backend.database_url, capsys)
    assert not load.failures


async def test_ended_in_order_and_started_again(backend: ServeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue([backend.address], backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        assert await backend.stop() == 0
        backend.start()
        await backend.ready()
        await load.more(STRETCH)
    verdict = await judge("ended by SIGTERM", load, backend.database_url, capsys)
    assert verdict.untold == []
