"""Access tokens: the attacks of RFC 8725 fail, and secrets can be rotated without logging anybody out."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from rtx.api.auth.tokens import (
    ACCESS_TOKEN_LIFETIME_S,
    AccessTokens,
    ExpiredTokenError,
    InvalidTokenError,
)
from rtx.api.secrets_at_rest import key_id

SECRET = "a secret of more than sixty-four bytes, so that longer hashes take it too"
OTHER_SECRET = "another secret, and also long enough"
NOW_S = 1_800_000_000

CLAIMS: dict[str, Any] = {
    "iss": "rtx",
    "aud": "rtx-api",
    "sub": "1001",
    "role": "operator",
    "iat": NOW_S,
    "exp": NOW_S + 60,
    "jti": "one",
}


class Clock:
    """A clock that the test moves; Unix seconds."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> AccessTokens:
    return AccessTokens([SECRET], clock)


def forged(
    claims: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    secret: str = SECRET,
    algorithm: str = "HS256",
) -> str:
    return jwt.encode(
        {name: value for name, value in (CLAIMS | (claims or {})).items() if value is not None},
        secret,
        algorithm=algorithm,
        headers={"kid": key_id(SECRET), "typ": "at+jwt"} | (headers or {}),
    )


def test_a_token_says_who_calls(tokens: AccessTokens) -> None:
    claims = tokens.verify(tokens.issue(1001, "user"))

    assert (claims.user_id, claims.role, claims.expires_at_s) == (1001, "user", NOW_S + ACCESS_TOKEN_LIFETIME_S)


def test_a_token_is_good_until_its_last_second(tokens: AccessTokens, clock: Clock) -> None:
    token = tokens.issue(1001, "user")
    clock.now_s += ACCESS_TOKEN_LIFETIME_S - 1
    tokens.verify(token)
    clock.now_s += 1
    with pytest.raises(ExpiredTokenError):
        tokens.verify(token)


def test_both_secrets_are_good_while_one_is_rotated_and_the_new_one_signs(tokens: AccessTokens, clock: Clock) -> None:
    rotated = AccessTokens([OTHER_SECRET, SECRET], clock)
    finished = AccessTokens([OTHER_SECRET], clock)
    old = tokens.issue(1001, "user")

    assert rotated.verify(old).user_id == 1001
    assert finished.verify(rotated.issue(1002, "user")).user_id == 1002
    with pytest.raises(InvalidTokenError):
        finished.verify(old)


def test_the_forgeries_below_differ_from_a_good_token_in_one_thing_only(tokens: AccessTokens) -> None:
    assert tokens.verify(forged()).role == "operator"


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_no_claim_may_be_missing(tokens: AccessTokens, name: str) -> None:
    with pytest.raises(InvalidTokenError):
        tokens.verify(forged({name: None}))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(forged({"iss": "somebody"}), id="issuer"),
        pytest.param(forged({"aud": "another-service"}), id="audience"),
        pytest.param(forged({"sub": "root"}), id="subject"),
        pytest.param(forged({"exp": "tomorrow"}), id="expiry-type"),
        pytest.param(forged({"role": ["operator"]}), id="role-type"),
        pytest.param(forged(headers={"typ": "JWT"}), id="type"),
        pytest.param(forged(headers={"kid": key_id(OTHER_SECRET)}), id="unknown-key"),
        pytest.param(forged(secret=OTHER_SECRET), id="signature"),
        pytest.param(forged(algorithm="HS512"), id="algorithm"),
        pytest.param(forged()[:-2], id="cut"),
        pytest.param("", id="empty"),
        pytest.param("a.b", id="two-parts"),
        pytest.param("a.b.c", id="not-base64"),
        pytest.param("é.é.é", id="not-ascii"),
        pytest.param("x" * 100_000, id="long"),
    ],
)
def test_forgeries_fail(tokens: AccessTokens, token: str) -> None:
    with pytest.raises(InvalidTokenError):
        tokens.verify(token)


def test_an_unsigned_token_fails(tokens: AccessTokens) -> None:
    header = {"alg": "none", "typ": "at+jwt", "kid": key_id(SECRET)}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, CLAIMS)]
    with pytest.raises(InvalidTokenError):
        tokens.verify(".".join([*parts, ""]))


def test_weak_and_missing_secrets_are_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AccessTokens(["short"], clock)
    with pytest.raises(ValueError, match="at least one"):
        AccessTokens([], clock)
