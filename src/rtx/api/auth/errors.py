"""The refusals of registration, login and access tokens."""

from __future__ import annotations

from typing import Final

from rtx.api.errors import TOO_MANY_REQUESTS, UNAUTHORIZED, ApiError

EMAIL_TAKEN: Final = -9010
WRONG_LOGIN: Final = -9011
INVALID_REFRESH_TOKEN: Final = -9012
NOT_PERMITTED: Final = -9013


def email_taken() -> ApiError:
    """Somebody registered with this e-mail address before."""
    return ApiError(EMAIL_TAKEN, "This e-mail address is already registered.", 409, field="email")


def wrong_login() -> ApiError:
    """No such user, wrong password or disabled user: the answer does not tell which."""
    return ApiError(WRONG_LOGIN, "E-mail address or password is wrong.", 401)


def too_many_logins(retry_after_s: int) -> ApiError:
    """Too many failed logins of this e-mail address or from this network address."""
    return ApiError(
        TOO_MANY_REQUESTS,
        f"Too many failed logins; try again in {retry_after_s} seconds.",
        429,
        headers={"Retry-After": str(retry_after_s)},
    )


def invalid_refresh_token() -> ApiError:
    """The refresh token is unknown, expired, used before or revoked."""
    return ApiError(
        INVALID_REFRESH_TOKEN, "The refresh token is not valid any more; log in again.", 401, field="refreshToken"
    )


def missing_access_token() -> ApiError:
    """The request carries no access token."""
    return _unauthorized("This needs an access token: send the header Authorization: Bearer <accessToken>.", "")


def invalid_access_token() -> ApiError:
    """The access token is not one of ours, or its user is disabled."""
    return _unauthorized("The access token is not valid; log in again.", ' error="invalid_token"')


def expired_access_token() -> ApiError:
    """The access token was good until its time was over."""
    return _unauthorized(
        "The access token has expired; get another from POST /api/v1/auth/refresh.", ' error="invalid_token"'
    )


def not_permitted() -> ApiError:
    """The caller is known and may not do this."""
    return ApiError(NOT_PERMITTED, "This is for operators; the access token belongs to a user who is none.", 403)


def _unauthorized(message: str, challenge: str) -> ApiError:
    """401 with the challenge of RFC 6750, section 3."""
    return ApiError(UNAUTHORIZED, message, 401, headers={"WWW-Authenticate": "Bearer" + challenge})
