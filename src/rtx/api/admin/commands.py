"""Sends an operator's commands to the engine and puts its refusals into words for operators."""

from __future__ import annotations

from typing import Final

from rtx.api.context import ApiContext
from rtx.api.errors import BAD_SYMBOL, INVALID_PARAMETER, NEW_ORDER_REJECTED, NOT_FOUND, ApiError
from rtx.api.refusals import refusal_of
from rtx.core.commands import AnyCommand
from rtx.core.rejections import Reason
from rtx.link.client import Applied, CommandRejectedError, EngineError

ALREADY_EXISTS: Final = -9015

_REFUSALS: Final[dict[Reason, tuple[int, int, str, str]]] = {
    Reason.UNKNOWN_MARKET: (BAD_SYMBOL, 404, "symbol", "Invalid symbol."),
    Reason.UNKNOWN_ASSET: (NOT_FOUND, 404, "asset", "There is no such asset."),
    Reason.INSUFFICIENT_BALANCE: (
        NEW_ORDER_REJECTED,
        400,
        "amount",
        "Account has insufficient balance for requested action.",
    ),
    Reason.ASSET_EXISTS: (ALREADY_EXISTS, 409, "symbol", "An asset with this symbol exists already."),
    Reason.MARKET_EXISTS: (ALREADY_EXISTS, 409, "symbol", "A market with this symbol exists already."),
    Reason.AMOUNT_TOO_LARGE: (
        INVALID_PARAMETER,
        400,
        "amount",
        "With this deposit more of the asset would exist than the ledger can count.",
    ),
    Reason.AMOUNT_NOT_POSITIVE: (INVALID_PARAMETER, 400, "amount", "Field 'amount' must be more than 0."),
    Reason.TICK_LOT_NOT_WHOLE: (
        INVALID_PARAMETER,
        400,
        "stepSize",
        "Field 'stepSize' times tickSize must be a whole multiple of the quote asset's smallest unit.",
    ),
    Reason.UNKNOWN_FEE_TIER: (NOT_FOUND, 404, "tier", "There is no such fee tier; set its rates first."),
}
"""Code, HTTP status, field and text by the core's reason."""


async def submit(
    context: ApiContext, command: AnyCommand, request_id: str, *, command_id: bytes | None = None
) -> Applied:
    """Have a command committed; every way in which that can fail becomes an :class:`ApiError`.

    What was committed under the same ``command_id`` before is answered again, whatever ``command`` says now.
    """
    try:
        return await context.engine.submit(
            command, request_id=request_id, command_id=command_id, timeout_s=context.settings.engine_timeout_s
        )
    except CommandRejectedError as rejection:
        raise _refusal(rejection) from None
    except EngineError as error:
        raise refusal_of(error) from None


def _refusal(rejection: CommandRejectedError) -> ApiError:
    if rejection.reason not in _REFUSALS:
        return refusal_of(rejection)
    code, http_status, field, text = _REFUSALS[rejection.reason]
    return ApiError(code, text, http_status, field=field)
