"""Whose account a request with a JSON body is about: that of its API key, or that of its access token.

A request with an API key is signed like every other: the signature covers the query string and the body joined, so a
body is signed byte by byte as it is sent, whatever its form.
"""

from __future__ import annotations

from starlette.requests import Request

from rtx.api import errors
from rtx.api.auth.authentication import require_user
from rtx.api.context import client_address, context_of
from rtx.api.requests import SIGNATURE_PARAMETERS, Permission, parse_parameters
from rtx.api.signed_requests import check_signature, check_timestamp, find_key, signed_payload


async def require_account(request: Request, permission: Permission, body: bytes = b"") -> int:
    """Give the account whose owner calls, or a program of theirs that has ``permission``; raises ``ApiError``."""
    api_key = request.headers.get("x-mbx-apikey")
    if api_key is None:
        return (await require_user(request)).user_id
    context = context_of(request)
    address = client_address(
        request.scope.get("client"), request.headers.get("x-forwarded-for", ""), context.settings.trusted_proxies
    )
    key = await find_key(context, permission, api_key.encode("latin-1"), address)
    query = request.scope["query_string"]
    parameters = parse_parameters(query, b"")
    signature = parameters.get("signature")
    if not signature:
        raise errors.mandatory_parameter("signature")
    check_signature(key, signed_payload(query) + body, signature)
    check_timestamp(context, parameters)
    if not parameters.keys() <= SIGNATURE_PARAMETERS:
        raise errors.unread_parameters(len(parameters.keys() & SIGNATURE_PARAMETERS), len(parameters))
    return key.account_id
