"""A PostgreSQL and a Valkey that these tests may kill, and a backend on a fresh database of theirs."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from tests.databases import drop_database
from tests.faults.backend import DevProcess, ServeProcess, running
from tests.faults.venue import Operator

from rtx.api.auth.passwords import hash_password
from rtx.embedded import EmbeddedPostgresql, EmbeddedValkey
from rtx.store import migrate, users
from rtx.store.connection import create_pool

_numbers = itertools.count(1)


@pytest.fixture(scope="package")
def mortal_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgresql]:
    """A PostgreSQL that runs at the start of every test, and that a test may stop."""
    with EmbeddedPostgresql(tmp_path_factory.mktemp("mortal-postgresql")) as server:
        yield server


@pytest.fixture(scope="package")
def mortal_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey that runs at the start of every test, and that a test may stop."""
    with EmbeddedValkey(tmp_path_factory.mktemp("mortal-valkey")) as server:
        yield server


@pytest.fixture
async def backend(
    mortal_postgresql: EmbeddedPostgresql, mortal_valkey: EmbeddedValkey, tmp_path: Path
) -> AsyncIterator[ServeProcess]:
    """`rtx serve` on an empty exchange, ready to serve."""
    mortal_postgresql.start()
    mortal_valkey.start()
    name = f"faults_{next(_numbers)}"
    server_url = mortal_postgresql.database_url
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database_url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    migrate.upgrade(database_url)
    operator = Operator("operator@example.com", "the password of the operator in the tests")
    pool = await create_pool(database_url, application_name="rtx-test", maximum_size=1)
    await users.create(pool, operator.email, hash_password(operator.password), role="operator")
    await pool.close()
    process = ServeProcess(tmp_path, database_url, mortal_valkey.redis_url, operator)
    async with running(process):
        yield process
    # After a hard stop PostgreSQL looks at every file that it has: the next test is not to wait for this one's.
    with psycopg.connect(server_url, autocommit=True) as connection:
        drop_database(connection, name)


@pytest.fixture
async def dev_backend(tmp_path: Path) -> AsyncIterator[DevProcess]:
    """`rtx dev --no-demo` on an empty directory, ready to serve."""
    process = DevProcess(tmp_path)
    async with running(process):
        yield process
