"""The books checked against each other, as an operator asks for it."""

from __future__ import annotations

import structlog

from rtx.api.context import ApiContext
from rtx.link.client import EngineError
from rtx.store.reconciliation import check

_log = structlog.get_logger(__name__)


async def report(context: ApiContext) -> dict[str, object]:
    """Compare everything in the database as of one journal position and say what does not agree.

    ``engine`` is the engine's state hash and the journal position it holds at, or null when the engine does not answer:
    the database is judged without it.
    """
    found = await check(context.pool)
    if not found.is_clean:
        _log.error("reconciliation_failed", sequence=found.sequence, findings=len(found.findings))
    return {
        "clean": found.is_clean,
        "sequence": found.sequence,
        "checked": found.checked,
        "findings": [
            {
                "check": finding.check,
                "subject": finding.subject,
                "expected": _text(finding.expected),
                "actual": _text(finding.actual),
            }
            for finding in found.findings
        ],
        "engine": await _engine_state(context),
    }


async def _engine_state(context: ApiContext) -> dict[str, object] | None:
    try:
        sequence, state_hash = await context.engine.state_hash()
    except EngineError as error:
        _log.warning("reconciliation_without_engine", error=type(error).__name__)
        return None
    return {"sequence": sequence, "stateHash": state_hash.hex()}


def _text(amount: int | None) -> str | None:
    """Amounts in smallest units, as text: they may be beyond what JSON readers hold exactly."""
    return None if amount is None else str(amount)
