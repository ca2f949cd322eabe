"""Secrets are unreadable at rest, and readable under the secrets that are configured."""

from __future__ import annotations

import pytest

from rtx.api.secrets_at_rest import SecretBox, UndecryptableSecretError, derive_key, key_id

OLD, NEW = "the old secret", "the new secret"


def test_a_secret_comes_back_and_does_not_show() -> None:
    box = SecretBox([NEW])
    encryption_key_id, ciphertext = box.encrypt(b"signing secret", "owner")
    assert b"signing" not in ciphertext
    assert box.decrypt(encryption_key_id, ciphertext, "owner") == b"signing secret"
    assert box.encrypt(b"signing secret", "owner")[1] != ciphertext


def test_what_the_older_secret_made_is_read_while_both_are_configured() -> None:
    encryption_key_id, ciphertext = SecretBox([OLD]).encrypt(b"signing secret", "owner")
    rotating = SecretBox([NEW, OLD])
    assert rotating.decrypt(encryption_key_id, ciphertext, "owner") == b"signing secret"
    assert rotating.encrypt(b"x", "owner")[0] == key_id(NEW) != encryption_key_id
    with pytest.raises(UndecryptableSecretError, match=encryption_key_id):
        SecretBox([NEW]).decrypt(encryption_key_id, ciphertext, "owner")


@pytest.mark.parametrize("position", [0, 12, -1])
def test_a_changed_or_moved_ciphertext_is_refused(position: int) -> None:
    box = SecretBox([NEW])
    encryption_key_id, ciphertext = box.encrypt(b"signing secret", "owner")
    changed = bytearray(ciphertext)
    changed[position] ^= 1
    for stored, owner in ((bytes(changed), "owner"), (ciphertext, "another"), (ciphertext[:5], "owner")):
        with pytest.raises(UndecryptableSecretError):
            box.decrypt(encryption_key_id, stored, owner)


def test_keys_differ_by_secret_and_purpose_and_ids_tell_neither() -> None:
    keys = {derive_key(secret, purpose) for secret in (OLD, NEW) for purpose in ("one", "two")}
    assert len(keys) == 4
    assert key_id(OLD) != key_id(NEW)
    assert OLD not in key_id(OLD)


def test_a_box_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        SecretBox([])
