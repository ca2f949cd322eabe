"""Episodes: a fresh world and random commands; when something disagrees, the fewest commands that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from tests.property.generator import CommandGenerator, opening_commands
from tests.reference.exchange import Refusal
from tests.reference.twin import DifferenceError, Twin

from rtx.core.commands import AnyCommand, Command, ExpireCancelAllAfter
from rtx.core.events import AnyEvent, OrderState, Trade
from rtx.core.rejections import Reason
from rtx.core.vocabulary import (
    LIMIT_MAKER,
    OrderStatus,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

FIRST_TIME_US: Final = 1_700_000_000_000_000
RESTART_EVERY: Final = 400


@dataclass
class Coverage:
    """What the commands of some episodes made happen."""

    commands: Counter[str] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    accepted: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)

    def note(
        self, command: AnyCommand, time_us: int, events: Sequence[AnyEvent], refusals: Sequence[Refusal], rules: int
    ) -> None:
        """Count what one command did, by these rules."""
        self.commands[type(command).__name__] += 1
        for refusal in refusals:
            self.reasons[Reason(refusal.reason)] += 1
            if refusal.step:
                self.outcomes[f"{refusal.step} half refused"] += 1
        trades = [event for event in events if type(event) is Trade]
        takers = {trade.taker_order_id for trade in trades}
        self.outcomes["trade"] += len(trades)
        self.outcomes["trade with oneself"] += sum(t.maker_account_id == t.taker_account_id for t in trades)
        triggered = 0
        for event in events:
            if type(event) is OrderState:
                self._note_order(event, event.order_id in takers)
                triggered += event.type > LIMIT_MAKER and event.working_at_us == time_us
        if triggered:
            self.outcomes["one triggered" if triggered == 1 else f"several triggered by rules {rules}"] += 1
        if type(command) is ExpireCancelAllAfter and not refusals:
            self.outcomes["deadline with orders" if len(events) > 1 else "deadline without orders"] += 1

    def _note_order(self, state: OrderState, traded: bool) -> None:
        order_type, status = OrderType(state.type).name, OrderStatus(state.status).name
        mode = SelfTradePrevention(state.self_trade_prevention).name
        time_in_force = TimeInForce(state.time_in_force).name
        if state.is_new:
            self.accepted[order_type, time_in_force, mode] += 1
            if state.quote_quantity:
                self.outcomes[f"quote quantity {Side(state.side).name} {status}"] += 1
        elif state.type > LIMIT_MAKER and traded:
            self.outcomes[f"traded after triggering {order_type} {time_in_force} {Side(state.side).name}"] += 1
        if state.prevented_quantity:
            self.outcomes[f"prevented {mode}"] += 1
        self.outcomes[f"{order_type} {time_in_force} {status}"] += 1


class EpisodeError(AssertionError):
    """A difference, with the fewest commands found that show it."""

    def __init__(self, seed: str, commands: Sequence[AnyCommand], difference: DifferenceError) -> None:
        self.commands = commands
        lines = "\n".join(f"  {_without_defaults(command)}," for command in commands)
        super().__init__(f"episode {seed!r}: {difference}\nafter these commands, one microsecond apart:\n[\n{lines}\n]")


def run_episode(seed: str, command_count: int, coverage: Coverage, thorough_every: int = 1) -> Twin:
    """Run one episode; raises :class:`EpisodeError`."""
    twin = Twin()
    generator = CommandGenerator(seed, twin.reference)
    commands: list[AnyCommand] = []
    opening = opening_commands()
    for index in range(command_count):
        command = opening[index] if index < len(opening) else generator.next()
        commands.append(command)
        try:
            events, refusals = twin.apply(command, FIRST_TIME_US + index, thorough=index % thorough_every == 0)
        except DifferenceError as difference:
            raise EpisodeError(seed, *_fewest(commands, difference)) from None
        coverage.note(command, FIRST_TIME_US + index, events, refusals, twin.exchange.rules)
        if index % RESTART_EVERY == RESTART_EVERY - 1:
            twin.restart()
    twin.compare_everything()
    return twin


def first_difference(commands: Sequence[AnyCommand], thorough: bool) -> tuple[int, DifferenceError] | None:
    """Where a fresh pair of exchanges first disagrees about these commands."""
    twin = Twin()
    for index, command in enumerate(commands):
        try:
            twin.apply(command, FIRST_TIME_US + index, thorough)
        except DifferenceError as difference:
            return index, difference
    return None


def _fewest(commands: list[AnyCommand], found: DifferenceError) -> tuple[list[AnyCommand], DifferenceError]:
    """Leave out whatever can be left out with a difference still showing (halves, quarters, ... single commands)."""
    shortest, difference = commands, found
    thorough = first_difference(commands, thorough=False) is None
    size = len(shortest) // 2
    while size:
        start = 0
        while start < len(shortest):
            candidate = shortest[:start] + shortest[start + size :]
            result = first_difference(candidate, thorough)
            if result is None:
                start += size
            else:
                shortest, difference = candidate[: result[0] + 1], result[1]
        size //= 2
    return shortest, difference


def _without_defaults(value: object) -> str:
    """A command as one would type it."""
    if not isinstance(value, Command):
        return repr(value)
    defaults = {field.name: field.default for field in msgspec.structs.fields(value)}
    given = {name: getattr(value, name) for name in defaults}
    shown = [f"{name}={_without_defaults(v)}" for name, v in given.items() if v != defaults[name]]
    return f"{type(value).__name__}({', '.join(shown)})"


def all_order_combinations() -> set[tuple[str, str, str]]:
    """Every (type, time in force, self-trade prevention) that an order may have."""
    timed = {OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT}
    return {
        (order_type.name, time_in_force.name, mode.name)
        for order_type in OrderType
        for time_in_force in (TimeInForce if order_type in timed else [TimeInForce.GTC])
        for mode in SelfTradePrevention
    }
