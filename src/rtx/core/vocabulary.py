"""The closed vocabularies of the exchange, as integers.

They are plain ``int`` constants next to ``IntEnum`` classes: structures on the money path carry the integers, which
compare and encode fastest, and the enumerations give them their public names (the ones of the Binance Spot API).
Numbers are written into the journal, so a number never changes its meaning and is never used again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, TypeAlias

PassedOn: TypeAlias = Any
"""An integer that the core hands on and does not count with: in the compiled form it then stays the object it is."""


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


BUY: Final = 0
SELL: Final = 1

LIMIT: Final = 0
MARKET: Final = 1
LIMIT_MAKER: Final = 2
STOP_LOSS: Final = 3
STOP_LOSS_LIMIT: Final = 4
TAKE_PROFIT: Final = 5
TAKE_PROFIT_LIMIT: Final = 6

GTC: Final = 0
IOC: Final = 1
FOK: Final = 2

NEW: Final = 0
PARTIALLY_FILLED: Final = 1
FILLED: Final = 2
CANCELED: Final = 3
EXPIRED: Final = 4
EXPIRED_IN_MATCH: Final = 5

STP_NONE: Final = 0
EXPIRE_TAKER: Final = 1
EXPIRE_MAKER: Final = 2
EXPIRE_BOTH: Final = 3
DECREMENT: Final = 4

TRADING: Final = 0
HALT: Final = 1
CANCEL_ONLY: Final = 2
BREAK: Final = 3

EXTERNAL_ACCOUNT_ID: Final = 1
"""The world outside: what was deposited and not yet withdrawn stands here with a minus sign."""

FEE_ACCOUNT_ID: Final = 2
"""What the exchange earned."""

FIRST_USER_ACCOUNT_ID: Final = 1001

MAXIMUM_AMOUNT: Final = 2**62
"""Largest amount of an asset, in its smallest unit, that may exist in all accounts together (fits a 64-bit integer)."""

LONGEST_CANCEL_ALL_AFTER_US: Final = 24 * 60 * 60 * 1_000_000
"""A dead-man's switch is set to a day at most."""

MOST_SESSIONS: Final = 32
"""Armed dead-man's switches of one account."""

LONGEST_SESSION: Final = 64
"""Characters in the name of a session."""

FEE_RATE_DENOMINATOR: Final = 1_000_000
"""Fee rates are whole parts per million."""
