"""Finds out, for an endpoint, whose access token a request carries."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from rtx.api.auth import errors
from rtx.api.auth.tokens import AccessClaims, ExpiredTokenError, InvalidTokenError
from rtx.api.context import context_of
from rtx.store.users import User


def authenticate(connection: HTTPConnection) -> AccessClaims:
    """Check the bearer token of a request (RFC 6750) without asking the database; raises ``ApiError`` 401."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.missing_access_token()
    try:
        return context_of(connection).auth.tokens.verify(token.strip())
    except ExpiredTokenError:
        raise errors.expired_access_token() from None
    except InvalidTokenError:
        raise errors.invalid_access_token() from None


async def require_user(connection: HTTPConnection) -> User:
    """Give the user who calls, looked up afresh; raises ``ApiError`` 401."""
    return await context_of(connection).auth.active_user(authenticate(connection))


async def require_operator(connection: HTTPConnection) -> User:
    """Give the operator who calls, looked up afresh; raises ``ApiError`` 401, or 403 for everybody else."""
    return await context_of(connection).auth.operator(authenticate(connection))
