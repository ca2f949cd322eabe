"""Access tokens: JSON Web Tokens that say who calls, checked without a look into the database.

The rules are those of RFC 8725 (one fixed algorithm, a type of their own, issuer, audience and expiry required) and the
type that of RFC 9068. The header names the key, so that while the secret is rotated tokens of both secrets are good.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from rtx.api.secrets_at_rest import key_id

ACCESS_TOKEN_LIFETIME_S: Final = 15 * 60

MINIMUM_SECRET_BYTES: Final = 32
"""RFC 7518, section 3.2: a key for HS256 has at least as many bits as the hash."""

_ALGORITHM: Final = "HS256"
_TYPE: Final = "at+jwt"
_ISSUER: Final = "rtx"
_AUDIENCE: Final = "rtx-api"
_MAXIMUM_TOKEN_LENGTH: Final = 2048
_REQUIRED_CLAIMS: Final = ["iss", "aud", "sub", "iat", "exp", "jti", "role"]


class InvalidTokenError(Exception):
    """The token is not one of ours, was changed, or is of a secret that is gone."""


class ExpiredTokenError(InvalidTokenError):
    """The token was good and its time is over."""


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """Whom an access token speaks for; ``expires_at_s`` in Unix seconds."""

    user_id: int
    role: str
    expires_at_s: int


class AccessTokens:
    """Issues and checks access tokens.

    ``signing_secrets``: the first signs, all of them are accepted. ``now_s`` gives Unix seconds.
    Raises ``ValueError`` for a secret shorter than 32 bytes, or when there is none.
    """

    def __init__(self, signing_secrets: Sequence[str], now_s: Callable[[], int]) -> None:
        if not signing_secrets:
            raise ValueError("access tokens need at least one secret")
        if any(len(secret.encode()) < MINIMUM_SECRET_BYTES for secret in signing_secrets):
            raise ValueError(f"a secret for access tokens needs at least {MINIMUM_SECRET_BYTES} bytes")
        self._secrets = {key_id(secret): secret for secret in signing_secrets}
        self._signing_key_id = key_id(signing_secrets[0])
        self._now_s = now_s

    def issue(self, user_id: int, role: str) -> str:
        """Make a token for a user that is good for :data:`ACCESS_TOKEN_LIFETIME_S` seconds."""
        now_s = self._now_s()
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(user_id),
            "role": role,
            "iat": now_s,
            "exp": now_s + ACCESS_TOKEN_LIFETIME_S,
            "jti": secrets.token_urlsafe(12),
        }
        headers = {"kid": self._signing_key_id, "typ": _TYPE}
        return jwt.encode(claims, self._secrets[self._signing_key_id], algorithm=_ALGORITHM, headers=headers)

    def verify(self, token: str) -> AccessClaims:
        """Check a token; raises :class:`ExpiredTokenError` or, for every other fault, :class:`InvalidTokenError`."""
        if len(token) > _MAXIMUM_TOKEN_LENGTH:
            raise InvalidTokenError
        try:
            claims = self._decode(token)
            user_id, role, expires_at_s = int(claims["sub"]), claims["role"], claims["exp"]
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise InvalidTokenError from error
        if not isinstance(role, str) or not isinstance(expires_at_s, int):
            raise InvalidTokenError
        if expires_at_s <= self._now_s():
            raise ExpiredTokenError
        return AccessClaims(user_id, role, expires_at_s)

    def _decode(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        secret = self._secrets.get(header.get("kid", ""))
        if secret is None or header.get("typ") != _TYPE:
            raise InvalidTokenError
        # Expiry is judged by the caller with the application's own clock, after the signature was found good.
        return jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            audience=_AUDIENCE,
            options={"require": _REQUIRED_CLAIMS, "verify_exp": False, "verify_iat": False},
        )
