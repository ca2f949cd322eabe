"""Passwords: what is accepted, how it is stored, and hashing that never stops the event loop.

The command line creates operators with the same functions, so nothing here knows of the HTTP application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2

Result = TypeVar("Result")

MINIMUM_PASSWORD_LENGTH: Final = 8
MAXIMUM_PASSWORD_LENGTH: Final = 1024
"""In characters; the upper bound keeps a request from buying unbounded work."""

# One of the equivalent settings of OWASP's Password Storage Cheat Sheet for Argon2id: 19 MiB, two passes, one lane.
_hasher: Final = argon2.PasswordHasher(
    time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16, type=argon2.Type.ID
)

_UNKNOWN_USER_HASH: Final = _hasher.hash("a password that nobody has")
"""Verified against when there is no such user, so that the time of the answer does not tell."""


class PasswordNotAcceptedError(ValueError):
    """The password cannot be used; the message says what would be right."""


class HashingBusyError(Exception):
    """More passwords wait to be hashed than may wait; the caller should try again shortly."""


def check_password(password: str) -> None:
    """Raise :class:`PasswordNotAcceptedError` when a new password is too short, too long or not encodable text."""
    if not MINIMUM_PASSWORD_LENGTH <= len(password) <= MAXIMUM_PASSWORD_LENGTH:
        raise PasswordNotAcceptedError(
            f"must have {MINIMUM_PASSWORD_LENGTH} to {MAXIMUM_PASSWORD_LENGTH} characters, has {len(password)}"
        )
    if any("\ud800" <= character <= "\udfff" for character in password):
        raise PasswordNotAcceptedError("must be valid Unicode text, has half of a surrogate pair")


def hash_password(password: str) -> str:
    """Return the Argon2id hash of an acceptable password in PHC string format.

    Takes some 25 ms of processor time and 19 MiB. Raises :class:`PasswordNotAcceptedError`.
    """
    check_password(password)
    return _hasher.hash(password)


def verify_password(password: str, password_hash: str | None) -> bool:
    """Say whether the password belongs to the hash; ``None`` (no such user) takes as long and is false."""
    # A surrogate is in no stored password; it only must not end the comparison earlier than any other wrong one.
    encoded = password[:MAXIMUM_PASSWORD_LENGTH].encode(errors="surrogatepass")
    try:
        _hasher.verify(password_hash or _UNKNOWN_USER_HASH, encoded)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return password_hash is not None and len(password) <= MAXIMUM_PASSWORD_LENGTH


def needs_rehash(password_hash: str) -> bool:
    """Say whether a stored hash was made with other settings than today's."""
    return _hasher.check_needs_rehash(password_hash)


class PasswordHashing:
    """The functions above on a few threads, for callers on an event loop.

    ``threads`` bounds the processor time and memory that logins may take from everything else; of the calls beyond,
    ``waiting_max`` wait and all others get :class:`HashingBusyError` at once.
    """

    def __init__(self, threads: int = 2, waiting_max: int = 64) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password-hashing")
        self._admitted = 0
        self._admitted_max = threads + waiting_max

    async def hash(self, password: str) -> str:
        """As :func:`hash_password`; raises :class:`HashingBusyError`."""
        return await self._run(hash_password, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """As :func:`verify_password`; raises :class:`HashingBusyError`."""
        return await self._run(verify_password, password, password_hash)

    def close(self) -> None:
        """Let go of the threads; calls that wait are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        if self._admitted >= self._admitted_max:
            raise HashingBusyError
        self._admitted += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        finally:
            self._admitted -= 1
