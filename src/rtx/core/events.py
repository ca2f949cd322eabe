"""Events: everything that a command did, complete enough to answer, project and prove without the state.

Each command gives a list of events in the order in which they happened: trades first, then the final state of every
order that the command touched, once each, in the order in which they were first touched. A cancel-replace gives the
events of its cancellation, then those of its order; a dead-man's switch that runs out tells first that it is disarmed.
Units are those of :mod:`rtx.core.commands`. Fields are only ever appended, with a default.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rtx.core.commands import MarketFilters


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind"):
    """Base of all events; the tag is the first element of the encoded array."""


class Trade(Event, tag=1, frozen=True):
    """One fill. Fees are in smallest units of what each side received (base for the buyer, quote for the seller)."""

    market_id: int
    trade_id: int
    price: int
    quantity: int
    quote_quantity: int
    taker_side: int
    maker_order_id: int
    taker_order_id: int
    maker_account_id: int
    taker_account_id: int
    maker_fee: int
    taker_fee: int


class OrderState(Event, tag=2, frozen=True):
    """An order after the command. ``executed_quote_quantity`` in smallest quote units, times in microseconds (Unix).

    ``working_at_us`` is when it came to the book (0: a stop order that still waits). ``is_new`` marks the order that
    this command placed. ``prevented_quantity`` is what self-trade prevention took away.
    """

    order_id: int
    account_id: int
    market_id: int
    side: int
    type: int
    time_in_force: int
    status: int
    price: int
    quantity: int
    executed_quantity: int
    executed_quote_quantity: int
    client_order_id: str
    created_at_us: int
    working_at_us: int
    quote_quantity: int
    stop_price: int
    self_trade_prevention: int
    prevented_quantity: int
    is_new: bool


class Deposited(Event, tag=3, frozen=True):
    """``amount`` smallest units came in from outside."""

    account_id: int
    asset_id: int
    amount: int
    reference: str


class Withdrawn(Event, tag=4, frozen=True):
    """``amount`` smallest units went out."""

    account_id: int
    asset_id: int
    amount: int
    reference: str


class AssetCreated(Event, tag=5, frozen=True):
    """An asset exists."""

    asset_id: int
    symbol: str
    scale: int


class MarketCreated(Event, tag=6, frozen=True):
    """A market exists; fields as in :class:`~rtx.core.commands.CreateMarket`."""

    market_id: int
    symbol: str
    base_asset_id: int
    quote_asset_id: int
    tick_size: int
    lot_size: int
    filters: MarketFilters
    status: int


class MarketStatusChanged(Event, tag=7, frozen=True):
    """A market changed its status."""

    market_id: int
    status: int


class MarketFiltersChanged(Event, tag=8, frozen=True):
    """A market has new limits."""

    market_id: int
    filters: MarketFilters


class FeeTierSet(Event, tag=9, frozen=True):
    """A fee tier has these rates (parts per million)."""

    tier: int
    maker_rate_ppm: int
    taker_rate_ppm: int


class AccountFeeTierSet(Event, tag=10, frozen=True):
    """An account is in this fee tier."""

    account_id: int
    tier: int


class Rejected(Event, tag=11, frozen=True):
    """The command, or one half of a cancel-replace, was refused and changed nothing.

    ``reason`` is a :class:`~rtx.core.rejections.Reason`; ``field`` names what was wrong with it, where one field was.
    ``step`` is "" for a whole command, "cancel" or "order" for a half of a cancel-replace.
    """

    reason: int
    field: str = ""
    step: str = ""


class CheckpointTaken(Event, tag=12, frozen=True):
    """The state has this hash (:func:`rtx.core.snapshot.state_hash`, 32 bytes), its time being the checkpoint's."""

    state_hash: bytes


class RulesActivated(Event, tag=13, frozen=True):
    """The commands after this one are computed by these rules."""

    version: int


class CancelAllAfterSet(Event, tag=14, frozen=True):
    """The dead-man's switch of this session runs out at ``deadline_us`` (Unix microseconds; 0: it is disarmed)."""

    account_id: int
    session: str
    deadline_us: int


class DeadlinesExtended(Event, tag=15, frozen=True):
    """All dead-man's switches run out ``away_us`` later."""

    away_us: int


AnyEvent = (
    Trade
    | OrderState
    | Deposited
    | Withdrawn
    | AssetCreated
    | MarketCreated
    | MarketStatusChanged
    | MarketFiltersChanged
    | FeeTierSet
    | AccountFeeTierSet
    | Rejected
    | CheckpointTaken
    | RulesActivated
    | CancelAllAfterSet
    | DeadlinesExtended
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[AnyEvent]] = msgspec.msgpack.Decoder(list[AnyEvent])


def encode_events(events: Sequence[AnyEvent]) -> bytes:
    """Encode the events of one command as they stand in the journal."""
    return _encoder.encode(events)


def decode_events(data: bytes | memoryview | msgspec.Raw) -> list[AnyEvent]:
    """Decode the events of one journal row; raises ``msgspec.DecodeError`` or ``msgspec.ValidationError``."""
    return _decoder.decode(data)
