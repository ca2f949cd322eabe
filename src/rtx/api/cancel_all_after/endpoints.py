"""``/api/v1/cancel-all-after``: the dead-man's switch that a program arms again and again while it is there."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rtx.api.auth.json_body import json_response, read_json_object, refuse
from rtx.api.cancel_all_after import service
from rtx.api.cancel_all_after.authentication import require_account
from rtx.api.cancel_all_after.service import TIMEOUT_MS_MAX, TIMEOUT_MS_MIN
from rtx.api.context import context_of, request_id_of

_FIELD: Final = "timeout_ms"


async def set_switch(request: Request) -> Response:
    """``{timeout_ms}`` → ``timeoutMs``, ``deadline`` (null: disarmed) and ``serverTime``, both in Unix milliseconds."""
    account_id = await require_account(request, "trade", await request.body())
    timeout_ms = (await read_json_object(request, _FIELD)).integer(_FIELD, 0, TIMEOUT_MS_MAX)
    if 0 < timeout_ms < TIMEOUT_MS_MIN:
        refuse(_FIELD, f"must be 0, which disarms, or from {TIMEOUT_MS_MIN} to {TIMEOUT_MS_MAX}")
    switch = await service.set_switch(
        context_of(request), account_id, timeout_ms * 1_000, request_id=request_id_of(request)
    )
    return json_response(
        {
            "timeoutMs": timeout_ms,
            "deadline": switch.deadline_us // 1_000 or None,
            "serverTime": switch.time_us // 1_000,
        }
    )


async def show_switches(request: Request) -> Response:
    """What is armed: ``deadline`` is what POST set (null: nothing), ``sessions`` those of WebSocket connections."""
    account_id = await require_account(request, "read")
    context = context_of(request)
    switches = await service.armed_switches(context, account_id)
    deadline_us = switches.pop(service.OWN_SESSION, None)
    return json_response(
        {
            "deadline": None if deadline_us is None else deadline_us // 1_000,
            "sessions": [{"session": session, "deadline": until_us // 1_000} for session, until_us in switches.items()],
            "serverTime": context.clock_us() // 1_000,
        }
    )


ROUTES: Final = [
    Route("/api/v1/cancel-all-after", set_switch, methods=["POST"]),
    Route("/api/v1/cancel-all-after", show_switches, methods=["GET"]),
]
