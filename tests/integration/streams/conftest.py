"""A whole backend with a Valkey of its own, which a test may kill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.api.venue import Venue
from tests.integration.api_v1.backend import running_backend
from tests.integration.streams.server import StreamServer, serving

from rtx.embedded import EmbeddedValkey
from rtx.store.migrate import upgrade


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey that only this test uses."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def server(database_url: str, own_valkey: EmbeddedValkey) -> AsyncIterator[StreamServer]:
    """A running backend on a port."""
    upgrade(database_url)
    async with running_backend(database_url, own_valkey.redis_url) as backend, serving(Venue(backend)) as running:
        yield running
