"""Databases with engines in them, played or real, for commands that look at engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.integration.cli.exchange import PlayedExchange
from tests.integration.engine.cluster import Cluster, running_cluster

from rtx.store import migrate
from rtx.store.connection import create_pool


@pytest_asyncio.fixture
async def exchange(database_url: str) -> AsyncIterator[PlayedExchange]:
    """A migrated database without engines."""
    migrate.upgrade(database_url)
    pool = await create_pool(database_url, application_name="rtx-test")
    yield PlayedExchange(database_url, pool)
    pool.terminate()


@pytest_asyncio.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A migrated database for real engines, none of which runs yet."""
    migrate.upgrade(database_url)
    async with running_cluster(database_url, redis_url, tmp_path) as running:
        yield running
