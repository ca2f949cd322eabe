"""Keeps snapshots: ``python -m rtx.engine.snapshotter`` replays the journal to its end and saves the state.

It runs as a process of its own, at low priority, so that the engine never stops to write its state down. That the state
comes from a replay is a check at the same time: a snapshot that differed from the journal could not come about.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from typing import Final

from rtx.core import snapshot
from rtx.core.exchange import Exchange
from rtx.engine.recovery import ReplayDivergedError, recover
from rtx.observability.logging import configure_logging, get_logger
from rtx.settings import Settings
from rtx.store.connection import DATABASE_ERRORS, create_pool
from rtx.store.errors import JournalCorruptError
from rtx.store.journal import JournalStore, Snapshot
from rtx.store.protocols import JournalBackend

_log = get_logger(__name__)

NICENESS: Final = 10

EXIT_FAILED: Final = 1

EXIT_JOURNAL: Final = 3
"""Exit code of a process that found journal and program to disagree."""


async def save_snapshot(store: JournalBackend, exchange: Exchange, sequence: int, journal_hash: bytes) -> None:
    """Keep the state of ``exchange``, which is that after journal row ``sequence`` with this hash.

    Raises JournalCorruptError, and keeps nothing, when the journal has another row there.
    """
    entries = await store.read_after(sequence - 1, 1)
    if not entries or entries[0].hash != journal_hash:
        raise JournalCorruptError(sequence, "is not the row that the state came from")
    state = snapshot.dump(exchange)
    await store.save_snapshot(Snapshot(sequence, journal_hash, hashlib.sha256(state).digest(), state))


async def run(settings: Settings) -> None:
    """Make one snapshot of all that is committed now."""
    pool = await create_pool(settings.database_url, application_name="rtx-snapshotter", maximum_size=1)
    try:
        store = JournalStore(pool)
        recovered = await recover(store)
        if recovered.sequence > recovered.snapshot_sequence:
            await save_snapshot(store, recovered.exchange, recovered.sequence, recovered.journal_hash)
            _log.info("snapshot saved", sequence=recovered.sequence)
    finally:
        await pool.close()


def main() -> int:
    os.nice(NICENESS)
    settings = Settings.from_environment()
    configure_logging(settings.log_level, role="snapshotter")
    try:
        asyncio.run(run(settings))
    except (JournalCorruptError, ReplayDivergedError) as error:
        _log.critical("the journal does not replay", reason=str(error))
        return EXIT_JOURNAL
    except DATABASE_ERRORS as error:
        _log.warning("the database cannot be read", error=f"{type(error).__name__}: {error}")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
