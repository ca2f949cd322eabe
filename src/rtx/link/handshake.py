"""How API worker and engine prove to each other that they share the cluster's secret.

Each end sends a nonce and answers the other's with an HMAC under a key derived from the secret; the role in the message
keeps one end's proof from being played back as the other's. Each end says its version, and both speak the older of the
two; versions further apart than one do not talk to each other, and both ends say so.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rtx.link.messages import PROTOCOL_VERSION

NONCE_BYTES: Final = 32
WORKER_NAME_BYTES: Final = 16
"""The other half of a worker's nonce is enough that none comes twice."""

OLDEST_PROTOCOL_VERSION: Final = max(1, PROTOCOL_VERSION - 1)
HANDSHAKE_TIMEOUT_S: Final = 5.0
HANDSHAKE_FRAME_BYTES_MAX: Final = 1_024
"""Nobody who has not proved anything gets to fill the memory."""


class HandshakeError(Exception):
    """The other end does not know the secret or speaks another version; the connection is to be closed."""


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """First frame of the engine."""

    version: int
    nonce: bytes


class Proof(msgspec.Struct, frozen=True, array_like=True):
    """First frame of the API worker, and the engine's answer (which needs no nonce)."""

    version: int
    nonce: bytes
    mac: bytes


def derive_key(cluster_secret: str) -> bytes:
    """The key of the link (32 bytes) from ``JWT_SECRET``."""
    return HKDF(SHA256(), 32, salt=None, info=b"rtx link").derive(cluster_secret.encode())


def new_worker_name() -> bytes:
    """What the nonces of all connections of one worker begin with, so that the engine knows them for the same one's."""
    return secrets.token_bytes(WORKER_NAME_BYTES)


def new_nonce(worker_name: bytes = b"") -> bytes:
    """Random bytes, after the name of the worker where a worker sends it."""
    return worker_name + secrets.token_bytes(NONCE_BYTES - len(worker_name))


def worker_name(nonce: bytes) -> bytes:
    """The name in a worker's nonce; of a worker that gives none, bytes that no other has."""
    return nonce[:WORKER_NAME_BYTES]


def proof(key: bytes, role: bytes, engine_nonce: bytes, worker_nonce: bytes) -> bytes:
    """What ``role`` (b"engine" or b"worker") sends to show that it has the key."""
    return hmac.digest(key, role + engine_nonce + worker_nonce, "sha256")


def check_nonce(nonce: bytes) -> None:
    """Raise :class:`HandshakeError` unless the other end's nonce has the length that it must have."""
    if len(nonce) != NONCE_BYTES:
        raise HandshakeError(f"the other end sent a nonce of {len(nonce)} bytes")


def common_version(other: int) -> int:
    """The version that both ends speak, of which the other one said ``other``; raises :class:`HandshakeError`."""
    if other < OLDEST_PROTOCOL_VERSION:
        raise HandshakeError(f"{_versions(other)}: the other end's program is too old, and is to be updated first")
    if other > PROTOCOL_VERSION + 1:
        raise HandshakeError(f"{_versions(other)}: this program is too old, and is to be updated first")
    return min(other, PROTOCOL_VERSION)


def _versions(other: int) -> str:
    return f"the other end speaks version {other} of the link, this one {OLDEST_PROTOCOL_VERSION} to {PROTOCOL_VERSION}"


def check_proof(key: bytes, role: bytes, engine_nonce: bytes, worker_nonce: bytes, received: Proof) -> None:
    """Raise :class:`HandshakeError` unless ``received`` proves the key."""
    if not hmac.compare_digest(received.mac, proof(key, role, engine_nonce, worker_nonce)):
        raise HandshakeError("the other end does not have this cluster's secret (is JWT_SECRET the same everywhere?)")
