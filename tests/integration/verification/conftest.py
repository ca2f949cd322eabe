"""One traded database for all tests of a module, and copies of it to tamper with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from tests.databases import drop_database
from tests.integration.store.trading import Trading
from tests.integration.verification.traded import trade

COMMANDS = 700

Execute = Callable[[str], None]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def traded(module_database_url: str) -> tuple[str, Trading]:
    """A traded database, to be read only, and the exchange that traded."""
    return module_database_url, asyncio.run(trade(module_database_url, COMMANDS))


@pytest.fixture
def copied_url(traded: tuple[str, Trading], database_server_url: str) -> Iterator[str]:
    """A copy of the traded database."""
    original = urlsplit(traded[0]).path.strip("/")
    name = f"{original}_copy_{next(_numbers)}"
    with psycopg.connect(database_server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(original))
        )
        yield urlsplit(database_server_url)._replace(path=f"/{name}").geturl()
        drop_database(connection, name)


@pytest.fixture
def tamper(copied_url: str) -> Execute:
    """Changes the copied database as somebody would who has its password."""

    def execute(statement: str) -> None:
        with psycopg.connect(copied_url, autocommit=True) as connection:
            changed = connection.execute(statement).rowcount
            assert changed != 0, "nothing was tampered with"

    return execute
