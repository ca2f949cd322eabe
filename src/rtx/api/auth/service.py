"""Registration, login and sessions.

A session is a family of refresh tokens: each is good for one use and is replaced by the next, and using one a second
time ends the session, because then two parties hold it. Only digests of refresh tokens are stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis

from rtx.api.auth import errors
from rtx.api.auth.json_body import refuse
from rtx.api.auth.login_throttle import LoginThrottle, TooManyLoginsError
from rtx.api.auth.passwords import HashingBusyError, PasswordHashing, PasswordNotAcceptedError, needs_rehash
from rtx.api.auth.tokens import ACCESS_TOKEN_LIFETIME_S, AccessClaims, AccessTokens
from rtx.api.errors import overloaded
from rtx.store import refresh_tokens, users
from rtx.store.connection import Database
from rtx.store.errors import EmailTakenError, RefreshTokenInvalidError, RefreshTokenReusedError

REFRESH_TOKEN_LIFETIME_S: Final = 30 * 24 * 3600

MAXIMUM_EMAIL_LENGTH: Final = 254
"""RFC 5321, section 4.5.3.1.3, without the angle brackets."""

OPERATOR: Final = "operator"

_EMAIL: Final = re.compile(
    r"[^\s@\"(),:;<>\[\\\]]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])",
    re.IGNORECASE | re.ASCII,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What a login or a refresh gives; ``expires_in_s`` is the access token's lifetime."""

    access_token: str
    refresh_token: str
    expires_in_s: int = ACCESS_TOKEN_LIFETIME_S


class Authentication:
    """One worker's part in knowing who calls.

    ``jwt_secrets``: the current one first. ``now_s``: Unix seconds. Without ``redis`` failed logins are counted by each
    worker for itself.
    """

    def __init__(
        self, database: Database, redis: Redis | None, jwt_secrets: Sequence[str], now_s: Callable[[], int]
    ) -> None:
        self.tokens = AccessTokens(jwt_secrets, now_s)
        self._database = database
        self._hashing = PasswordHashing()
        self._throttle = LoginThrottle(redis, time.monotonic)

    def close(self) -> None:
        """Let go of the threads that hash passwords."""
        self._hashing.close()

    async def register(self, email: str, password: str) -> int:
        """Create a user and return the id; raises :class:`ApiError` 400, 409 or 503."""
        if len(email) > MAXIMUM_EMAIL_LENGTH or _EMAIL.fullmatch(email) is None:
            refuse("email", "must be an e-mail address such as name@example.com")
        try:
            password_hash = await self._hashing.hash(password)
        except PasswordNotAcceptedError as error:
            refuse("password", str(error))
        except HashingBusyError:
            raise overloaded() from None
        try:
            user_id = await users.create(self._database, email, password_hash)
        except EmailTakenError:
            raise errors.email_taken() from None
        _log.info("user_registered", user_id=user_id)
        return user_id

    async def login(self, email: str, password: str, address: str) -> Session:
        """Begin a session for a caller at a network address; raises :class:`ApiError` 401, 429 or 503."""
        try:
            await self._throttle.begin(email, address)
        except TooManyLoginsError as error:
            _log.warning("login_throttled", address=address)
            raise errors.too_many_logins(error.retry_after_s) from None
        user = await users.by_email(self._database, email)
        if not await self._verified(password, user) or user is None or user.disabled:
            _log.warning("login_failed", address=address, user_id=user.user_id if user else None)
            raise errors.wrong_login()
        await self._throttle.succeeded(email, address)
        if needs_rehash(user.password_hash):
            await self._hash_anew(user.user_id, password)
        refresh_token = _new_refresh_token()
        await refresh_tokens.issue(self._database, _digest(refresh_token), user.user_id, ttl_s=REFRESH_TOKEN_LIFETIME_S)
        _log.info("login", user_id=user.user_id)
        return Session(self.tokens.issue(user.user_id, user.role), refresh_token)

    async def refresh(self, refresh_token: str) -> Session:
        """Exchange a refresh token for a new pair; raises :class:`ApiError` 401, and a second use ends the session."""
        next_token = _new_refresh_token()
        try:
            user_id = await refresh_tokens.rotate(
                self._database, _digest(refresh_token), _digest(next_token), ttl_s=REFRESH_TOKEN_LIFETIME_S
            )
        except RefreshTokenReusedError:
            _log.warning("refresh_token_reused")
            raise errors.invalid_refresh_token() from None
        except RefreshTokenInvalidError:
            raise errors.invalid_refresh_token() from None
        user = await users.by_id(self._database, user_id)
        if user is None or user.disabled:
            raise errors.invalid_refresh_token()
        return Session(self.tokens.issue(user_id, user.role), next_token)

    async def logout(self, refresh_token: str) -> None:
        """End the session of a refresh token; one that is unknown or over is left as it is."""
        await refresh_tokens.revoke(self._database, _digest(refresh_token))

    async def active_user(self, claims: AccessClaims) -> users.User:
        """Give the user of an access token as of now; raises :class:`ApiError` 401 when disabled or gone."""
        user = await users.by_id(self._database, claims.user_id)
        if user is None or user.disabled:
            raise errors.invalid_access_token()
        return user

    async def operator(self, claims: AccessClaims) -> users.User:
        """Give the operator of an access token as of now; raises :class:`ApiError` 401 or 403."""
        user = await self.active_user(claims)
        if user.role != OPERATOR or claims.role != OPERATOR:
            raise errors.not_permitted()
        return user

    async def _hash_anew(self, user_id: int, password: str) -> None:
        """Store the password as it is hashed today; a login does not depend on it."""
        with contextlib.suppress(HashingBusyError, PasswordNotAcceptedError):
            await users.set_password_hash(self._database, user_id, await self._hashing.hash(password))

    async def _verified(self, password: str, user: users.User | None) -> bool:
        try:
            return await self._hashing.verify(password, user.password_hash if user is not None else None)
        except HashingBusyError:
            raise overloaded() from None


def _new_refresh_token() -> str:
    return secrets.token_urlsafe(32)


def _digest(refresh_token: str) -> bytes:
    """What is stored of a refresh token: 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(refresh_token.encode(errors="surrogatepass")).digest()
