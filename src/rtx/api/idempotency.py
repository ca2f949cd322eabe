"""Sent twice means done once: the ``Idempotency-Key`` header, for any request that changes something.

The key becomes the id of the command, which is unique in the journal. A repetition finds its command there and is
answered from it; that the request is the same one is told by a hash of everything in it but its signature and time.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import Final

from rtx.api import errors
from rtx.api.errors import ApiError
from rtx.api.requests import SIGNATURE_PARAMETERS, BinanceRequest

HEADER: Final = b"idempotency-key"

_is_key = re.compile(rb"[\x21-\x7e]{1,255}").fullmatch


def command_id_of(request: BinanceRequest) -> bytes | None:
    """Give the 16-byte id that the request's idempotency key stands for, or None without one; raises -1130."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _is_key(key):
        raise ApiError(
            errors.INVALID_PARAMETER, "Idempotency-Key is not valid; it is 1 to 255 printable ASCII characters."
        )
    digest = hashlib.sha256(b"idempotency\x00" + request.account_id.to_bytes(8, "big") + key)
    return digest.digest()[:16]


def request_hash_of(request: BinanceRequest) -> bytes:
    """Give the SHA-256 of what the request asks for: its endpoint and its parameters, in any order."""
    digest = hashlib.sha256()
    route = request.route
    parts = [route.method, route.path]
    for name in sorted(request.parameters.keys() - SIGNATURE_PARAMETERS):
        parts += (name, request.parameters[name])
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.digest()


def client_order_id(command_id: bytes | None) -> str:
    """Make a client order id of 22 characters: at random, or always the same one for a command id."""
    return base64.urlsafe_b64encode(command_id or os.urandom(16))[:22].decode("ascii")
