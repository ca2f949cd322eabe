"""Carries orders to the engine and its answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from rtx.api import errors, idempotency
from rtx.api.errors import ApiError
from rtx.api.markets import Market
from rtx.api.orders import reading, rendering
from rtx.api.orders.schemas import Amendment, CancelReplacement, Refusal
from rtx.api.parameters import mandatory_text, optional_client_order_id
from rtx.api.refusals import Action, refusal_of, rejection_of
from rtx.api.requests import Begun, BinanceRequest
from rtx.core.commands import (
    AmendOrder,
    AnyCommand,
    CancelAllOrders,
    CancelReplaceOrder,
    decode_command,
)
from rtx.core.events import AnyEvent, MarketCreated, OrderState, Rejected
from rtx.core.market import Market as CoreMarket
from rtx.core.rejections import Reason, RejectedError
from rtx.core.validation import check_order
from rtx.core.vocabulary import TRADING
from rtx.link.client import CommandRejectedError, EngineError
from rtx.link.messages import Response
from rtx.store import orders as stored_orders
from rtx.store import trades as stored_trades
from rtx.store.journal import JournalStore

if TYPE_CHECKING:
    from rtx.link.client import Applied


def begin_placing(request: BinanceRequest, market: Market) -> Begun:
    """Place the order that the parameters describe."""
    parameters = request.parameters
    command_id = idempotency.command_id_of(request)
    command = reading.new_order(market, request.account_id, parameters, command_id)
    response_type = reading.response_type(command.type, parameters)
    return Begun(_begin(request, command, command_id), partial(_finish_placing, request, market, response_type))


def _finish_placing(
    request: BinanceRequest, market: Market, response_type: str, response: asyncio.Future[Response]
) -> bytes:
    return _placed(request, market, response_type, _conclude(request, response, "order"))


async def check(request: BinanceRequest, market: Market) -> None:
    """Refuse what the exchange would refuse whatever the account owns; nothing is placed."""
    command = reading.new_order(market, request.account_id, request.parameters, None)
    reading.response_type(command.type, request.parameters)
    definition = MarketCreated(
        market.market_id,
        market.symbol,
        market.base.asset_id,
        market.quote.asset_id,
        market.tick_size,
        market.lot_size,
        market.filters,
        market.status,
    )
    rules = CoreMarket(definition, market.tick_size * market.lot_size // 10**market.base.scale)
    rules.last_price = await stored_trades.last_price(request.context.pool, market.market_id) or 0
    if market.status != TRADING:
        raise ApiError(errors.INVALID_MESSAGE, "Market is closed.")
    open_orders = await stored_orders.find_open(request.context.pool, request.account_id, market.market_id)
    try:
        check_order(command)
        rules.check_filters(command, len(open_orders))
    except RejectedError as refusal:
        raise rejection_of(Rejected(refusal.reason, refusal.field), "order") from None


def begin_cancelling(request: BinanceRequest, market: Market) -> Begun:
    """Cancel one order."""
    command_id = idempotency.command_id_of(request)
    command = reading.cancel_order(market, request.account_id, request.parameters)
    cancel_id = _cancel_id(request, "newClientOrderId", command_id)
    return Begun(_begin(request, command, command_id), partial(_finish_cancelling, request, market, cancel_id))


def _finish_cancelling(
    request: BinanceRequest, market: Market, cancel_id: str, response: asyncio.Future[Response]
) -> bytes:
    applied = _conclude(request, response, "cancel")
    order = _order_states(applied.events)[0]
    return rendering.encode(rendering.cancelled(market, order, cancel_id, applied.time_us, request.time_divisor))


async def cancel_all(request: BinanceRequest, market: Market) -> bytes:
    """Cancel all orders of the account in one market."""
    command_id = idempotency.command_id_of(request)
    cancel_id = idempotency.client_order_id(command_id)
    applied = await _submit(request, CancelAllOrders(request.account_id, market.market_id), command_id, "cancel")
    return rendering.encode(
        [
            rendering.cancelled(market, order, cancel_id, applied.time_us, request.time_divisor)
            for order in _order_states(applied.events)
        ]
    )


async def cancel_replace(request: BinanceRequest, market: Market) -> bytes:
    """Cancel one order and place another; raises -2021 or -2022 with a report where not both went well."""
    parameters = request.parameters
    mode = mandatory_text(parameters, "cancelReplaceMode")
    if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        raise errors.invalid_parameter("cancelReplaceMode")
    if parameters.get("orderRateLimitExceededMode", "DO_NOTHING") not in ("DO_NOTHING", "CANCEL_ONLY"):
        raise errors.invalid_parameter("orderRateLimitExceededMode")
    command_id = idempotency.command_id_of(request)
    order = reading.new_order(market, request.account_id, parameters, command_id)
    response_type = reading.response_type(order.type, parameters)
    cancellation = reading.cancel_order(
        market,
        request.account_id,
        parameters,
        order_id_name="cancelOrderId",
        client_order_id_name="cancelOrigClientOrderId",
    )
    cancel_id = _cancel_id(request, "cancelNewClientOrderId", command_id)
    command = CancelReplaceOrder(cancellation, order, mode == "STOP_ON_FAILURE")
    try:
        applied = await _submit_raw(request, command, command_id)
    except CommandRejectedError as refusal:
        raise _nothing_replaced(refusal) from None
    except EngineError as error:
        raise refusal_of(error) from None
    return _replaced(request, market, cancel_id, response_type, applied)


async def amend(request: BinanceRequest, market: Market) -> bytes:
    """Reduce the quantity of an order, which keeps its place in the queue."""
    command_id = idempotency.command_id_of(request)
    command = reading.amend_order(market, request.account_id, request.parameters)
    if not command.client_order_id:
        # The answer names the order by its id from before. The engine checks that it still was that one.
        previous = await _client_order_id_before(request, command, command_id)
        command = msgspec.structs.replace(command, client_order_id=previous)
    if not command.new_client_order_id:
        command = msgspec.structs.replace(command, new_client_order_id=idempotency.client_order_id(command_id))
    applied = await _submit(request, command, command_id, "amend")
    order = _order_states(applied.events)[0]
    return rendering.encode(
        Amendment(
            applied.time_us // request.time_divisor,
            applied.sequence,
            rendering.amended(market, order, command.client_order_id, request.time_divisor),
        )
    )


async def _client_order_id_before(request: BinanceRequest, command: AmendOrder, command_id: bytes | None) -> str:
    pool = request.context.pool
    if command_id is not None:
        for entry in await JournalStore(pool).find_commands([command_id]):
            done = decode_command(entry.command)
            if isinstance(done, AmendOrder):
                return done.client_order_id
    order = await stored_orders.by_id(pool, command.account_id, command.market_id, command.order_id)
    if order is None:
        raise rejection_of(Rejected(Reason.UNKNOWN_ORDER, "order_id"), "amend")
    return order.client_order_id


async def _submit(request: BinanceRequest, command: AnyCommand, command_id: bytes | None, action: Action) -> Applied:
    try:
        return await _submit_raw(request, command, command_id)
    except EngineError as error:
        raise refusal_of(error, action) from None


async def _submit_raw(request: BinanceRequest, command: AnyCommand, command_id: bytes | None) -> Applied:
    return request.context.engine.conclude(await _begin(request, command, command_id))


def _conclude(request: BinanceRequest, response: asyncio.Future[Response], action: Action) -> Applied:
    try:
        return request.context.engine.conclude(response.result())
    except EngineError as error:
        raise refusal_of(error, action) from None


def _begin(request: BinanceRequest, command: AnyCommand, command_id: bytes | None) -> asyncio.Future[Response]:
    context = request.context
    timeout_s = context.settings.engine_timeout_s
    if command_id is None:
        return context.engine.begin(command, request_id=request.request_id, timeout_s=timeout_s)
    return context.engine.begin(
        command,
        request_id=request.request_id,
        command_id=command_id,
        request_hash=idempotency.request_hash_of(request),
        timeout_s=timeout_s,
    )


def _cancel_id(request: BinanceRequest, name: str, command_id: bytes | None) -> str:
    return optional_client_order_id(request.parameters, name) or idempotency.client_order_id(command_id)


def _order_states(events: Sequence[AnyEvent]) -> list[OrderState]:
    return [event for event in events if type(event) is OrderState]


def _placed(request: BinanceRequest, market: Market, response_type: str, applied: Applied) -> bytes:
    events = applied.events
    order = next(event for event in events if type(event) is OrderState and event.is_new)
    if response_type == reading.ACK:
        return rendering.acknowledgement(market, order, applied.time_us, request.time_divisor)
    fills = rendering.fills_of(market, order, events) if response_type == reading.FULL else UNSET
    return rendering.result(market, order, applied.time_us, request.time_divisor, fills)


def _refused(rejected: Rejected, action: Action) -> Refusal:
    error = rejection_of(rejected, action)
    return Refusal(error.code, error.message)


def _nothing_replaced(refusal: CommandRejectedError) -> ApiError:
    """Report a cancel-replace of which nothing happened."""
    halves = refusal.rejections
    cancel_refusal = _refused(halves[0], "cancel")
    if len(halves) == 1:
        report = CancelReplacement("FAILURE", "NOT_ATTEMPTED", cancel_refusal, None)
    else:
        report = CancelReplacement("FAILURE", "FAILURE", cancel_refusal, _refused(halves[1], "order"))
    return ApiError(
        errors.CANCEL_REPLACE_FAILED, "Order cancel-replace failed.", data=msgspec.Raw(rendering.encode(report))
    )


def _replaced(
    request: BinanceRequest,
    market: Market,
    cancel_id: str,
    response_type: str,
    applied: Applied,
) -> bytes:
    """Report a cancel-replace of which at least one half happened; raises -2021 when it was only one."""
    refusals = {event.step: event for event in applied.events if type(event) is Rejected}
    cancel_refusal, order_refusal = refusals.get("cancel"), refusals.get("order")
    report = CancelReplacement(
        "FAILURE" if cancel_refusal else "SUCCESS",
        "FAILURE" if order_refusal else "SUCCESS",
        _refused(cancel_refusal, "cancel")
        if cancel_refusal
        else rendering.cancelled(
            market, _order_states(applied.events)[0], cancel_id, applied.time_us, request.time_divisor
        ),
        _refused(order_refusal, "order")
        if order_refusal
        else msgspec.Raw(_placed(request, market, response_type, applied)),
    )
    encoded = rendering.encode(report)
    if refusals:
        raise ApiError(
            errors.CANCEL_REPLACE_PARTIALLY_FAILED,
            "Order cancel-replace partially failed.",
            409,
            data=msgspec.Raw(encoded),
        )
    return encoded
