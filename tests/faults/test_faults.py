"""Processes and servers die under load: whatever was acknowledged is there once, and service comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final

import pytest
from tests.faults.backend import BackendProcess, DevProcess, ServeProcess, running
from tests.faults.book_follower import BookFollower
from tests.faults.load import Load, trading
from tests.faults.venue import MARKETS, Venue, open_venue, read_book
from tests.faults.verification import Verdict, verify

from rtx.embedded import EmbeddedPostgresql, EmbeddedValkey

pytestmark = pytest.mark.kill

STRETCH: Final = 400
"""So many acknowledged requests are more than can have been under way when something died."""

DATABASE_OUTAGES_S: Final = (1.0, 0.0, 0.0)
"""More than one, because what is answered too early is lost only when a commit is under way."""

FOLLOWING_TIMEOUT_S: Final = 30.0


async def _judge(
    what: str, venue: Venue, load: Load, backend: BackendProcess, capsys: pytest.CaptureFixture[str]
) -> Verdict:
    """Verify everything, say in one line how it went, and let nothing pass that is lost, doubled or wrong."""
    verdict = await verify(venue, load, backend.database_url)
    errors = ", ".join(f"{count} x {kind}" for kind, count in load.errors.most_common()) or "none"
    with capsys.disabled():
        print(
            f"\n{what}: {load.acknowledged} acknowledged, {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
            f"{len(verdict.untold)} done without an answer, errors: {errors}, "
            f"longest gap {load.longest_gap_s * 1000:.0f} ms"
        )
    assert verdict.lost == []
    assert verdict.doubled == []
    assert verdict.wrong == []
    return verdict


async def test_engine_killed_three_times(backend: ServeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue(backend.port, backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        for _ in range(3):
            os.kill(backend.process_id("engine"), signal.SIGKILL)
            await load.more(2 * STRETCH)
    await _judge("engine killed", venue, load, backend, capsys)
    assert not load.errors


async def test_api_workers_killed(backend: ServeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue(backend.port, backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        for worker in ("api-1", "api-2"):
            os.kill(backend.process_id(worker), signal.SIGKILL)
            await load.more(STRETCH)
    await _judge("API workers killed", venue, load, backend, capsys)


async def test_everything_killed_at_once(dev_backend: DevProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue(dev_backend.port, dev_backend.operator)
    async with trading(venue) as load:
        await load.more(2 * STRETCH)
        await asyncio.to_thread(dev_backend.kill_everything)
        dev_backend.start()
        await dev_backend.ready()
        await load.more(STRETCH)
    await _judge("everything killed", venue, load, dev_backend, capsys)


async def test_database_stopped_and_started(
    backend: ServeProcess, mortal_postgresql: EmbeddedPostgresql, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = await open_venue(backend.port, backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        for outage_s in DATABASE_OUTAGES_S:
            await asyncio.to_thread(mortal_postgresql.stop, "immediate")
            await asyncio.sleep(outage_s)
            await asyncio.to_thread(mortal_postgresql.start)
            await load.more(STRETCH)
    await backend.ready()
    await _judge("PostgreSQL stopped", venue, load, backend, capsys)


async def test_a_book_is_followed_while_valkey_is_killed(
    backend: ServeProcess, mortal_valkey: EmbeddedValkey, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = await open_venue(backend.port, backend.operator)
    followers = {symbol: BookFollower(backend.port, symbol) for symbol in MARKETS}
    following = [asyncio.create_task(follower.run()) for follower in followers.values()]
    try:
        async with trading(venue) as load:
            await load.more(STRETCH)
            await asyncio.to_thread(mortal_valkey.kill)
            await load.more(2 * STRETCH)
            await asyncio.to_thread(mortal_valkey.start)
            await load.more(STRETCH)
        for symbol, follower in followers.items():
            book = await read_book(venue.port, symbol)
            async with asyncio.timeout(FOLLOWING_TIMEOUT_S):
                await follower.reached(book["lastUpdateId"])
            assert (follower.bids, follower.asks) == (dict(book["bids"]), dict(book["asks"]))
            assert (follower.gaps, follower.broken_chains) == (0, 0)
    finally:
        for task in following:
            task.cancel()
        for task in following:
            with contextlib.suppress(asyncio.CancelledError):
                await task
    await _judge("Valkey killed", venue, load, backend, capsys)
    assert not load.errors


async def test_ended_in_order_and_started_again(backend: ServeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    venue = await open_venue(backend.port, backend.operator)
    async with trading(venue) as load:
        await load.more(STRETCH)
        assert await backend.stop() == 0
        backend.start()
        await backend.ready()
        await load.more(STRETCH)
    verdict = await _judge("ended by SIGTERM", venue, load, backend, capsys)
    assert verdict.untold == []


async def test_an_engine_that_stood_still_is_followed_by_another(
    backend: ServeProcess, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = await open_venue(backend.port, backend.operator)
    other = backend.twin(tmp_path_factory.mktemp("twin"))
    async with trading(venue) as load:
        await load.more(STRETCH)
        engine = backend.process_id("engine")
        os.kill(engine, signal.SIGSTOP)
        try:
            # It is ready when its engine leads, and that can only be when the lease of the first ran out.
            async with running(other):
                os.kill(engine, signal.SIGCONT)
                await load.more(2 * STRETCH)
        finally:
            os.kill(engine, signal.SIGCONT)
        await load.more(STRETCH)
    await _judge("engine stood still", venue, load, backend, capsys)
