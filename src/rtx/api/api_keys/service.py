"""Creates, lists and deletes the API keys of a user."""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from typing import Final

import structlog

from rtx.api.context import ApiContext, Network
from rtx.api.errors import NOT_FOUND, ApiError
from rtx.store import api_keys
from rtx.store.api_keys import ApiKey

PERMISSIONS: Final = ("read", "trade")

MAXIMUM_KEYS_PER_USER: Final = 50

TOO_MANY_API_KEYS: Final = -9014

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 64
"""Keys and secrets look as Binance's do: 64 letters and digits, 381 bits."""

_log = structlog.get_logger(__name__)


async def create(
    context: ApiContext, user_id: int, label: str, permissions: Sequence[str], ip_allow: Sequence[Network]
) -> tuple[ApiKey, str]:
    """Make a key; returns it and its secret, which cannot be had again. Raises :class:`ApiError` 409."""
    if len(await api_keys.of_user(context.pool, user_id)) >= MAXIMUM_KEYS_PER_USER:
        raise ApiError(
            TOO_MANY_API_KEYS, f"A user has at most {MAXIMUM_KEYS_PER_USER} API keys; delete one first.", 409
        )
    name, secret = _random_text(), _random_text()
    encryption_key_id, secret_encrypted = context.secrets.encrypt(secret.encode(), name)
    api_key = await api_keys.create(
        context.pool,
        api_key=name,
        user_id=user_id,
        label=label,
        permissions=permissions,
        ip_allow=ip_allow,
        secret_encrypted=secret_encrypted,
        encryption_key_id=encryption_key_id,
    )
    _log.info("api_key_created", user_id=user_id, permissions=list(permissions))
    return api_key, secret


async def list_of(context: ApiContext, user_id: int) -> list[ApiKey]:
    """All keys of a user, oldest first."""
    return await api_keys.of_user(context.pool, user_id)


async def delete(context: ApiContext, user_id: int, name: str) -> None:
    """Delete a key of the user; it stops signing at once. Raises :class:`ApiError` 404."""
    if not (name.isascii() and name.isalnum()) or not await api_keys.delete(context.pool, user_id, name):
        raise ApiError(NOT_FOUND, "You have no such API key.", 404, field="apiKey")
    context.api_keys.changed(name)
    _log.info("api_key_deleted", user_id=user_id)


def _random_text() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
