"""How what the engine refuses reads to a client: Binance's code and text for each reason."""

from __future__ import annotations

from typing import Final, Literal

from rtx.api import errors
from rtx.api.errors import ApiError
from rtx.core.events import Rejected
from rtx.core.rejections import Reason
from rtx.link.client import (
    CommandRejectedError,
    EngineError,
    EngineOverloadedError,
    EngineTimeoutError,
    IdempotencyConflictError,
)

Action = Literal["order", "cancel", "amend"]
"""What was asked for; some reasons carry another code for each."""

_ACTION_CODES: Final[dict[str, int]] = {
    "order": errors.NEW_ORDER_REJECTED,
    "cancel": errors.CANCEL_REJECTED,
    "amend": errors.ORDER_AMEND_REJECTED,
}

_ACTION_TEXTS: Final[dict[Reason, str]] = {
    Reason.UNKNOWN_ORDER: "Unknown order sent.",
    Reason.INSUFFICIENT_BALANCE: "Account has insufficient balance for requested action.",
    Reason.DUPLICATE_CLIENT_ORDER_ID: "Duplicate order sent.",
    Reason.WOULD_MATCH_IMMEDIATELY: "Order would immediately match and take.",
    Reason.WOULD_TRIGGER_IMMEDIATELY: "Order would trigger immediately.",
    Reason.CANCEL_RESTRICTED: "Order was not canceled due to cancel restrictions.",
    Reason.AMEND_NOT_A_REDUCTION: "Order amend (quantity increase) is not supported.",
    Reason.AMEND_CHANGES_NOTHING: "The requested action would change no state; rejecting",
    Reason.NO_LIQUIDITY_FOR_QUOTE_QUANTITY: "Order book liquidity is less than symbol minimum quantity.",
}
"""Reasons that the matching engine gives: the code says what was asked for."""

_FIXED: Final[dict[Reason, tuple[int, str]]] = {
    Reason.UNKNOWN_MARKET: (errors.BAD_SYMBOL, "Invalid symbol."),
    Reason.UNKNOWN_ASSET: (errors.INVALID_PARAMETER, "Data sent for parameter 'asset' is not valid."),
    Reason.FILTER_PRICE: (errors.INVALID_MESSAGE, "Filter failure: PRICE_FILTER"),
    Reason.FILTER_PERCENT_PRICE_BY_SIDE: (errors.INVALID_MESSAGE, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    Reason.FILTER_LOT_SIZE: (errors.INVALID_MESSAGE, "Filter failure: LOT_SIZE"),
    Reason.FILTER_MARKET_LOT_SIZE: (errors.INVALID_MESSAGE, "Filter failure: MARKET_LOT_SIZE"),
    Reason.FILTER_NOTIONAL: (errors.INVALID_MESSAGE, "Filter failure: NOTIONAL"),
    Reason.FILTER_MAX_NUM_ORDERS: (errors.INVALID_MESSAGE, "Filter failure: MAX_NUM_ORDERS"),
    Reason.UNSUPPORTED_ORDER_COMBINATION: (errors.UNKNOWN_ORDER_COMPOSITION, "Unsupported order combination."),
    Reason.ASSET_EXISTS: (errors.INVALID_PARAMETER, "An asset with this symbol exists already."),
    Reason.MARKET_EXISTS: (errors.INVALID_PARAMETER, "A market with this symbol exists already."),
    Reason.TICK_LOT_NOT_WHOLE: (
        errors.INVALID_PARAMETER,
        "One tick times one lot is not a whole number of the quote asset's smallest unit.",
    ),
    Reason.AMOUNT_TOO_LARGE: (errors.INVALID_PARAMETER, "The amount is more than may exist of the asset."),
    Reason.AMOUNT_NOT_POSITIVE: (errors.INVALID_PARAMETER, "The amount is zero or less."),
    Reason.UNKNOWN_FEE_TIER: (errors.INVALID_PARAMETER, "No such fee tier."),
    Reason.MARKET_STATUS_UNCHANGED: (errors.INVALID_PARAMETER, "The market has this status already."),
    Reason.UNKNOWN_RULES: (errors.INVALID_PARAMETER, "These matching rules are newer than the program."),
    Reason.RULES_NOT_NEWER: (errors.INVALID_PARAMETER, "These matching rules, or newer ones, are active already."),
    Reason.UNKNOWN_DEADLINE: (errors.INVALID_PARAMETER, "No dead-man's switch is armed with this deadline."),
}

_PARAMETERS: Final[dict[str, str]] = {
    "price": "price",
    "quantity": "quantity",
    "quote_quantity": "quoteOrderQty",
    "stop_price": "stopPrice",
}


def refusal_of(error: EngineError, action: Action = "order") -> ApiError:
    """Say an error of the engine client as clients know it."""
    if isinstance(error, CommandRejectedError):
        return rejection_of(error.rejections[0], action)
    if isinstance(error, EngineTimeoutError):
        return errors.execution_unknown()
    if isinstance(error, EngineOverloadedError):
        return errors.overloaded()
    if isinstance(error, IdempotencyConflictError):
        return errors.idempotency_key_reused()
    return errors.unavailable()


def rejection_of(rejected: Rejected, action: Action) -> ApiError:
    """Say a refusal of the exchange as clients know it."""
    reason = Reason(rejected.reason)
    text = _ACTION_TEXTS.get(reason)
    if text is not None:
        return ApiError(_ACTION_CODES[action], text)
    fixed = _FIXED.get(reason)
    if fixed is not None:
        return ApiError(*fixed)
    if reason is Reason.MARKET_CLOSED:
        code = errors.INVALID_MESSAGE if action == "order" else _ACTION_CODES[action]
        return ApiError(code, "Market is closed.")
    parameter = _PARAMETERS.get(rejected.field)
    if parameter is not None:
        return ApiError(errors.INVALID_MESSAGE, f"Invalid {parameter}.")
    return ApiError(errors.INVALID_PARAMETER, f"Data sent for parameter '{rejected.field}' is not valid.")
