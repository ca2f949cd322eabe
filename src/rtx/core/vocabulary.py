"""The closed vocabularies of the exchange, as integers.

They are plain ``int`` constants grouped in ``IntEnum`` classes: structures on the money path carry the integers, which
compare and encode fastest, and the enumerations give them their public names (the ones of the Binance Spot API).
Numbers are written into the journal, so a number never changes its meaning and is never used again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Side(IntEnum):
    """Which side of the book an order stands on."""

    BUY = 0
    SELL = 1


class OrderType(IntEnum):
    """Order types of the Binance Spot API (enums.md, "Order types")."""

    LIMIT = 0
    MARKET = 1
    LIMIT_MAKER = 2
    STOP_LOSS = 3
    STOP_LOSS_LIMIT = 4
    TAKE_PROFIT = 5
    TAKE_PROFIT_LIMIT = 6


class TimeInForce(IntEnum):
    """How long an order stays active."""

    GTC = 0
    IOC = 1
    FOK = 2


class OrderStatus(IntEnum):
    """Life of an order; the first two are open, all others are final."""

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 3
    EXPIRED = 4
    EXPIRED_IN_MATCH = 5


class SelfTradePrevention(IntEnum):
    """What happens when an order would trade with its own account; the taker's mode decides."""

    NONE = 0
    EXPIRE_TAKER = 1
    EXPIRE_MAKER = 2
    EXPIRE_BOTH = 3
    DECREMENT = 4


class MarketStatus(IntEnum):
    """What a market accepts.

    TRADING: everything. CANCEL_ONLY: cancellations and reductions. HALT (an incident) and BREAK (planned): nothing.
    """

    TRADING = 0
    HALT = 1
    CANCEL_ONLY = 2
    BREAK = 3


class CancelRestriction(IntEnum):
    """A condition on the status of the order to cancel."""

    NONE = 0
    ONLY_NEW = 1
    ONLY_PARTIALLY_FILLED = 2


BUY: Final[int] = Side.BUY.value
SELL: Final[int] = Side.SELL.value

LIMIT: Final[int] = OrderType.LIMIT.value
MARKET: Final[int] = OrderType.MARKET.value
LIMIT_MAKER: Final[int] = OrderType.LIMIT_MAKER.value
STOP_LOSS: Final[int] = OrderType.STOP_LOSS.value
STOP_LOSS_LIMIT: Final[int] = OrderType.STOP_LOSS_LIMIT.value
TAKE_PROFIT: Final[int] = OrderType.TAKE_PROFIT.value
TAKE_PROFIT_LIMIT: Final[int] = OrderType.TAKE_PROFIT_LIMIT.value

GTC: Final[int] = TimeInForce.GTC.value
IOC: Final[int] = TimeInForce.IOC.value
FOK: Final[int] = TimeInForce.FOK.value

NEW: Final[int] = OrderStatus.NEW.value
PARTIALLY_FILLED: Final[int] = OrderStatus.PARTIALLY_FILLED.value
FILLED: Final[int] = OrderStatus.FILLED.value
CANCELED: Final[int] = OrderStatus.CANCELED.value
EXPIRED: Final[int] = OrderStatus.EXPIRED.value
EXPIRED_IN_MATCH: Final[int] = OrderStatus.EXPIRED_IN_MATCH.value

STP_NONE: Final[int] = SelfTradePrevention.NONE.value
EXPIRE_TAKER: Final[int] = SelfTradePrevention.EXPIRE_TAKER.value
EXPIRE_MAKER: Final[int] = SelfTradePrevention.EXPIRE_MAKER.value
EXPIRE_BOTH: Final[int] = SelfTradePrevention.EXPIRE_BOTH.value
DECREMENT: Final[int] = SelfTradePrevention.DECREMENT.value

TRADING: Final[int] = MarketStatus.TRADING.value
HALT: Final[int] = MarketStatus.HALT.value
CANCEL_ONLY: Final[int] = MarketStatus.CANCEL_ONLY.value
BREAK: Final[int] = MarketStatus.BREAK.value

EXTERNAL_ACCOUNT_ID: Final = 1
"""The world outside: what was deposited and not yet withdrawn stands here with a minus sign."""

FEE_ACCOUNT_ID: Final = 2
"""What the exchange earned."""

FIRST_USER_ACCOUNT_ID: Final = 1001

MAXIMUM_AMOUNT: Final = 2**62
"""Largest amount of an asset, in its smallest unit, that may exist in all accounts together (fits a 64-bit integer)."""

FEE_RATE_DENOMINATOR: Final = 1_000_000
"""Fee rates are whole parts per million."""
