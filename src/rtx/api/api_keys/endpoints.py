"""``/api/v1/api-keys``: the keys of the user whose access token it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rtx.api.api_keys import service
from rtx.api.auth.authentication import require_user
from rtx.api.auth.json_body import json_response, read_json_object
from rtx.api.context import context_of
from rtx.api.errors import MANDATORY_PARAM_EMPTY_OR_MALFORMED, ApiError
from rtx.store.api_keys import ApiKey

_MAXIMUM_LABEL_LENGTH = 64
_MAXIMUM_NETWORKS = 30


async def create(request: Request) -> Response:
    """``{label, permissions, ipAllow}`` → 201 with ``apiKey`` and ``secretKey``; the secret is shown this once."""
    user = await require_user(request)
    body = await read_json_object(request, "label", "permissions", "ipAllow")
    api_key, secret = await service.create(
        context_of(request),
        user.user_id,
        body.text("label", _MAXIMUM_LABEL_LENGTH),
        body.choices("permissions", service.PERMISSIONS),
        body.optional("ipAllow", lambda name: body.networks(name, _MAXIMUM_NETWORKS), []),
    )
    return json_response(_view(api_key) | {"secretKey": secret}, 201)


async def list_all(request: Request) -> Response:
    """All keys of the caller, without their secrets."""
    user = await require_user(request)
    return json_response([_view(api_key) for api_key in await service.list_of(context_of(request), user.user_id)])


async def delete(request: Request) -> Response:
    """Delete the key named by the path or by ``?apiKey=``."""
    user = await require_user(request)
    name = request.path_params.get("api_key") or request.query_params.get("apiKey")
    if not name:
        raise ApiError(
            MANDATORY_PARAM_EMPTY_OR_MALFORMED,
            "Name the key to delete: DELETE /api/v1/api-keys/{apiKey} or /api/v1/api-keys?apiKey={apiKey}.",
            field="apiKey",
        )
    await service.delete(context_of(request), user.user_id, name)
    return json_response({"apiKey": name})


def _view(api_key: ApiKey) -> dict[str, object]:
    """A key as its owner sees it; ``createdAt`` in Unix milliseconds."""
    return {
        "apiKey": api_key.api_key,
        "label": api_key.label,
        "permissions": list(api_key.permissions),
        "ipAllow": [
            str(network.network_address if network.num_addresses == 1 else network) for network in api_key.ip_allow
        ],
        "createdAt": api_key.created_at_us // 1000,
    }


ROUTES = [
    Route("/api/v1/api-keys", create, methods=["POST"]),
    Route("/api/v1/api-keys", list_all, methods=["GET"]),
    Route("/api/v1/api-keys", delete, methods=["DELETE"]),
    Route("/api/v1/api-keys/{api_key}", delete, methods=["DELETE"]),
]
