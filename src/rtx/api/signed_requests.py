"""Who sends a signed request, and whether it is theirs, whole and recent (rest-api.md, "Request Security")."""

from __future__ import annotations

import hmac
import re
from typing import Final

from rtx.api import errors
from rtx.api.api_key_cache import ApiKey
from rtx.api.context import ApiContext
from rtx.api.errors import ApiError
from rtx.api.requests import Permission

API_KEY_LENGTH: Final = 64
SECRET_KEY_LENGTH: Final = 64

_FIRST_MICROSECOND_TIMESTAMP: Final = 10**14
"""Timestamps from here on are microseconds: as milliseconds this would be the year 5138."""

_is_api_key = re.compile(rb"[A-Za-z0-9]{64}").fullmatch
_is_signature = re.compile(r"[0-9A-Fa-f]{64}").fullmatch
_is_timestamp = re.compile(r"[0-9]{1,19}", re.ASCII).fullmatch
_is_receive_window = re.compile(r"[0-9]{1,10}(\.[0-9]{1,3})?", re.ASCII).fullmatch


async def find_key(context: ApiContext, permission: Permission, api_key_header: bytes | None, address: str) -> ApiKey:
    """Find a key that may do what needs ``permission`` from ``address``; raises -2014 and -2015."""
    key = await context.api_keys.find(api_key_name(api_key_header))
    if key is None:
        raise errors.rejected_api_key()
    check_key(key, permission, address)
    return key


def api_key_name(api_key_header: bytes | None) -> str:
    """Read the ``X-MBX-APIKEY`` header; raises -2014 for what cannot be a key."""
    if api_key_header is None or not _is_api_key(api_key_header):
        raise errors.bad_api_key_format()
    return api_key_header.decode("ascii")


def check_key(key: ApiKey, permission: Permission, address: str) -> None:
    """Refuse what the key does not allow (-2015)."""
    if permission not in key.permissions or not key.allows_address(address):
        raise errors.rejected_api_key()


def check_signed(context: ApiContext, key: ApiKey, query: bytes, body: bytes, parameters: dict[str, str]) -> None:
    """Check signature and time of a request; raises -1102, -1022, -1021.

    ``parameters`` are those of ``query`` and ``body``, which are signed as they were sent.
    """
    signature = parameters.get("signature")
    if not signature:
        raise errors.mandatory_parameter("signature")
    check_signature(key, signed_payload(query) + signed_payload(body), signature)
    check_timestamp(context, parameters)


def check_signature(key: ApiKey, payload: bytes, signature: str) -> None:
    """Compare the HMAC-SHA256 of the payload, in constant time; the hexadecimal digits may be of either case."""
    if not _is_signature(signature) or not hmac.compare_digest(
        hmac.digest(key.secret, payload, "sha256"), bytes.fromhex(signature)
    ):
        raise errors.invalid_signature()


def signed_payload(form: bytes) -> bytes:
    """Give a query string or form body as it was signed: without its ``signature``."""
    position = form.rfind(b"&signature=")
    if position >= 0:
        end = form.find(b"&", position + 1)
        return form[:position] if end < 0 else form[:position] + form[end:]
    if form.startswith(b"signature="):
        return form.partition(b"&")[2]
    return form


def check_timestamp(context: ApiContext, parameters: dict[str, str]) -> None:
    """Refuse what is older than its ``recvWindow`` or more than a second ahead; raises -1102, -1131, -1021."""
    text = parameters.get("timestamp")
    if not text or not _is_timestamp(text):
        raise errors.mandatory_parameter("timestamp")
    timestamp = int(text)
    timestamp_us = timestamp if timestamp >= _FIRST_MICROSECOND_TIMESTAMP else timestamp * 1000
    age_us = context.clock_us() - timestamp_us
    if age_us <= -1_000_000:
        raise errors.invalid_timestamp(ahead=True)
    if age_us > _receive_window_us(context, parameters.get("recvWindow")):
        raise errors.invalid_timestamp(ahead=False)


def _receive_window_us(context: ApiContext, text: str | None) -> int:
    settings = context.settings
    if text is None:
        return settings.receive_window_default_ms * 1000
    if not text:
        raise errors.empty_parameter("recvWindow")
    if not _is_receive_window(text):
        raise errors.illegal_characters("recvWindow", r"^[0-9]{1,10}(\.[0-9]{1,3})?$")
    whole, _, fraction = text.partition(".")
    window_us = int(whole) * 1000 + int(fraction.ljust(3, "0"))
    if window_us > settings.receive_window_max_ms * 1000:
        raise ApiError(
            errors.BAD_RECV_WINDOW, f"recvWindow must be less than or equal to {settings.receive_window_max_ms}."
        )
    return window_us
