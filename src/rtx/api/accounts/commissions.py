"""What trading costs an account: the rates of its fee tier, which are the same in every market."""

from __future__ import annotations

from typing import Final

import msgspec

from rtx.api.accounts.schemas import (
    AccountCommission,
    CommissionRates,
    Discount,
    OrderCommission,
    OrderCommissionRates,
    TradeFee,
)
from rtx.api.context import ApiContext
from rtx.api.decimals import format_rate_ppm
from rtx.api.markets import Market
from rtx.store import markets as stored_markets
from rtx.store.markets import FeeTier

_ZERO: Final = format_rate_ppm(0)
_NO_RATES: Final = CommissionRates(_ZERO, _ZERO, _ZERO, _ZERO)
_NO_ORDER_RATES: Final = OrderCommissionRates(_ZERO, _ZERO)
_NO_DISCOUNT: Final = Discount(enabled_for_account=False, enabled_for_symbol=False, discount_asset="", discount=_ZERO)

_encode = msgspec.json.Encoder().encode


async def tier_of(context: ApiContext, account_id: int) -> FeeTier:
    """Give the fee tier that an account is in."""
    return await stored_markets.fee_tier_of(context.pool, account_id)


def rates_of(tier: FeeTier) -> CommissionRates:
    """Write the rates of a tier."""
    return CommissionRates(format_rate_ppm(tier.maker_rate_ppm), format_rate_ppm(tier.taker_rate_ppm), _ZERO, _ZERO)


async def rates_in_market(context: ApiContext, account_id: int, market: Market) -> bytes:
    """Encode the answer of /api/v3/account/commission."""
    rates = rates_of(await tier_of(context, account_id))
    return _encode(AccountCommission(market.symbol, rates, _NO_RATES, _NO_RATES, _NO_DISCOUNT))


async def rates_of_order(context: ApiContext, account_id: int) -> bytes:
    """Encode the answer of /api/v3/order/test with ``computeCommissionRates``."""
    rates = rates_of(await tier_of(context, account_id))
    return _encode(
        OrderCommission(OrderCommissionRates(rates.maker, rates.taker), _NO_ORDER_RATES, _NO_ORDER_RATES, _NO_DISCOUNT)
    )


async def trade_fees(context: ApiContext, account_id: int, market: Market | None) -> bytes:
    """Encode the answer of /sapi/v1/asset/tradeFee, for one market or for all."""
    rates = rates_of(await tier_of(context, account_id))
    markets = [market] if market is not None else list(context.markets.by_id.values())
    return _encode([TradeFee(listed.symbol, rates.maker, rates.taker) for listed in markets])
