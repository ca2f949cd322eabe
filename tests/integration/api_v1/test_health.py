"""Probes: alive whatever happens outside, ready only with a database and a leader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import version

import pytest
import pytest_asyncio
from tests.integration.api_v1.backend import Backend, running_backend

from rtx.link.client import EngineTimeoutError
from rtx.store.migrate import upgrade


@pytest_asyncio.fixture
async def own_backend(database_url: str, redis_url: str) -> AsyncIterator[Backend]:
    """A backend that the test may break."""
    upgrade(database_url)
    async with running_backend(database_url, redis_url) as running:
        yield running


async def test_a_whole_backend_is_live_and_ready(own_backend: Backend) -> None:
    client = own_backend.client()
    live, ready = await client.get("/health/live"), await client.get("/health/ready")

    assert (live.status, live.json["status"]) == (200, "live")
    checks = {"database": "ok", "engine": "ok", "replica": "ok"}
    assert (ready.status, ready.json) == (200, {"status": "ready", "checks": checks})
    assert (await client.request("HEAD", "/health/ready")).status == 200


async def test_without_an_engine_a_worker_is_live_and_not_ready_and_says_why(own_backend: Backend) -> None:
    client = own_backend.client()
    await own_backend.link.stop()
    with_leader = await client.get("/health/ready")
    await own_backend.stop_engine()
    without_leader = await client.get("/health/ready")

    assert (await client.get("/health/live")).status == 200
    assert (with_leader.status, without_leader.status) == (503, 503)
    assert with_leader.json["checks"]["engine"].startswith("not connected to the leader test-engine")
    assert without_leader.json["checks"] == {"database": "ok", "engine": "no engine leads", "replica": "ok"}


async def test_an_engine_that_does_not_lead_yet_makes_a_worker_not_ready(
    own_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(*, timeout_s: float) -> int:
        raise EngineTimeoutError

    monkeypatch.setattr(own_backend.link, "position", unanswered)
    ready = await own_backend.client().get("/health/ready")

    assert ready.status == 503
    assert ready.json["checks"]["engine"].startswith("the engine does not answer")


async def test_a_replica_whose_engine_diverged_is_not_ready_and_says_at_which_row(own_backend: Backend) -> None:
    await own_backend.pool.execute("UPDATE engine_replicas SET diverged_sequence = 7, reason = 'journal row 7: why'")
    ready = await own_backend.client().get("/health/ready")

    assert ready.status == 503
    assert ready.json["checks"] == {"database": "ok", "engine": "ok", "replica": "journal row 7: why"}


async def test_without_a_database_a_worker_is_live_and_not_ready_and_says_why(own_backend: Backend) -> None:
    await own_backend.pool.execute("ALTER TABLE engine_lease RENAME TO engine_lease_away")
    try:
        ready = await own_backend.client().get("/health/ready")
    finally:
        await own_backend.pool.execute("ALTER TABLE engine_lease_away RENAME TO engine_lease")

    assert ready.status == 503
    assert ready.json["checks"]["database"].startswith("does not answer")
    assert (await own_backend.client().get("/health/live")).status == 200


async def test_the_system_status_as_binance_says_it(own_backend: Backend) -> None:
    client = own_backend.client()
    assert (await client.get("/sapi/v1/system/status")).json == {"status": 0, "msg": "normal"}
    await own_backend.link.stop()
    assert (await client.get("/sapi/v1/system/status")).json == {"status": 1, "msg": "system_maintenance"}


async def test_the_version(own_backend: Backend) -> None:
    for path in ("/version", "/api/v1/version"):
        answer = await own_backend.client().get(path)
        assert (answer.status, answer.json) == (200, {"name": "rtx", "version": version("rtx")})
