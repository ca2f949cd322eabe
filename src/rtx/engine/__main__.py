"""``python -m rtx.engine``: the engine process, started by the supervisor of ``rtx serve``."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from importlib.metadata import version
from typing import Final

import uvloop

from rtx.engine.halting import HALTING_ERRORS
from rtx.engine.service import EngineService
from rtx.engine.snapshotter import EXIT_JOURNAL
from rtx.observability.errors import configure_error_reports
from rtx.observability.logging import configure_logging, get_logger
from rtx.settings import EXIT_CONFIGURATION, Settings, SettingsError

_GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Few of the engine's objects form cycles; looking for them after every 700 new ones would hold up the orders."""

_log = get_logger(__name__)


async def run(settings: Settings) -> None:
    service = EngineService(settings, version("rtx"))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()


def main() -> int:
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIGURATION
    configure_logging(settings.log_level, role="engine")
    configure_error_reports(
        settings.sentry_dsn, environment=settings.environment, release=version("rtx"), role="engine"
    )
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        uvloop.run(run(settings))
    except HALTING_ERRORS as error:
        _log.critical("the engine halts", reason=str(error), exc_info=error)
        return EXIT_JOURNAL
    return 0


if __name__ == "__main__":
    sys.exit(main())
