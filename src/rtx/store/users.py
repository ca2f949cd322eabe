"""Who may sign in."""

from __future__ import annotations

from typing import Final

import asyncpg
import msgspec

from rtx.store.connection import Database
from rtx.store.errors import EmailTakenError


class User(msgspec.Struct, frozen=True):
    """A person or service; ``user_id`` is also its account id, ``role`` is "user" or "operator"."""

    user_id: int
    email: str
    password_hash: str
    role: str
    disabled: bool
    created_at_us: int


_BY_EMAIL: Final = """
    SELECT user_id, email, password_hash, role, disabled, (extract(epoch FROM created_at) * 1000000)::bigint
    FROM users WHERE lower(email) = lower($1)
"""

_BY_ID: Final = """
    SELECT user_id, email, password_hash, role, disabled, (extract(epoch FROM created_at) * 1000000)::bigint
    FROM users WHERE user_id = $1
"""


async def create(database: Database, email: str, password_hash: str, role: str = "user") -> int:
    """Add a user and return the user id; raises EmailTakenError (addresses differ by more than case)."""
    try:
        user_id: int = await database.fetchval(
            "INSERT INTO users (email, password_hash, role) VALUES ($1, $2, $3) RETURNING user_id",
            email,
            password_hash,
            role,
        )
    except asyncpg.UniqueViolationError:
        raise EmailTakenError("a user with this e-mail address exists") from None
    return user_id


async def by_email(database: Database, email: str) -> User | None:
    """Return the user with this e-mail address, in whatever case, or None."""
    row = await database.fetchrow(_BY_EMAIL, email)
    return None if row is None else User(*row)


async def by_id(database: Database, user_id: int) -> User | None:
    """Return a user, or None."""
    row = await database.fetchrow(_BY_ID, user_id)
    return None if row is None else User(*row)


async def set_password_hash(database: Database, user_id: int, password_hash: str) -> bool:
    """Replace the password hash; False: no such user."""
    status = await database.execute("UPDATE users SET password_hash = $2 WHERE user_id = $1", user_id, password_hash)
    return status == "UPDATE 1"


async def set_disabled(database: Database, user_id: int, disabled: bool) -> bool:
    """Lock a user out or let it in again; False: no such user. API workers hear of it as of a change of its keys."""
    found: bool | None = await database.fetchval(
        """
        WITH changed AS (UPDATE users SET disabled = $2 WHERE user_id = $1 RETURNING user_id)
        SELECT count(pg_notify('rtx_api_keys', api_key)) >= 0
        FROM changed LEFT JOIN api_keys USING (user_id) GROUP BY user_id
        """,
        user_id,
        disabled,
    )
    return found is not None


async def set_role(database: Database, user_id: int, role: str) -> bool:
    """Make a user an "operator" or a "user"; False: no such user."""
    return await database.execute("UPDATE users SET role = $2 WHERE user_id = $1", user_id, role) == "UPDATE 1"
