"""``/api/v1/admin``: for access tokens of operators only."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rtx.api.admin import markets, reconciliation, transfers
from rtx.api.admin.market_definition import FILTER_NAMES
from rtx.api.auth.authentication import require_operator
from rtx.api.auth.json_body import json_response, read_json_object
from rtx.api.context import context_of, request_id_of


async def deposit(request: Request) -> Response:
    """``{userId, asset, amount, reference}``: credit a user."""
    return await _transfer(request, "deposit")


async def withdraw(request: Request) -> Response:
    """``{userId, asset, amount, reference}``: debit a user's available balance."""
    return await _transfer(request, "withdrawal")


async def create_asset(request: Request) -> Response:
    """``{symbol, precision}``: introduce an asset."""
    await require_operator(request)
    body = await read_json_object(request, *markets.ASSET_MEMBERS)
    return json_response(await markets.create_asset(context_of(request), body, request_id_of(request)), 201)


async def create_market(request: Request) -> Response:
    """``{symbol, baseAsset, quoteAsset, tickSize, stepSize, …}``: open a market."""
    await require_operator(request)
    body = await read_json_object(request, *markets.MARKET_MEMBERS)
    return json_response(await markets.create_market(context_of(request), body, request_id_of(request)), 201)


async def list_markets(request: Request) -> Response:
    """All markets with their limits."""
    await require_operator(request)
    return json_response(await markets.list_markets(context_of(request)))


async def market(request: Request) -> Response:
    """One market with its limits."""
    await require_operator(request)
    return json_response(await markets.market_view(context_of(request), request.path_params["symbol"]))


async def set_market_status(request: Request) -> Response:
    """``{status}``: TRADING, HALT, CANCEL_ONLY or BREAK."""
    await require_operator(request)
    body = await read_json_object(request, "status")
    symbol = request.path_params["symbol"]
    return json_response(await markets.set_status(context_of(request), symbol, body, request_id_of(request)))


async def set_market_filters(request: Request) -> Response:
    """Replace all limits of a market; those left out do not limit any more."""
    await require_operator(request)
    body = await read_json_object(request, *FILTER_NAMES)
    symbol = request.path_params["symbol"]
    return json_response(await markets.set_filters(context_of(request), symbol, body, request_id_of(request)))


async def set_fee_tier(request: Request) -> Response:
    """``{makerRate, takerRate}``, parts of what is received: "0.001" is a tenth of a percent."""
    await require_operator(request)
    body = await read_json_object(request, "makerRate", "takerRate")
    tier = request.path_params["tier"]
    return json_response(await markets.set_fee_tier(context_of(request), tier, body, request_id_of(request)))


async def set_user_fee_tier(request: Request) -> Response:
    """``{tier}``: put a user into a fee tier."""
    await require_operator(request)
    body = await read_json_object(request, "tier")
    user_id = request.path_params["user_id"]
    return json_response(await markets.set_user_fee_tier(context_of(request), user_id, body, request_id_of(request)))


async def reconcile(request: Request) -> Response:
    """Whether journal, ledger, balances, orders and trades agree, and where they do not."""
    await require_operator(request)
    return json_response(await reconciliation.report(context_of(request)))


async def _transfer(request: Request, kind: transfers.Kind) -> Response:
    operator = await require_operator(request)
    body = await read_json_object(request, *transfers.MEMBERS)
    done = await transfers.transfer(context_of(request), kind, body, operator.user_id, request_id_of(request))
    return json_response(
        {
            "userId": done.command.account_id,
            "asset": done.asset.symbol,
            "amount": done.asset.text(done.command.amount),
            "reference": done.command.reference,
            "sequence": done.sequence,
            "time": done.time_us // 1000,
        }
    )


ROUTES = [
    Route("/api/v1/admin/deposits", deposit, methods=["POST"]),
    Route("/api/v1/admin/withdrawals", withdraw, methods=["POST"]),
    Route("/api/v1/admin/assets", create_asset, methods=["POST"]),
    Route("/api/v1/admin/markets", create_market, methods=["POST"]),
    Route("/api/v1/admin/markets", list_markets, methods=["GET"]),
    Route("/api/v1/admin/markets/{symbol}", market, methods=["GET"]),
    Route("/api/v1/admin/markets/{symbol}/status", set_market_status, methods=["PUT", "POST"]),
    Route("/api/v1/admin/markets/{symbol}/filters", set_market_filters, methods=["PUT"]),
    Route("/api/v1/admin/fee-tiers/{tier}", set_fee_tier, methods=["PUT"]),
    Route("/api/v1/admin/users/{user_id}/fee-tier", set_user_fee_tier, methods=["PUT"]),
    Route("/api/v1/admin/reconciliation", reconcile, methods=["GET"]),
]
