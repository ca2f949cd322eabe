"""Has a standby's connections ready for the first orders after it took over.

The first commit over a connection costs some ten milliseconds for planning, and so does the first look-up of commands
that were sent again: all of it while clients wait.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from rtx.store.commit_statement import PARTS, commit_statement
from rtx.store.connection import Connection, Pool
from rtx.store.journal import JournalStore

_USUAL: Final = (
    ("journal",),
    ("journal", "postings", "balances"),
    ("journal", "placed", "balances"),
    ("journal", "changed", "balances"),
    ("journal", "placed", "changed", "balances"),
    ("journal", "placed", "trades", "postings", "balances", "candles"),
    ("journal", "placed", "changed", "trades", "postings", "balances", "candles"),
)
"""What batches touch: a checkpoint, transfers, orders placed and cancelled, trades."""

_NO_EPOCH: Final = 0
"""No lease has it, so that the statements write nothing."""

_NO_ROWS: Final[dict[str, tuple[Any, ...]]] = {
    "journal": ("{}", "{}", [], [], [], [], [], [], []),
    "placed": ("{}", []),
    "changed": ("{}", []),
    "trades": ("{}", "{}"),
    "postings": ("{}",),
    "balances": ("{}", 0),
    "candles": ("{}",),
}

_NO_COMMAND: Final = bytes(16)


async def warm_up(committing: Connection, lookups: Pool, lookup_connections: int) -> None:
    """Have the statements of usual commits, and of looking commands up, planned on these connections.

    Writes nothing. Raises :data:`rtx.store.connection.DATABASE_ERRORS`.
    """
    for names in _USUAL:
        parameters = [value for part in PARTS if part.name in names for value in _NO_ROWS[part.name]]
        await committing.fetchval(commit_statement(names), _NO_EPOCH, *parameters)
    journal = JournalStore(lookups)
    await asyncio.gather(*(journal.find_commands([_NO_COMMAND]) for _ in range(lookup_connections)))
