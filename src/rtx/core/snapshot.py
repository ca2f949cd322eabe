"""The whole state as bytes, and its hash.

The form is canonical: the same state gives the same bytes, whatever way led to it. A snapshot bounds how much of the
journal a start has to replay; the hash lets two exchanges compare themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

import msgspec

from rtx.core.accounts import Account
from rtx.core.book import BookOrder, BookSide
from rtx.core.commands import NewOrder
from rtx.core.events import MarketCreated
from rtx.core.exchange import Exchange
from rtx.core.market import Asset, Market
from rtx.core.orders import Order
from rtx.core.rules import FIRST_RULES, LATEST_RULES
from rtx.core.vocabulary import BUY

SNAPSHOT_VERSION: Final = 1
"""The form of a state by the first rules and without deadlines: all that programs before the second form know."""

SNAPSHOT_VERSION_WITH_RULES: Final = 2
"""The form of all other states; it says its number so that a program that would overlook the rest does not read it."""


class _OrderState(msgspec.Struct, array_like=True, gc=False):
    order_id: int
    account_id: int
    market_id: int
    side: int
    type: int
    time_in_force: int
    status: int
    price: int
    quantity: int
    remaining: int
    executed_quantity: int
    executed_quote_quantity: int
    client_order_id: str
    created_at_us: int
    working_at_us: int
    quote_quantity: int
    stop_price: int
    self_trade_prevention: int
    prevented_quantity: int


# One call for all fields of an order, and structures that the garbage collector does not count: a
# checkpoint takes half the time.
_fields_of: Final = attrgetter(*_OrderState.__struct_fields__)
_terms_of: Final = attrgetter(*NewOrder.__struct_fields__)


class _AccountState(msgspec.Struct, array_like=True, gc=False):
    account_id: int
    fee_tier: int
    balances: list[tuple[int, int, int]]


class _MarketState(msgspec.Struct, array_like=True, gc=False):
    definition: MarketCreated
    quote_per_tick_lot: int
    last_price: int
    next_trade_id: int
    bids: list[_OrderState]
    asks: list[_OrderState]
    waiting: list[_OrderState]


class _State(msgspec.Struct, array_like=True, gc=False):
    version: int
    time_us: int
    next_order_id: int
    fee_tiers: list[tuple[int, int, int]]
    assets: list[tuple[int, str, int, int]]
    markets: list[_MarketState]
    accounts: list[_AccountState]


class _StateWithRules(_State, array_like=True, gc=False):
    rules: int = FIRST_RULES
    deadlines: list[tuple[int, str, int]] = []


def dump(exchange: Exchange) -> bytes:
    """The state as MessagePack."""
    fields = (
        exchange.time_us,
        exchange.next_order_id,
        sorted((tier, *rates) for tier, rates in exchange.fee_tiers.items()),
        sorted((a.asset_id, a.symbol, a.scale, a.supply) for a in exchange.assets.values()),
        [_market_state(exchange, market) for _, market in sorted(exchange.markets.items())],
        [_account_state(account) for _, account in sorted(exchange.accounts.items())],
    )
    if exchange.rules == FIRST_RULES and not exchange.deadlines:
        return msgspec.msgpack.encode(_State(SNAPSHOT_VERSION, *fields))
    deadlines = sorted((*key, deadline_us) for key, deadline_us in exchange.deadlines.items())
    return msgspec.msgpack.encode(
        _StateWithRules(SNAPSHOT_VERSION_WITH_RULES, *fields, rules=exchange.rules, deadlines=deadlines)
    )


def load(data: bytes, latest_rules: int = LATEST_RULES) -> Exchange:
    """The exchange of which ``data`` is the dump.

    Raises ``ValueError`` on any other version or form, and on rules that are newer than ``latest_rules``.
    """
    state = msgspec.msgpack.decode(data, type=_StateWithRules)
    if state.version not in (SNAPSHOT_VERSION, SNAPSHOT_VERSION_WITH_RULES):
        raise ValueError(
            f"snapshot has version {state.version}, this program reads up to {SNAPSHOT_VERSION_WITH_RULES}"
        )
    if not FIRST_RULES <= state.rules <= latest_rules:
        raise ValueError(f"snapshot is of rules {state.rules}, this program knows rules up to {latest_rules}")
    exchange = Exchange(latest_rules)
    exchange.rules = state.rules
    exchange.time_us = state.time_us
    exchange.next_order_id = state.next_order_id
    exchange.fee_tiers = {tier: (maker, taker) for tier, maker, taker in state.fee_tiers}
    for asset_id, symbol, scale, supply in state.assets:
        exchange.assets[asset_id] = asset = Asset(asset_id, symbol, scale)
        asset.supply = supply
    for account_id, session, deadline_us in state.deadlines:
        exchange.set_deadline(account_id, session, deadline_us)
    for account_state in state.accounts:
        _load_account(exchange, account_state)
    for market_state in state.markets:
        _load_market(exchange, market_state)
    return exchange


def state_hash(exchange: Exchange) -> bytes:
    """SHA-256 of the canonical dump (32 bytes)."""
    return hashlib.sha256(dump(exchange)).digest()


def _market_state(exchange: Exchange, market: Market) -> _MarketState:
    waiting = sorted(order_id for _, order_id in market.waiting.rising + market.waiting.falling)
    definition = MarketCreated(
        market.market_id,
        market.symbol,
        market.base_asset_id,
        market.quote_asset_id,
        market.tick_size,
        market.lot_size,
        market.filters,
        market.status,
    )
    return _MarketState(
        definition,
        market.quote_per_tick_lot,
        market.last_price,
        market.next_trade_id,
        [_OrderState(*_fields_of(order)) for order in _orders_by_priority(market.book.bids)],
        [_OrderState(*_fields_of(order)) for order in _orders_by_priority(market.book.asks)],
        [_OrderState(*_fields_of(exchange.orders[order_id])) for order_id in waiting],
    )


def _orders_by_priority(side: BookSide) -> Iterator[BookOrder]:
    for key in reversed(side.keys):
        yield from side.levels[key * side.sign].orders()


def _account_state(account: Account) -> _AccountState:
    balances = sorted((b.asset_id, b.available, b.held) for b in account.balances.values())
    return _AccountState(account.account_id, account.fee_tier, balances)


def _load_account(exchange: Exchange, state: _AccountState) -> None:
    account = exchange.open_account(state.account_id)
    account.fee_tier = state.fee_tier
    account.maker_rate_ppm, account.taker_rate_ppm = exchange.fee_tiers[state.fee_tier]
    for asset_id, available, held in state.balances:
        balance = account.balance(asset_id)
        balance.available = available
        balance.held = held


def _load_market(exchange: Exchange, state: _MarketState) -> None:
    market = Market(state.definition, state.quote_per_tick_lot)
    market.set_last_price(state.last_price)
    market.next_trade_id = state.next_trade_id
    exchange.markets[market.market_id] = market
    for order_state in state.bids + state.asks:
        if market.book.place(_load_order(exchange, market, order_state), market.quote_per_tick_lot) is not None:
            raise ValueError(f"snapshot has a crossed book in market {market.market_id}")
    for order_state in state.waiting:
        market.waiting.add(_load_order(exchange, market, order_state))
    market.book.bids.take_changed()
    market.book.asks.take_changed()


def _load_order(exchange: Exchange, market: Market, state: _OrderState) -> Order:
    terms = _terms_of(state)
    arguments = (state.order_id, terms, *terms[:8], state.created_at_us, state.working_at_us, *terms[8:])
    order = Order(*arguments)
    order.status = state.status
    order.remaining = state.remaining
    order.executed_quantity = state.executed_quantity
    order.executed_quote_quantity = state.executed_quote_quantity
    order.prevented_quantity = state.prevented_quantity
    account = exchange.accounts[order.account_id]
    order.balance = account.balances[market.quote_asset_id if order.side == BUY else market.base_asset_id]
    exchange.list_as_open(account, order)
    return order
