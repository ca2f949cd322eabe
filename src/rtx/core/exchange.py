"""The exchange: one deterministic state machine over all accounts and markets.

:meth:`Exchange.apply` takes a command and the time it was journaled at, and gives its events. A command that is refused
raises before anything was changed. The caller journals, projects and publishes; nothing here knows of that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, cast

from msgspec.structs import astuple

from rtx.core.accounts import Account, Balance
from rtx.core.book import UNLIMITED_BUDGET, Match
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
    NewOrder,
    SetAccountFeeTier,
    SetFeeTier,
    SetMarketFilters,
    SetMarketStatus,
    Withdraw,
)
from rtx.core.events import (
    AccountFeeTierSet,
    AnyEvent,
    AssetCreated,
    CancelAllAfterSet,
    CheckpointTaken,
    DeadlinesExtended,
    Deposited,
    FeeTierSet,
    MarketCreated,
    MarketFiltersChanged,
    MarketStatusChanged,
    OrderState,
    Rejected,
    RulesActivated,
    Trade,
    Withdrawn,
)
from rtx.core.fees import fee_amount
from rtx.core.market import NO_MAXIMUM, Asset, Market
from rtx.core.orders import Order
from rtx.core.rejections import CancelReplaceRejectedError, Reason, RejectedError
from rtx.core.rules import FIRST_RULES, LATEST_RULES, TRIGGERED_IN_ORDER_OF_PLACING
from rtx.core.validation import (
    check_cancel,
    check_cancel_all_after,
    check_market_definition,
    check_market_filters,
    check_order,
    check_rates,
)
from rtx.core.vocabulary import (
    BUY,
    CANCEL_ONLY,
    CANCELED,
    DECREMENT,
    EXPIRED,
    EXPIRED_IN_MATCH,
    EXTERNAL_ACCOUNT_ID,
    FEE_ACCOUNT_ID,
    FILLED,
    FOK,
    GTC,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    MAXIMUM_AMOUNT,
    MOST_SESSIONS,
    NEW,
    PARTIALLY_FILLED,
    STOP_LOSS,
    TAKE_PROFIT,
    TRADING,
    CancelRestriction,
    MarketStatus,
    PassedOn,
)

WITHOUT_QUANTITY: Final = MAXIMUM_AMOUNT
"""``remaining`` of an order by quote quantity while it is matched: only its budget ends it."""

# The fields of a command are taken out by one call: for the compiled form each reading of an attribute is a call.
_NewOrderFields = tuple[int, int, int, int, int, int, int, str, int, int, int]
_astuple: Final = astuple
_CancelOrderFields = tuple[int, int, PassedOn, str, int]
_Match = tuple[Order, int, int]


class LevelChanges(NamedTuple):
    """Levels of one market whose quantity changed, as (price in ticks, quantity now in lots, 0 when gone)."""

    market_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


class Work:
    """What one command has done so far."""

    __slots__ = ("order", "touched", "trades", "triggered")

    def __init__(self, order: Order | None = None) -> None:
        self.order = order
        self.trades: list[AnyEvent] = []
        self.touched: dict[int, Order] = {} if order is None else {order.order_id: order}
        self.triggered: deque[int] = deque()

    def events(self) -> list[AnyEvent]:
        """Trades, then the final state of each touched order."""
        events = self.trades
        new_order = self.order
        for order in self.touched.values():
            events.append(order.state(order is new_order))
        return events


class Exchange:
    """The whole state. Not safe for use from several threads; the engine has one.

    ``rules`` is the version of :mod:`rtx.core.rules` that it computes by, ``latest_rules`` the newest that it may be
    told to compute by. ``deadlines``: when the dead-man's switch of an account's session runs out (Unix microseconds),
    by (account id, session). Who finds that time is over says so by a command; nothing happens here by itself.
    """

    def __init__(self, latest_rules: int = LATEST_RULES) -> None:
        self.rules = FIRST_RULES
        self.latest_rules = latest_rules
        self.time_us = 0
        self.next_order_id = 1
        self.assets: dict[int, Asset] = {}
        self.markets: dict[int, Market] = {}
        self.accounts: dict[int, Account] = {}
        self.orders: dict[int, Order] = {}
        self.fee_tiers: dict[int, tuple[int, int]] = {0: (0, 0)}
        self.deadlines: dict[tuple[int, str], int] = {}
        self._session_counts: dict[int, int] = {}
        self.changed_balances: list[Balance] = []
        self.fee_account = self.open_account(FEE_ACCOUNT_ID)
        self.external_account = self.open_account(EXTERNAL_ACCOUNT_ID)
        self._handlers: dict[type, Callable[[Any], list[AnyEvent]]] = {
            NewOrder: self._new_order,
            CancelOrder: self._cancel_order,
            CancelAllOrders: self._cancel_all_orders,
            CancelReplaceOrder: self._cancel_replace_order,
            AmendOrder: self._amend_order,
            Deposit: self._deposit,
            Withdraw: self._withdraw,
            CreateAsset: self._create_asset,
            CreateMarket: self._create_market,
            SetMarketStatus: self._set_market_status,
            SetMarketFilters: self._set_market_filters,
            SetFeeTier: self._set_fee_tier,
            SetAccountFeeTier: self._set_account_fee_tier,
            Checkpoint: self._checkpoint,
            ActivateRules: self._activate_rules,
            CancelAllAfter: self._cancel_all_after,
            ExpireCancelAllAfter: self._expire_cancel_all_after,
            ExtendDeadlines: self._extend_deadlines,
        }

    # -- what callers use -----------------------------------------------------------------------------------------

    def apply(self, command: AnyCommand, time_us: int) -> list[AnyEvent]:
        """Do a command at ``time_us`` (microseconds, Unix, never before the last one's) and return its events.

        Raises :class:`RejectedError` when the exchange refuses it, with the state as it was; ``ValueError`` when time
        runs backwards, which is a fault of the caller.
        """
        before_us = self.time_us
        if time_us < before_us:
            raise ValueError(f"command at {time_us} us comes after one at {before_us} us")
        self.time_us = time_us
        try:
            if type(command) is NewOrder:
                return self._new_order(command)
            if type(command) is CancelOrder:
                return self._cancel_order(command)
            return self._handlers[type(command)](command)
        except RejectedError:
            self.time_us = before_us
            raise

    def take_changed_balances(self) -> list[tuple[int, int, int, int]]:
        """(account id, asset id, available, held) of every balance that changed since the last call, sorted."""
        rows = []
        for balance in self.changed_balances:
            balance.changed = False
            rows.append((balance.account_id, balance.asset_id, balance.available, balance.held))
        self.changed_balances.clear()
        rows.sort()
        return rows

    def take_changed_levels(self) -> list[LevelChanges]:
        """The levels of every market that changed since the last call, by market id."""
        changes = []
        for market_id, market in self.markets.items():
            book = market.book
            if book.bids.changed or book.asks.changed:
                changes.append(LevelChanges(market_id, book.bids.take_changed(), book.asks.take_changed()))
        return changes

    def book_levels(self, market_id: int, limit: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Bids and asks, best first, as (price in ticks, quantity in lots); at most ``limit`` each, all with 0.

        Raises :class:`RejectedError` (UNKNOWN_MARKET).
        """
        book = self._market(market_id).book
        return book.bids.best_levels(limit), book.asks.best_levels(limit)

    # -- orders ---------------------------------------------------------------------------------------------------

    def _new_order(self, command: NewOrder) -> list[AnyEvent]:  # noqa: PLR0912, PLR0915 - as in _settle, for every order
        terms = _astuple(command)
        fields: _NewOrderFields = terms
        (
            account_id,
            market_id,
            side,
            order_type,
            time_in_force,
            price,
            quantity,
            client_order_id,
            quote_quantity,
            stop_price,
            self_trade_prevention,
        ) = fields
        market = self.markets.get(market_id)
        if market is None:
            raise RejectedError(Reason.UNKNOWN_MARKET, "market_id")
        if market.status != TRADING:
            raise RejectedError(Reason.MARKET_CLOSED)
        account = self.accounts.get(terms[0])
        if account is None:
            account = Account(account_id)
        open_orders = account.open_orders.get(market_id)
        open_order_count = len(open_orders) if open_orders is not None else 0
        # What most orders are is seen at once; all others are judged field by field, and limit by limit.
        if not (
            order_type == LIMIT
            and market.is_within_bounds(side, price, quantity)
            and open_order_count < market.maximum_open_orders
            and not quote_quantity
            and not stop_price
            and 0 <= time_in_force <= FOK
            and 0 <= self_trade_prevention <= DECREMENT
            and client_order_id
            and FEE_ACCOUNT_ID < account_id <= NO_MAXIMUM
        ):
            check_order(command)
            market.check_filters(command, open_order_count)
        if open_orders is not None and client_order_id in open_orders:
            raise RejectedError(Reason.DUPLICATE_CLIENT_ORDER_ID, "client_order_id")
        balance = None
        amount = 0
        if order_type != LIMIT:
            self._check_by_type(market, account, command)
        else:
            if side == BUY:
                balance = account.balances.get(market.quote_asset_id)
                amount = price * quantity * market.quote_per_tick_lot
            else:
                balance = account.balances.get(market.base_asset_id)
                amount = quantity * market.lot_size
            if balance is None or balance.available < amount:
                raise RejectedError(Reason.INSUFFICIENT_BALANCE)
        order_id: PassedOn = self.next_order_id
        self.next_order_id += 1
        time_us: PassedOn = self.time_us
        order = Order(
            order_id,
            terms,
            account_id,
            market_id,
            side,
            order_type,
            time_in_force,
            price,
            quantity,
            client_order_id,
            time_us,
            time_us if order_type <= LIMIT_MAKER else 0,
            quote_quantity,
            stop_price,
            self_trade_prevention,
        )
        matches = None
        if order_type == LIMIT_MAKER or (order_type == LIMIT and time_in_force == GTC):
            matches = market.book.place(order, market.quote_per_tick_lot)
        elif order_type > LIMIT_MAKER:
            market.waiting.add(order)
        else:
            work = Work(order)
            self._work_on(market, account, order, work)
            return self._finish(market, work)
        if matches is None:
            if balance is None:
                self._hold(market, account, order)
            else:
                order.balance = balance
                balance.available -= amount
                balance.held += amount
                if not balance.changed:
                    balance.changed = True
                    self.changed_balances.append(balance)
            self.orders[order_id] = order
            if open_orders is None:
                open_orders = account.open_orders[market_id] = {}
            open_orders[client_order_id] = order
            order.open_orders = open_orders
            return [order.state(True)]
        work = Work(order)
        self._settle(market, account, order, cast("list[_Match]", matches), work)
        self._conclude(market, account, order, True)
        return self._finish(market, work)

    def _finish(self, market: Market, work: Work) -> list[AnyEvent]:
        """Work on what the trades triggered, and tell of everything that happened."""
        if work.triggered:
            self._work_on_triggered(market, work)
        return work.events()

    def _check_by_type(self, market: Market, account: Account, command: NewOrder) -> None:
        """Refuse what the state of the market or of the account forbids to an order that is not a plain limit order."""
        order_type = command.type
        if order_type > LIMIT_MAKER:
            self._check_not_triggered(market, command)
        self._check_funds(market, account, command)
        if order_type == LIMIT_MAKER and market.book.crosses(command.side, command.price):
            raise RejectedError(Reason.WOULD_MATCH_IMMEDIATELY, "price")

    def _check_not_triggered(self, market: Market, command: NewOrder) -> None:
        last_price = market.last_price
        if not last_price:
            return
        rising = (command.type < TAKE_PROFIT) == (command.side == BUY)
        if (command.stop_price <= last_price) if rising else (command.stop_price >= last_price):
            raise RejectedError(Reason.WOULD_TRIGGER_IMMEDIATELY, "stop_price")

    def _check_funds(self, market: Market, account: Account, command: NewOrder) -> None:
        """Refuse an order that the available balance does not cover."""
        if command.type == MARKET:
            self._check_market_order_funds(market, account, command)
            return
        if command.side == BUY:
            needed = (command.price or command.stop_price) * command.quantity * market.quote_per_tick_lot
            balance = account.balances.get(market.quote_asset_id)
        else:
            needed = command.quantity * market.lot_size
            balance = account.balances.get(market.base_asset_id)
        if balance is None or balance.available < needed:
            raise RejectedError(Reason.INSUFFICIENT_BALANCE)

    def _check_market_order_funds(self, market: Market, account: Account, command: NewOrder) -> None:
        book, unit = market.book, market.quote_per_tick_lot
        quantity = command.quantity
        if command.quote_quantity:
            if not (book.asks if command.side == BUY else book.bids).keys:
                raise RejectedError(Reason.NO_LIQUIDITY_FOR_QUOTE_QUANTITY, "quote_quantity")
            quantity = book.walk_quantity(command.side, command.quote_quantity, unit)
            if quantity < market.minimum_quantity:
                raise RejectedError(Reason.FILTER_LOT_SIZE, "quote_quantity")
        if command.side == BUY:
            needed = command.quote_quantity or book.walk_cost(BUY, quantity, unit)
            available = account.available(market.quote_asset_id)
        else:
            needed = quantity * market.lot_size
            available = account.available(market.base_asset_id)
        if available < needed:
            raise RejectedError(Reason.INSUFFICIENT_BALANCE)

    def list_as_open(self, account: Account, order: Order) -> None:
        self.orders[order.order_id] = order
        market_id = order.market_id
        open_orders = account.open_orders.get(market_id)
        if open_orders is None:
            open_orders = account.open_orders[market_id] = {}
        open_orders[order.client_order_id] = order
        order.open_orders = open_orders

    def _unlist(self, order: Order) -> None:
        open_orders = order.open_orders
        if open_orders is not None:
            del self.orders[order.order_id]
            del open_orders[order.client_order_id]
            order.open_orders = None

    def _hold(self, market: Market, account: Account, order: Order) -> None:
        """Reserve what the rest of an order may cost."""
        if order.side == BUY:
            balance = account.balances[market.quote_asset_id]
            amount = order.remaining * (order.price or order.stop_price) * market.quote_per_tick_lot
        else:
            balance = account.balances[market.base_asset_id]
            amount = order.remaining * market.lot_size
        order.balance = balance
        balance.available -= amount
        balance.held += amount
        if not balance.changed:
            balance.changed = True
            self.changed_balances.append(balance)

    def _release(self, market: Market, order: Order, quantity: int) -> None:
        """Set free what ``quantity`` lots of an open order hold."""
        balance = order.balance
        assert balance is not None
        if order.side == BUY:
            amount = quantity * (order.price or order.stop_price) * market.quote_per_tick_lot
        else:
            amount = quantity * market.lot_size
        balance.available += amount
        balance.held -= amount
        if not balance.changed:
            balance.changed = True
            self.changed_balances.append(balance)

    def _work_on(self, market: Market, account: Account, order: Order, work: Work) -> None:
        """Match an order that holds nothing (new, or just triggered), then let it rest or end it."""
        may_rest = False
        matches: list[Match] | None
        if order.type in (MARKET, STOP_LOSS, TAKE_PROFIT):
            matches = self._match_at_any_price(market, account, order)
        elif order.time_in_force == GTC:
            may_rest = True
            matches = market.book.place(order, market.quote_per_tick_lot)
        elif order.time_in_force == FOK and market.book.fillable_quantity(order, order.price) < order.remaining:
            matches = None
        else:
            matches = market.book.match(order, order.price, UNLIMITED_BUDGET, market.quote_per_tick_lot)
        if matches:
            self._settle(market, account, order, cast("list[_Match]", matches), work)
        self._conclude(market, account, order, may_rest)

    def _match_at_any_price(self, market: Market, account: Account, order: Order) -> list[Match]:
        budget = UNLIMITED_BUDGET
        if order.quote_quantity:
            budget = order.quote_quantity
            order.remaining = WITHOUT_QUANTITY
            if order.side != BUY:
                # The walk was covered when the order was accepted; passing over own orders may make it longer.
                order.remaining = account.available(market.base_asset_id) // market.lot_size
        elif order.side == BUY:
            budget = account.available(market.quote_asset_id)
        return market.book.match(order, 0, budget, market.quote_per_tick_lot)

    def _conclude(self, market: Market, account: Account, order: Order, may_rest: bool) -> None:
        """Decide what becomes of a taker after matching."""
        if order.quote_quantity:
            self._conclude_quote_quantity(market, order)
        elif order.remaining == 0:
            order.status = EXPIRED_IN_MATCH if order.prevented_quantity else FILLED
        elif may_rest:
            order.status = PARTIALLY_FILLED if order.executed_quantity else NEW
            self._hold(market, account, order)
            if order.open_orders is None:
                self.list_as_open(account, order)
            return
        else:
            order.status = EXPIRED
        self._unlist(order)

    def _conclude_quote_quantity(self, market: Market, order: Order) -> None:
        """FILLED when the money is used up: not one more lot fits. Else the book ran out, or the base to sell did."""
        order.quantity = order.executed_quantity
        order.remaining = 0
        if order.status == EXPIRED_IN_MATCH:
            return
        opposite = market.book.asks if order.side == BUY else market.book.bids
        left = order.quote_quantity - order.executed_quote_quantity
        used_up = not left or left < opposite.best_price() * market.quote_per_tick_lot
        order.status = FILLED if used_up and order.executed_quantity else EXPIRED

    def _settle(  # noqa: PLR0912, PLR0915 - once for every fill: calls would cost more than they explain
        self, market: Market, taker_account: Account, taker: Order, matches: list[_Match], work: Work
    ) -> None:
        """Move money and base for each fill, set the makers' states, and look for orders that the prices trigger."""
        accounts, changed, touched, trades = self.accounts, self.changed_balances, work.touched, work.trades
        market_id, base_id, quote_id = market.market_id, market.base_asset_id, market.quote_asset_id
        lot_size, unit = market.lot_size, market.quote_per_tick_lot
        taker_buys = taker.side == BUY
        taker_side, taker_id, taker_account_id = taker.side, taker.order_id, taker.account_id
        taker_rate = taker_account.taker_rate_ppm
        taker_base, taker_quote = taker_account.balance(base_id), taker_account.balance(quote_id)
        trade_id = first_trade_id = market.next_trade_id
        first_price = last_price = executed = executed_quote = base_fees = quote_fees = 0
        for maker, price, quantity in matches:
            touched[maker.order_id] = maker
            maker_account = accounts[maker.account_id]
            if quantity < 0:
                self._release(market, maker, -quantity)
                if not maker.remaining:
                    maker.status = EXPIRED_IN_MATCH
                    self._unlist(maker)
                continue
            quote = price * quantity * unit
            base = quantity * lot_size
            maker_base = maker_account.balance(base_id)
            maker_quote = maker_account.balance(quote_id)
            if taker_buys:
                taker_fee = fee_amount(base, taker_rate)
                maker_fee = fee_amount(quote, maker_account.maker_rate_ppm)
                taker_quote.available -= quote
                taker_base.available += base - taker_fee
                maker_base.held -= base
                maker_quote.available += quote - maker_fee
                base_fees += taker_fee
                quote_fees += maker_fee
            else:
                taker_fee = fee_amount(quote, taker_rate)
                maker_fee = fee_amount(base, maker_account.maker_rate_ppm)
                taker_base.available -= base
                taker_quote.available += quote - taker_fee
                maker_quote.held -= quote
                maker_base.available += base - maker_fee
                base_fees += maker_fee
                quote_fees += taker_fee
            if not maker_base.changed:
                maker_base.changed = True
                changed.append(maker_base)
            if not maker_quote.changed:
                maker_quote.changed = True
                changed.append(maker_quote)
            maker.executed_quantity += quantity
            maker.executed_quote_quantity += quote
            if maker.remaining:
                maker.status = PARTIALLY_FILLED
            else:
                maker.status = EXPIRED_IN_MATCH if maker.prevented_quantity else FILLED
                self._unlist(maker)
            trades.append(
                Trade(
                    market_id,
                    trade_id,
                    price,
                    quantity,
                    quote,
                    taker_side,
                    maker.order_id,
                    taker_id,
                    maker.account_id,
                    taker_account_id,
                    maker_fee,
                    taker_fee,
                )
            )
            trade_id += 1
            executed += quantity
            executed_quote += quote
            first_price = first_price or price
            last_price = price
        if trade_id == first_trade_id:
            return
        market.next_trade_id = trade_id
        market.set_last_price(last_price)
        taker.executed_quantity += executed
        taker.executed_quote_quantity += executed_quote
        if not taker_base.changed:
            taker_base.changed = True
            changed.append(taker_base)
        if not taker_quote.changed:
            taker_quote.changed = True
            changed.append(taker_quote)
        self._collect_fees(base_id, base_fees)
        self._collect_fees(quote_id, quote_fees)
        if market.waiting:
            low, high = (first_price, last_price) if taker_buys else (last_price, first_price)
            triggered = market.waiting.take_triggered(low, high)
            if self.rules >= TRIGGERED_IN_ORDER_OF_PLACING:
                triggered.sort()
            work.triggered.extend(triggered)

    def _collect_fees(self, asset_id: int, amount: int) -> None:
        if amount:
            balance = self.fee_account.balance(asset_id)
            balance.available += amount
            self._note_change(balance)

    def _note_change(self, balance: Balance) -> None:
        if not balance.changed:
            balance.changed = True
            self.changed_balances.append(balance)

    def _work_on_triggered(self, market: Market, work: Work) -> None:
        """Work on triggered orders first in, first out; what they do may trigger more."""
        triggered = work.triggered
        while triggered:
            order = self.orders[triggered.popleft()]
            work.touched[order.order_id] = order
            account = self.accounts[order.account_id]
            self._release(market, order, order.remaining)
            order.working_at_us = self.time_us
            self._work_on(market, account, order, work)

    # -- cancelling and amending ----------------------------------------------------------------------------------

    def _cancel_order(self, command: CancelOrder) -> list[AnyEvent]:
        fields: _CancelOrderFields = _astuple(command)
        account_id, market_id, order_id, client_order_id, restriction = fields
        market = self.markets.get(market_id)
        if market is None:
            raise RejectedError(Reason.UNKNOWN_MARKET, "market_id")
        if market.status not in (TRADING, CANCEL_ONLY):
            raise RejectedError(Reason.MARKET_CLOSED)
        if restriction:
            check_cancel(command)
        order = self._find_open(market, account_id, order_id, client_order_id)
        if restriction and order.status != (
            NEW if restriction == CancelRestriction.ONLY_NEW.value else PARTIALLY_FILLED
        ):
            raise RejectedError(Reason.CANCEL_RESTRICTED, "restriction")
        return [self._end(market, order, CANCELED)]

    def _check_cancelling(self, market: Market) -> None:
        if market.status not in (TRADING, CANCEL_ONLY):
            raise RejectedError(Reason.MARKET_CLOSED)

    def _markets_that_cancel(self) -> list[Market]:
        return [market for market in self.markets.values() if market.status in (TRADING, CANCEL_ONLY)]

    def _find_open(self, market: Market, account_id: int, order_id: PassedOn, client_order_id: str) -> Order:
        """An open order of this account in this market; by both names when both are given."""
        order = None
        if order_id:
            order = self.orders.get(order_id)
        else:
            account = self.accounts.get(account_id)
            open_orders = account.open_orders.get(market.market_id) if account is not None else None
            if open_orders is not None:
                order = open_orders.get(client_order_id)
        if (
            order is None
            or order.account_id != account_id
            or order.market_id != market.market_id
            or (client_order_id and order.client_order_id != client_order_id)
        ):
            raise RejectedError(Reason.UNKNOWN_ORDER, "order_id" if order_id else "client_order_id")
        return order

    def _end(self, market: Market, order: Order, status: int) -> OrderState:
        """Take an open order out of the exchange and set its money free."""
        self._release(market, order, order.remaining)
        if order.level is not None:
            market.book.remove(order)
        else:
            market.waiting.remove(order)
        order.status = status
        self._unlist(order)
        return order.state(False)

    def _cancel_all_orders(self, command: CancelAllOrders) -> list[AnyEvent]:
        account = self.accounts.get(command.account_id)
        if command.market_id:
            markets = [self._market(command.market_id)]
            self._check_cancelling(markets[0])
        else:
            markets = self._markets_that_cancel()
        events = self._cancel_in(markets, account) if account is not None else []
        if not events:
            raise RejectedError(Reason.UNKNOWN_ORDER)
        return events

    def _cancel_in(self, markets: list[Market], account: Account) -> list[AnyEvent]:
        """Cancel the open orders that an account has in these markets, by order id."""
        found: list[tuple[int, Market, Order]] = []
        for market in markets:
            open_orders = account.open_orders.get(market.market_id, {})
            found += [(order.order_id, market, order) for order in open_orders.values()]
        found.sort(key=lambda entry: entry[0])
        events: list[AnyEvent] = []
        for _, market, order in found:
            events.append(self._end(market, order, CANCELED))
        return events

    def _cancel_replace_order(self, command: CancelReplaceOrder) -> list[AnyEvent]:
        if (command.cancel.account_id, command.cancel.market_id) != (command.order.account_id, command.order.market_id):
            raise RejectedError(Reason.INVALID_FIELD, "order")
        cancel_refusal: RejectedError | None = None
        events: list[AnyEvent] = []
        try:
            events += self._cancel_order(command.cancel)
        except RejectedError as refusal:
            if command.stop_on_failure:
                raise
            cancel_refusal = refusal
            events.append(Rejected(refusal.reason, refusal.field, "cancel"))
        try:
            events += self._new_order(command.order)
        except RejectedError as refusal:
            if cancel_refusal is not None:
                raise CancelReplaceRejectedError(cancel_refusal, refusal) from None
            events.append(Rejected(refusal.reason, refusal.field, "order"))
        return events

    def _amend_order(self, command: AmendOrder) -> list[AnyEvent]:
        market = self._market(command.market_id)
        self._check_cancelling(market)
        order = self._find_open(market, command.account_id, command.order_id, command.client_order_id)
        quantity = command.quantity
        if quantity == order.quantity:
            raise RejectedError(Reason.AMEND_CHANGES_NOTHING, "quantity")
        if not order.executed_quantity + order.prevented_quantity < quantity < order.quantity:
            raise RejectedError(Reason.AMEND_NOT_A_REDUCTION, "quantity")
        if quantity < market.minimum_quantity:
            raise RejectedError(Reason.FILTER_LOT_SIZE, "quantity")
        open_orders = order.open_orders
        assert open_orders is not None
        new_id = command.new_client_order_id or order.client_order_id
        if new_id != order.client_order_id:
            if new_id in open_orders:
                raise RejectedError(Reason.DUPLICATE_CLIENT_ORDER_ID, "new_client_order_id")
            del open_orders[order.client_order_id]
            order.client_order_id = new_id
            open_orders[new_id] = order
        reduction = order.quantity - quantity
        self._release(market, order, reduction)
        market.book.reduce(order, reduction)
        order.quantity = quantity
        return [order.state(False)]

    # -- dead-man's switches --------------------------------------------------------------------------------------

    def set_deadline(self, account_id: int, session: str, deadline_us: int) -> None:
        """Arm the dead-man's switch of a session, or disarm it (``deadline_us`` 0)."""
        key = (account_id, session)
        is_armed = key in self.deadlines
        if deadline_us:
            self.deadlines[key] = deadline_us
            if not is_armed:
                self._session_counts[account_id] = self._session_counts.get(account_id, 0) + 1
        elif is_armed:
            del self.deadlines[key]
            self._session_counts[account_id] -= 1
            if not self._session_counts[account_id]:
                del self._session_counts[account_id]

    def _cancel_all_after(self, command: CancelAllAfter) -> list[AnyEvent]:
        check_cancel_all_after(command)
        account_id, session = command.account_id, command.session
        is_another = (account_id, session) not in self.deadlines
        if is_another and command.renews:
            raise RejectedError(Reason.UNKNOWN_DEADLINE, "session")
        deadline_us = 0
        if command.timeout_us:
            if is_another and self._session_counts.get(account_id, 0) >= MOST_SESSIONS:
                raise RejectedError(Reason.INVALID_FIELD, "session")
            deadline_us = self.time_us + command.timeout_us
        self.set_deadline(account_id, session, deadline_us)
        return [CancelAllAfterSet(account_id, session, deadline_us)]

    def _expire_cancel_all_after(self, command: ExpireCancelAllAfter) -> list[AnyEvent]:
        account_id, session = command.account_id, command.session
        deadline_us = self.deadlines.get((account_id, session))
        if deadline_us is None or deadline_us != command.deadline_us:
            raise RejectedError(Reason.UNKNOWN_DEADLINE, "deadline_us")
        self.set_deadline(account_id, session, 0)
        events: list[AnyEvent] = [CancelAllAfterSet(account_id, session, 0)]
        account = self.accounts.get(account_id)
        if account is not None:
            events += self._cancel_in(self._markets_that_cancel(), account)
        return events

    def _extend_deadlines(self, command: ExtendDeadlines) -> list[AnyEvent]:
        away_us = command.away_us
        latest_us = max(self.deadlines.values(), default=0)
        if not 0 < away_us <= MAXIMUM_AMOUNT - latest_us:
            raise RejectedError(Reason.INVALID_FIELD, "away_us")
        for key in self.deadlines:
            self.deadlines[key] += away_us
        return [DeadlinesExtended(away_us)]

    # -- the state as such ----------------------------------------------------------------------------------------

    def _checkpoint(self, _command: Checkpoint) -> list[AnyEvent]:
        from rtx.core.snapshot import state_hash  # it imports this module

        return [CheckpointTaken(state_hash(self))]

    def _activate_rules(self, command: ActivateRules) -> list[AnyEvent]:
        version = command.version
        if version <= self.rules:
            raise RejectedError(Reason.RULES_NOT_NEWER, "version")
        if version > self.latest_rules:
            raise RejectedError(Reason.UNKNOWN_RULES, "version")
        self.rules = version
        return [RulesActivated(version)]

    # -- money ----------------------------------------------------------------------------------------------------

    def _deposit(self, command: Deposit) -> list[AnyEvent]:
        asset = self._asset_of_transfer(command)
        if asset.supply + command.amount > MAXIMUM_AMOUNT:
            raise RejectedError(Reason.AMOUNT_TOO_LARGE, "amount")
        self._transfer(asset, command.account_id, command.amount)
        return [Deposited(command.account_id, command.asset_id, command.amount, command.reference)]

    def _withdraw(self, command: Withdraw) -> list[AnyEvent]:
        asset = self._asset_of_transfer(command)
        account = self.accounts.get(command.account_id)
        if account is None or account.available(command.asset_id) < command.amount:
            raise RejectedError(Reason.INSUFFICIENT_BALANCE, "amount")
        self._transfer(asset, command.account_id, -command.amount)
        return [Withdrawn(command.account_id, command.asset_id, command.amount, command.reference)]

    def _asset_of_transfer(self, command: Deposit | Withdraw) -> Asset:
        asset = self.assets.get(command.asset_id)
        if asset is None:
            raise RejectedError(Reason.UNKNOWN_ASSET, "asset_id")
        if command.account_id == EXTERNAL_ACCOUNT_ID or not 0 < command.account_id <= MAXIMUM_AMOUNT:
            raise RejectedError(Reason.INVALID_FIELD, "account_id")
        if command.amount < 1:
            raise RejectedError(Reason.AMOUNT_NOT_POSITIVE, "amount")
        if not command.reference:
            raise RejectedError(Reason.INVALID_FIELD, "reference")
        return asset

    def _transfer(self, asset: Asset, account_id: int, amount: int) -> None:
        """Move ``amount`` from outside to an account (out of it when negative)."""
        balance = self.open_account(account_id).balance(asset.asset_id)
        external = self.external_account.balance(asset.asset_id)
        balance.available += amount
        external.available -= amount
        asset.supply += amount
        self._note_change(balance)
        self._note_change(external)

    # -- assets, markets, fees ------------------------------------------------------------------------------------

    def _create_asset(self, command: CreateAsset) -> list[AnyEvent]:
        if not command.symbol:
            raise RejectedError(Reason.INVALID_FIELD, "symbol")
        if not 0 <= command.scale <= 18:
            raise RejectedError(Reason.INVALID_FIELD, "scale")
        if any(asset.symbol == command.symbol for asset in self.assets.values()):
            raise RejectedError(Reason.ASSET_EXISTS, "symbol")
        asset_id = len(self.assets) + 1
        self.assets[asset_id] = Asset(asset_id, command.symbol, command.scale)
        return [AssetCreated(asset_id, command.symbol, command.scale)]

    def _create_market(self, command: CreateMarket) -> list[AnyEvent]:
        if any(market.symbol == command.symbol for market in self.markets.values()):
            raise RejectedError(Reason.MARKET_EXISTS, "symbol")
        base = self.assets.get(command.base_asset_id)
        if base is None:
            raise RejectedError(Reason.UNKNOWN_ASSET, "base_asset_id")
        if command.quote_asset_id not in self.assets:
            raise RejectedError(Reason.UNKNOWN_ASSET, "quote_asset_id")
        quote_per_tick_lot = check_market_definition(command, base.scale)
        market_id = len(self.markets) + 1
        created = MarketCreated(
            market_id,
            command.symbol,
            command.base_asset_id,
            command.quote_asset_id,
            command.tick_size,
            command.lot_size,
            command.filters,
            command.status,
        )
        self.markets[market_id] = Market(created, quote_per_tick_lot)
        return [created]

    def _set_market_status(self, command: SetMarketStatus) -> list[AnyEvent]:
        market = self._market(command.market_id)
        if not 0 <= command.status < len(MarketStatus):
            raise RejectedError(Reason.INVALID_FIELD, "status")
        if market.status == command.status:
            raise RejectedError(Reason.MARKET_STATUS_UNCHANGED, "status")
        market.status = command.status
        return [MarketStatusChanged(command.market_id, command.status)]

    def _set_market_filters(self, command: SetMarketFilters) -> list[AnyEvent]:
        market = self._market(command.market_id)
        check_market_filters(command.filters)
        market.set_filters(command.filters)
        return [MarketFiltersChanged(command.market_id, command.filters)]

    def _set_fee_tier(self, command: SetFeeTier) -> list[AnyEvent]:
        check_rates(command)
        rates = (command.maker_rate_ppm, command.taker_rate_ppm)
        self.fee_tiers[command.tier] = rates
        for account in self.accounts.values():
            if account.fee_tier == command.tier:
                account.maker_rate_ppm, account.taker_rate_ppm = rates
        return [FeeTierSet(command.tier, *rates)]

    def _set_account_fee_tier(self, command: SetAccountFeeTier) -> list[AnyEvent]:
        rates = self.fee_tiers.get(command.tier)
        if rates is None:
            raise RejectedError(Reason.UNKNOWN_FEE_TIER, "tier")
        if not 0 < command.account_id <= MAXIMUM_AMOUNT:
            raise RejectedError(Reason.INVALID_FIELD, "account_id")
        account = self.open_account(command.account_id)
        account.fee_tier = command.tier
        account.maker_rate_ppm, account.taker_rate_ppm = rates
        return [AccountFeeTierSet(command.account_id, command.tier)]

    # -- lookups --------------------------------------------------------------------------------------------------

    def _market(self, market_id: int) -> Market:
        market = self.markets.get(market_id)
        if market is None:
            raise RejectedError(Reason.UNKNOWN_MARKET, "market_id")
        return market

    def open_account(self, account_id: int) -> Account:
        """The account, made (in tier 0) where there is none yet."""
        account = self.accounts.get(account_id)
        if account is None:
            account = self.accounts[account_id] = Account(account_id)
            account.maker_rate_ppm, account.taker_rate_ppm = self.fee_tiers[0]
        return account

    def open_orders(self) -> Iterable[Order]:
        """All open orders by id."""
        return (self.orders[order_id] for order_id in sorted(self.orders))
