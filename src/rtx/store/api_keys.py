"""API keys. The secret is stored encrypted, because checking an HMAC needs it in the clear."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final, TypeAlias

import asyncpg
import msgspec

from rtx.store.connection import Database

CHANNEL: Final = "rtx_api_keys"
"""Notified, with the key as payload, when a key was made or deleted and when its user was disabled or enabled."""

Network: TypeAlias = IPv4Network | IPv6Network


class ApiKey(msgspec.Struct, frozen=True):
    """A key of a user; with an empty ``ip_allow`` it works from anywhere, of a disabled user's nowhere."""

    api_key: str
    user_id: int
    label: str
    permissions: tuple[str, ...]
    ip_allow: tuple[Network, ...]
    secret_encrypted: bytes
    encryption_key_id: str
    created_at_us: int
    user_disabled: bool

    def __repr__(self) -> str:
        return f"ApiKey(user_id={self.user_id}, label={self.label!r})"


_CREATE: Final = """
    WITH created AS (
        INSERT INTO api_keys (api_key, user_id, label, permissions, ip_allow, secret_encrypted, encryption_key_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        RETURNING api_key, user_id, label, permissions, ip_allow, secret_encrypted, encryption_key_id, created_at
    ), notified AS (SELECT pg_notify('rtx_api_keys', $1))
    SELECT api_key, user_id, label, permissions, ip_allow, secret_encrypted, encryption_key_id,
        (extract(epoch FROM created.created_at) * 1000000)::bigint, users.disabled
    FROM created JOIN users USING (user_id) CROSS JOIN notified
"""

_FIND: Final = """
    SELECT api_key, user_id, label, permissions, ip_allow, secret_encrypted, encryption_key_id,
        (extract(epoch FROM api_keys.created_at) * 1000000)::bigint, users.disabled
    FROM api_keys JOIN users USING (user_id) WHERE api_key = $1
"""

_OF_USER: Final = """
    SELECT api_key, user_id, label, permissions, ip_allow, secret_encrypted, encryption_key_id,
        (extract(epoch FROM api_keys.created_at) * 1000000)::bigint, users.disabled
    FROM api_keys JOIN users USING (user_id) WHERE user_id = $1 ORDER BY api_keys.created_at, api_key
"""

_DELETE: Final = """
    WITH deleted AS (DELETE FROM api_keys WHERE user_id = $1 AND api_key = $2 RETURNING api_key)
    SELECT pg_notify('rtx_api_keys', api_key) FROM deleted
"""


async def create(
    database: Database,
    *,
    api_key: str,
    user_id: int,
    label: str,
    permissions: Sequence[str],
    ip_allow: Sequence[Network],
    secret_encrypted: bytes,
    encryption_key_id: str,
) -> ApiKey:
    """Store a key and tell the API workers."""
    row = await database.fetchrow(
        _CREATE, api_key, user_id, label, permissions, ip_allow, secret_encrypted, encryption_key_id
    )
    assert row is not None
    return _api_key(row)


async def find(database: Database, api_key: str) -> ApiKey | None:
    """Return a key, or None."""
    row = await database.fetchrow(_FIND, api_key)
    return None if row is None else _api_key(row)


async def of_user(database: Database, user_id: int) -> list[ApiKey]:
    """Return a user's keys, oldest first."""
    return [_api_key(row) for row in await database.fetch(_OF_USER, user_id)]


async def delete(database: Database, user_id: int, api_key: str) -> bool:
    """Delete a key of the user and tell the API workers; False: the user has no such key."""
    return await database.fetchrow(_DELETE, user_id, api_key) is not None


def _api_key(row: asyncpg.Record) -> ApiKey:
    api_key, user_id, label, permissions, ip_allow, *rest = row
    return ApiKey(api_key, user_id, label, tuple(permissions), tuple(ip_allow), *rest)
