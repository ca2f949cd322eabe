"""``/api/v1/proofs``: for each party of a trade the proof of it, and for everybody the key that it is signed under."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rtx.api import errors
from rtx.api.auth.authentication import require_user
from rtx.api.auth.json_body import json_response
from rtx.api.context import context_of
from rtx.api.errors import ApiError
from rtx.api.proofs import service


async def trade(request: Request) -> Response:
    """``?symbol=``: the signed journal rows of a trade that the caller had a part in; 404 for any other."""
    user = await require_user(request)
    symbol = request.query_params.get("symbol")
    if not symbol:
        raise errors.mandatory_parameter("symbol")
    context = context_of(request)
    market = await context.markets.find(symbol)
    proof = await service.prove_trade(context, user.user_id, market, request.path_params["trade_id"])
    if proof is None:
        raise ApiError(errors.NOT_FOUND, "Trade does not exist.", 404)
    return json_response(proof)


async def key(request: Request) -> Response:
    """The public key, and while a secret is being rotated the one before."""
    current, *previous = service.public_keys(context_of(request))
    return json_response({"algorithm": "Ed25519", "publicKey": current, "previousPublicKeys": previous})


ROUTES = [
    Route("/api/v1/proofs/trades/{trade_id:int}", trade, methods=["GET"]),
    Route("/api/v1/proofs/key", key, methods=["GET"]),
]
