"""`rtx migrate`: the schema's way up, and down when it must be."""

from __future__ import annotations

from rtx.cli.database import database_url, fail_unreachable, first_line
from rtx.cli.messages import fail, say
from rtx.settings import redacted_url
from rtx.store import migrate
from rtx.store.migrate import MigrationStatus, UnknownRevisionError


def run_migrate(*, status: bool, down: str | None) -> int:
    """Migrate, or only look; prints where the database stands."""
    if status and down is not None:
        fail("--status only looks, --down changes: give one of them")
    url = database_url()
    try:
        if status:
            result = migrate.status(url)
        elif down is not None:
            result = migrate.downgrade(url, down, say)
        else:
            result = migrate.upgrade(url, say)
    except UnknownRevisionError as error:
        fail(str(error))
    except migrate.MIGRATION_ERRORS as error:
        if down is not None and getattr(error, "orig", None) is None:
            fail(first_line(error), "`rtx migrate --status` shows where the database stands")
        fail_unreachable(url, first_line(error))
    _print_status(url, result)
    return 0


def _print_status(url: str, result: MigrationStatus) -> None:
    print(f"database  {redacted_url(url)}")
    print(f"current   {result.current or '(nothing yet)'}")
    print(f"newest    {result.head}")
    if result.pending:
        print(f"pending   {', '.join(result.pending)}")
        say("run `rtx migrate` to apply what is pending")
    else:
        print("pending   (nothing)")
