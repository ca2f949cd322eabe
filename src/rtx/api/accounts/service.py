"""Puts together what an account owns and did."""

from __future__ import annotations

from typing import Final

from rtx.api.accounts.commissions import rates_of, tier_of
from rtx.api.accounts.schemas import AccountInformation, AssetBalance, Coin, CoinNetwork, OwnTrade
from rtx.api.context import ApiContext
from rtx.api.markets import Asset, Market
from rtx.store import balances as stored_balances
from rtx.store import trades as stored_trades
from rtx.store.balances import Balance
from rtx.store.journal import JournalStore

_PPM_PER_BASIS_POINT: Final = 100

NETWORK: Final = "OPERATOR"
"""The one way in and out: an operator's deposit or withdrawal."""


async def information(
    context: ApiContext, account_id: int, *, omit_zero_balances: bool, time_divisor: int
) -> AccountInformation:
    """Give an account with its balances; every asset is listed unless zero balances are omitted."""
    balances = await _balances(context, account_id)
    tier = await tier_of(context, account_id)
    listed = []
    for asset in context.markets.assets_by_id.values():
        balance = balances.get(asset.asset_id)
        available, held = (balance.available, balance.held) if balance else (0, 0)
        if available or held or not omit_zero_balances:
            listed.append(AssetBalance(asset.symbol, asset.text(available), asset.text(held)))
    return AccountInformation(
        maker_commission=tier.maker_rate_ppm // _PPM_PER_BASIS_POINT,
        taker_commission=tier.taker_rate_ppm // _PPM_PER_BASIS_POINT,
        buyer_commission=0,
        seller_commission=0,
        commission_rates=rates_of(tier),
        can_trade=True,
        can_withdraw=True,
        can_deposit=True,
        brokered=False,
        require_self_trade_prevention=False,
        prevent_sor=False,
        update_time=await _updated_at_us(context, balances) // time_divisor,
        account_type="SPOT",
        balances=listed,
        permissions=["SPOT"],
        uid=account_id,
    )


async def trades(
    context: ApiContext,
    account_id: int,
    market: Market,
    *,
    order_id: int | None,
    from_id: int | None,
    start_time_us: int | None,
    end_time_us: int | None,
    limit: int,
    time_divisor: int,
) -> list[OwnTrade]:
    """Give trades of an account in a market, ascending."""
    found = await context.history.read(
        lambda database: stored_trades.of_account(
            database,
            account_id,
            market.market_id,
            order_id=order_id,
            from_id=from_id,
            start_time_us=start_time_us,
            end_time_us=end_time_us,
            limit=limit,
        )
    )
    listed = []
    for trade in found:
        received = market.base if trade.is_buyer else market.quote
        listed.append(
            OwnTrade(
                symbol=market.symbol,
                id=trade.trade_id,
                order_id=trade.order_id,
                order_list_id=-1,
                price=market.price_text(trade.price),
                qty=market.quantity_text(trade.quantity),
                quote_qty=market.quote_text(trade.quote_quantity),
                commission=received.text(trade.fee),
                commission_asset=received.symbol,
                time=trade.time_us // time_divisor,
                is_buyer=trade.is_buyer,
                is_maker=trade.is_maker,
                is_best_match=True,
            )
        )
    return listed


async def coins(context: ApiContext, account_id: int) -> list[Coin]:
    """Give every asset with what the account has of it."""
    balances = await _balances(context, account_id)
    return [_coin(asset, balances.get(asset.asset_id)) for asset in context.markets.assets_by_id.values()]


async def _balances(context: ApiContext, account_id: int) -> dict[int, Balance]:
    balances = {balance.asset_id: balance for balance in await stored_balances.find(context.pool, account_id)}
    for asset_id in balances:
        await context.markets.find_asset_by_id(asset_id)
    return balances


async def _updated_at_us(context: ApiContext, balances: dict[int, Balance]) -> int:
    """Give the time of the last command that changed a balance; 0 when there was none."""
    sequence = max((balance.updated_sequence for balance in balances.values()), default=0)
    if not sequence:
        return 0
    entries = await JournalStore(context.pool).read_after(sequence - 1, 1)
    return entries[0].time_us if entries else 0


def _coin(asset: Asset, balance: Balance | None) -> Coin:
    zero = asset.text(0)
    return Coin(
        coin=asset.symbol,
        name=asset.symbol,
        deposit_all_enable=True,
        withdraw_all_enable=True,
        free=asset.text(balance.available) if balance else zero,
        locked=asset.text(balance.held) if balance else zero,
        freeze=zero,
        withdrawing=zero,
        ipoing=zero,
        ipoable=zero,
        storage=zero,
        is_legal_money=False,
        trading=True,
        network_list=[
            CoinNetwork(
                network=NETWORK,
                coin=asset.symbol,
                name=NETWORK,
                is_default=True,
                deposit_enable=True,
                withdraw_enable=True,
                withdraw_fee=zero,
                withdraw_min=asset.text(1),
                withdraw_max="9999999999",
                withdraw_integer_multiple=asset.text(1),
                min_confirm=0,
                un_lock_confirm=0,
                same_address=False,
            )
        ],
    )
