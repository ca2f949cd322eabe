"""Whether the journal has the rows that a proof shows."""

from __future__ import annotations

from rtx.proofs.checking import ProofRefusedError
from rtx.proofs.document import Row, Statement
from rtx.store.connection import create_pool
from rtx.store.proofs import find_rows


async def check_journaled(database_url: str, statement: Statement) -> None:
    """Raise ProofRefusedError unless the database's journal has every row of the proof, and the head that it names.

    Raises what ``asyncpg`` raises when the database cannot be reached.
    """
    shown = list(statement.rows)
    if statement.checkpoint is not None:
        shown.append(statement.checkpoint.row)
    head = statement.head
    async with await create_pool(database_url, application_name="rtx-verify", maximum_size=1) as pool:
        sequences = [row.sequence for row in shown]
        found = {entry.sequence: entry for entry in await find_rows(pool, [*sequences, head.sequence])}
    for row in shown:
        entry = found.get(row.sequence)
        if entry is None:
            raise ProofRefusedError(f"the journal has no row {row.sequence}")
        if Row.of(entry) != row:
            raise ProofRefusedError(f"the journal has another row {row.sequence}")
    entry = found.get(head.sequence)
    if entry is None or entry.hash.hex() != head.hash:
        raise ProofRefusedError(f"the journal's row {head.sequence} is not the one that was the head")
