"""Commands: everything that can change the exchange, as it stands in the journal.

Prices are whole ticks, quantities whole lots, amounts whole smallest units of their asset; 0 means "not given" where a
field is optional. Fields are only ever appended, with a default, so that every journal ever written can be read again.
"""

from __future__ import annotations

import msgspec


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind"):
    """Base of all commands; the tag is the first element of the encoded array."""


class NewOrder(Command, tag=1, frozen=True):
    """Place one order.

    ``price`` and ``stop_price`` in ticks, ``quantity`` in lots, ``quote_quantity`` in smallest units of the quote asset
    (MARKET only, instead of ``quantity``). ``client_order_id`` is never empty: the API makes one where the client did
    not.
    """

    account_id: int
    market_id: int
    side: int
    type: int
    time_in_force: int
    price: int
    quantity: int
    client_order_id: str
    quote_quantity: int = 0
    stop_price: int = 0
    self_trade_prevention: int = 0


class CancelOrder(Command, tag=2, frozen=True):
    """Cancel one open order, named by ``order_id``, by ``client_order_id``, or by both (then both must match)."""

    account_id: int
    market_id: int
    order_id: int = 0
    client_order_id: str = ""
    restriction: int = 0


class CancelAllOrders(Command, tag=3, frozen=True):
    """Cancel the open orders of an account in one market, or in every market (``market_id`` 0)."""

    account_id: int
    market_id: int = 0


class CancelReplaceOrder(Command, tag=4, frozen=True):
    """Cancel one order and place another as one step.

    With ``stop_on_failure`` nothing is placed when the cancellation fails. The new order is judged with the balance
    that the cancellation sets free; when it is refused, the cancellation stands.
    """

    cancel: CancelOrder
    order: NewOrder
    stop_on_failure: bool


class AmendOrder(Command, tag=5, frozen=True):
    """Reduce an open order to ``quantity`` lots; it keeps its place in the queue and may get a new client order id."""

    account_id: int
    market_id: int
    quantity: int
    order_id: int = 0
    client_order_id: str = ""
    new_client_order_id: str = ""


class Deposit(Command, tag=6, frozen=True):
    """Credit ``amount`` smallest units from outside; ``reference`` is the operator's unique name of the transfer."""

    account_id: int
    asset_id: int
    amount: int
    reference: str


class Withdraw(Command, tag=7, frozen=True):
    """Debit ``amount`` smallest units of the available balance to the outside."""

    account_id: int
    asset_id: int
    amount: int
    reference: str


class CreateAsset(Command, tag=8, frozen=True):
    """Introduce an asset whose smallest unit is 10**-``scale``."""

    symbol: str
    scale: int


class MarketFilters(Command, tag=100, frozen=True):
    """Limits on orders of a market; 0 disables one (quantities are at least one lot and prices one tick all the same).

    Prices in ticks, quantities in lots, notionals in smallest quote units. The ``*_multiplier_*`` are parts per million
    of the last price (PERCENT_PRICE_BY_SIDE with ``avgPriceMins`` 0).
    """

    minimum_price: int = 0
    maximum_price: int = 0
    minimum_quantity: int = 0
    maximum_quantity: int = 0
    market_minimum_quantity: int = 0
    market_maximum_quantity: int = 0
    minimum_notional: int = 0
    maximum_notional: int = 0
    apply_minimum_to_market: bool = True
    apply_maximum_to_market: bool = False
    bid_multiplier_up: int = 0
    bid_multiplier_down: int = 0
    ask_multiplier_up: int = 0
    ask_multiplier_down: int = 0
    maximum_open_orders: int = 200


class CreateMarket(Command, tag=9, frozen=True):
    """Open a market for ``base_asset_id`` in ``quote_asset_id``.

    ``tick_size`` in smallest quote units per whole base unit, ``lot_size`` in smallest base units. Only accepted when
    ``tick_size * lot_size`` is a whole multiple of 10**(scale of base), so that no trade ever rounds.
    """

    symbol: str
    base_asset_id: int
    quote_asset_id: int
    tick_size: int
    lot_size: int
    filters: MarketFilters
    status: int = 0


class SetMarketStatus(Command, tag=10, frozen=True):
    """Move a market to another :class:`~rtx.core.vocabulary.MarketStatus`."""

    market_id: int
    status: int


class SetMarketFilters(Command, tag=11, frozen=True):
    """Replace the limits of a market; they bind orders placed from then on."""

    market_id: int
    filters: MarketFilters


class SetFeeTier(Command, tag=12, frozen=True):
    """Set the rates, in parts per million of what is received, of a fee tier (0 is everybody's at first)."""

    tier: int
    maker_rate_ppm: int
    taker_rate_ppm: int


class SetAccountFeeTier(Command, tag=13, frozen=True):
    """Put an account into a fee tier."""

    account_id: int
    tier: int


class Checkpoint(Command, tag=14, frozen=True):
    """Write the hash of the whole state into the journal, for everyone who replays it to compare with."""


class ActivateRules(Command, tag=15, frozen=True):
    """Compute by ``version`` of :mod:`rtx.core.rules` from now on."""

    version: int


class CancelAllAfter(Command, tag=16, frozen=True):
    """Dead-man's switch: cancel all orders of an account unless it says so again within ``timeout_us`` (0 disarms).

    Each ``session`` of an account has a switch of its own. With ``renews`` a switch that went off or was disarmed is
    not armed again: the command is refused.
    """

    account_id: int
    timeout_us: int
    session: str = ""
    renews: bool = False


class ExpireCancelAllAfter(Command, tag=17, frozen=True):
    """The time of a dead-man's switch is over: cancel the account's orders, if the deadline is still this one."""

    account_id: int
    session: str
    deadline_us: int


class ExtendDeadlines(Command, tag=18, frozen=True):
    """The exchange itself was away for ``away_us``: all deadlines are that much later."""

    away_us: int


AnyCommand = (
    NewOrder
    | CancelOrder
    | CancelAllOrders
    | CancelReplaceOrder
    | AmendOrder
    | Deposit
    | Withdraw
    | CreateAsset
    | CreateMarket
    | SetMarketStatus
    | SetMarketFilters
    | SetFeeTier
    | SetAccountFeeTier
    | Checkpoint
    | ActivateRules
    | CancelAllAfter
    | ExpireCancelAllAfter
    | ExtendDeadlines
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyCommand] = msgspec.msgpack.Decoder(AnyCommand)


def encode_command(command: AnyCommand) -> bytes:
    """Encode a command as it stands in the journal (MessagePack array, tag first)."""
    return _encoder.encode(command)


def decode_command(data: bytes | memoryview | msgspec.Raw) -> AnyCommand:
    """Decode a journaled command; raises ``msgspec.DecodeError`` or ``msgspec.ValidationError`` on anything else."""
    return _decoder.decode(data)
