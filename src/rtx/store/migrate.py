"""Bring the database's schema to what this version of the code expects, and say where it stands.

Safe to run from many places at once: the whole run holds an advisory lock, so that a second run waits and then finds
nothing to do. Only this module and the migrations use SQLAlchemy and psycopg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Final

import msgspec
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

Progress = Callable[[str], None]

ADVISORY_LOCK_KEY: Final = 0x5254585F4D494752
"""Names the lock of a migration run among the database's advisory locks ("RTX_MIGR")."""

CONNECT_TIMEOUT_S: Final = 10

MIGRATION_ERRORS: Final = (SQLAlchemyError, CommandError)
"""What the functions here raise when the database is out of reach or refuses, or when there is no such revision."""


class UnknownRevisionError(Exception):
    """The database was migrated by a newer version: it stands at a revision that this version does not know."""


class MigrationStatus(msgspec.Struct, frozen=True):
    """Where a database stands: ``current`` is None before the first migration, ``pending`` is oldest first."""

    current: str | None
    head: str
    pending: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Whether nothing is left to apply."""
        return not self.pending


def upgrade(database_url: str, progress: Progress | None = None) -> MigrationStatus:
    """Apply every pending migration and return where the database stands then.

    ``progress`` gets one line a step. Raises :class:`UnknownRevisionError` for a database of a newer version,
    ``ValueError`` for an URL that is none, ``sqlalchemy.exc.SQLAlchemyError`` when the database refuses.
    """
    with _locked_run(database_url, progress) as (config, connection):
        if _status(config, connection).pending:
            command.upgrade(config, "head")
        return _status(config, connection)


def downgrade(database_url: str, revision: str, progress: Progress | None = None) -> MigrationStatus:
    """Revert to ``revision`` ("base": remove everything), with the errors of :func:`upgrade`."""
    with _locked_run(database_url, progress) as (config, connection):
        command.downgrade(config, revision)
        return _status(config, connection)


def status(database_url: str) -> MigrationStatus:
    """Say where the database stands, changing nothing and waiting for nobody."""
    with _connect(database_url) as connection, _configuration(connection, None) as config:
        return _status(config, connection)


@contextmanager
def _locked_run(database_url: str, progress: Progress | None) -> Iterator[tuple[Config, Connection]]:
    with _connect(database_url) as connection:
        _lock(connection, progress)
        try:
            with _configuration(connection, progress) as config:
                yield config, connection
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK_KEY})
            connection.commit()


def _lock(connection: Connection, progress: Progress | None) -> None:
    key = {"key": ADVISORY_LOCK_KEY}
    if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
        if progress is not None:
            progress("another migration is running: waiting for it")
        connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
    connection.commit()


@contextmanager
def _connect(database_url: str) -> Iterator[Connection]:
    try:
        url = make_url(database_url).set(drivername="postgresql+psycopg")
    except ArgumentError:
        # The URL holds a password: its text must not travel in the error.
        raise ValueError("the database URL is not of the form postgresql://user:password@host:port/name") from None
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={"application_name": "rtx-migrate", "connect_timeout": CONNECT_TIMEOUT_S},
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def _configuration(connection: Connection, progress: Progress | None) -> Iterator[Config]:
    with as_file(files("rtx.store").joinpath("migrations")) as location:
        config = Config()
        config.set_main_option("script_location", str(location).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["progress"] = progress
        yield config


def _status(config: Config, connection: Connection) -> MigrationStatus:
    current = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    script = ScriptDirectory.from_config(config)
    chain = [revision.revision for revision in reversed(list(script.walk_revisions()))]
    if current is not None and current not in chain:
        raise UnknownRevisionError(
            f"the database stands at revision {current}, which this version does not know (its newest is {chain[-1]}): "
            "run the version that migrated it, or a newer one"
        )
    applied = 0 if current is None else chain.index(current) + 1
    return MigrationStatus(current, chain[-1], tuple(chain[applied:]))
