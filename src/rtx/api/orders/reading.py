"""Makes commands out of the parameters of order requests; what makes no sense is refused here and reaches no engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rtx.api import errors, idempotency
from rtx.api.errors import ApiError
from rtx.api.markets import Market
from rtx.api.orders.rendering import SELF_TRADE_PREVENTIONS, SIDES, TIMES_IN_FORCE, TYPES
from rtx.api.parameters import (
    mandatory_text,
    optional_client_order_id,
    optional_number,
    optional_text,
)
from rtx.core.commands import AmendOrder, CancelOrder, NewOrder
from rtx.core.vocabulary import (
    GTC,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    STOP_LOSS_LIMIT,
    STP_NONE,
    TAKE_PROFIT_LIMIT,
    CancelRestriction,
)

ORDER_PARAMETERS: Final = frozenset(
    {
        "symbol",
        "side",
        "type",
        "timeInForce",
        "quantity",
        "quoteOrderQty",
        "price",
        "newClientOrderId",
        "stopPrice",
        "icebergQty",
        "trailingDelta",
        "pegPriceType",
        "pegOffsetValue",
        "pegOffsetType",
        "newOrderRespType",
        "selfTradePreventionMode",
    }
)

ACK: Final = "ACK"
RESULT: Final = "RESULT"
FULL: Final = "FULL"

_RESPONSE_TYPES: Final = frozenset({ACK, RESULT, FULL})

_SIDES: Final = {name: number for number, name in enumerate(SIDES)}
_TYPES: Final = {name: number for number, name in enumerate(TYPES)}
_TIMES_IN_FORCE: Final = {name: number for number, name in enumerate(TIMES_IN_FORCE)}
_SELF_TRADE_PREVENTIONS: Final = {name: number for number, name in enumerate(SELF_TRADE_PREVENTIONS)}
_RESTRICTIONS: Final = {
    restriction.name: restriction.value
    for restriction in CancelRestriction
    if restriction is not CancelRestriction.NONE
}

_TIMED_TYPES: Final = frozenset({LIMIT, STOP_LOSS_LIMIT, TAKE_PROFIT_LIMIT})
_PRICED_TYPES: Final = _TIMED_TYPES | {LIMIT_MAKER}

_UNSUPPORTED: Final = {
    "icebergQty": "Iceberg orders are not supported for this symbol.",
    "trailingDelta": "Trailing stop orders are not supported for this symbol.",
    "pegPriceType": "Pegged orders are not supported for this symbol.",
    "pegOffsetValue": "Pegged orders are not supported for this symbol.",
    "pegOffsetType": "Pegged orders are not supported for this symbol.",
}

Parameters = Mapping[str, str]


def new_order(market: Market, account_id: int, parameters: Parameters, command_id: bytes | None) -> NewOrder:
    """Read a new order; where the client gave no id, one is made, always the same one for a ``command_id``."""
    side = _SIDES.get(mandatory_text(parameters, "side"))
    if side is None:
        raise ApiError(errors.INVALID_SIDE, "Invalid side.")
    order_type = _TYPES.get(mandatory_text(parameters, "type"))
    if order_type is None:
        raise ApiError(errors.INVALID_ORDER_TYPE, "Invalid orderType.")
    if not _UNSUPPORTED.keys().isdisjoint(parameters):
        raise _unsupported(parameters)
    quantity, quote_quantity = _quantities(market, order_type, parameters)
    return NewOrder(
        account_id,
        market.market_id,
        side,
        order_type,
        _time_in_force(order_type, parameters),
        _price(market, "price", parameters, is_needed=order_type in _PRICED_TYPES),
        quantity,
        optional_client_order_id(parameters, "newClientOrderId") or idempotency.client_order_id(command_id),
        quote_quantity,
        _price(market, "stopPrice", parameters, is_needed=order_type > LIMIT_MAKER),
        _self_trade_prevention(parameters),
    )


def response_type(order_type: int, parameters: Parameters) -> str:
    """Give what the answer to an order is to hold: ACK, RESULT or FULL."""
    asked = optional_text(parameters, "newOrderRespType")
    if asked is None:
        return FULL if order_type in (LIMIT, MARKET) else ACK
    if asked not in _RESPONSE_TYPES:
        raise errors.invalid_parameter("newOrderRespType")
    return asked


def cancel_order(
    market: Market,
    account_id: int,
    parameters: Parameters,
    *,
    order_id_name: str = "orderId",
    client_order_id_name: str = "origClientOrderId",
) -> CancelOrder:
    """Read which order to cancel, and on what condition."""
    order_id, client_order_id = order_reference(
        parameters, order_id_name=order_id_name, client_order_id_name=client_order_id_name
    )
    asked = optional_text(parameters, "cancelRestrictions")
    restriction = _RESTRICTIONS.get(asked) if asked else CancelRestriction.NONE.value
    if restriction is None:
        raise ApiError(errors.INVALID_CANCEL_RESTRICTIONS, "Invalid cancelRestrictions")
    return CancelOrder(account_id, market.market_id, order_id or 0, client_order_id or "", restriction)


def amend_order(market: Market, account_id: int, parameters: Parameters) -> AmendOrder:
    """Read which order is to become smaller, and how small."""
    order_id, client_order_id = order_reference(parameters)
    quantity = market.quantity_lots(mandatory_text(parameters, "newQty"), "newQty")
    if quantity == 0:
        raise ApiError(errors.INVALID_MESSAGE, "Invalid newQty.")
    return AmendOrder(
        account_id,
        market.market_id,
        quantity,
        order_id or 0,
        client_order_id or "",
        optional_client_order_id(parameters, "newClientOrderId") or "",
    )


def order_reference(
    parameters: Parameters, *, order_id_name: str = "orderId", client_order_id_name: str = "origClientOrderId"
) -> tuple[int | None, str | None]:
    """Read by which ids an order is meant; at least one is there."""
    order_id = optional_number(parameters, order_id_name)
    client_order_id = optional_client_order_id(parameters, client_order_id_name)
    if order_id is None and client_order_id is None:
        raise errors.either_parameter(client_order_id_name, order_id_name)
    # No order has the number 0, which in a command means "not given".
    return order_id if order_id != 0 else -1, client_order_id


def _time_in_force(order_type: int, parameters: Parameters) -> int:
    text = parameters.get("timeInForce")
    if order_type not in _TIMED_TYPES:
        if text is not None:
            raise errors.not_required("timeInForce")
        return GTC
    time_in_force = _TIMES_IN_FORCE.get(text or mandatory_text(parameters, "timeInForce"))
    if time_in_force is None:
        raise ApiError(errors.INVALID_TIF, "Invalid timeInForce.")
    return time_in_force


def _price(market: Market, name: str, parameters: Parameters, *, is_needed: bool) -> int:
    text = parameters.get(name)
    if not is_needed:
        if text is not None:
            raise errors.not_required(name)
        return 0
    ticks = market.price_ticks(text or mandatory_text(parameters, name), name)
    if ticks == 0:
        raise ApiError(errors.INVALID_MESSAGE, f"Invalid {name}.")
    return ticks


def _quantities(market: Market, order_type: int, parameters: Parameters) -> tuple[int, int]:
    quantity_text = parameters.get("quantity")
    quote_text = parameters.get("quoteOrderQty")
    if quote_text is not None:
        if order_type != MARKET or quantity_text is not None:
            raise errors.not_required("quoteOrderQty")
        quote_quantity = market.quote_amount(quote_text, "quoteOrderQty")
        if quote_quantity == 0:
            raise ApiError(errors.INVALID_MESSAGE, "Invalid quoteOrderQty.")
        return 0, quote_quantity
    if quantity_text is None and order_type == MARKET:
        raise errors.either_parameter("quantity", "quoteOrderQty")
    quantity = market.quantity_lots(quantity_text or mandatory_text(parameters, "quantity"), "quantity")
    if quantity == 0:
        raise ApiError(errors.INVALID_MESSAGE, "Invalid quantity.")
    return quantity, 0


def _self_trade_prevention(parameters: Parameters) -> int:
    name = optional_text(parameters, "selfTradePreventionMode")
    if name is None:
        return STP_NONE
    mode = _SELF_TRADE_PREVENTIONS.get(name)
    if mode is None:
        raise errors.invalid_parameter("selfTradePreventionMode")
    return mode


def _unsupported(parameters: Parameters) -> ApiError:
    text = next(text for name, text in _UNSUPPORTED.items() if name in parameters)
    return ApiError(errors.INVALID_MESSAGE, text)
