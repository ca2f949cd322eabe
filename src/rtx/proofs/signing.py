"""The key under which the exchange signs proofs: derived from its secret, so that every replica has the same."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rtx.proofs.document import Proof, Statement, signed_bytes


class ProofKey:
    """Signs statements (Ed25519, RFC 8032)."""

    def __init__(self, cluster_secret: str) -> None:
        """``cluster_secret``: a ``JWT_SECRET``; the key comes from it by HKDF-SHA256 (RFC 5869)."""
        seed = HKDF(SHA256(), 32, salt=None, info=b"rtx proofs").derive(cluster_secret.encode())
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw().hex()
        """32 bytes in hexadecimal."""

    def sign(self, statement: Statement) -> Proof:
        """Sign a statement that names this key."""
        return Proof(statement, self._key.sign(signed_bytes(statement)).hex())


def is_signed(proof: Proof) -> bool:
    """Whether the statement is signed under the key that it names."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(proof.statement.public_key))
    try:
        key.verify(bytes.fromhex(proof.signature), signed_bytes(proof.statement))
    except InvalidSignature:
        return False
    return True
