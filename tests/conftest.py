"""Servers for the tests that need them: one PostgreSQL and one Valkey a test process, a fresh database a test.

`RTX_TEST_DATABASE_URL` (a role that may create databases) and `RTX_TEST_REDIS_URL` name servers to use instead of the
embedded ones.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg import sql
from tests.databases import drop_database

from rtx.embedded import EmbeddedPostgresql, EmbeddedValkey

CreateDatabase = Callable[[], str]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgresql]:
    """An embedded PostgreSQL that all tests of the process share; do not stop it."""
    with EmbeddedPostgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """An embedded Valkey that all tests of the process share; do not stop it."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def database_server_url(request: pytest.FixtureRequest) -> str:
    """A URL into the PostgreSQL server under test, as a role that may create databases."""
    given = os.environ.get("RTX_TEST_DATABASE_URL")
    if given:
        return given
    server: EmbeddedPostgresql = request.getfixturevalue("postgresql")
    return server.database_url


@pytest.fixture(scope="session")
def create_database(database_server_url: str) -> Iterator[CreateDatabase]:
    """A function that makes an empty database and returns its URL; all are dropped when the tests end."""
    with _databases(database_server_url) as create:
        yield create


@pytest.fixture(scope="module")
def module_database_url(create_database: CreateDatabase) -> str:
    """An empty database that the tests of one module share."""
    return create_database()


@pytest.fixture
def database_url(database_server_url: str) -> Iterator[str]:
    """An empty database for one test."""
    with _databases(database_server_url) as create:
        yield create()


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """An empty Redis for one test."""
    given = os.environ.get("RTX_TEST_REDIS_URL")
    if given:
        # Test processes share a given server, and each takes a database of its own there.
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        url = urlsplit(given)._replace(path=f"/{worker}").geturl()
    else:
        server: EmbeddedValkey = request.getfixturevalue("valkey")
        url = server.redis_url
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


_database_numbers = itertools.count(1)


@contextmanager
def _databases(server_url: str) -> Iterator[CreateDatabase]:
    created: list[str] = []
    with psycopg.connect(server_url, autocommit=True) as connection:

        def create() -> str:
            name = f"rtx_test_{os.getpid()}_{next(_database_numbers)}"
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            created.append(name)
            return urlsplit(server_url)._replace(path=f"/{name}").geturl()

        yield create
        for name in created:
            drop_database(connection, name)
