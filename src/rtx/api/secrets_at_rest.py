"""API secrets in the database are encrypted, so that a stolen dump signs nothing.

HMAC needs the secret itself, so it cannot be hashed as passwords are. It is kept under AES-256-GCM with a key derived
(HKDF-SHA256, RFC 5869) from ``JWT_SECRET``. Every ciphertext names the key it was made with; while a secret is being
rotated, both keys are there, and what the older one made can still be read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES: Final = 12


class UndecryptableSecretError(Exception):
    """A stored secret was made under a key that is not here any more, or is not what was stored."""


def key_id(secret: str) -> str:
    """Name a ``JWT_SECRET`` without telling it: the same in token headers and beside ciphertexts."""
    return hashlib.sha256(b"rtx secret id\x00" + secret.encode()).hexdigest()[:16]


def derive_key(secret: str, purpose: str) -> bytes:
    """Derive a 32-byte key for one purpose (HKDF-SHA256, the purpose as info)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret.encode())


class SecretBox:
    """Encrypts with the first of its secrets and decrypts with any of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """``secrets`` are the valid ``JWT_SECRET`` values, the current one first."""
        if not secrets:
            raise ValueError("at least one secret is needed")
        self.current_key_id = key_id(secrets[0])
        self._keys = {key_id(secret): AESGCM(derive_key(secret, "rtx api secrets")) for secret in secrets}

    def encrypt(self, plaintext: bytes, owner: str) -> tuple[str, bytes]:
        """Encrypt for ``owner`` (the API key the secret belongs to); returns the key's id and the ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._keys[self.current_key_id].encrypt(nonce, plaintext, owner.encode())
        return self.current_key_id, nonce + ciphertext

    def decrypt(self, encryption_key_id: str, ciphertext: bytes, owner: str) -> bytes:
        """Decrypt what :meth:`encrypt` made for the same owner; raises :class:`UndecryptableSecretError`."""
        key = self._keys.get(encryption_key_id)
        if key is None:
            raise UndecryptableSecretError(f"no secret with id {encryption_key_id} is configured")
        try:
            return key.decrypt(ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError) as error:
            raise UndecryptableSecretError(f"the secret of {owner[:8]}… is not what was stored for it") from error
