"""`rtx serve`: judges the settings, waits for the database, then hands over to the supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import typer

from rtx.cli.messages import EXIT_FAILED, fail, fail_settings, say
from rtx.observability.logging import configure_logging
from rtx.settings import EXIT_CONFIGURATION, Settings, SettingsError, redacted_url
from rtx.supervisor.backend import run_backend
from rtx.supervisor.lifeline import end_with_parent
from rtx.supervisor.listeners import PortInUseError

EXIT_NOT_MIGRATED: Final = 4
"""Exit code when the database waits for migrations: trying again alone does not help."""

RETRY_INTERVAL_S: Final = 0.5
PROGRESS_INTERVAL_S: Final = 5.0


def run_serve(wait_s: float, state_file: Path | None) -> int:
    """Run the backend until it is told to stop; returns the exit code."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        fail_settings(error)
    code = _check_database_apart(settings.database_url, wait_s)
    if code != 0:
        raise typer.Exit(code)
    configure_logging(settings.log_level, role="supervisor")
    try:
        return run_backend(settings, state_file=state_file)
    except PortInUseError as error:
        fail(str(error), code=EXIT_CONFIGURATION)


def _check_database_apart(database_url: str, wait_s: float) -> int:
    """Check the database in a process of its own: what it needs for that is not to stay in the supervisor's memory."""
    parent_pid = os.getpid()
    sys.stderr.flush()
    before = signal.signal(signal.SIGTERM, _exit_on_signal)
    pid = os.fork()
    if pid == 0:
        code = EXIT_FAILED
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            end_with_parent(parent_pid)
            code = _check_database(database_url, wait_s)
        except typer.Exit as exit_:
            code = exit_.exit_code
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    signal.signal(signal.SIGTERM, before)
    return os.waitstatus_to_exitcode(status)


def _check_database(database_url: str, wait_s: float) -> int:
    """Wait until the database answers, and see that it has the schema of this version."""
    from rtx.cli.database import fail_unreachable, first_line
    from rtx.store import migrate

    deadline_s = time.monotonic() + wait_s
    said_s = -PROGRESS_INTERVAL_S
    while True:
        try:
            return _judge_schema(database_url, migrate.status(database_url).pending)
        except migrate.UnknownRevisionError as error:
            fail(str(error), code=EXIT_NOT_MIGRATED)
        except migrate.MIGRATION_ERRORS as error:
            reason = first_line(error)
        now_s = time.monotonic()
        if now_s - said_s >= PROGRESS_INTERVAL_S:
            said_s = now_s
            left_s = max(0.0, deadline_s - now_s)
            say(f"waiting for the database {redacted_url(database_url)} ({left_s:.0f} s left): {reason}")
        if now_s >= deadline_s:
            fail_unreachable(database_url, reason)
        time.sleep(RETRY_INTERVAL_S)


def _judge_schema(database_url: str, pending: Sequence[str]) -> int:
    if pending:
        fail(
            f"the database {redacted_url(database_url)} waits for migrations: {', '.join(pending)}",
            "run `rtx migrate` with the same DATABASE_URL, then start again",
            code=EXIT_NOT_MIGRATED,
        )
    return 0


def _exit_on_signal(number: int, _frame: object) -> NoReturn:
    # As process 1 of a container a signal without a handler would have no effect.
    sys.exit(128 + number)
