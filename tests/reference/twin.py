"""The real exchange and the reference exchange side by side: every command goes to both, and both must agree.

On the way the events are also projected the way the store projects them, so that a command that leaves the two
exchanges in agreement but tells its readers something else is found as well.
"""

from __future__ import annotations

from collections import Counter

from tests.reference.exchange import Order, Outcome, ReferenceExchange, Refusal

from rtx.core.commands import AnyCommand, Checkpoint, NewOrder
from rtx.core.events import (
    AnyEvent,
    CancelAllAfterSet,
    CheckpointTaken,
    DeadlinesExtended,
    OrderState,
    Rejected,
    RulesActivated,
    Trade,
)
from rtx.core.exchange import Exchange
from rtx.core.ledger import postings
from rtx.core.rejections import CancelReplaceRejectedError, Reason, RejectedError
from rtx.core.snapshot import dump, load, state_hash
from rtx.core.vocabulary import (
    BUY,
    EXTERNAL_ACCOUNT_ID,
    NEW,
    PARTIALLY_FILLED,
    STOP_LOSS,
    TAKE_PROFIT,
)

REASONS_WITH_FIELD = {Reason.INVALID_FIELD, Reason.UNSUPPORTED_ORDER_COMBINATION, Reason.FILTER_PRICE}
"""Where the field is part of the meaning; elsewhere it only helps whoever reads the message."""


_ANNOUNCEMENTS = (RulesActivated, CancelAllAfterSet, DeadlinesExtended)


class DifferenceError(AssertionError):
    """The two exchanges disagree, or an invariant does not hold."""


class Twin:
    """Two exchanges and the projection of the events of the real one."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.reference = ReferenceExchange()
        self.balances: dict[tuple[int, int], tuple[int, int]] = {}
        self.totals: Counter[tuple[int, int]] = Counter()
        self.open_orders: dict[int, OrderState] = {}
        self.levels: dict[tuple[int, int], dict[int, int]] = {}
        self.last_trade_ids: Counter[int] = Counter()

    def apply(self, command: AnyCommand, time_us: int, thorough: bool = True) -> tuple[list[AnyEvent], list[Refusal]]:
        """Give a command to both; raises :class:`DifferenceError`.

        ``thorough`` also compares all that is expensive to look at: state hashes, books, all open orders and all holds.
        """
        hash_before = self._state_hash() if thorough else b""
        outcome = self.reference.apply(command, time_us)
        events, refusals = apply_to_core(self.exchange, command, time_us)
        self._compare_outcome(outcome, events, refusals)
        if type(command) is Checkpoint:
            _expect("checkpoint", [CheckpointTaken(self._state_hash())], events)
        self._project(command, events)
        self._compare_balances()
        if thorough:
            if not outcome.changed:
                _expect("state hash after a refusal", hash_before, self._state_hash())
            self.compare_everything()
        return events, refusals

    def restart(self) -> None:
        """Go on with an exchange that was loaded from a snapshot of the one so far."""
        snapshot = dump(self.exchange)
        self.exchange = load(snapshot)
        _expect("snapshot of what was loaded from a snapshot", snapshot, dump(self.exchange))
        _expect("changes after loading", [], self.exchange.take_changed_balances())
        _expect("changes after loading", [], self.exchange.take_changed_levels())

    def compare_everything(self) -> None:
        """Compare what is too expensive for every command."""
        _expect("rules", self.reference.rules, self.exchange.rules)
        _expect("deadlines", self.reference.deadlines, self.exchange.deadlines)
        reference_open = {order.order_id: _reference_row(order) for order in self.reference.open_orders}
        _expect("open orders by events", reference_open, {key: _core_row(o) for key, o in self.open_orders.items()})
        _expect("open orders in the core", sorted(reference_open), [o.order_id for o in self.exchange.open_orders()])
        for market_id in self.reference.markets:
            expected = [self.reference.levels(market_id, side) for side in (0, 1)]
            _expect("book", expected, list(self.exchange.book_levels(market_id, 0)))
            by_changes = [
                sorted(self.levels.get((market_id, side), {}).items(), reverse=side == BUY) for side in (0, 1)
            ]
            _expect("book by its changes", expected, by_changes)
        _expect(
            "held by open orders", self._reservations(), {k: held for k, (_, held) in self.balances.items() if held}
        )

    def _state_hash(self) -> bytes:
        try:
            return state_hash(self.exchange)
        except OverflowError as fault:
            raise DifferenceError("the state holds a number too large for its snapshot") from fault

    # -- one command ----------------------------------------------------------------------------------------------

    def _compare_outcome(self, outcome: Outcome, events: list[AnyEvent], refusals: list[Refusal]) -> None:
        _expect("refusals", [_comparable(r) for r in outcome.refusals], [_comparable(r) for r in refusals])
        _check_numbers(events)
        announced = [event for event in events if isinstance(event, _ANNOUNCEMENTS)]
        _expect("announced", outcome.announced, [(type(event).__name__, *_values(event)) for event in announced])
        _expect("announcements come first", announced, events[: len(announced)])
        trades = [event for event in events if type(event) is Trade]
        _expect("fills", [tuple(vars(fill).values()) for fill in outcome.fills], [_values(trade) for trade in trades])
        states = [event for event in events if type(event) is OrderState]
        _expect("order states", [_reference_row(order) for order in outcome.orders], [_core_row(s) for s in states])

    def _project(self, command: AnyCommand, events: list[AnyEvent]) -> None:
        placed = [event for event in events if type(event) is OrderState and event.is_new]
        for event in events:
            if type(event) is OrderState:
                _check_order_state(event)
                if event.status in (NEW, PARTIALLY_FILLED):
                    self.open_orders[event.order_id] = event
                else:
                    self.open_orders.pop(event.order_id, None)
            elif type(event) is Trade:
                self.last_trade_ids[event.market_id] += 1
                _expect("trade id", self.last_trade_ids[event.market_id], event.trade_id)
            self._post(event)
        if type(command) is NewOrder and events:
            _expect("orders marked as new", 1, len(placed))

    def _post(self, event: AnyEvent) -> None:
        sums: Counter[int] = Counter()
        for account_id, asset_id, amount in postings(event, self.exchange.markets):
            sums[asset_id] += amount
            self.totals[account_id, asset_id] += amount
        if any(sums.values()):
            raise DifferenceError(f"postings do not add up to zero: {event} gives {dict(sums)}")

    def _compare_balances(self) -> None:
        for account_id, asset_id, available, held in self.exchange.take_changed_balances():
            self.balances[account_id, asset_id] = (available, held)
            _expect("owned by the ledger", self.totals[account_id, asset_id], available + held)
            if account_id != EXTERNAL_ACCOUNT_ID and (available < 0 or held < 0):
                raise DifferenceError(f"negative: account {account_id} asset {asset_id} {available=} {held=}")
        changed_levels = self.exchange.take_changed_levels()
        for market_id, *sides in changed_levels:
            for side, changes in enumerate(sides):
                levels = self.levels.setdefault((market_id, side), {})
                for price, quantity in changes:
                    levels[price] = quantity
                    if quantity == 0:
                        del levels[price]
        shown = {key: balance for key, balance in self.balances.items() if balance != (0, 0)}
        _expect("balances", self.reference.balances(), shown)

    def _reservations(self) -> dict[tuple[int, int], int]:
        """What the open orders reserve, by the events alone."""
        held: Counter[tuple[int, int]] = Counter()
        for order in self.open_orders.values():
            market = self.exchange.markets[order.market_id]
            remaining = order.quantity - order.executed_quantity - order.prevented_quantity
            if order.side == BUY:
                price = order.stop_price if order.type in (STOP_LOSS, TAKE_PROFIT) else order.price
                held[order.account_id, market.quote_asset_id] += remaining * price * market.quote_per_tick_lot
            else:
                held[order.account_id, market.base_asset_id] += remaining * market.lot_size
        return dict(held)


def apply_to_core(exchange: Exchange, command: AnyCommand, time_us: int) -> tuple[list[AnyEvent], list[Refusal]]:
    """Events and refusals of one command, whichever way the core tells of the refusals."""
    try:
        events = exchange.apply(command, time_us)
    except CancelReplaceRejectedError as both:
        return [], [
            Refusal("cancel", both.cancel.reason, both.cancel.field),
            Refusal("order", both.order.reason, both.order.field),
        ]
    except RejectedError as refused:
        return [], [Refusal("", refused.reason, refused.field)]
    except Exception as fault:
        raise DifferenceError(f"the core fails at {command}: {fault!r}") from fault
    return events, [Refusal(e.step, e.reason, e.field) for e in events if type(e) is Rejected]


def _check_numbers(events: list[AnyEvent]) -> None:
    """Every number must fit the store's columns, which are bigint."""
    for event in events:
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise DifferenceError(f"{name} is too large for the store: {event}")


def _check_order_state(state: OrderState) -> None:
    if not 0 <= state.executed_quantity + state.prevented_quantity <= state.quantity:
        raise DifferenceError(f"more executed and prevented than there was: {state}")
    is_open = state.status in (NEW, PARTIALLY_FILLED)
    if is_open and state.executed_quantity + state.prevented_quantity == state.quantity:
        raise DifferenceError(f"open with nothing remaining: {state}")
    if is_open and (state.status == PARTIALLY_FILLED) != (state.executed_quantity > 0):
        raise DifferenceError(f"status and executed quantity disagree: {state}")


def _comparable(refusal: Refusal) -> tuple[str, str, str]:
    reason = Reason(refusal.reason)
    return (refusal.step, reason.name, refusal.field_name if reason in REASONS_WITH_FIELD else "")


def _values(event: AnyEvent) -> tuple[object, ...]:
    return tuple(getattr(event, name) for name in event.__struct_fields__)


def _core_row(state: OrderState) -> tuple[object, ...]:
    return _values(state)[:-1]


def _reference_row(order: Order) -> tuple[object, ...]:
    return (
        order.order_id,
        order.account_id,
        order.market_id,
        order.side,
        order.type,
        order.time_in_force,
        order.status,
        order.price,
        order.quantity,
        order.executed,
        order.executed_quote,
        order.client_order_id,
        order.created_at_us,
        order.working_at_us,
        order.quote_quantity,
        order.stop_price,
        order.self_trade_prevention,
        order.prevented,
    )


def _expect(what: str, reference: object, core: object) -> None:
    if reference != core:
        raise DifferenceError(f"{what}\n  reference: {reference}\n  core:      {core}")
