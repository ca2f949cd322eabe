"""Refresh tokens, each good for one use: using one gives the next of its family, using it again ends the family.

Only hashes of tokens are stored. Expiry is judged by the database's clock.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from rtx.store.connection import Database
from rtx.store.errors import RefreshTokenInvalidError, RefreshTokenReusedError

_ROTATE: Final = """
    WITH used AS (
        UPDATE refresh_tokens AS token SET used_at = now() FROM users
        WHERE token_hash = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > now()
            AND users.user_id = token.user_id AND NOT users.disabled
        RETURNING token.user_id, family
    )
    INSERT INTO refresh_tokens (token_hash, user_id, family, expires_at)
    SELECT $2, user_id, family, now() + $3 FROM used RETURNING user_id
"""

_REVOKE_IF_USED: Final = """
    UPDATE refresh_tokens SET revoked_at = coalesce(revoked_at, now())
    WHERE family = (SELECT family FROM refresh_tokens WHERE token_hash = $1 AND used_at IS NOT NULL)
"""

_REVOKE: Final = """
    UPDATE refresh_tokens SET revoked_at = now()
    WHERE family = (SELECT family FROM refresh_tokens WHERE token_hash = $1) AND revoked_at IS NULL
"""


async def issue(database: Database, token_hash: bytes, user_id: int, *, ttl_s: float) -> UUID:
    """Store the first token of a new family, made at login, and return the family."""
    family = uuid4()
    await database.execute(
        "INSERT INTO refresh_tokens (token_hash, user_id, family, expires_at) VALUES ($1, $2, $3, now() + $4)",
        token_hash,
        user_id,
        family,
        timedelta(seconds=ttl_s),
    )
    return family


async def rotate(database: Database, token_hash: bytes, new_token_hash: bytes, *, ttl_s: float) -> int:
    """Use a token up, store the next of its family, and return the user id.

    Of two uses at the same time one succeeds and the other counts as a second use. Raises RefreshTokenReusedError (and
    revokes the family) for a second use, RefreshTokenInvalidError for a token that is unknown, expired, revoked or a
    disabled user's.
    """
    user_id: int | None = await database.fetchval(_ROTATE, token_hash, new_token_hash, timedelta(seconds=ttl_s))
    if user_id is not None:
        return user_id
    if await database.execute(_REVOKE_IF_USED, token_hash) != "UPDATE 0":
        raise RefreshTokenReusedError("the refresh token was used before: its family is revoked")
    raise RefreshTokenInvalidError("the refresh token is unknown, expired or revoked")


async def revoke(database: Database, token_hash: bytes) -> bool:
    """Revoke the family of a token (logout); False: there was nothing to revoke."""
    return await database.execute(_REVOKE, token_hash) != "UPDATE 0"


async def revoke_all(database: Database, user_id: int) -> int:
    """Revoke every token of a user and return how many that were."""
    status = await database.execute(
        "UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL", user_id
    )
    return int(status.removeprefix("UPDATE "))


async def delete_expired(database: Database) -> int:
    """Delete tokens past their expiry, which refuse either way, and return how many that were."""
    status = await database.execute("DELETE FROM refresh_tokens WHERE expires_at <= now()")
    return int(status.removeprefix("DELETE "))
