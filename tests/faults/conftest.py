"""A PostgreSQL and a Valkey that these tests may kill, and backends on a fresh database of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.faults.backend import DevProcess, ServeProcess, Servers, running
from tests.faults.exchange import Exchange, ReachablePostgresql, empty_exchange
from tests.faults.replicas import Replicas, make_members, running_replicas

from rtx.embedded import EmbeddedValkey


@pytest.fixture(scope="package")
def mortal_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReachablePostgresql]:
    """A PostgreSQL that runs at the start of every test, and that a test may stop."""
    with ReachablePostgresql(tmp_path_factory.mktemp("mortal-postgresql")) as server:
        yield server


@pytest.fixture(scope="package")
def mortal_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey that runs at the start of every test, and that a test may stop."""
    with EmbeddedValkey(tmp_path_factory.mktemp("mortal-valkey")) as server:
        yield server


@pytest.fixture
async def exchange(mortal_postgresql: ReachablePostgresql, mortal_valkey: EmbeddedValkey) -> AsyncIterator[Exchange]:
    """An empty exchange, on servers that run."""
    mortal_postgresql.start()
    mortal_valkey.start()
    async with empty_exchange(mortal_postgresql) as exchange:
        yield exchange


@pytest.fixture
async def backend(exchange: Exchange, mortal_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[ServeProcess]:
    """`rtx serve` on an empty exchange, ready to serve."""
    servers = Servers(exchange.database_url, mortal_valkey.redis_url)
    process = ServeProcess(tmp_path, servers, exchange.operator)
    async with running(process):
        yield process


@pytest.fixture
async def replicas(exchange: Exchange, mortal_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Replicas]:
    """Three times `rtx serve` on an empty exchange, ready to serve; the first leads."""
    servers = Servers(exchange.database_url, mortal_valkey.redis_url)
    async with running_replicas(make_members(tmp_path, servers, exchange.operator)) as replicas:
        yield replicas


@pytest.fixture
async def dev_backend(tmp_path: Path) -> AsyncIterator[DevProcess]:
    """`rtx dev --no-demo` on an empty directory, ready to serve."""
    process = DevProcess(tmp_path)
    async with running(process):
        yield process
