"""Why the exchange refuses a command.

The core says the reason as a number and the field it concerns; the wording that clients read belongs to the API.
"""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Reasons of refusal; numbers are written into the journal and keep their meaning."""

    UNKNOWN_MARKET = 1
    UNKNOWN_ASSET = 2
    UNKNOWN_ORDER = 3
    MARKET_CLOSED = 4
    INSUFFICIENT_BALANCE = 5
    DUPLICATE_CLIENT_ORDER_ID = 6
    WOULD_MATCH_IMMEDIATELY = 7
    WOULD_TRIGGER_IMMEDIATELY = 8
    FILTER_PRICE = 9
    FILTER_PERCENT_PRICE_BY_SIDE = 10
    FILTER_LOT_SIZE = 11
    FILTER_MARKET_LOT_SIZE = 12
    FILTER_NOTIONAL = 13
    FILTER_MAX_NUM_ORDERS = 14
    CANCEL_RESTRICTED = 15
    AMEND_NOT_A_REDUCTION = 16
    AMEND_CHANGES_NOTHING = 17
    NO_LIQUIDITY_FOR_QUOTE_QUANTITY = 18
    INVALID_FIELD = 19
    ASSET_EXISTS = 20
    MARKET_EXISTS = 21
    TICK_LOT_NOT_WHOLE = 22
    AMOUNT_TOO_LARGE = 23
    UNKNOWN_FEE_TIER = 24
    MARKET_STATUS_UNCHANGED = 25
    AMOUNT_NOT_POSITIVE = 26
    UNSUPPORTED_ORDER_COMBINATION = 27
    UNKNOWN_RULES = 28
    RULES_NOT_NEWER = 29
    UNKNOWN_DEADLINE = 30


class RejectedError(Exception):
    """Raised inside the core before anything was changed; ``field`` is the command's field at fault, or ""."""

    def __init__(self, reason: Reason, field: str = "") -> None:
        super().__init__(reason.name, field)
        self.reason = reason
        self.field = field


class CancelReplaceRejectedError(RejectedError):
    """Both halves of a cancel-replace were refused; nothing was changed."""

    def __init__(self, cancel: RejectedError, order: RejectedError) -> None:
        super().__init__(cancel.reason, cancel.field)
        self.cancel = cancel
        self.order = order
