"""One backend of `rtx dev` for all tests here; each plays on a market of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from rtx.cli.instances import Instance
from rtx.cli.temporary_instance import temporary_instance
from rtx.demo.client import AccountClient, HttpConnection


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def instance() -> AsyncIterator[Instance]:
    """A running backend."""
    async with temporary_instance() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def connection(instance: Instance) -> AsyncIterator[HttpConnection]:
    """Connections to it."""
    async with HttpConnection(instance.api) as opened:
        yield opened


@pytest.fixture(scope="session")
def operator(connection: HttpConnection, instance: Instance) -> AccountClient:
    """Its operator."""
    return AccountClient(connection, instance.operator.email, instance.operator.password)


@pytest.fixture
def ready_file(instance: Instance, tmp_path: Path) -> Path:
    """What its `rtx dev` wrote when it was up."""
    path = tmp_path / "ready.json"
    path.write_bytes(msgspec.json.encode(instance))
    return path


@pytest.fixture(scope="session")
def symbols() -> Iterator[str]:
    """Names of markets that do not exist yet."""
    return (f"ACME{number}USD" for number in itertools.count(1))


@pytest.fixture
def symbol(symbols: Iterator[str]) -> str:
    """A market of the test's own."""
    return next(symbols)
