"""The whole replay, known before it begins: what to do for each message, and the book that has to come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rtx.lobster.errors import RecordError
from rtx.lobster.record import EventType, Level, Message, Opening, Side
from rtx.lobster.translation import Action, Note, Place, Take, Translation
from rtx.lobster.unannounced import Entries, find_entries

LEVELS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Step:
    """What one message needs, and the best levels afterwards."""

    message: Message
    actions: tuple[Action, ...]
    asks: tuple[Level, ...]
    bids: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be there for a replay: most orders that rest at once; money (1/10,000 dollar) and shares."""

    orders_max: int
    resting_money: int
    resting_shares: int
    taking_money: int
    taking_shares: int


@dataclass(frozen=True)
class Plan:
    """A replay; the first step sets the opening up."""

    steps: tuple[Step, ...]
    needs: Needs
    unannounced: int
    notes: Counter[Note]

    @property
    def actions(self) -> Iterator[Action]:
        """All actions, in sequence."""
        return (action for step in self.steps for action in step.actions)

    def summary(self) -> Iterator[str]:
        """What a reader of the result should know, a line each."""
        kinds = Counter(step.message.event_type for step in self.steps[1:])
        yield (
            f"{len(self.steps)} messages: the opening, {kinds[EventType.SUBMISSION]} new orders, "
            f"{kinds[EventType.PARTIAL_CANCELLATION]} reductions, {kinds[EventType.DELETION]} cancellations, "
            f"{kinds[EventType.EXECUTION]} executions; {self._without_effect(kinds)} others change no visible order"
        )
        if self.unannounced:
            yield f"{self.unannounced} orders were placed out of the record's view, which later messages prove"
        for note in Note:
            if self.notes[note]:
                yield f"{self.notes[note]} {note}"

    @staticmethod
    def _without_effect(kinds: Counter[EventType]) -> int:
        return kinds[EventType.HIDDEN_EXECUTION] + kinds[EventType.CROSS_TRADE] + kinds[EventType.TRADING_HALT]


def make_plan(opening: Opening, messages: Sequence[Message]) -> Plan:
    """Plan a replay; raises :class:`RecordError` when the two files do not belong together."""
    if messages[0].event_type is not EventType.SUBMISSION and not opening.asks and not opening.bids:
        raise RecordError("the opening is empty", "its first line should be the book just after the first message")
    entries = find_entries(opening, messages)
    translation = Translation()
    steps: list[Step] = []
    orders_max = 0
    for message in messages:
        step = _step(translation, message, opening if not steps else None, entries)
        steps.append(step)
        orders_max = max(orders_max, len(translation.book))
    unannounced = sum(len(orders) for orders in entries.values())
    return Plan(tuple(steps), _needs(steps, orders_max), unannounced, translation.notes)


def _step(translation: Translation, message: Message, opening: Opening | None, entries: Entries) -> Step:
    actions = translation.apply(message) if opening is None else translation.open(opening, message)
    actions += [order.enter(translation) for order in entries.get(message.number, ())]
    asks, bids = (translation.book.best(side, LEVELS_SHOWN) for side in (Side.SELL, Side.BUY))
    return Step(message, tuple(actions), asks, bids)


def _needs(steps: Sequence[Step], orders_max: int) -> Needs:
    """Enough for all that is ever placed: what is released or received meanwhile need not be counted on."""
    money: Counter[tuple[type, Side]] = Counter()
    shares: Counter[tuple[type, Side]] = Counter()
    for step in steps:
        for action in step.actions:
            if isinstance(action, Place | Take):
                money[type(action), action.side] += action.price * action.quantity
                shares[type(action), action.side] += action.quantity
    return Needs(
        orders_max,
        resting_money=money[Place, Side.BUY],
        resting_shares=shares[Place, Side.SELL],
        taking_money=money[Take, Side.SELL],
        taking_shares=shares[Take, Side.BUY],
    )
