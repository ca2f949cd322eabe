"""Dropping the databases of tests, also while the server's own housekeeping is in one of them."""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

ATTEMPTS = 100
INTERVAL_S = 0.1


def drop_database(connection: psycopg.Connection, name: str) -> None:
    """Drop a database with whoever is connected to it; ``connection`` is to another one and commits by itself."""
    statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    for _ in range(ATTEMPTS):
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            # An autovacuum worker is in it: nobody but the server may end that, and it ends soon by itself.
            time.sleep(INTERVAL_S)
        else:
            return
    connection.execute(statement)
