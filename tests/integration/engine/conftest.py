"""Engines on databases of one test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.integration.engine.cluster import Cluster, running_cluster

from rtx.store import migrate


@pytest_asyncio.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A migrated database, and no engine yet."""
    migrate.upgrade(database_url)
    async with running_cluster(database_url, redis_url, tmp_path) as running:
        yield running
