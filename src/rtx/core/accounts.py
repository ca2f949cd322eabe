"""Accounts: what they own, what of it is held for open orders, and what they pay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtx.core.vocabulary import PassedOn

if TYPE_CHECKING:
    from rtx.core.orders import Order


class Balance:
    """What one account has of one asset, in smallest units; ``held`` is reserved by its open orders.

    ``changed``: the exchange has taken note that it changed.
    """

    __slots__ = ("account_id", "asset_id", "available", "changed", "held")

    def __init__(self, account_id: PassedOn, asset_id: PassedOn, available: int = 0, held: int = 0) -> None:
        self.account_id: PassedOn = account_id
        self.asset_id: PassedOn = asset_id
        self.available = available
        self.held = held
        self.changed = False


class Account:
    """One account; ``open_orders`` by market and client order id, which is unique among the open ones of a market."""

    __slots__ = ("account_id", "balances", "fee_tier", "maker_rate_ppm", "open_orders", "taker_rate_ppm")

    def __init__(self, account_id: int) -> None:
        self.account_id = account_id
        self.balances: dict[int, Balance] = {}
        self.open_orders: dict[int, dict[str, Order]] = {}
        self.fee_tier = 0
        self.maker_rate_ppm = 0
        self.taker_rate_ppm = 0

    def balance(self, asset_id: int) -> Balance:
        """The balance of an asset, made empty where there is none yet."""
        balance = self.balances.get(asset_id)
        if balance is None:
            balance = self.balances[asset_id] = Balance(self.account_id, asset_id)
        return balance

    def available(self, asset_id: int) -> int:
        """Smallest units available, without leaving a trace where the account has none."""
        balance = self.balances.get(asset_id)
        return balance.available if balance is not None else 0
