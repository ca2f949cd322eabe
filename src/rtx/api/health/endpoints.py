"""``/health/live``, ``/health/ready``, ``/version`` and Binance's system status: open to everybody and cheap."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rtx.api.auth.json_body import json_response
from rtx.api.context import context_of
from rtx.api.health import service
from rtx.api.requests import BinanceRequest, BinanceRoute, route


async def live(_request: Request) -> Response:
    """Whether the process serves at all; a probe that fails here restarts it, so nothing outside of it counts."""
    return json_response({"status": "live"})


async def ready(request: Request) -> Response:
    """Whether requests should be sent here; 503 names what is missing."""
    checks = await service.readiness(context_of(request))
    is_ready = service.is_passed(checks)
    content = {"status": "ready" if is_ready else "not ready", "checks": checks}
    return json_response(content, 200 if is_ready else 503)


async def version(_request: Request) -> Response:
    """Which program this is."""
    return json_response({"name": "rtx", "version": service.VERSION})


async def system_status(request: BinanceRequest) -> bytes:
    """GET /sapi/v1/system/status, which clients ask before they trade: 0 is normal, 1 maintenance."""
    if service.is_passed(await service.readiness(request.context)):
        return b'{"status":0,"msg":"normal"}'
    return b'{"status":1,"msg":"system_maintenance"}'


ROUTES: list[Route | BinanceRoute] = [
    Route("/health/live", live, methods=["GET"]),
    Route("/health/ready", ready, methods=["GET"]),
    Route("/version", version, methods=["GET"]),
    Route("/api/v1/version", version, methods=["GET"]),
    route("GET", "/sapi/v1/system/status", system_status),
]
