"""How the product connects to PostgreSQL: which settings, and why."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""One connection, of its own or out of a pool."""

Database: TypeAlias = "asyncpg.Pool[asyncpg.Record] | Connection"
"""What the functions of :mod:`rtx.store` take: a pool, or a connection, whose transaction they then are part of."""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
"""Several connections, of which each call takes one."""

_CONFUSED: Final = asyncpg.InternalClientError
"""What asyncpg raises, too, when the server ends a session at the moment at which a statement begins."""

CONNECTION_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    _CONFUSED,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
"""What a call raises when the database is out of reach, starting, stopping or full, or was lost on the way."""

LOST_CONNECTION_ERRORS: Final = (ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, _CONFUSED)
"""Those of them that say that the connection is gone: over another one the call may go through at once."""

DATABASE_ERRORS: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, _CONFUSED)
"""What a call raises whatever is wrong with the database."""

CONNECT_TIMEOUT_S: Final = 10.0

_KEEPALIVE: Final = {
    # The server lets go of a vanished client, and of the locks that it held, within these seconds.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}

_ENGINE_SETTINGS: Final = {
    **_KEEPALIVE,
    # An answer means that the disk has it, whatever the server's default says.
    "synchronous_commit": "on",
    # The statements' arrays differ in length with every batch: a plan made once must serve them all ...
    "plan_cache_mode": "force_generic_plan",
    # ... so it must be one that stays right while tables grow from empty to large between two analyses.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # A session that hangs inside a transaction would hold the lease's lock.
    "idle_in_transaction_session_timeout": "5000",
}

_API_SETTINGS: Final = {**_KEEPALIVE, "jit": "off", "idle_in_transaction_session_timeout": "10000"}


async def connect_engine(
    database_url: str, *, application_name: str = "rtx-engine", command_timeout_s: float = 5.0
) -> asyncpg.Connection[asyncpg.Record]:
    """Open the connection that commits go through.

    A statement that takes longer than ``command_timeout_s`` raises ``TimeoutError``: whether it committed is then
    unknown. Raises what ``asyncpg.connect`` raises.
    """
    return await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        max_cached_statement_lifetime=0,
        server_settings={**_ENGINE_SETTINGS, "application_name": application_name},
    )


async def create_pool(
    database_url: str,
    *,
    application_name: str,
    minimum_size: int = 1,
    maximum_size: int = 10,
    command_timeout_s: float = 10.0,
    **options: Any,
) -> asyncpg.Pool[asyncpg.Record]:
    """Open a pool for everything but the commits; ``options`` go to ``asyncpg.create_pool``, whose errors are these."""
    return await asyncpg.create_pool(
        database_url,
        min_size=minimum_size,
        max_size=maximum_size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={**_API_SETTINGS, "application_name": application_name},
        **options,
    )
