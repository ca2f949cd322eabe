"""`python -m benchmarks.replay`: how fast a journal is done again, by the core that PYTHONPATH names.

Reads DATABASE_URL, whose whole journal is replayed from its first row as an engine that starts without a snapshot does,
and prints the rows and the seconds as JSON. A process of its own, because the core is chosen when Python starts.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec

from rtx.engine.recovery import recover
from rtx.settings import database_url_from_environment
from rtx.store.connection import create_pool
from rtx.store.journal import JournalStore


class Replay(msgspec.Struct, frozen=True):
    """How much was replayed, and how long it took."""

    rows: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """The speed."""
        return self.rows / self.seconds


async def replay(database_url: str) -> Replay:
    """Replay the whole journal."""
    pool = await create_pool(database_url, application_name="rtx-bench", maximum_size=1)
    try:
        started = time.perf_counter()
        recovered = await recover(JournalStore(pool), before_sequence=1)
        return Replay(recovered.sequence, time.perf_counter() - started)
    finally:
        await pool.close()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(replay(database_url_from_environment()))))
