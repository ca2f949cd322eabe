"""Deposits and withdrawals: what comes in from outside and goes out again, once for each reference."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from rtx.api.admin.commands import submit
from rtx.api.auth.json_body import JsonObject, refuse
from rtx.api.context import ApiContext
from rtx.api.errors import INVALID_PARAMETER, ApiError
from rtx.api.markets import Asset
from rtx.core.commands import Deposit, Withdraw
from rtx.core.events import Deposited, Withdrawn
from rtx.store import users

Kind = Literal["deposit", "withdrawal"]

MEMBERS = ("userId", "asset", "amount", "reference")

REFERENCE_REUSED: Final = -9016

_MAXIMUM_REFERENCE_LENGTH = 128
_MAXIMUM_SYMBOL_LENGTH = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that is in the journal at ``sequence`` since ``time_us``."""

    command: Deposit | Withdraw
    asset: Asset
    sequence: int
    time_us: int


async def transfer(context: ApiContext, kind: Kind, body: JsonObject, operator_id: int, request_id: str) -> Transfer:
    """Carry out the transfer that a body describes; one with a known reference gets the answer of the first time.

    Raises :class:`ApiError`: 400 for wrong members and too little balance, 409 for a reference with other content.
    """
    command, asset = await _read(context, kind, body)
    # Without a request hash a refusal is not kept: a withdrawal refused for want of money may be sent again later.
    applied = await submit(context, command, request_id, command_id=transfer_command_id(kind, command.reference))
    if list(applied.events) != [_event_of(command)]:
        raise ApiError(
            REFERENCE_REUSED,
            f"The reference {command.reference!r} was already used for a {kind} with another user, asset or amount.",
            409,
            field="reference",
        )
    _log.info(
        kind,
        operator_id=operator_id,
        user_id=command.account_id,
        asset=asset.symbol,
        amount=asset.text(command.amount),
        reference=command.reference,
        sequence=applied.sequence,
        request_id=request_id,
    )
    return Transfer(command, asset, applied.sequence, applied.time_us)


def transfer_command_id(kind: Kind, reference: str) -> bytes:
    """The id (16 bytes) under which the journal holds the transfer with this reference."""
    return hashlib.sha256(b"transfer" + kind.encode() + reference.encode()).digest()[:16]


def _event_of(command: Deposit | Withdraw) -> Deposited | Withdrawn:
    """What the journal holds when exactly this transfer was made."""
    make = Deposited if isinstance(command, Deposit) else Withdrawn
    return make(command.account_id, command.asset_id, command.amount, command.reference)


async def _read(context: ApiContext, kind: Kind, body: JsonObject) -> tuple[Deposit | Withdraw, Asset]:
    user_id = body.integer("userId", 1, 2**63 - 1)
    asset_symbol = body.text("asset", _MAXIMUM_SYMBOL_LENGTH)
    reference = body.text("reference", _MAXIMUM_REFERENCE_LENGTH)
    asset = await context.markets.find_asset(asset_symbol)
    if asset is None:
        raise ApiError(INVALID_PARAMETER, f"There is no asset '{asset_symbol}'.", field="asset")
    amount = body.decimal("amount", asset.scale)
    if amount == 0:
        refuse("amount", "must be more than 0")
    if await users.by_id(context.pool, user_id) is None:
        raise ApiError(INVALID_PARAMETER, f"There is no user {user_id}.", field="userId")
    make = Deposit if kind == "deposit" else Withdraw
    return make(user_id, asset.asset_id, amount, reference), asset
