"""Ending tasks for sure.

Before Python 3.12 ``asyncio.wait_for``, which redis-py uses, may lose a cancellation that arrives together with its
result; a task that is cancelled once and awaited then never ends.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

CANCELLATION_TIMEOUT_S: Final = 0.5
"""How long a task may take to end before it is cancelled again."""


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks, again if need be, and return when they have ended; what they raise stays with them."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCELLATION_TIMEOUT_S)
