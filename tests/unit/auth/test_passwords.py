"""What keeps passwords safe, and what keeps hashing from stopping everything else."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rtx.api.auth import passwords
from rtx.api.auth.passwords import (
    HashingBusyError,
    PasswordHashing,
    PasswordNotAcceptedError,
    hash_password,
    needs_rehash,
    verify_password,
)

PASSWORD = "correct horse battery staple"


def test_a_hash_verifies_its_own_password_and_no_other() -> None:
    stored = hash_password(PASSWORD)

    assert stored.startswith("$argon2id$")
    assert verify_password(PASSWORD, stored)
    assert not verify_password(PASSWORD + " ", stored)
    assert not needs_rehash(stored)


def test_the_same_password_is_never_stored_alike() -> None:
    assert hash_password(PASSWORD) != hash_password(PASSWORD)


def test_an_unknown_user_never_verifies_not_even_with_the_password_of_the_stand_in() -> None:
    assert not verify_password("a password that nobody has", None)


def test_a_damaged_hash_does_not_verify() -> None:
    assert not verify_password(PASSWORD, "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$AAAA")


def test_a_longer_password_does_not_pass_for_its_beginning() -> None:
    longest = "x" * passwords.MAXIMUM_PASSWORD_LENGTH
    stored = hash_password(longest)

    assert verify_password(longest, stored)
    assert not verify_password(longest + "y", stored)


def test_a_password_that_is_no_valid_text_is_only_wrong() -> None:
    assert not verify_password("lonely \ud800 surrogate", hash_password(PASSWORD))


@pytest.mark.parametrize("password", ["", "seven77", "x" * 1025, "lonely \ud800 surrogate"])
def test_passwords_that_cannot_be_used_are_named(password: str) -> None:
    with pytest.raises(PasswordNotAcceptedError, match="must"):
        hash_password(password)


def test_hashes_of_weaker_settings_are_made_anew() -> None:
    assert needs_rehash("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$Y9jr5Nna3wxrIMrOsAQnBQ")


async def test_hashing_runs_beside_the_event_loop_and_refuses_what_would_queue_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    monkeypatch.setattr(passwords, "verify_password", lambda password, stored: release.wait(30))
    hashing = PasswordHashing(threads=1, waiting_max=1)
    try:
        calls = [asyncio.create_task(hashing.verify(PASSWORD, None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HashingBusyError):
            await hashing.verify(PASSWORD, None)
        release.set()
        assert await asyncio.gather(*calls) == [True, True]
        assert await hashing.verify(PASSWORD, None)
    finally:
        release.set()
        hashing.close()
