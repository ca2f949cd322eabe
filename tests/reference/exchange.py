"""The reference exchange: every rule of the exchange in its most obvious form.

It exists to be compared with :mod:`rtx.core`, so it shares nothing with it but the commands, the names of the reasons
and the numbers of the vocabularies. There are no books, no indexes and no running totals: one list of open orders,
sorted whenever a best price is asked for; what an account holds is added up from its open orders every time. Slow, on
purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rtx.core.commands import (
    ActivateRules,
    AmendOrder,
    AnyCommand,
    CancelAllAfter,
    CancelAllOrders,
    CancelOrder,
    CancelReplaceOrder,
    Checkpoint,
    CreateAsset,
    CreateMarket,
    Deposit,
    ExpireCancelAllAfter,
    ExtendDeadlines,
    MarketFilters,
    NewOrder,
    SetAccountFeeTier,
    SetFeeTier,
    SetMarketFilters,
    SetMarketStatus,
    Withdraw,
)
from rtx.core.rejections import Reason
from rtx.core.vocabulary import (
    EXTERNAL_ACCOUNT_ID,
    FEE_ACCOUNT_ID,
    MAXIMUM_AMOUNT,
    CancelRestriction,
    MarketStatus,
    OrderStatus,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

STOP_TYPES = {
    OrderType.STOP_LOSS,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT,
    OrderType.TAKE_PROFIT_LIMIT,
}
STOP_MARKET_TYPES = {OrderType.STOP_LOSS, OrderType.TAKE_PROFIT}
STOP_LOSS_TYPES = {OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT}
PRICED_TYPES = {
    OrderType.LIMIT,
    OrderType.LIMIT_MAKER,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT_LIMIT,
}
TIME_IN_FORCE_TYPES = {OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT}
WHOLE = 1_000_000
NEWEST_RULES = 2
A_DAY_US = 86_400_000_000


class RefusedError(Exception):
    """The rules forbid it; nothing has been changed yet."""

    def __init__(self, reason: Reason, field_name: str = "") -> None:
        super().__init__(reason.name, field_name)
        self.reason = reason
        self.field_name = field_name


@dataclass
class Asset:
    """Something that can be owned, in units of 10**-scale."""

    asset_id: int
    symbol: str
    scale: int


@dataclass
class Market:
    """One pair; ``quote_per_tick_lot`` is what one lot costs at a price of one tick, in smallest quote units."""

    market_id: int
    symbol: str
    base: int
    quote: int
    lot_size: int
    quote_per_tick_lot: int
    filters: MarketFilters
    status: int
    last_price: int | None = None
    trades: int = 0


@dataclass(eq=False)
class Order:
    """An order; ``arrival`` ranks orders of one price, ``waiting`` is a stop order that has not been triggered."""

    order_id: int
    account_id: int
    market_id: int
    side: int
    type: int
    time_in_force: int
    price: int
    quantity: int
    quote_quantity: int
    stop_price: int
    self_trade_prevention: int
    client_order_id: str
    created_at_us: int
    working_at_us: int
    waiting: bool
    status: int = OrderStatus.NEW
    executed: int = 0
    executed_quote: int = 0
    prevented: int = 0
    arrival: int = 0

    @property
    def remaining(self) -> int:
        """Lots that may still trade."""
        return self.quantity - self.executed - self.prevented


@dataclass(frozen=True)
class Fill:
    """One trade."""

    market_id: int
    trade_id: int
    price: int
    quantity: int
    quote_quantity: int
    taker_side: int
    maker_order_id: int
    taker_order_id: int
    maker_account_id: int
    taker_account_id: int
    maker_fee: int
    taker_fee: int


@dataclass(frozen=True)
class Refusal:
    """What was refused: the whole command (step "") or one half of a cancel-replace ("cancel", "order")."""

    step: str
    reason: int
    field_name: str


@dataclass
class Outcome:
    """All that one command did; ``changed`` tells whether it did anything at all.

    ``announced``: what it did besides fills and orders, as the event's name and fields.
    """

    announced: list[tuple[object, ...]] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    changed: bool = True


class ReferenceExchange:
    """All accounts and markets in plain lists and dictionaries."""

    def __init__(self) -> None:
        self.assets: dict[int, Asset] = {}
        self.markets: dict[int, Market] = {}
        self.totals: dict[tuple[int, int], int] = {}
        self.fee_tiers: dict[int, tuple[int, int]] = {0: (0, 0)}
        self.account_tiers: dict[int, int] = {}
        self.open_orders: list[Order] = []
        self.last_order_id = 0
        self.last_arrival = 0
        self.time_us = 0
        self.rules = 1
        self.deadlines: dict[tuple[int, str], int] = {}
        self.announced: list[tuple[object, ...]] = []
        self.fills: list[Fill] = []
        self.touched: list[Order] = []
        self.refusals: list[Refusal] = []

    # ------------------------------------------------------------------ what others look at

    def apply(self, command: AnyCommand, time_us: int) -> Outcome:
        """Do one command and say what happened; a refused one changes nothing."""
        self.time_us = time_us
        self.announced, self.fills, self.touched, self.refusals = [], [], [], []
        try:
            self._dispatch(command)
        except RefusedError as refused:
            return Outcome(refusals=[_refusal(refused)], changed=False)
        changed = len(self.refusals) < 2
        return Outcome(self.announced, self.fills, [replace(order) for order in self.touched], self.refusals, changed)

    def held(self, account_id: int, asset_id: int) -> int:
        """What the open orders of the account reserve, in smallest units of the asset."""
        amount = 0
        for order in self.open_orders:
            if order.account_id == account_id:
                held_asset, held_amount = self._reservation(order)
                if held_asset == asset_id:
                    amount += held_amount
        return amount

    def available(self, account_id: int, asset_id: int) -> int:
        """What the account may spend."""
        return self.totals.get((account_id, asset_id), 0) - self.held(account_id, asset_id)

    def balances(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(account, asset) -> (available, held) of all that are not zero."""
        held: dict[tuple[int, int], int] = {}
        for order in self.open_orders:
            asset_id, amount = self._reservation(order)
            held[order.account_id, asset_id] = held.get((order.account_id, asset_id), 0) + amount
        result = {}
        for key, total in self.totals.items():
            if total != 0:
                result[key] = (total - held.get(key, 0), held.get(key, 0))
        return result

    def levels(self, market_id: int, side: int) -> list[tuple[int, int]]:
        """(price, lots) of one side of the book, best first."""
        quantities: dict[int, int] = {}
        for order in self._resting(market_id, side):
            quantities[order.price] = quantities.get(order.price, 0) + order.remaining
        return sorted(quantities.items(), reverse=side == Side.BUY)

    # ------------------------------------------------------------------ commands

    def _dispatch(self, command: AnyCommand) -> None:
        match command:
            case NewOrder():
                self._new_order(command)
            case CancelOrder():
                self._cancel(command)
            case CancelAllOrders():
                self._cancel_all(command)
            case CancelReplaceOrder():
                self._cancel_replace(command)
            case AmendOrder():
                self._amend(command)
            case Deposit():
                self._deposit(command)
            case Withdraw():
                self._withdraw(command)
            case CreateAsset():
                self._create_asset(command)
            case CreateMarket():
                self._create_market(command)
            case SetMarketStatus():
                self._set_market_status(command)
            case SetMarketFilters():
                market = self._market(command.market_id)
                _check_filters(command.filters)
                market.filters = command.filters
            case SetFeeTier():
                self._set_fee_tier(command)
            case SetAccountFeeTier():
                self._set_account_fee_tier(command)
            case Checkpoint():
                pass
            case ActivateRules():
                self._activate_rules(command)
            case CancelAllAfter():
                self._cancel_all_after(command)
            case ExpireCancelAllAfter():
                self._expire_cancel_all_after(command)
            case ExtendDeadlines():
                self._extend_deadlines(command)

    def _check_transfer(self, command: Deposit | Withdraw) -> None:
        if command.asset_id not in self.assets:
            raise RefusedError(Reason.UNKNOWN_ASSET, "asset_id")
        if not 1 <= command.account_id <= MAXIMUM_AMOUNT or command.account_id == EXTERNAL_ACCOUNT_ID:
            raise RefusedError(Reason.INVALID_FIELD, "account_id")
        if command.amount < 1:
            raise RefusedError(Reason.AMOUNT_NOT_POSITIVE, "amount")
        if not command.reference:
            raise RefusedError(Reason.INVALID_FIELD, "reference")

    def _deposit(self, command: Deposit) -> None:
        self._check_transfer(command)
        in_existence = -self.totals.get((EXTERNAL_ACCOUNT_ID, command.asset_id), 0)
        if in_existence + command.amount > MAXIMUM_AMOUNT:
            raise RefusedError(Reason.AMOUNT_TOO_LARGE, "amount")
        self._move(command.asset_id, command.amount, EXTERNAL_ACCOUNT_ID, command.account_id)

    def _withdraw(self, command: Withdraw) -> None:
        self._check_transfer(command)
        if self.available(command.account_id, command.asset_id) < command.amount:
            raise RefusedError(Reason.INSUFFICIENT_BALANCE)
        self._move(command.asset_id, command.amount, command.account_id, EXTERNAL_ACCOUNT_ID)

    def _create_asset(self, command: CreateAsset) -> None:
        if not command.symbol:
            raise RefusedError(Reason.INVALID_FIELD, "symbol")
        if not 0 <= command.scale <= 18:
            raise RefusedError(Reason.INVALID_FIELD, "scale")
        if any(asset.symbol == command.symbol for asset in self.assets.values()):
            raise RefusedError(Reason.ASSET_EXISTS, "symbol")
        asset_id = len(self.assets) + 1
        self.assets[asset_id] = Asset(asset_id, command.symbol, command.scale)

    def _create_market(self, command: CreateMarket) -> None:
        if any(market.symbol == command.symbol for market in self.markets.values()):
            raise RefusedError(Reason.MARKET_EXISTS, "symbol")
        if command.base_asset_id not in self.assets:
            raise RefusedError(Reason.UNKNOWN_ASSET, "base_asset_id")
        if command.quote_asset_id not in self.assets:
            raise RefusedError(Reason.UNKNOWN_ASSET, "quote_asset_id")
        if not command.symbol:
            raise RefusedError(Reason.INVALID_FIELD, "symbol")
        if command.base_asset_id == command.quote_asset_id:
            raise RefusedError(Reason.INVALID_FIELD, "quote_asset_id")
        if not 1 <= command.tick_size <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, "tick_size")
        if not 1 <= command.lot_size <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, "lot_size")
        if command.status not in list(MarketStatus):
            raise RefusedError(Reason.INVALID_FIELD, "status")
        one_base_unit = 10 ** self.assets[command.base_asset_id].scale
        if command.tick_size * command.lot_size % one_base_unit != 0:
            raise RefusedError(Reason.TICK_LOT_NOT_WHOLE, "lot_size")
        if command.tick_size * command.lot_size // one_base_unit > MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, "tick_size")
        _check_filters(command.filters)
        market_id = len(self.markets) + 1
        self.markets[market_id] = Market(
            market_id=market_id,
            symbol=command.symbol,
            base=command.base_asset_id,
            quote=command.quote_asset_id,
            lot_size=command.lot_size,
            quote_per_tick_lot=command.tick_size * command.lot_size // one_base_unit,
            filters=command.filters,
            status=command.status,
        )

    def _set_market_status(self, command: SetMarketStatus) -> None:
        market = self._market(command.market_id)
        if command.status not in list(MarketStatus):
            raise RefusedError(Reason.INVALID_FIELD, "status")
        if market.status == command.status:
            raise RefusedError(Reason.MARKET_STATUS_UNCHANGED, "status")
        market.status = command.status

    def _set_fee_tier(self, command: SetFeeTier) -> None:
        if not 0 <= command.tier <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, "tier")
        if not 0 <= command.maker_rate_ppm <= WHOLE:
            raise RefusedError(Reason.INVALID_FIELD, "maker_rate_ppm")
        if not 0 <= command.taker_rate_ppm <= WHOLE:
            raise RefusedError(Reason.INVALID_FIELD, "taker_rate_ppm")
        self.fee_tiers[command.tier] = (command.maker_rate_ppm, command.taker_rate_ppm)

    def _set_account_fee_tier(self, command: SetAccountFeeTier) -> None:
        if command.tier not in self.fee_tiers:
            raise RefusedError(Reason.UNKNOWN_FEE_TIER, "tier")
        if not 1 <= command.account_id <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, "account_id")
        self.account_tiers[command.account_id] = command.tier

    # ------------------------------------------------------------------ cancelling and amending

    def _cancel(self, command: CancelOrder) -> None:
        market = self._market(command.market_id)
        if market.status not in (MarketStatus.TRADING, MarketStatus.CANCEL_ONLY):
            raise RefusedError(Reason.MARKET_CLOSED)
        if command.restriction not in list(CancelRestriction):
            raise RefusedError(Reason.INVALID_FIELD, "restriction")
        order = self._find(command.account_id, command.market_id, command.order_id, command.client_order_id)
        if command.restriction == CancelRestriction.ONLY_NEW and order.status != OrderStatus.NEW:
            raise RefusedError(Reason.CANCEL_RESTRICTED)
        if (
            command.restriction == CancelRestriction.ONLY_PARTIALLY_FILLED
            and order.status != OrderStatus.PARTIALLY_FILLED
        ):
            raise RefusedError(Reason.CANCEL_RESTRICTED)
        self._touch(order)
        self._close(order, OrderStatus.CANCELED)

    def _cancel_all(self, command: CancelAllOrders) -> None:
        if command.market_id != 0:
            market = self._market(command.market_id)
            if market.status not in (MarketStatus.TRADING, MarketStatus.CANCEL_ONLY):
                raise RefusedError(Reason.MARKET_CLOSED)
        if not self._close_all(command.account_id, command.market_id):
            raise RefusedError(Reason.UNKNOWN_ORDER)

    def _close_all(self, account_id: int, market_id: int) -> bool:
        """Cancel what an account has in a market (0: in any); tells whether there was anything."""
        chosen = [
            order
            for order in self.open_orders
            if order.account_id == account_id
            and market_id in (0, order.market_id)
            and self.markets[order.market_id].status in (MarketStatus.TRADING, MarketStatus.CANCEL_ONLY)
        ]
        for order in sorted(chosen, key=lambda order: order.order_id):
            self._touch(order)
            self._close(order, OrderStatus.CANCELED)
        return bool(chosen)

    def _cancel_all_after(self, command: CancelAllAfter) -> None:
        if not FEE_ACCOUNT_ID < command.account_id <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, "account_id")
        if len(command.session) > 64:
            raise RefusedError(Reason.INVALID_FIELD, "session")
        if not 0 <= command.timeout_us <= A_DAY_US:
            raise RefusedError(Reason.INVALID_FIELD, "timeout_us")
        if command.renews and (command.account_id, command.session) not in self.deadlines:
            raise RefusedError(Reason.UNKNOWN_DEADLINE, "session")
        others = [key for key in self.deadlines if key[0] == command.account_id and key[1] != command.session]
        deadline_us = 0
        if command.timeout_us == 0:
            self.deadlines.pop((command.account_id, command.session), None)
        else:
            is_armed = (command.account_id, command.session) in self.deadlines
            if not is_armed and len(others) >= 32:
                raise RefusedError(Reason.INVALID_FIELD, "session")
            deadline_us = self.time_us + command.timeout_us
            self.deadlines[command.account_id, command.session] = deadline_us
        self.announced.append(("CancelAllAfterSet", command.account_id, command.session, deadline_us))

    def _expire_cancel_all_after(self, command: ExpireCancelAllAfter) -> None:
        if ((command.account_id, command.session), command.deadline_us) not in self.deadlines.items():
            raise RefusedError(Reason.UNKNOWN_DEADLINE, "deadline_us")
        del self.deadlines[command.account_id, command.session]
        self.announced.append(("CancelAllAfterSet", command.account_id, command.session, 0))
        self._close_all(command.account_id, 0)

    def _extend_deadlines(self, command: ExtendDeadlines) -> None:
        extended = {key: deadline_us + command.away_us for key, deadline_us in self.deadlines.items()}
        if command.away_us < 1 or any(late > MAXIMUM_AMOUNT for late in (command.away_us, *extended.values())):
            raise RefusedError(Reason.INVALID_FIELD, "away_us")
        self.deadlines = extended
        self.announced.append(("DeadlinesExtended", command.away_us))

    def _activate_rules(self, command: ActivateRules) -> None:
        if command.version <= self.rules:
            raise RefusedError(Reason.RULES_NOT_NEWER, "version")
        if command.version > NEWEST_RULES:
            raise RefusedError(Reason.UNKNOWN_RULES, "version")
        self.rules = command.version
        self.announced.append(("RulesActivated", command.version))

    def _cancel_replace(self, command: CancelReplaceOrder) -> None:
        cancel, order = command.cancel, command.order
        if cancel.account_id != order.account_id or cancel.market_id != order.market_id:
            raise RefusedError(Reason.INVALID_FIELD, "order")
        try:
            self._cancel(command.cancel)
        except RefusedError as refused:
            self.refusals.append(_refusal(refused, "cancel"))
            if command.stop_on_failure:
                raise
        try:
            self._new_order(command.order)
        except RefusedError as refused:
            self.refusals.append(_refusal(refused, "order"))

    def _amend(self, command: AmendOrder) -> None:
        market = self._market(command.market_id)
        if market.status not in (MarketStatus.TRADING, MarketStatus.CANCEL_ONLY):
            raise RefusedError(Reason.MARKET_CLOSED)
        order = self._find(command.account_id, command.market_id, command.order_id, command.client_order_id)
        if command.quantity == order.quantity:
            raise RefusedError(Reason.AMEND_CHANGES_NOTHING)
        if command.quantity > order.quantity or command.quantity <= order.executed + order.prevented:
            raise RefusedError(Reason.AMEND_NOT_A_REDUCTION, "quantity")
        if command.quantity < market.filters.minimum_quantity:
            raise RefusedError(Reason.FILTER_LOT_SIZE, "quantity")
        new_client_order_id = command.new_client_order_id or order.client_order_id
        if new_client_order_id != order.client_order_id:
            self._check_client_order_id(command.account_id, command.market_id, new_client_order_id)
        self._touch(order)
        order.quantity = command.quantity
        order.client_order_id = new_client_order_id

    # ------------------------------------------------------------------ placing an order: the checks

    def _new_order(self, command: NewOrder) -> None:
        market = self._market(command.market_id)
        if market.status != MarketStatus.TRADING:
            raise RefusedError(Reason.MARKET_CLOSED)
        _check_fields(command)
        self._check_price_filters(command, market)
        self._check_quantity_filters(command, market)
        self._check_percent_price(command, market)
        self._check_notional(command, market)
        self._check_open_orders(command, market)
        self._check_client_order_id(command.account_id, command.market_id, command.client_order_id)
        self._check_stop_price(command, market)
        self._check_balance(command, market)
        if command.type == OrderType.LIMIT_MAKER and self._crossing(command):
            raise RefusedError(Reason.WOULD_MATCH_IMMEDIATELY)
        self._place(command, market)

    def _check_price_filters(self, command: NewOrder, market: Market) -> None:
        for name, price in (("price", command.price), ("stop_price", command.stop_price)):
            if price == 0:
                continue
            if price < market.filters.minimum_price:
                raise RefusedError(Reason.FILTER_PRICE, name)
            if market.filters.maximum_price and price > market.filters.maximum_price:
                raise RefusedError(Reason.FILTER_PRICE, name)

    def _check_quantity_filters(self, command: NewOrder, market: Market) -> None:
        filters = market.filters
        quantity = command.quantity
        if quantity == 0:
            return
        if quantity < filters.minimum_quantity or 0 < filters.maximum_quantity < quantity:
            raise RefusedError(Reason.FILTER_LOT_SIZE, "quantity")
        if command.type in PRICED_TYPES:
            return
        if quantity < filters.market_minimum_quantity or 0 < filters.market_maximum_quantity < quantity:
            raise RefusedError(Reason.FILTER_MARKET_LOT_SIZE, "quantity")

    def _check_percent_price(self, command: NewOrder, market: Market) -> None:
        if command.type not in PRICED_TYPES or market.last_price is None:
            return
        filters = market.filters
        if command.side == Side.BUY:
            up, down = filters.bid_multiplier_up, filters.bid_multiplier_down
        else:
            up, down = filters.ask_multiplier_up, filters.ask_multiplier_down
        if up and command.price * WHOLE > market.last_price * up:
            raise RefusedError(Reason.FILTER_PERCENT_PRICE_BY_SIDE, "price")
        if down and command.price * WHOLE < market.last_price * down:
            raise RefusedError(Reason.FILTER_PERCENT_PRICE_BY_SIDE, "price")

    def _check_notional(self, command: NewOrder, market: Market) -> None:
        filters = market.filters
        minimum, maximum = filters.minimum_notional, filters.maximum_notional
        if command.type == OrderType.MARKET:
            if not filters.apply_minimum_to_market:
                minimum = 0
            if not filters.apply_maximum_to_market:
                maximum = 0
        if command.quote_quantity:
            notional = command.quote_quantity
        elif command.type == OrderType.MARKET:
            if market.last_price is None:
                return
            notional = market.last_price * command.quantity * market.quote_per_tick_lot
        elif command.type in STOP_MARKET_TYPES:
            notional = command.stop_price * command.quantity * market.quote_per_tick_lot
        else:
            notional = command.price * command.quantity * market.quote_per_tick_lot
        if notional < minimum or (maximum and notional > maximum):
            raise RefusedError(Reason.FILTER_NOTIONAL)

    def _check_open_orders(self, command: NewOrder, market: Market) -> None:
        mine = [
            order
            for order in self.open_orders
            if order.account_id == command.account_id and order.market_id == command.market_id
        ]
        if market.filters.maximum_open_orders and len(mine) >= market.filters.maximum_open_orders:
            raise RefusedError(Reason.FILTER_MAX_NUM_ORDERS)

    def _check_client_order_id(self, account_id: int, market_id: int, client_order_id: str) -> None:
        for order in self.open_orders:
            if (order.account_id, order.market_id, order.client_order_id) == (account_id, market_id, client_order_id):
                raise RefusedError(Reason.DUPLICATE_CLIENT_ORDER_ID)

    def _check_stop_price(self, command: NewOrder, market: Market) -> None:
        if command.type not in STOP_TYPES or market.last_price is None:
            return
        if _triggers_when_rising(command.type, command.side):
            if command.stop_price <= market.last_price:
                raise RefusedError(Reason.WOULD_TRIGGER_IMMEDIATELY)
        elif command.stop_price >= market.last_price:
            raise RefusedError(Reason.WOULD_TRIGGER_IMMEDIATELY)

    def _check_balance(self, command: NewOrder, market: Market) -> None:
        available_base = self.available(command.account_id, market.base)
        available_quote = self.available(command.account_id, market.quote)
        if command.quote_quantity:
            self._check_quote_quantity(command, market, available_base, available_quote)
            return
        if command.side == Side.SELL:
            needed, available = command.quantity * market.lot_size, available_base
        else:
            if command.type == OrderType.MARKET:
                needed = self._cost_of_buying(market, command.quantity)
            elif command.type in STOP_MARKET_TYPES:
                needed = command.stop_price * command.quantity * market.quote_per_tick_lot
            else:
                needed = command.price * command.quantity * market.quote_per_tick_lot
            available = available_quote
        if needed > available:
            raise RefusedError(Reason.INSUFFICIENT_BALANCE)

    def _cost_of_buying(self, market: Market, quantity: int) -> int:
        cost = 0
        for maker in self._resting(market.market_id, Side.SELL):
            lots = min(quantity, maker.remaining)
            cost += lots * maker.price * market.quote_per_tick_lot
            quantity -= lots
        return cost

    def _check_quote_quantity(self, command: NewOrder, market: Market, base: int, quote: int) -> None:
        makers = self._resting(market.market_id, _opposite(command.side))
        if not makers:
            raise RefusedError(Reason.NO_LIQUIDITY_FOR_QUOTE_QUANTITY)
        budget, fitting = command.quote_quantity, 0
        for maker in makers:
            lots = min(maker.remaining, budget // (maker.price * market.quote_per_tick_lot))
            fitting += lots
            budget -= lots * maker.price * market.quote_per_tick_lot
            if lots < maker.remaining:
                break
        if fitting < max(1, market.filters.minimum_quantity):
            raise RefusedError(Reason.FILTER_LOT_SIZE)
        if command.side == Side.BUY and command.quote_quantity > quote:
            raise RefusedError(Reason.INSUFFICIENT_BALANCE)
        if command.side == Side.SELL and fitting * market.lot_size > base:
            raise RefusedError(Reason.INSUFFICIENT_BALANCE)

    # ------------------------------------------------------------------ placing an order: what happens

    def _place(self, command: NewOrder, market: Market) -> None:
        waits = command.type in STOP_TYPES
        self.last_order_id += 1
        order = Order(
            order_id=self.last_order_id,
            account_id=command.account_id,
            market_id=command.market_id,
            side=command.side,
            type=command.type,
            time_in_force=command.time_in_force,
            price=command.price,
            quantity=command.quantity,
            quote_quantity=command.quote_quantity,
            stop_price=command.stop_price,
            self_trade_prevention=command.self_trade_prevention,
            client_order_id=command.client_order_id,
            created_at_us=self.time_us,
            working_at_us=0 if waits else self.time_us,
            waiting=waits,
        )
        self._touch(order)
        if waits:
            self.open_orders.append(order)
            return
        queue: list[Order] = []
        self._execute(order, market, queue)
        while queue:
            triggered = queue.pop(0)
            self.open_orders.remove(triggered)
            triggered.waiting = False
            triggered.working_at_us = self.time_us
            self._touch(triggered)
            self._execute(triggered, market, queue)

    def _execute(self, order: Order, market: Market, queue: list[Order]) -> None:
        fills_before = len(self.fills)
        stopped_by_money = False
        if order.time_in_force != TimeInForce.FOK or self._wholly_fillable(order):
            stopped_by_money = self._match(order, market)
        self._finish(order, stopped_by_money)
        prices = [fill.price for fill in self.fills[fills_before:]]
        if prices:
            self._trigger(market, min(prices), max(prices), queue)

    def _match(self, taker: Order, market: Market) -> bool:
        """Trade as far as possible; true when it ended because the money of a quote_quantity order was used up."""
        base_to_spend = self.available(taker.account_id, market.base)
        quote_to_spend = self.available(taker.account_id, market.quote)
        while taker.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
            if not taker.quote_quantity and taker.remaining == 0:
                return False
            if taker.quote_quantity and taker.executed_quote == taker.quote_quantity:
                return True
            makers = self._crossing(taker)
            if not makers:
                return False
            maker = makers[0]
            lot_cost = maker.price * market.quote_per_tick_lot
            if taker.side == Side.BUY:
                lots_in_reach = (quote_to_spend - taker.executed_quote) // lot_cost
            else:
                lots_in_reach = base_to_spend // market.lot_size - taker.executed
            if taker.quote_quantity:
                lots_in_budget = (taker.quote_quantity - taker.executed_quote) // lot_cost
                if lots_in_budget == 0:
                    return taker.executed > 0
                lots = min(maker.remaining, lots_in_reach, lots_in_budget)
            else:
                lots = min(maker.remaining, lots_in_reach, taker.remaining)
            if lots == 0:
                return False
            if maker.account_id == taker.account_id and taker.self_trade_prevention != SelfTradePrevention.NONE:
                self._prevent(taker, maker)
            else:
                self._trade(taker, maker, market, lots)
        return False

    def _trade(self, taker: Order, maker: Order, market: Market, lots: int) -> None:
        amount = lots * maker.price * market.quote_per_tick_lot
        base_amount = lots * market.lot_size
        buyer, seller = (taker, maker) if taker.side == Side.BUY else (maker, taker)
        maker_rate = self.fee_tiers[self.account_tiers.get(maker.account_id, 0)][0]
        taker_rate = self.fee_tiers[self.account_tiers.get(taker.account_id, 0)][1]
        maker_fee = (base_amount if maker is buyer else amount) * maker_rate // WHOLE
        taker_fee = (base_amount if taker is buyer else amount) * taker_rate // WHOLE
        market.trades += 1
        market.last_price = maker.price
        self.fills.append(
            Fill(
                market_id=market.market_id,
                trade_id=market.trades,
                price=maker.price,
                quantity=lots,
                quote_quantity=amount,
                taker_side=taker.side,
                maker_order_id=maker.order_id,
                taker_order_id=taker.order_id,
                maker_account_id=maker.account_id,
                taker_account_id=taker.account_id,
                maker_fee=maker_fee,
                taker_fee=taker_fee,
            )
        )
        self._move(market.quote, amount, buyer.account_id, seller.account_id)
        self._move(market.base, base_amount, seller.account_id, buyer.account_id)
        self._move(market.base, maker_fee if maker is buyer else taker_fee, buyer.account_id, FEE_ACCOUNT_ID)
        self._move(market.quote, maker_fee if maker is seller else taker_fee, seller.account_id, FEE_ACCOUNT_ID)
        self._touch(maker)
        for order in (taker, maker):
            order.executed += lots
            order.executed_quote += amount
            order.status = OrderStatus.PARTIALLY_FILLED
        if maker.remaining == 0:
            self._close(maker, OrderStatus.EXPIRED_IN_MATCH if maker.prevented else OrderStatus.FILLED)

    def _prevent(self, taker: Order, maker: Order) -> None:
        mode = taker.self_trade_prevention
        if mode != SelfTradePrevention.EXPIRE_TAKER:
            self._touch(maker)
        if mode == SelfTradePrevention.DECREMENT and not taker.quote_quantity:
            lots = min(taker.remaining, maker.remaining)
            taker.prevented += lots
            maker.prevented += lots
            if maker.remaining == 0:
                self._close(maker, OrderStatus.EXPIRED_IN_MATCH)
            return
        if mode in (SelfTradePrevention.EXPIRE_MAKER, SelfTradePrevention.EXPIRE_BOTH, SelfTradePrevention.DECREMENT):
            maker.prevented += maker.remaining
            self._close(maker, OrderStatus.EXPIRED_IN_MATCH)
        if mode in (SelfTradePrevention.EXPIRE_TAKER, SelfTradePrevention.EXPIRE_BOTH):
            if not taker.quote_quantity:
                taker.prevented += taker.remaining
            taker.status = OrderStatus.EXPIRED_IN_MATCH

    def _wholly_fillable(self, order: Order) -> bool:
        fillable = 0
        for maker in self._crossing(order):
            if maker.account_id == order.account_id:
                if order.self_trade_prevention == SelfTradePrevention.EXPIRE_MAKER:
                    continue
                if order.self_trade_prevention != SelfTradePrevention.NONE:
                    break
            fillable += maker.remaining
        return fillable >= order.remaining

    def _finish(self, order: Order, stopped_by_money: bool) -> None:
        """Settle what an order is once it has matched all it can."""
        if order.quote_quantity:
            order.quantity = order.executed
        if order.status == OrderStatus.EXPIRED_IN_MATCH:
            return
        if order.quote_quantity:
            order.status = OrderStatus.FILLED if stopped_by_money else OrderStatus.EXPIRED
        elif order.remaining == 0:
            order.status = OrderStatus.EXPIRED_IN_MATCH if order.prevented else OrderStatus.FILLED
        elif order.type in PRICED_TYPES and order.time_in_force == TimeInForce.GTC:
            self.last_arrival += 1
            order.arrival = self.last_arrival
            self.open_orders.append(order)
        else:
            order.status = OrderStatus.EXPIRED

    def _trigger(self, market: Market, low: int, high: int, queue: list[Order]) -> None:
        waiting = [
            order
            for order in self.open_orders
            if order.market_id == market.market_id and order.waiting and order not in queue
        ]
        rising = [
            order for order in waiting if _triggers_when_rising(order.type, order.side) and order.stop_price <= high
        ]
        falling = [
            order for order in waiting if not _triggers_when_rising(order.type, order.side) and order.stop_price >= low
        ]
        if self.rules >= 2:
            queue.extend(sorted(rising + falling, key=lambda order: order.order_id))
            return
        queue.extend(sorted(rising, key=lambda order: (order.stop_price, order.order_id)))
        queue.extend(sorted(falling, key=lambda order: (-order.stop_price, order.order_id)))

    # ------------------------------------------------------------------ looking things up

    def _market(self, market_id: int) -> Market:
        if market_id not in self.markets:
            raise RefusedError(Reason.UNKNOWN_MARKET, "market_id")
        return self.markets[market_id]

    def _find(self, account_id: int, market_id: int, order_id: int, client_order_id: str) -> Order:
        if order_id or client_order_id:
            for order in self.open_orders:
                if (
                    order.account_id == account_id
                    and order.market_id == market_id
                    and order_id in (0, order.order_id)
                    and client_order_id in ("", order.client_order_id)
                ):
                    return order
        raise RefusedError(Reason.UNKNOWN_ORDER)

    def _resting(self, market_id: int, side: int) -> list[Order]:
        """Orders in the book, in the order in which they trade."""
        orders = [
            order
            for order in self.open_orders
            if order.market_id == market_id and order.side == side and not order.waiting
        ]
        direction = -1 if side == Side.BUY else 1
        return sorted(orders, key=lambda order: (direction * order.price, order.arrival))

    def _crossing(self, taker: Order | NewOrder) -> list[Order]:
        """Orders of the other side that the taker's price reaches; a market order reaches all."""
        makers = self._resting(taker.market_id, _opposite(taker.side))
        if taker.type not in PRICED_TYPES:
            return makers
        if taker.side == Side.BUY:
            return [maker for maker in makers if maker.price <= taker.price]
        return [maker for maker in makers if maker.price >= taker.price]

    def _reservation(self, order: Order) -> tuple[int, int]:
        """(asset, amount) that an open order keeps from being spent."""
        market = self.markets[order.market_id]
        if order.side == Side.SELL:
            return market.base, order.remaining * market.lot_size
        price = order.stop_price if order.type in STOP_MARKET_TYPES else order.price
        return market.quote, order.remaining * price * market.quote_per_tick_lot

    def _move(self, asset_id: int, amount: int, source: int, target: int) -> None:
        self.totals[source, asset_id] = self.totals.get((source, asset_id), 0) - amount
        self.totals[target, asset_id] = self.totals.get((target, asset_id), 0) + amount

    def _touch(self, order: Order) -> None:
        if order not in self.touched:
            self.touched.append(order)

    def _close(self, order: Order, status: OrderStatus) -> None:
        order.status = status
        self.open_orders.remove(order)


def _opposite(side: int) -> int:
    return Side.SELL if side == Side.BUY else Side.BUY


def _triggers_when_rising(order_type: int, side: int) -> bool:
    """Stop-loss buys and take-profit sells wait for a higher price, the other two for a lower one."""
    return (order_type in STOP_LOSS_TYPES) == (side == Side.BUY)


def _refusal(refused: RefusedError, step: str = "") -> Refusal:
    return Refusal(step, refused.reason, refused.field_name)


def _check_filters(filters: MarketFilters) -> None:
    for name in filters.__struct_fields__:
        if not 0 <= getattr(filters, name) <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, name)
    for minimum, maximum in (
        ("minimum_price", "maximum_price"),
        ("minimum_quantity", "maximum_quantity"),
        ("market_minimum_quantity", "market_maximum_quantity"),
        ("minimum_notional", "maximum_notional"),
        ("bid_multiplier_down", "bid_multiplier_up"),
        ("ask_multiplier_down", "ask_multiplier_up"),
    ):
        if 0 < getattr(filters, maximum) < getattr(filters, minimum):
            raise RefusedError(Reason.INVALID_FIELD, maximum)


def _check_fields(command: NewOrder) -> None:
    """What each order type must carry, may carry and must not carry."""
    for name, vocabulary in (
        ("side", Side),
        ("type", OrderType),
        ("time_in_force", TimeInForce),
        ("self_trade_prevention", SelfTradePrevention),
    ):
        if getattr(command, name) not in list(vocabulary):
            raise RefusedError(Reason.INVALID_FIELD, name)
    for name in ("price", "quantity", "quote_quantity", "stop_price"):
        if not 0 <= getattr(command, name) <= MAXIMUM_AMOUNT:
            raise RefusedError(Reason.INVALID_FIELD, name)
    if not FEE_ACCOUNT_ID < command.account_id <= MAXIMUM_AMOUNT:
        raise RefusedError(Reason.INVALID_FIELD, "account_id")
    if not command.client_order_id:
        raise RefusedError(Reason.INVALID_FIELD, "client_order_id")
    _check_combination(command)


def _check_combination(command: NewOrder) -> None:
    if (command.price != 0) != (command.type in PRICED_TYPES):
        raise RefusedError(Reason.UNSUPPORTED_ORDER_COMBINATION, "price")
    if (command.stop_price != 0) != (command.type in STOP_TYPES):
        raise RefusedError(Reason.UNSUPPORTED_ORDER_COMBINATION, "stop_price")
    if command.quote_quantity != 0 and command.type != OrderType.MARKET:
        raise RefusedError(Reason.UNSUPPORTED_ORDER_COMBINATION, "quote_quantity")
    if (command.quantity != 0) == (command.quote_quantity != 0):
        raise RefusedError(Reason.UNSUPPORTED_ORDER_COMBINATION, "quantity")
    if command.type not in TIME_IN_FORCE_TYPES and command.time_in_force != TimeInForce.GTC:
        raise RefusedError(Reason.UNSUPPORTED_ORDER_COMBINATION, "time_in_force")
