"""Migrations go up and down, say where they stand, and are safe to run from many places at once."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from rtx.store import migrate
from rtx.store.migrate import UnknownRevisionError


def tables(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {str(name) for (name,) in rows} - {"alembic_version"}


def test_up_down_and_up_again(database_url: str) -> None:
    steps: list[str] = []
    before = migrate.status(database_url)
    assert (before.current, before.head, before.is_current) == (None, before.pending[-1], False)
    after = migrate.upgrade(database_url, steps.append)
    assert (after.current, after.pending, after.is_current) == (before.head, (), True)
    assert after == migrate.status(database_url)
    assert steps == [f"applied {revision}" for revision in before.pending]
    made = tables(database_url)
    assert {"journal", "engine_lease", "orders"} <= made

    steps.clear()
    assert migrate.downgrade(database_url, "base", steps.append).current is None
    assert steps == [f"reverted {revision}" for revision in reversed(before.pending)]
    assert tables(database_url) == set()
    migrate.upgrade(database_url)
    assert tables(database_url) == made


def test_a_run_that_has_nothing_to_do_does_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)
    steps: list[str] = []
    assert migrate.upgrade(database_url, steps.append).is_current
    assert steps == []


def test_many_runs_at_once_apply_each_migration_once(database_url: str) -> None:
    program = "import sys; from rtx.store import migrate; print(migrate.upgrade(sys.argv[1], print).current)"
    runs = [
        subprocess.Popen([sys.executable, "-c", program, database_url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    head = migrate.status(database_url).head
    assert all(output.splitlines()[-1] == head for output in outputs)
    assert "".join(outputs).count(f"applied {head}") == 1


def test_a_run_waits_for_another_and_says_so(database_url: str) -> None:
    steps: list[str] = []
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (migrate.ADVISORY_LOCK_KEY,))

        def progress(step: str) -> None:
            steps.append(step)
            other.execute("SELECT pg_advisory_unlock(%s)", (migrate.ADVISORY_LOCK_KEY,))

        assert migrate.upgrade(database_url, progress).is_current
    assert "waiting" in steps[0]


def test_a_table_in_use_makes_a_migration_fail_instead_of_queueing_everybody(database_url: str) -> None:
    migrate.upgrade(database_url)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT * FROM orders")
        with pytest.raises(SQLAlchemyError, match="lock timeout"):
            migrate.downgrade(database_url, "base")
    # What needs no table in use was reverted; the rest stands, and can be tried again.
    assert migrate.status(database_url).current == "0001_exchange"


def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    migrate.upgrade(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_future'")
    for run in (migrate.upgrade, migrate.status):
        with pytest.raises(UnknownRevisionError, match="9999_future"):
            run(database_url)


def test_a_password_in_a_broken_url_stays_out_of_the_error() -> None:
    with pytest.raises(ValueError, match="form postgresql://") as error:
        migrate.status("no url but a secret")
    assert "secret" not in str(error.value)
