"""A migrated database, and connections to it as the engine and the API make them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from rtx.store import migrate
from rtx.store.connection import connect_engine


@pytest.fixture
def migrated_url(database_url: str) -> str:
    """A database of one test with the newest schema."""
    migrate.upgrade(database_url)
    return database_url


@pytest_asyncio.fixture
async def connection(migrated_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the engine's kind."""
    connected = await connect_engine(migrated_url)
    yield connected
    await connected.close()
