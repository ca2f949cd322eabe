"""``python -m rtx.demo``: the demo traders, started by the supervisor of ``rtx dev``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

from rtx.demo.crowd import read_plan, run_crowd
from rtx.observability.logging import configure_logging
from rtx.settings import EXIT_CONFIGURATION

PLAN_VARIABLE: Final = "RTX_DEMO_FILE"
NICENESS: Final = 5


def main() -> int:
    """Trade until SIGTERM."""
    path = os.environ.get(PLAN_VARIABLE)
    if not path:
        sys.stderr.write(f"{PLAN_VARIABLE} is not set; it should name the file that `rtx dev` writes\n")
        return EXIT_CONFIGURATION
    configure_logging(os.environ.get("LOG_LEVEL", "info"), role="demo")
    os.nice(NICENESS)
    asyncio.run(_trade(Path(path)))
    return 0


async def _trade(path: Path) -> None:
    trading = asyncio.create_task(_follow(path))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, trading.cancel)
    await asyncio.wait({trading})
    if not trading.cancelled():
        trading.result()


async def _follow(path: Path) -> None:
    await run_crowd(await read_plan(path))


if __name__ == "__main__":
    sys.exit(main())
