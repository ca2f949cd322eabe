"""The order objects of Binance's REST API, field for field.

Members that appear under a condition (rest-api.md, "Conditional fields in Order Responses") are otherwise ``UNSET``.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType


class Fill(Struct, frozen=True, rename="camel", gc=False):
    """One trade of an order, in a FULL answer."""

    price: str
    qty: str
    commission: str
    commission_asset: str
    trade_id: int


class OrderAcknowledgement(Struct, frozen=True, rename="camel", gc=False):
    """An ACK answer."""

    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int


class OrderResult(Struct, frozen=True, rename="camel", gc=False):
    """A RESULT answer; with ``fills`` a FULL one."""

    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int
    price: str
    orig_qty: str
    executed_qty: str
    orig_quote_order_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    working_time: int
    self_trade_prevention_mode: str
    fills: list[Fill] | UnsetType = UNSET
    stop_price: str | UnsetType = UNSET
    prevented_quantity: str | UnsetType = UNSET
    expiry_reason: str | UnsetType = UNSET


class CancelledOrder(Struct, frozen=True, rename="camel", gc=False):
    """The answer to a cancellation; ``client_order_id`` names the cancellation, ``orig_client_order_id`` the order."""

    symbol: str
    orig_client_order_id: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int
    price: str
    orig_qty: str
    executed_qty: str
    orig_quote_order_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    self_trade_prevention_mode: str
    stop_price: str | UnsetType = UNSET
    prevented_quantity: str | UnsetType = UNSET


class AmendedOrder(Struct, frozen=True, rename="camel", gc=False):
    """An order after its quantity was reduced."""

    symbol: str
    order_id: int
    order_list_id: int
    orig_client_order_id: str
    client_order_id: str
    price: str
    qty: str
    executed_qty: str
    prevented_qty: str
    quote_order_qty: str
    cumulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    working_time: int
    self_trade_prevention_mode: str
    stop_price: str | UnsetType = UNSET


class Amendment(Struct, frozen=True, rename="camel", gc=False):
    """The answer to an amendment; ``execution_id`` is its position in the journal."""

    transact_time: int
    execution_id: int
    amended_order: AmendedOrder


class Refusal(Struct, frozen=True, gc=False):
    """One half of a cancel-replace that was refused."""

    code: int
    msg: str


class CancelReplacement(Struct, frozen=True, rename="camel", gc=False):
    """What became of both halves of a cancel-replace."""

    cancel_result: str
    new_order_result: str
    cancel_response: CancelledOrder | Refusal
    new_order_response: Raw | Refusal | None


class QueriedOrder(Struct, frozen=True, rename="camel", gc=False):
    """An order as queries give it."""

    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    price: str
    orig_qty: str
    executed_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    stop_price: str
    iceberg_qty: str
    time: int
    update_time: int
    is_working: bool
    working_time: int
    orig_quote_order_qty: str
    self_trade_prevention_mode: str
    prevented_quantity: str | UnsetType = UNSET
    expiry_reason: str | UnsetType = UNSET
