"""The account objects of Binance's REST API, field for field."""

from __future__ import annotations

from msgspec import Struct


class CommissionRates(Struct, frozen=True, gc=False):
    """Rates by role; nothing is charged for the side."""

    maker: str
    taker: str
    buyer: str
    seller: str


class OrderCommissionRates(Struct, frozen=True, gc=False):
    """Rates of an order's trades by role."""

    maker: str
    taker: str


class Discount(Struct, frozen=True, rename="camel", gc=False):
    """Binance's discount for paying in its own coin, which this exchange does not have."""

    enabled_for_account: bool
    enabled_for_symbol: bool
    discount_asset: str
    discount: str


class AccountCommission(Struct, frozen=True, rename="camel", gc=False):
    """What trading costs an account in a market."""

    symbol: str
    standard_commission: CommissionRates
    special_commission: CommissionRates
    tax_commission: CommissionRates
    discount: Discount


class OrderCommission(Struct, frozen=True, rename="camel", gc=False):
    """What the trades of an order would cost."""

    standard_commission_for_order: OrderCommissionRates
    special_commission_for_order: OrderCommissionRates
    tax_commission_for_order: OrderCommissionRates
    discount: Discount


class TradeFee(Struct, frozen=True, rename="camel", gc=False):
    """An entry of /sapi/v1/asset/tradeFee."""

    symbol: str
    maker_commission: str
    taker_commission: str


class AssetBalance(Struct, frozen=True, gc=False):
    """What an account has of an asset."""

    asset: str
    free: str
    locked: str


class AccountInformation(Struct, frozen=True, rename="camel", gc=False):
    """An account. The ``*_commission`` are basis points."""

    maker_commission: int
    taker_commission: int
    buyer_commission: int
    seller_commission: int
    commission_rates: CommissionRates
    can_trade: bool
    can_withdraw: bool
    can_deposit: bool
    brokered: bool
    require_self_trade_prevention: bool
    prevent_sor: bool
    update_time: int
    account_type: str
    balances: list[AssetBalance]
    permissions: list[str]
    uid: int


class OwnTrade(Struct, frozen=True, rename="camel", gc=False):
    """A trade of the account."""

    symbol: str
    id: int
    order_id: int
    order_list_id: int
    price: str
    qty: str
    quote_qty: str
    commission: str
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool
    is_best_match: bool


class CoinNetwork(Struct, frozen=True, rename="camel", gc=False):
    """A way in and out for a coin; ours is the operator's desk."""

    network: str
    coin: str
    name: str
    is_default: bool
    deposit_enable: bool
    withdraw_enable: bool
    withdraw_fee: str
    withdraw_min: str
    withdraw_max: str
    withdraw_integer_multiple: str
    min_confirm: int
    un_lock_confirm: int
    same_address: bool


class Coin(Struct, frozen=True, rename="camel", gc=False):
    """An entry of /sapi/v1/capital/config/getall."""

    coin: str
    name: str
    deposit_all_enable: bool
    withdraw_all_enable: bool
    free: str
    locked: str
    freeze: str
    withdrawing: str
    ipoing: str
    ipoable: str
    storage: str
    is_legal_money: bool
    trading: bool
    network_list: list[CoinNetwork]
