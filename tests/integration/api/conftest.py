"""One backend for all tests of a module, which keep apart by using markets and users of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.integration.api.venue import Venue
from tests.integration.api_v1.backend import running_backend

from rtx.store.migrate import upgrade


@pytest.fixture(scope="module")
def shared_redis_url(request: pytest.FixtureRequest) -> str:
    """A Redis that is not emptied between tests."""
    given = os.environ.get("RTX_TEST_REDIS_URL")
    url: str = given or request.getfixturevalue("valkey").redis_url
    return url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def venue(module_database_url: str, shared_redis_url: str) -> AsyncIterator[Venue]:
    """A running backend."""
    upgrade(module_database_url)
    async with running_backend(module_database_url, shared_redis_url) as backend:
        yield Venue(backend)
