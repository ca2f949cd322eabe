"""An empty exchange: a fresh, migrated database with an operator, on a PostgreSQL that may also be stopped."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from tests.databases import drop_database
from tests.faults.venue import Operator

from rtx.api.auth.passwords import hash_password
from rtx.embedded import EmbeddedPostgresql
from rtx.embedded.postgresql import HOST_BASED_AUTHENTICATION
from rtx.embedded.server import HOST, Progress, write_durably
from rtx.store import migrate, users
from rtx.store.connection import create_pool

_numbers = itertools.count(1)

OPERATOR: Final = Operator("operator@example.com", "the password of the operator in the tests")


class ReachablePostgresql(EmbeddedPostgresql):
    """A PostgreSQL that other hosts reach too, from the next start on: at ``address``, unless that is empty."""

    address = ""

    def _prepare(self, report: Progress) -> None:
        super()._prepare(report)
        rules = self._cluster / "pg_hba.conf"
        allowed = f"host  all  all  {self.address}/30  scram-sha-256\n" if self.address else ""
        write_durably(rules, HOST_BASED_AUTHENTICATION + allowed)
        self._account.own(rules)

    def _command(self, port: int) -> Sequence[str | Path]:
        addresses = f"{HOST},{self.address}" if self.address else HOST
        return [*super()._command(port), "-c", f"listen_addresses={addresses}"]


@dataclass(frozen=True)
class Exchange:
    """Where it is kept, and who may do everything there."""

    database_url: str
    operator: Operator = OPERATOR


@contextlib.asynccontextmanager
async def empty_exchange(server: EmbeddedPostgresql) -> AsyncIterator[Exchange]:
    """Make the database, and drop it after the block."""
    name = f"faults_{next(_numbers)}"
    server_url = server.database_url
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database_url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    migrate.upgrade(database_url)
    pool = await create_pool(database_url, application_name="rtx-test", maximum_size=1)
    await users.create(pool, OPERATOR.email, hash_password(OPERATOR.password), role="operator")
    await pool.close()
    yield Exchange(database_url)
    # After a hard stop PostgreSQL looks at every file that it has: the next test is not to wait for this one's.
    with psycopg.connect(server_url, autocommit=True) as connection:
        drop_database(connection, name)
