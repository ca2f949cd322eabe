"""What a worker needs to be of use, looked at when asked."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Final

from rtx.api.context import ApiContext
from rtx.link.client import EngineError
from rtx.store.lease import Lease, LeaseStore
from rtx.store.replicas import ReplicaStore

VERSION: Final = version("rtx")

OK: Final = "ok"

_TIMEOUT_S: Final = 2.0
_ENGINE_TIMEOUT_S: Final = 1.0


async def readiness(context: ApiContext) -> dict[str, str]:
    """Each check with "ok" or what is wrong.

    ``database``: it answers. ``engine``: one leads and answers through this worker. ``replica``: this replica's own
    engine came to no other state than the leader's. Redis is none of them: without it orders go through and only
    streams pause.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            lease = await LeaseStore(context.pool).read()
            divergence = await ReplicaStore(context.pool).divergence(context.settings.engine_holder)
    except Exception as error:  # noqa: BLE001 - whatever it is, it keeps this worker from being of use
        return {"database": f"does not answer ({type(error).__name__})", "engine": await _engine(context, None)}
    return {"database": OK, "engine": await _engine(context, lease), "replica": _replica(divergence)}


def _replica(divergence: tuple[int, str] | None) -> str:
    if divergence is None:
        return OK
    sequence, reason = divergence
    return reason or f"its engine reads the journal again, from before row {sequence} at which it went wrong"


def is_passed(checks: dict[str, str]) -> bool:
    """Whether nothing is missing."""
    return all(result == OK for result in checks.values())


async def _engine(context: ApiContext, lease: Lease | None) -> str:
    if context.engine.is_connected:
        try:
            await context.engine.position(timeout_s=_ENGINE_TIMEOUT_S)
        except EngineError:
            return "the engine does not answer: it does not lead yet, or has too much to do"
        return OK
    if lease is None or lease.expires_in_s <= 0:
        return "no engine leads"
    return f"not connected to the leader {lease.holder} (epoch {lease.epoch})"
