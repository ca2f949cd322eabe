"""``python -m rtx.api``: one API worker, started by the supervisor of ``rtx serve``."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from rtx.api.worker import serve
from rtx.observability.errors import configure_error_reports
from rtx.observability.logging import configure_logging
from rtx.settings import EXIT_CONFIGURATION, Settings, SettingsError
from rtx.supervisor.programs import release, role

EXIT_FAILED = 1


def main() -> int:
    """Serve until SIGTERM."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    configure_logging(settings.log_level, role=role("api"))
    configure_error_reports(settings.sentry_dsn, environment=settings.environment, release=release(), role=role("api"))
    try:
        uvloop.run(serve(settings))
    except SystemExit:
        # uvicorn's way of saying that start-up failed; its code would mean something else to the supervisor.
        return EXIT_FAILED
    except asyncio.CancelledError:
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
