"""What the commands do with a database that may not be there, not be ours, or not be ready."""

from __future__ import annotations

from typing import Final, NoReturn

from rtx.cli.messages import EXIT_FAILED, fail, fail_settings
from rtx.settings import SettingsError, database_url_from_environment, redacted_url

UNDEFINED_TABLE: Final = "42P01"
"""PostgreSQL's code for a table that does not exist."""


def database_url() -> str:
    """The database that the environment names; ends the command when it names none."""
    try:
        return database_url_from_environment()
    except SettingsError as error:
        fail_settings(error)


def first_line(error: BaseException) -> str:
    """What a database driver said, without the wrapping and hints that follow."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().partition("\n")[0] or type(cause).__name__


def fail_unreachable(url: str, reason: str, *, code: int = EXIT_FAILED) -> NoReturn:
    """End the command because the database cannot be used."""
    fail(
        f"the database {redacted_url(url)} cannot be used: {reason}",
        "check that it runs, and that DATABASE_URL has the right host, user and password",
        code=code,
    )
